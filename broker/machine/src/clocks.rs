//! The two clocks by which tasks wait.
//!
//! What a task waits for is a time in milliseconds since 1970 on either of two clocks. The **steady
//! clock** shows what the wall clock showed when the broker started, and then runs with the
//! monotonic clock: whoever sets the wall clock moves no span that began in this life of the
//! broker. A restart sets it anew, from the times that are stored.

use celeriac_record::Timestamp;

/// What a task waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Moment {
    /// A time of day, on the wall clock.
    At(Timestamp),
    /// The end of a span, on the steady clock.
    Steady(Timestamp),
}

/// What the two clocks of tasks show.
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

    /// What the wall clock shows when the steady clock shows `steady`, unless it is set once more.
    pub fn wall_at(self, steady: Timestamp) -> Timestamp {
        steady.saturating_add(self.wall.saturating_sub(self.steady))
    }
}
