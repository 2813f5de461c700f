//! The ends of tasks, for listings: the dead tasks of each queue in the order of their ends, and
//! the tasks that ended last. So a listing of them looks at no other task.
//!
//! Only dead tasks have an entry of their own, because they are few. The list of the tasks that
//! ended last may name tasks that are gone: a reader checks the serial of the task in the slot.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Bound;

use celeriac_record::{Slot, TaskKey, Timestamp};

use crate::keys::QueueKey;

/// The tasks that ended last. An operator looks at the last few of them.
const LATEST_MAX: usize = 10_000;

/// The place of a dead task: by queue, and in a queue the task that ended last comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct DeadPlace {
    pub queue: QueueKey,
    ended: Reverse<Timestamp>,
    slot: Reverse<Slot>,
}

impl DeadPlace {
    pub fn new(queue: QueueKey, ended: Timestamp, slot: Slot) -> Self {
        Self { queue, ended: Reverse(ended), slot: Reverse(slot) }
    }

    /// When the task ended, on the steady clock.
    pub fn ended(self) -> Timestamp {
        self.ended.0
    }

    pub fn slot(self) -> Slot {
        self.slot.0
    }
}

#[derive(Debug, Default)]
pub(crate) struct Ends {
    dead: BTreeSet<DeadPlace>,
    /// The ends of dead tasks by their slots: they lead to the entries of `dead`.
    dead_at: BTreeMap<Slot, Timestamp>,
    /// The task that ended last is at the back.
    latest: VecDeque<TaskKey>,
    /// The number of tasks that were ever in `latest`.
    ended: u64,
}

impl Ends {
    /// A task of this queue is dead from now on. `at` is a time of the steady clock.
    pub fn add_dead(&mut self, queue: QueueKey, slot: Slot, at: Timestamp) {
        self.dead.insert(DeadPlace::new(queue, at, slot));
        self.dead_at.insert(slot, at);
    }

    /// A dead task is removed.
    pub fn remove_dead(&mut self, queue: QueueKey, slot: Slot) {
        if let Some(at) = self.dead_at.remove(&slot) {
            self.dead.remove(&DeadPlace::new(queue, at, slot));
        }
    }

    /// The number of dead tasks.
    pub fn dead(&self) -> usize {
        self.dead.len()
    }

    /// The first dead task behind a place, or the first one: of one queue, or of all queues.
    pub fn dead_behind(
        &self,
        queue: Option<QueueKey>,
        place: Option<DeadPlace>,
    ) -> Option<DeadPlace> {
        let start = queue.map(|queue| DeadPlace::new(queue, Timestamp::MAX, Slot::MAX));
        let from = match place.max(start) {
            Some(bound) if place == Some(bound) => Bound::Excluded(bound),
            Some(bound) => Bound::Included(bound),
            None => Bound::Unbounded,
        };
        let next = self.dead.range((from, Bound::Unbounded)).next().copied();
        next.filter(|next| queue.is_none_or(|queue| queue == next.queue))
    }

    /// The last dead task before a place, or the last one: of one queue, or of all queues. So the
    /// task of a queue that ended first comes first.
    pub fn dead_before(
        &self,
        queue: Option<QueueKey>,
        place: Option<DeadPlace>,
    ) -> Option<DeadPlace> {
        let end = queue.map(|queue| DeadPlace::new(queue, Timestamp::MIN, Slot::MIN));
        let to = match (place, end) {
            (Some(place), Some(end)) if end < place => Bound::Included(end),
            (Some(place), _) => Bound::Excluded(place),
            (None, Some(end)) => Bound::Included(end),
            (None, None) => Bound::Unbounded,
        };
        let next = self.dead.range((Bound::Unbounded, to)).next_back().copied();
        next.filter(|next| queue.is_none_or(|queue| queue == next.queue))
    }

    /// A task has ended and is kept.
    pub fn note_end(&mut self, key: TaskKey) {
        if self.latest.len() == LATEST_MAX {
            self.latest.pop_front();
        }
        self.latest.push_back(key);
        self.ended += 1;
    }

    /// The numbers of the tasks that ended last: rising with each end.
    pub fn latest(&self) -> std::ops::Range<u64> {
        self.ended - self.latest.len() as u64..self.ended
    }

