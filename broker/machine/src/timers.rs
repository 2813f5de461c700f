//! Timers: times of day run on the wall clock, all spans on the clock that never jumps.
//!
//! There may be millions of timers of tasks, so these timers are small and are not removed one by
//! one: the machine recognises a timer that is no longer valid when it fires. Timers of leases,
//! waits and sessions are few, and they are removed when they are no longer valid.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

use celeriac_record::{Lease, Slot, Timestamp};

use crate::chord::ChordKey;
use crate::clocks::{Clocks, Moment};
use crate::command::Monotonic;
use crate::keys::{MailboxKey, QueueKey, SessionKey, WaitKey};

/// The event of a timer of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// The time of the eta or of the next attempt.
    Due,
    /// From this time on no attempt begins.
    Expires,
    /// An ended task is forgotten.
    Forget,
}

/// A timer of a task, ordered by time. The timer names a slot: when it fires, the task in that slot
/// shows whether the timer is valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Timer {
    pub at: Timestamp,
    pub slot: Slot,
    pub kind: Kind,
    /// Whether the time is one of the steady clock.
    pub is_steady: bool,
}

impl Timer {
    fn new(moment: Moment, slot: Slot, kind: Kind) -> Self {
        let (at, is_steady) = match moment {
            Moment::At(at) => (at, false),
            Moment::Steady(at) => (at, true),
        };
        Self { at, slot, kind, is_steady }
    }

    pub fn moment(&self) -> Moment {
        if self.is_steady { Moment::Steady(self.at) } else { Moment::At(self.at) }
    }
}

/// The event of a monotonic timer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum MonoTimer {
    /// A check whether the session was silent for too long.
    Session(SessionKey),
    Wait(WaitKey),
    SoftTimeLimit(Slot, Lease),
    TimeLimit(Slot, Lease),
    /// The grace time of a forced cancel is over.
    CancelGrace(Slot, Lease),
    /// A check whether the time of a chord is over.
    Chord(ChordKey),
    /// A check whether a worker holds tasks that another worker could run.
    Balance,
    /// A check whether a declared queue is still used.
    QueueIdle(QueueKey),
    /// A check whether a mailbox has messages that are too old, or is itself over.
    Mailbox(MailboxKey),
}

/// Milliseconds of a bucket. Far fewer than a million timers are due in one bucket, and a day has
/// far fewer buckets than timers.
const BUCKET_MS: Timestamp = 1024;

/// The most timers of one part of a bucket. A step handles few parts, however many timers are due
/// in the same second.
const PART_TIMERS: usize = 16 * 1024;

/// Timers that are due within about the same second, in no order.
#[derive(Debug)]
struct Bucket {
    /// The time of the first timer, or an earlier time.
    first: Timestamp,
    /// All parts but the last one are full, unless timers were thrown out.
    parts: Vec<Vec<Packed>>,
}

impl Bucket {
    fn new(timer: Timer) -> Self {
        Self { first: timer.at, parts: vec![vec![Packed::new(timer)]] }
    }

    fn add(&mut self, timer: Timer) {
        self.first = self.first.min(timer.at);
        match self.parts.last_mut().filter(|part| part.len() < PART_TIMERS) {
            Some(part) => part.push(Packed::new(timer)),
            None => self.parts.push(vec![Packed::new(timer)]),
        }
    }

    fn shrink(&mut self) {
        if let Some(part) = self.parts.last_mut() {
            part.shrink_to_fit();
        }
    }
}

/// A timer in 8 bytes: its time in the bucket, its slot, its kind.
#[derive(Debug, Clone, Copy)]
struct Packed(u64);

impl Packed {
    fn new(timer: Timer) -> Self {
        let place = timer.at.rem_euclid(BUCKET_MS) as u64;
        Self(place << 40 | u64::from(timer.slot) << 8 | timer.kind as u64)
    }

    fn unpack(self, bucket: i64, is_steady: bool) -> Timer {
        let kind = match self.0 & 0xFF {
            0 => Kind::Due,
            1 => Kind::Expires,
            _ => Kind::Forget,
        };
        let at = bucket.saturating_mul(BUCKET_MS).saturating_add_unsigned(self.0 >> 40);
        Timer { at, slot: (self.0 >> 8) as Slot, kind, is_steady }
    }
}

