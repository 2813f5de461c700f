//! All queues: by number, and by name. A queue lives as long as something needs it, and then its
//! number is used again.
//!
//! Tasks that have not ended, workers that serve it, settings and a pause make it one of the queues
//! that there may be. Tasks that have ended hold nothing but its number.

use std::collections::{BTreeMap, BTreeSet};

use celeriac_proto::QueueName;

use super::command::{Code, Refusal};
use super::queue::{Queue, QueueKey};

/// Queues that may be in use at once; names are for kinds of work, not for single tasks.
const QUEUES_MAX: usize = 100_000;

/// Names of queues, those included that only ended tasks still need: half a kilobyte each. A task
/// has three bytes for the number.
const NAMES_MAX: usize = 1_000_000;

/// The queue of those who name none. It is always there, and takes nobody's place.
const DEFAULT: QueueKey = 0;

#[derive(Debug)]
pub(super) struct Queues {
    queues: Vec<Option<Box<Queue>>>,
    free: Vec<QueueKey>,
    by_name: BTreeMap<QueueName, QueueKey>,
    /// How many are in use, the default one aside.
    in_use: usize,
    /// Queues that nothing may need any more; `sweep` looks.
    retired: Vec<QueueKey>,
    /// Queues that have something to hand out, and somebody to hand it to.
    pub ready: BTreeSet<QueueKey>,
    /// The queue asked for last: batches are mostly for one queue.
    latest: QueueKey,
    /// The present second of the monotonic clock, for the rates.
    pub second: u64,
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
            ready: BTreeSet::new(),
            latest: DEFAULT,
            second: 0,
        }
    }
}

impl Queues {
    /// The number of a queue, if anything needs it; it may be that only ended tasks do.
    pub fn find(&self, name: &QueueName) -> Option<QueueKey> {
        match self.queues.get(self.latest as usize) {
            Some(Some(queue)) if queue.record.name == *name => Some(self.latest),
            _ => self.by_name.get(name).copied(),
        }
    }

    /// Whether queues of these names are in use or may come to be; otherwise what to say.
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

    /// The queue of this name, made if need be. It is gone after the command unless something needs
    /// it by then.
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

    /// By name, as listings show them.
    pub fn listed(&self) -> impl Iterator<Item = QueueKey> {
        self.by_name.values().copied().filter(|key| self.is_listed(*key))
    }

    /// Whether it is shown: a queue of which there are but ended tasks is as good as gone, unless
    /// some of them are dead.
    pub fn is_listed(&self, key: QueueKey) -> bool {
        let queue = self.queue(key);
        key == DEFAULT || queue.counted || queue.dead > 0
    }

    pub fn queue(&self, key: QueueKey) -> &Queue {
        self.queues[key as usize].as_deref().expect("a queue that is named is there")
    }

    pub fn queue_mut(&mut self, key: QueueKey) -> &mut Queue {
        self.queues[key as usize].as_deref_mut().expect("a queue that is named is there")
    }

    /// Keeps `ready` true after the queue gained or lost ready tasks or hungry workers, or was
    /// paused or resumed.
    pub fn note_ready(&mut self, key: QueueKey) {
        if self.queue(key).is_servable() {
            self.ready.insert(key);
        } else {
            self.ready.remove(&key);
        }
    }

    /// Keeps the count of queues true after something that a queue is needed for came or went.
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
        if !is && self.queue(key).tasks == 0 {
            self.retired.push(key);
        }
    }

    /// Looks at all of them, after the log was read.
    pub fn restored(&mut self) {
        for key in self.by_name.values().copied().collect::<Vec<_>>() {
            self.note_use(key);
        }
    }

    /// Takes out what nothing needs. To be called when no number of a queue is in anybody's hands.
    pub fn sweep(&mut self) {
        while let Some(key) = self.retired.pop() {
            let place = &mut self.queues[key as usize];
            if let Some(queue) = place.take_if(|queue| queue.tasks == 0 && !queue.is_in_use()) {
                self.by_name.remove(&queue.record.name);
                self.free.push(key);
            }
        }
    }

    /// For the checks: each queue with its number, and how many are said to be in use.
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

    /// A task comes into the queue, or one of those that wait there ends, or one that has ended is
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
            queues.room_for([&another]).expect_err("they are too many").code,
            Code::Overloaded
        );
        queues.room_for([&names[7]]).expect("it is there already");
        queues.room_for([&QueueName::default()]).expect("it is always there");
        // What has ended is kept, and takes no place.
        count(&mut queues, &names[0], -1, 0);
        queues.room_for([&another]).expect("there is room again");
        count(&mut queues, &another, 1, 1);
        queues.room_for([&names[0]]).expect_err("its place is taken by now");
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
        queues.room_for([&name("another")]).expect_err("they are too many");
        queues.room_for([&QueueName::default(), &name("q7")]).expect("these are there");
        count(&mut queues, &name("q8"), 0, -1);
        queues.room_for([&name("another")]).expect("there is room again");
    }
}