    /// The task with this number.
    pub fn ended(&self, number: u64) -> Option<TaskKey> {
        let first = self.latest().start;
        self.latest.get(number.checked_sub(first)? as usize).copied()
    }

    /// For the invariant checks: whether this task has its place among the dead ones.
    pub fn is_dead(&self, queue: QueueKey, slot: Slot) -> bool {
        let place = self.dead_at.get(&slot).map(|at| DeadPlace::new(queue, *at, slot));
        place.is_some_and(|place| self.dead.contains(&place))
    }
}

/// The tasks that ended last among those of a log, which gives them in any order.
#[derive(Debug, Default)]
pub(crate) struct EndsOfLog(std::collections::BinaryHeap<Reverse<(Timestamp, u64, Slot)>>);

impl EndsOfLog {
    pub fn add(&mut self, at: Timestamp, key: TaskKey) {
        let end = (at, key.serial, key.slot);
        if self.0.len() == LATEST_MAX {
            if self.0.peek().is_some_and(|first| end <= first.0) {
                return;
            }
            self.0.pop();
        }
        self.0.push(Reverse(end));
    }

    /// In the order of the ends.
    pub fn in_order(self) -> impl Iterator<Item = TaskKey> {
        let ends = self.0.into_sorted_vec().into_iter().rev();
        ends.map(|Reverse((_, serial, slot))| TaskKey { slot, serial })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dead_tasks_stand_by_queue_and_end_both_ways() {
        let mut ends = Ends::default();
        for (queue, slot, at) in [(1, 5, 100), (1, 6, 100), (1, 2, 300), (2, 9, 50), (4, 3, 70)] {
            ends.add_dead(queue, slot, at);
        }
        let forward = |queue: Option<QueueKey>| {
            let next = |place: &DeadPlace| ends.dead_behind(queue, Some(*place));
            let all = std::iter::successors(ends.dead_behind(queue, None), next);
            all.map(DeadPlace::slot).collect::<Vec<Slot>>()
        };
        let backward = |queue: Option<QueueKey>| {
            let next = |place: &DeadPlace| ends.dead_before(queue, Some(*place));
            let all = std::iter::successors(ends.dead_before(queue, None), next);
            all.map(DeadPlace::slot).collect::<Vec<Slot>>()
        };
        assert_eq!(forward(None), [2, 6, 5, 9, 3]);
        assert_eq!(
            (forward(Some(1)), forward(Some(2)), forward(Some(3))),
            (vec![2, 6, 5], vec![9], vec![])
        );
        assert_eq!(backward(None), [3, 9, 5, 6, 2]);
        assert_eq!(
            (backward(Some(1)), backward(Some(4)), backward(Some(3))),
            (vec![5, 6, 2], vec![3], vec![])
        );
        let other = DeadPlace::new(4, 70, 3);
        assert_eq!(ends.dead_behind(Some(1), Some(other)), None);
        assert_eq!(ends.dead_before(Some(1), Some(other)).map(DeadPlace::slot), Some(5));
        ends.remove_dead(1, 6);
        ends.remove_dead(1, 7);
        assert!(ends.is_dead(1, 5) && !ends.is_dead(1, 6) && !ends.is_dead(2, 5));
        assert_eq!(ends.dead(), 4);
    }

    #[test]
    fn the_last_ends_are_kept_and_have_numbers() {
        let (mut ends, mut of_log) = (Ends::default(), EndsOfLog::default());
        let key = |number: u64| TaskKey { slot: number as Slot, serial: number };
        for number in 0..LATEST_MAX as u64 + 5 {
            ends.note_end(key(number));
            // The log has them in another order.
            of_log.add(-(number as i64), key(number));
        }
        assert_eq!(ends.latest(), 5..LATEST_MAX as u64 + 5);
        assert_eq!((ends.ended(4), ends.ended(5), ends.ended(1 << 40)), (None, Some(key(5)), None));
        let restored: Vec<TaskKey> = of_log.in_order().collect();
        assert_eq!((restored.len(), restored.last()), (LATEST_MAX, Some(&key(0))));
        assert_eq!(restored.first(), Some(&key(LATEST_MAX as u64 - 1)));
    }
}