/// All timers.
#[derive(Debug)]
pub(crate) struct Timers {
    wall: TaskTimers,
    steady: TaskTimers,
    mono: BTreeSet<(Monotonic, MonoTimer)>,
    /// Where the throwing out of timers goes on: the clock, the bucket, and the part of the bucket.
    compact_from: Option<(bool, i64, usize)>,
}

/// The most timers that one step looks at to throw some of them out, and one part.
const COMPACTED_AT_ONCE: usize = 32 * 1024;

impl Default for Timers {
    fn default() -> Self {
        let steady = TaskTimers { is_steady: true, ..TaskTimers::default() };
        let (wall, mono) = Default::default();
        Self { wall, steady, mono, compact_from: None }
    }
}

/// Timers of tasks on one clock.
#[derive(Debug, Default)]
struct TaskTimers {
    is_steady: bool,
    /// Timers of the present bucket and of the time before it, in order.
    near: BinaryHeap<Reverse<Timer>>,
    /// The number of the first bucket after the present bucket, or a later bucket.
    far_from: Option<i64>,
    far: BTreeMap<i64, Bucket>,
    far_timers: usize,
}

impl Timers {
    pub fn set(&mut self, moment: Moment, slot: Slot, kind: Kind) {
        let timers = match moment {
            Moment::At(_) => &mut self.wall,
            Moment::Steady(_) => &mut self.steady,
        };
        timers.set(Timer::new(moment, slot, kind));
    }

    pub fn set_mono(&mut self, at: Monotonic, timer: MonoTimer) {
        self.mono.insert((at, timer));
    }

    pub fn clear_mono(&mut self, at: Monotonic, timer: MonoTimer) {
        self.mono.remove(&(at, timer));
    }

    /// The timer of a task that has been due for the longest time.
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

    /// The time of the next timer of a task on the wall clock.
    pub fn next_wall(&self) -> Option<Timestamp> {
        self.wall.next()
    }

    /// The time of the next timer of a task on the steady clock.
    pub fn next_steady(&self) -> Option<Timestamp> {
        self.steady.next()
    }

    pub fn next_mono(&self) -> Option<Monotonic> {
        self.mono.first().map(|(at, _)| *at)
    }

    /// Removes timers that are no longer valid once there are far more timers than tasks. Otherwise
    /// tasks that have a distant expiry and end at once would fill the memory until then. Each call
    /// does a part of the work.
    pub fn compact(&mut self, tasks: usize, holds: impl Fn(&Timer) -> bool) {
        if self.compact_from.is_none() && self.wall.len() + self.steady.len() > 4 * tasks + 10_000 {
            self.compact_from = Some((false, i64::MIN, 0));
        }
        let mut left = COMPACTED_AT_ONCE;
        while let Some((is_steady, number, part)) = self.compact_from.filter(|_| left > 0) {
            let timers = if is_steady { &mut self.steady } else { &mut self.wall };
            self.compact_from = match timers.compact(number, part, &mut left, &holds) {
                Some((number, part)) => Some((is_steady, number, part)),
                None if is_steady => None,
                None => Some((true, i64::MIN, 0)),
            };
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
            return bucket.add(timer);
        }
        // The bucket before is mostly complete: a task that ends later is forgotten later.
        if let Some((_, before)) = self.far.range_mut(..number).next_back() {
            before.shrink();
        }
        self.far.insert(number, Bucket::new(timer));
    }

    /// The first timer, if it is due.
    fn due(&mut self, now: Timestamp) -> Option<Timer> {
        loop {
            let near = self.near.peek().map(|Reverse(timer)| *timer);
            // The timers of a bucket come after all those of the buckets before. A bucket comes
            // part by part, each as late as possible: very many may be due at one moment, in one
            // bucket or in many.
            if let Some(near) = near.filter(|timer| timer.at <= now) {
                return Some(near);
            }
            let mut entry = self.far.first_entry().filter(|entry| entry.get().first <= now)?;
            let number = *entry.key();
            let parts = &mut entry.get_mut().parts;
            let part = parts.pop().unwrap_or_default();
            if parts.is_empty() {
                entry.remove();
            }
            self.far_from = Some(number + 1);
            self.far_timers -= part.len();
            let unpacked = part.into_iter().map(|timer| timer.unpack(number, self.is_steady));
            self.near.extend(unpacked.map(Reverse));
        }
    }

