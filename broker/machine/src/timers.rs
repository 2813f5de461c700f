//! When something is due: times of day on the wall clock, all spans on the clock that never jumps.
//!
//! Timers of tasks are by the million, so they are small and never taken out: one that no longer
//! holds is recognised when it fires. Timers of leases, waits and sessions are few and exact.
//!
//! What a task waits for is a time in milliseconds since 1970 on either of two clocks. The **steady
//! clock** shows what the wall clock showed when the broker started, and then runs with the
//! monotonic clock: whoever sets the wall clock moves no span that began in this life of the
//! broker. A restart sets it anew, from the times that are stored.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

use celeriac_record::{Lease, Slot, Timestamp};

use super::command::Monotonic;
use super::sessions::SessionKey;
use super::watch::WaitKey;

/// What a timer of a task is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// The eta or the next attempt.
    Due,
    /// No attempt begins from now on.
    Expires,
    /// An ended task is dropped.
    Forget,
}

/// What a task waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Moment {
    /// A time of day, on the wall clock.
    At(Timestamp),
    /// The end of a span, on the steady clock.
    Steady(Timestamp),
}

/// What the two clocks of tasks show.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Clocks {
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

/// Ordered by time. It names no task but a slot: whoever is there at that time knows whether that
/// is its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Timer {
    pub at: Timestamp,
    pub slot: Slot,
    pub kind: Kind,
}

/// What a monotonic timer is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum MonoTimer {
    /// Has the session been silent for too long?
    Session(SessionKey),
    Wait(WaitKey),
    SoftTimeLimit(Slot, Lease),
    TimeLimit(Slot, Lease),
    /// A forced cancel has waited long enough.
    CancelGrace(Slot, Lease),
    /// Does a worker hold what another could run?
    Balance,
}

/// Milliseconds of a bucket: far fewer than a million timers are due in one, and far fewer buckets
/// than timers in a day.
const BUCKET_MS: Timestamp = 1024;

/// Timers that are due within the same second or so, in no order.
#[derive(Debug)]
struct Bucket {
    /// When the first of them is due.
    first: Timestamp,
    timers: Vec<Packed>,
}

/// A timer in 8 bytes: its place in the bucket, its slot, its kind.
#[derive(Debug, Clone, Copy)]
struct Packed(u64);

impl Packed {
    fn new(timer: Timer) -> Self {
        let place = timer.at.rem_euclid(BUCKET_MS) as u64;
        Self(place << 40 | u64::from(timer.slot) << 8 | timer.kind as u64)
    }

    fn unpack(self, bucket: i64) -> Timer {
        let kind = match self.0 & 0xFF {
            0 => Kind::Due,
            1 => Kind::Expires,
            _ => Kind::Forget,
        };
        let at = bucket.saturating_mul(BUCKET_MS).saturating_add_unsigned(self.0 >> 40);
        Timer { at, slot: (self.0 >> 8) as Slot, kind }
    }
}

/// All timers.
#[derive(Debug, Default)]
pub(super) struct Timers {
    wall: TaskTimers,
    steady: TaskTimers,
    mono: BTreeSet<(Monotonic, MonoTimer)>,
}

/// Timers of tasks on one clock.
#[derive(Debug, Default)]
struct TaskTimers {
    /// In order: what is due in the bucket of the present, and whatever was due before.
    near: BinaryHeap<Reverse<Timer>>,
    /// The first bucket that is not the present one, or a later one.
    far_from: Option<i64>,
    far: BTreeMap<i64, Bucket>,
    far_timers: usize,
}

impl Timers {
    pub fn set(&mut self, moment: Moment, slot: Slot, kind: Kind) {
        match moment {
            Moment::At(at) => self.wall.set(Timer { at, slot, kind }),
            Moment::Steady(at) => self.steady.set(Timer { at, slot, kind }),
        }
    }

