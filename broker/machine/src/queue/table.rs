//! All queues, by number and by name. A queue exists as long as something needs it. Then its number
//! is used again.
//!
//! A queue counts against the maximum if it has unfinished tasks, workers that serve it, settings
//! or a pause. Ended tasks need only its number and its name.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use celeriac_proto::QueueName;

use super::Queue;
use crate::command::{Code, QueueCounters, Refusal};
use crate::keys::QueueKey;

/// The maximum number of queues in use at once. A queue is for a kind of work, not for a single
/// task.
const QUEUES_MAX: usize = 100_000;

/// The maximum number of names of queues, including names that only ended tasks still need: half a
/// kilobyte each. A task has three bytes for the number of its queue.
const NAMES_MAX: usize = 1_000_000;

/// The queue of clients that name no queue. It always exists, and does not count against the
/// maximum.
const DEFAULT: QueueKey = 0;

#[derive(Debug)]
pub(crate) struct Queues {
    queues: Vec<Option<Box<Queue>>>,
    free: Vec<QueueKey>,
    by_name: BTreeMap<QueueName, QueueKey>,
    /// The number of queues in use, without the default queue.
    in_use: usize,
    /// Queues that may be no longer needed, or by ended tasks alone. `sweep` checks them.
    retired: Vec<QueueKey>,
    /// The counters of the queues that are gone or were deleted.
    removed: QueueCounters,
    /// Queues that have a ready task and a worker that could take a task.
    pub ready: BTreeSet<QueueKey>,
    /// The queue asked for last: batches are mostly for one queue.
    latest: QueueKey,
}

impl Default for Queues {
    fn default() -> Self {
        let name = QueueName::default();
        Self {
            queues: vec![Some(Box::new(Queue::new(Queue::unconfigured(name.clone()))))],
            free: Vec::new(),
            by_name: BTreeMap::from([(name, DEFAULT)]),
            in_use: 0,
            retired: Vec::new(),
            removed: QueueCounters::default(),
            ready: BTreeSet::new(),
            latest: DEFAULT,
        }
    }
}

impl Queues {
    /// The number of a queue, if the queue exists. Perhaps only ended tasks need the queue.
    pub fn find(&self, name: &QueueName) -> Option<QueueKey> {
        match self.queues.get(self.latest as usize) {
            Some(Some(queue)) if queue.record.name == *name => Some(self.latest),
            _ => self.by_name.get(name).copied(),
        }
    }