    /// Removes the timer that [`due`](Self::due) returned.
    fn pop(&mut self) -> Option<Timer> {
        self.near.pop().map(|Reverse(timer)| timer)
    }

    fn next(&self) -> Option<Timestamp> {
        let near = self.near.peek().map(|Reverse(timer)| timer.at);
        let far = self.far.first_key_value().map(|(_, bucket)| bucket.first);
        near.into_iter().chain(far).min()
    }

    /// Throws invalid timers out of one part of a bucket: this one, or the first of the buckets
    /// behind it. Returns the next bucket and its part, if there is one. The timers of the present
    /// bucket come soon, so they stay.
    fn compact(
        &mut self,
        from: i64,
        part: usize,
        left: &mut usize,
        holds: impl Fn(&Timer) -> bool,
    ) -> Option<(i64, usize)> {
        let (number, bucket) = self.far.range_mut(from..).next()?;
        let (number, at) = (*number, if *number == from { part } else { 0 });
        if let Some(timers) = bucket.parts.get_mut(at) {
            let before = timers.len();
            timers.retain(|timer| holds(&timer.unpack(number, self.is_steady)));
            timers.shrink_to_fit();
            *left = left.saturating_sub(before);
            self.far_timers -= before - timers.len();
            if !timers.is_empty() {
                return Some((number, at + 1));
            }
            bucket.parts.remove(at);
        }
        if at < bucket.parts.len() {
            return Some((number, at));
        }
        // An empty bucket is removed, because it would wake the broker for nothing. For the same
        // reason the time of a small one is set anew.
        match &bucket.parts[..] {
            [] => drop(self.far.remove(&number)),
            [only] => {
                let times = only.iter().map(|timer| timer.unpack(number, self.is_steady).at);
                bucket.first = times.min().unwrap_or(bucket.first);
            }
            _ => {}
        }
        Some((number.checked_add(1)?, 0))
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
            assert_eq!(
                pop_wall(&mut timers, at),
                Some(Timer::new(Moment::At(at), slot, Kind::Expires))
            );
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

    #[test]
    fn very_many_timers_of_many_seconds_come_second_by_second() {
        let mut timers = Timers::default();
        let mut set = BTreeSet::new();
        for slot in 0..200_000 {
            let at = 1_000_000 + i64::from(slot) * 7_919 % 100_000;
            timers.set(Moment::At(at), slot, Kind::Due);
            set.insert((at, slot));
        }
        let in_a_bucket = timers.wall.far.values().map(|it| it.parts[0].len()).max();
        for (at, slot) in set {
            let popped = pop_wall(&mut timers, 2_000_000).map(|timer| (timer.at, timer.slot));
            assert_eq!(popped, Some((at, slot)));
            assert!(Some(timers.wall.near.len()) < in_a_bucket, "{}", timers.wall.near.len());
        }
        assert_eq!(pop_wall(&mut timers, 2_000_000), None);
    }

    #[test]
    fn very_many_timers_of_one_second_come_in_parts_and_are_thrown_out_in_parts() {
        let many = 5 * PART_TIMERS as Slot / 2;
        let fill = |timers: &mut Timers| {
            for slot in 0..many {
                timers.set(Moment::At(1_000_000 + i64::from(slot % 2)), slot, Kind::Due);
            }
        };
        let mut timers = Timers::default();
        fill(&mut timers);
        for left in (1..=many as usize).rev() {
            assert!(pop_wall(&mut timers, 1_000_001).is_some());
            assert!(timers.wall.near.len() <= PART_TIMERS);
            assert_eq!(timers.wall.len(), left - 1);
        }
        assert_eq!((pop_wall(&mut timers, 1_000_001), timers.next_wall()), (None, None));

        // The bucket from which timers came is over, so these are for another one.
        let mut timers = Timers::default();
        fill(&mut timers);
        let mut calls = 0;
        while timers.wall.len() > 1 {
            timers.compact(10, |timer| timer.slot == many - 1);
            calls += 1;
        }
        assert_eq!((calls, timers.next_wall()), (2, Some(1_000_001)));
    }
}