    pub fn set_mono(&mut self, at: Monotonic, timer: MonoTimer) {
        self.mono.insert((at, timer));
    }

    pub fn clear_mono(&mut self, at: Monotonic, timer: MonoTimer) {
        self.mono.remove(&(at, timer));
    }

    /// The timer of a task that has been due for longest.
    pub fn pop(&mut self, clocks: Clocks) -> Option<Timer> {
        let late =
            |timer: Timer, now: Timestamp| (timer.at.saturating_sub(now), timer.slot, timer.kind);
        let wall = self.wall.due(clocks.wall).map(|timer| late(timer, clocks.wall));
        let steady = self.steady.due(clocks.steady).map(|timer| late(timer, clocks.steady));
        match (wall, steady) {
            (None, None) => None,
            (Some(wall), Some(steady)) if wall <= steady => self.wall.pop(),
            (Some(_), None) => self.wall.pop(),
            _ => self.steady.pop(),
        }
    }

    pub fn pop_mono(&mut self, now: Monotonic) -> Option<MonoTimer> {
        if self.mono.first()?.0 > now {
            return None;
        }
        self.mono.pop_first().map(|(_, timer)| timer)
    }

    /// When the next timer of a task is due on the wall clock.
    pub fn next_wall(&self) -> Option<Timestamp> {
        self.wall.next()
    }

    /// When the next timer of a task is due on the steady clock.
    pub fn next_steady(&self) -> Option<Timestamp> {
        self.steady.next()
    }

    pub fn next_mono(&self) -> Option<Monotonic> {
        self.mono.first().map(|(at, _)| *at)
    }

    /// Throws out timers of tasks that no longer hold, once they outnumber the tasks by far: else a
    /// queue whose tasks name a distant expiry and end at once would fill the memory until then.
    pub fn compact(&mut self, tasks: usize, holds: impl Fn(&Timer) -> bool) {
        if self.wall.len() + self.steady.len() > 4 * tasks + 10_000 {
            self.wall.compact(&holds);
            self.steady.compact(&holds);
        }
    }
}

impl TaskTimers {
    fn len(&self) -> usize {
        self.near.len() + self.far_timers
    }

    fn set(&mut self, timer: Timer) {
        let at = timer.at;
        let number = at.div_euclid(BUCKET_MS);
        if self.far_from.is_some_and(|far_from| number < far_from) {
            self.near.push(Reverse(timer));
            return;
        }
        self.far_timers += 1;
        if let Some(bucket) = self.far.get_mut(&number) {
            bucket.first = bucket.first.min(at);
            bucket.timers.push(Packed::new(timer));
            return;
        }
        // The one before is mostly full: what ends later is forgotten later.
        if let Some((_, before)) = self.far.range_mut(..number).next_back() {
            before.timers.shrink_to_fit();
        }
        self.far.insert(number, Bucket { first: at, timers: vec![Packed::new(timer)] });
    }

    /// The first timer, if it is due.
    fn due(&mut self, now: Timestamp) -> Option<Timer> {
        while let Some(entry) = self.far.first_entry().filter(|entry| entry.get().first <= now) {
            let (number, bucket) = entry.remove_entry();
            self.far_from = Some(number + 1);
            self.far_timers -= bucket.timers.len();
            self.near.extend(bucket.timers.into_iter().map(|timer| Reverse(timer.unpack(number))));
        }
        self.near.peek().map(|Reverse(timer)| *timer).filter(|timer| timer.at <= now)
    }

    /// Takes the timer that [`due`](Self::due) gave.
    fn pop(&mut self) -> Option<Timer> {
        self.near.pop().map(|Reverse(timer)| timer)
    }

    fn next(&self) -> Option<Timestamp> {
        let near = self.near.peek().map(|Reverse(timer)| timer.at);
        near.or_else(|| self.far.first_key_value().map(|(_, bucket)| bucket.first))
    }

