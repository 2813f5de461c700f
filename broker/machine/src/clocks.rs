//! The two clocks by which tasks wait.
//!
//! A task waits for a time in milliseconds since 1970 on one of two clocks. The **steady clock**
//! begins with the time of the wall clock when the broker starts, and then runs with the monotonic
//! clock: a change of the wall clock does not move a span that began since the start of the broker.
//! A restart sets the steady clock again, and uses the times that are stored.

use celeriac_record::Timestamp;

/// The time that a task waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Moment {
    /// A time of day, on the wall clock.
    At(Timestamp),
    /// The end of a span, on the steady clock.
    Steady(Timestamp),
}

/// The present times of the two clocks of tasks.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Clocks {
    pub wall: Timestamp,
    pub steady: Timestamp,
}

impl Clocks {
    pub fn has_come(self, moment: Moment) -> bool {
        match moment {
            Moment::At(at) => at <= self.wall,
            Moment::Steady(at) => at <= self.steady,
        }
    }

    /// The end of a span that begins now.
    pub fn after(self, span_ms: u64) -> Timestamp {
        self.steady.saturating_add_unsigned(span_ms)
    }

    /// The time of the wall clock when the steady clock shows `steady`, unless the wall clock is
    /// set again before.
    pub fn wall_at(self, steady: Timestamp) -> Timestamp {
        steady.saturating_add(self.wall.saturating_sub(self.steady))
    }
}