    /// Checks that queues of these names are in use or may be created. Otherwise it returns the
    /// refusal.
    pub fn room_for<'n>(
        &self,
        names: impl IntoIterator<Item = &'n QueueName>,
    ) -> Result<(), Refusal> {
        let (mut new, mut unknown) = (0, 0);
        for name in names {
            let key = self.find(name);
            unknown += usize::from(key.is_none());
            new += usize::from(key.is_none_or(|key| key != DEFAULT && !self.queue(key).counted));
        }
        if new == 0
            || (self.in_use + new <= QUEUES_MAX && self.by_name.len() + unknown <= NAMES_MAX)
        {
            return Ok(());
        }
        Err(Refusal::new(Code::Overloaded, "there are too many queues"))
    }

    /// The queue of this name, created if necessary. A new queue is removed after the command
    /// unless something needs it by then.
    pub fn find_or_create(&mut self, name: &QueueName) -> QueueKey {
        let key = self.find(name).unwrap_or_else(|| self.create(name));
        self.latest = key;
        key
    }

    fn create(&mut self, name: &QueueName) -> QueueKey {
        let queue = Some(Box::new(Queue::new(Queue::unconfigured(name.clone()))));
        let key = match self.free.pop() {
            Some(key) => {
                self.queues[key as usize] = queue;
                key
            }
            None => {
                self.queues.push(queue);
                (self.queues.len() - 1) as QueueKey
            }
        };
        self.by_name.insert(name.clone(), key);
        self.retired.push(key);
        key
    }

    /// The queues that listings show, by name.
    pub fn listed(&self) -> impl Iterator<Item = QueueKey> {
        self.listed_after(None)
    }

    /// The queues that listings show and whose names come after this name.
    pub fn listed_after(&self, after: Option<&QueueName>) -> impl Iterator<Item = QueueKey> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let later = self.by_name.range::<QueueName, _>((from, Bound::Unbounded));
        later.map(|(_, key)| *key).filter(|key| self.is_listed(*key))
    }

    /// What has happened in queues that are gone, or before queues were deleted.
    pub fn removed(&self) -> &QueueCounters {
        &self.removed
    }

    /// Makes the settings and counters of a queue those of a new one.
    pub fn reset(&mut self, key: QueueKey) {
        let counters = self.queue_mut(key).reset();
        self.removed.add(&counters);
    }

    /// Whether listings show the queue. They leave out a queue that has only ended tasks, unless
    /// some of the tasks are dead.
    pub fn is_listed(&self, key: QueueKey) -> bool {
        let queue = self.queue(key);
        key == DEFAULT || queue.counted || queue.dead > 0
    }

    pub fn queue(&self, key: QueueKey) -> &Queue {
        self.queues[key as usize].as_deref().expect("a queue with a key exists")
    }

    /// The queue with this key, if there still is one.
    pub fn try_queue_mut(&mut self, key: QueueKey) -> Option<&mut Queue> {
        self.queues.get_mut(key as usize)?.as_deref_mut()
    }

    pub fn queue_mut(&mut self, key: QueueKey) -> &mut Queue {
        self.queues[key as usize].as_deref_mut().expect("a queue with a key exists")
    }

    /// Updates `ready`. Call this after the queue gained or lost ready tasks or hungry workers, and
    /// after it was paused or resumed.
    pub fn note_ready(&mut self, key: QueueKey) {
        if self.queue(key).is_servable() {
            self.ready.insert(key);
        } else {
            self.ready.remove(&key);
        }
    }

    /// Updates the count of queues. Call this after something that needs the queue came or went.
    pub fn note_use(&mut self, key: QueueKey) {
        let queue = self.queue_mut(key);
        let (was, is) = (queue.counted, queue.is_in_use());
        queue.counted = is;
        if !is {
            queue.drop_empty_lanes();
        }
        if key == DEFAULT {
            return;
        }
        self.in_use = self.in_use + usize::from(is) - usize::from(was);
        if !is {
            self.retired.push(key);
        }
    }

    /// Updates the count for all queues. Called once after the log was read.
    pub fn restored(&mut self) {
        for key in self.by_name.values().copied().collect::<Vec<_>>() {
            self.note_use(key);
        }
    }

    /// Removes queues that nothing needs, and the counters of those that no listing shows. The
    /// caller must hold no number of a queue.
    pub fn sweep(&mut self) {
        while let Some(key) = self.retired.pop() {
            let place = &mut self.queues[key as usize];
            let Some(queue) = place.as_mut().filter(|queue| !queue.is_in_use()) else { continue };
            if queue.dead == 0 {
                self.removed.add(&std::mem::take(&mut queue.counters));
            }
            if let Some(queue) = place.take_if(|queue| queue.tasks == 0) {
                self.by_name.remove(&queue.record.name);
                self.free.push(key);
            }
        }
    }

    /// For the invariant checks: each queue with its number, and the stored number of queues in
    /// use.
    pub fn all(&self) -> (impl Iterator<Item = (QueueKey, &Queue)>, usize) {
        let queues = self.by_name.values().map(|key| (*key, self.queue(*key)));
        (queues, self.in_use)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> QueueName {
        QueueName::parse(text).expect("a name")
    }

    /// A task is added to the queue, or a waiting task of the queue ends, or an ended task is
    /// forgotten.
    fn count(queues: &mut Queues, name: &QueueName, ready: i64, tasks: i64) {
        let key = queues.find_or_create(name);
        let queue = queues.queue_mut(key);
        queue.ready = queue.ready.saturating_add_signed(ready);
        queue.tasks = queue.tasks.saturating_add_signed(tasks);
        queues.note_use(key);
        queues.sweep();
    }

    #[test]
    fn queues_that_are_not_needed_make_room_and_the_default_one_needs_none() {
        let mut queues = Queues::default();
        let names: Vec<QueueName> =
            (0..QUEUES_MAX).map(|number| name(&format!("q{number}"))).collect();
        for each in &names {
            queues.room_for([each]).expect("there is room");
            count(&mut queues, each, 1, 1);
        }
        let another = name("another");
        assert_eq!(
            queues.room_for([&another]).expect_err("the queues are too many").code,
            Code::Overloaded
        );
        queues.room_for([&names[7]]).expect("the queue is there already");
        queues.room_for([&QueueName::default()]).expect("the default queue is always there");
        // An ended task is kept and does not make its queue count.
        count(&mut queues, &names[0], -1, 0);
        queues.room_for([&another]).expect("there is room again");
        count(&mut queues, &another, 1, 1);
        queues.room_for([&names[0]]).expect_err("another queue has taken its place");
        for each in &names[1..] {
            count(&mut queues, each, -1, -1);
        }
        assert_eq!((queues.in_use, queues.by_name.len()), (1, 3));
        let numbers = queues.queues.len();
        for each in &names[1..] {
            count(&mut queues, each, 1, 1);
        }
        assert_eq!(queues.queues.len(), numbers, "numbers are used again");
    }

    #[test]
    fn names_of_ended_tasks_are_bounded_too() {
        let mut queues = Queues::default();
        for number in 1..NAMES_MAX {
            let each = name(&format!("q{number}"));
            count(&mut queues, &each, 1, 1);
            count(&mut queues, &each, -1, 0);
        }
        queues.room_for([&name("another")]).expect_err("the queues are too many");
        queues.room_for([&QueueName::default(), &name("q7")]).expect("the two queues are there");
        count(&mut queues, &name("q8"), 0, -1);
        queues.room_for([&name("another")]).expect("there is room again");
    }
}