    fn compact(&mut self, holds: impl Fn(&Timer) -> bool) {
        self.near.retain(|Reverse(timer)| holds(timer));
        self.far.retain(|number, bucket| {
            bucket.timers.retain(|timer| holds(&timer.unpack(*number)));
            bucket.timers.shrink_to_fit();
            // A bucket that wakes the broker for nothing is gone.
            let first = bucket.timers.iter().map(|timer| timer.unpack(*number).at).min();
            first.is_some_and(|first| {
                bucket.first = first;
                true
            })
        });
        self.far_timers = self.far.values().map(|bucket| bucket.timers.len()).sum();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pop_wall(timers: &mut Timers, wall: Timestamp) -> Option<Timer> {
        timers.pop(Clocks { wall, steady: i64::MIN })
    }

    #[test]
    fn wall_timers_come_in_the_order_of_their_times_and_not_before() {
        let mut timers = Timers::default();
        let times = [5_000, -7, 2_047, 2_048, 5_001, 90_000_000, 0, i64::MAX, i64::MIN, 2_048];
        for (slot, at) in times.into_iter().enumerate() {
            timers.set(Moment::At(at), slot as Slot, Kind::Expires);
        }
        let mut sorted: Vec<_> =
            times.into_iter().enumerate().map(|(slot, at)| (at, slot as Slot)).collect();
        sorted.sort_unstable();
        for (at, slot) in sorted {
            assert_eq!(timers.next_wall(), Some(at));
            if at > i64::MIN {
                assert_eq!(pop_wall(&mut timers, at - 1), None);
            }
            assert_eq!(pop_wall(&mut timers, at), Some(Timer { at, slot, kind: Kind::Expires }));
        }
        assert_eq!(timers.next_wall(), None);
    }

    #[test]
    fn a_timer_that_is_set_for_the_present_or_the_past_comes_too() {
        let mut timers = Timers::default();
        timers.set(Moment::At(10_000), 1, Kind::Due);
        assert!(pop_wall(&mut timers, 10_000).is_some());
        timers.set(Moment::At(10_050), 2, Kind::Forget);
        timers.set(Moment::At(3), 3, Kind::Due);
        assert_eq!(timers.next_wall(), Some(3));
        assert_eq!(pop_wall(&mut timers, 10_049).map(|timer| timer.slot), Some(3));
        assert_eq!(pop_wall(&mut timers, 10_050).map(|timer| timer.slot), Some(2));
    }

    #[test]
    fn timers_of_both_clocks_come_by_how_long_they_have_been_due() {
        let mut timers = Timers::default();
        // The wall clock was set back by an hour.
        let clocks = Clocks { wall: 1_000_000, steady: 4_600_000 };
        timers.set(Moment::At(999_000), 1, Kind::Due);
        timers.set(Moment::Steady(4_598_000), 2, Kind::Due);
        timers.set(Moment::Steady(4_599_500), 3, Kind::Due);
        timers.set(Moment::Steady(4_600_001), 4, Kind::Due);
        timers.set(Moment::At(1_000_001), 5, Kind::Due);
        let order: Vec<Slot> =
            std::iter::from_fn(|| timers.pop(clocks)).map(|timer| timer.slot).collect();
        assert_eq!(order, [2, 1, 3]);
        assert_eq!((timers.next_wall(), timers.next_steady()), (Some(1_000_001), Some(4_600_001)));
        assert_eq!(clocks.wall_at(4_600_001), 1_000_001);
    }

    #[test]
    fn timers_that_hold_no_more_are_thrown_out_when_they_are_many() {
        let mut timers = Timers::default();
        for slot in 0..20_000 {
            timers.set(Moment::At(1_000_000 + i64::from(slot)), slot, Kind::Due);
        }
        timers.compact(10, |timer| timer.slot == 12_345);
        assert_eq!(
            (timers.wall.far.len(), timers.wall.far_timers, timers.next_wall()),
            (1, 1, Some(1_012_345))
        );
    }
}
