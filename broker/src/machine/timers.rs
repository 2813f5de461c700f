//! When something is due: schedules on the wall clock, limits and waits on the clock that never jumps.
//!
//! Wall timers are by the million, so they are small and never taken out: one that no longer holds is
//! recognised when it fires. Monotonic timers are few and exact.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

use super::command::Monotonic;
use super::sessions::SessionKey;
use super::watch::WaitKey;
use crate::record::{Lease, Slot, Timestamp};

/// What a wall timer is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// The eta or the next attempt.
    Due,
    /// The task must have started by now.
    Expires,
    /// An ended task is dropped.
    Forget,
}

/// Ordered by time. It names no task but a slot: whoever is there at that time knows whether that is its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct WallTimer {
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

/// Milliseconds of a bucket: far fewer than a million timers are due in one, and far fewer buckets than timers in a day.
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
    fn new(timer: WallTimer) -> Self {
        let place = timer.at.rem_euclid(BUCKET_MS) as u64;
        Self(place << 40 | u64::from(timer.slot) << 8 | timer.kind as u64)
    }

    fn unpack(self, bucket: i64) -> WallTimer {
        let kind = match self.0 & 0xFF {
            0 => Kind::Due,
            1 => Kind::Expires,
            _ => Kind::Forget,
        };
        let at = bucket.saturating_mul(BUCKET_MS).saturating_add_unsigned(self.0 >> 40);
        WallTimer { at, slot: (self.0 >> 8) as Slot, kind }
    }
}

#[derive(Debug, Default)]
pub(super) struct Timers {
    /// In order: what is due in the bucket of the present, and whatever was due before.
    near: BinaryHeap<Reverse<WallTimer>>,
    /// The first bucket that is not the present one, or a later one.
    far_from: Option<i64>,
    far: BTreeMap<i64, Bucket>,
    far_timers: usize,
    mono: BTreeSet<(Monotonic, MonoTimer)>,
}

impl Timers {
    pub fn set_wall(&mut self, at: Timestamp, slot: Slot, kind: Kind) {
        let timer = WallTimer { at, slot, kind };
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

    pub fn set_mono(&mut self, at: Monotonic, timer: MonoTimer) {
        self.mono.insert((at, timer));
    }

    pub fn clear_mono(&mut self, at: Monotonic, timer: MonoTimer) {
        self.mono.remove(&(at, timer));
    }

    pub fn pop_wall(&mut self, now: Timestamp) -> Option<WallTimer> {
        while let Some(entry) = self.far.first_entry().filter(|entry| entry.get().first <= now) {
            let (number, bucket) = entry.remove_entry();
            self.far_from = Some(number + 1);
            self.far_timers -= bucket.timers.len();
            self.near.extend(bucket.timers.into_iter().map(|timer| Reverse(timer.unpack(number))));
        }
        if self.near.peek()?.0.at > now {
            return None;
        }
        self.near.pop().map(|Reverse(timer)| timer)
    }

    pub fn pop_mono(&mut self, now: Monotonic) -> Option<MonoTimer> {
        if self.mono.first()?.0 > now {
            return None;
        }
        self.mono.pop_first().map(|(_, timer)| timer)
    }

    pub fn next_wall(&self) -> Option<Timestamp> {
        let near = self.near.peek().map(|Reverse(timer)| timer.at);
        near.or_else(|| self.far.first_key_value().map(|(_, bucket)| bucket.first))
    }

    pub fn next_mono(&self) -> Option<Monotonic> {
        self.mono.first().map(|(at, _)| *at)
    }

    /// Throws out wall timers that no longer hold, once they outnumber the tasks by far: else a
    /// queue whose tasks name a distant expiry and end at once would fill the memory until then.
    pub fn compact(&mut self, tasks: usize, holds: impl Fn(&WallTimer) -> bool) {
        if self.near.len() + self.far_timers <= 4 * tasks + 10_000 {
            return;
        }
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

    #[test]
    fn wall_timers_come_in_the_order_of_their_times_and_not_before() {
        let mut timers = Timers::default();
        let times = [5_000, -7, 2_047, 2_048, 5_001, 90_000_000, 0, i64::MAX, i64::MIN, 2_048];
        for (slot, at) in times.into_iter().enumerate() {
            timers.set_wall(at, slot as Slot, Kind::Expires);
        }
        let mut sorted: Vec<_> = times.into_iter().enumerate().map(|(slot, at)| (at, slot as Slot)).collect();
        sorted.sort_unstable();
        for (at, slot) in sorted {
            assert_eq!(timers.next_wall(), Some(at));
            if at > i64::MIN {
                assert_eq!(timers.pop_wall(at - 1), None);
            }
            assert_eq!(timers.pop_wall(at), Some(WallTimer { at, slot, kind: Kind::Expires }));
        }
        assert_eq!(timers.next_wall(), None);
    }

    #[test]
    fn a_timer_that_is_set_for_the_present_or_the_past_comes_too() {
        let mut timers = Timers::default();
        timers.set_wall(10_000, 1, Kind::Due);
        assert!(timers.pop_wall(10_000).is_some());
        timers.set_wall(10_050, 2, Kind::Forget);
        timers.set_wall(3, 3, Kind::Due);
        assert_eq!(timers.next_wall(), Some(3));
        assert_eq!(timers.pop_wall(10_049).map(|timer| timer.slot), Some(3));
        assert_eq!(timers.pop_wall(10_050).map(|timer| timer.slot), Some(2));
    }

    #[test]
    fn timers_that_hold_no_more_are_thrown_out_when_they_are_many() {
        let mut timers = Timers::default();
        for slot in 0..20_000 {
            timers.set_wall(1_000_000 + i64::from(slot), slot, Kind::Due);
        }
        timers.compact(10, |timer| timer.slot == 12_345);
        assert_eq!((timers.far.len(), timers.far_timers, timers.next_wall()), (1, 1, Some(1_012_345)));
    }
}
