//! What the machine keeps of each task, and the table of all of them.
//!
//! There may be ten million: an entry holds what decisions need, and the records in the store hold the rest.
//! What only some tasks have, or only while they run, is boxed.

use std::hash::BuildHasher;

use celeriac_proto::TaskId;
use foldhash::fast::FixedState;
use hashbrown::HashTable;

use super::command::Monotonic;
use super::names::NameKey;
use super::queue::QueueKey;
use super::sessions::SessionKey;
use crate::record::{Lease, Progress, RetryPolicy, Slot, State, Submitted, TaskError, TaskKey, Timestamp};

/// One task of the table.
#[derive(Debug)]
pub(super) struct Task {
    pub id: TaskId,
    pub serial: u64,
    /// The place in line: smaller is served first within a priority.
    pub order: u64,
    /// The current lease, or the last one; 0 before the first.
    pub lease: Lease,
    /// SCHEDULED, RETRY: when it is due. Ended: when it is forgotten.
    pub due: Timestamp,
    pub submitted_at: Timestamp,
    pub generation: u32,
    pub version: u32,
    pub name: NameKey,
    pub queue: QueueKey,
    pub payload_bytes: u32,
    pub priority: u8,
    pub state: State,
    /// How the lease named above ended, so that a report that is sent again can be told from a stale one.
    pub closed_by: ClosedBy,
    /// Somebody waits for this id or watches it.
    pub watched: bool,
    /// What the producer asked for beyond the defaults; none once the task has ended.
    pub plan: Option<Box<Plan>>,
    /// From the first delivery until the end.
    pub run: Option<Box<Run>>,
}

/// Which report ended a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ClosedBy {
    /// None: it is current, or it was lost.
    Nobody,
    Complete,
    /// Fail, retry or reject.
    Fail,
    Release,
}

/// The rules of a task.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Plan {
    pub expires: Option<Timestamp>,
    pub result_ttl_ms: u64,
    pub retry: RetryPolicy,
    pub soft_time_limit_ms: Option<u64>,
    pub time_limit_ms: Option<u64>,
    pub max_deliveries: u32,
    pub early_ack: bool,
    pub root_id: Box<str>,
    pub tags: Vec<Box<str>>,
}

impl Plan {
    /// The rules of a task that names none.
    pub fn usual(result_ttl_ms: u64) -> Self {
        Self {
            expires: None,
            result_ttl_ms,
            retry: RetryPolicy::default(),
            soft_time_limit_ms: None,
            time_limit_ms: None,
            max_deliveries: MAX_DELIVERIES,
            early_ack: false,
            root_id: "".into(),
            tags: Vec::new(),
        }
    }

    pub fn of(submitted: &Submitted) -> Self {
        Self {
            expires: submitted.expires,
            result_ttl_ms: submitted.result_ttl_ms,
            retry: submitted.retry,
            soft_time_limit_ms: submitted.soft_time_limit_ms,
            time_limit_ms: submitted.time_limit_ms,
            max_deliveries: submitted.max_deliveries,
            early_ack: submitted.early_ack,
            root_id: submitted.root_id.clone(),
            tags: submitted.tags.clone(),
        }
    }
}

/// How often a task may be handed out without an outcome, unless it says otherwise.
pub(super) const MAX_DELIVERIES: u32 = 20;

/// What has happened to a task that was handed out at least once.
#[derive(Debug, Default)]
pub(super) struct Run {
    /// Who holds the lease; none while the task waits.
    pub holder: Option<SessionKey>,
    /// Its place in the holder's list of leases.
    pub place: usize,
    pub worker: Box<str>,
    pub attempts: u32,
    /// Deliveries without an outcome, the present one included.
    pub deliveries: u32,
    pub leased_at: Option<Timestamp>,
    pub started_at: Option<Timestamp>,
    pub progress: Option<Progress>,
    /// The last few, oldest first.
    pub errors: Vec<TaskError>,
    pub cancel: Option<Box<str>>,
    /// When the timers of this lease fire; taken back when it ends.
    pub soft_limit_at: Option<Monotonic>,
    pub limit_at: Option<Monotonic>,
    pub grace_at: Option<Monotonic>,
}

impl Task {
    /// Waiting for a time or a worker.
    pub fn is_waiting(&self) -> bool {
        matches!(self.state, State::Scheduled | State::Queued | State::Retry)
    }

    /// Handed to a worker.
    pub fn is_leased(&self) -> bool {
        matches!(self.state, State::Leased | State::Started)
    }

    pub fn attempts(&self) -> u32 {
        self.run.as_ref().map_or(0, |run| run.attempts)
    }
}

/// All tasks: by slot, and by id.
#[derive(Debug)]
pub(super) struct Tasks {
    slots: Vec<Option<Task>>,
    free: Vec<Slot>,
    by_id: HashTable<Slot>,
    /// Seeded, so that nobody outside can make ids collide.
    hasher: FixedState,
}

impl Tasks {
    pub fn new(seed: u64) -> Self {
        Self { slots: Vec::new(), free: Vec::new(), by_id: HashTable::new(), hasher: FixedState::with_seed(seed) }
    }

    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    /// One past the highest slot in use.
    pub fn slots(&self) -> Slot {
        self.slots.len() as Slot
    }

    pub fn find(&self, id: &str) -> Option<Slot> {
        let hash = self.hasher.hash_one(id);
        self.by_id.find(hash, |slot| self.holds(*slot, id)).copied()
    }

    fn holds(&self, slot: Slot, id: &str) -> bool {
        self.slots[slot as usize].as_ref().is_some_and(|task| *task.id == *id)
    }

    pub fn try_task(&self, slot: Slot) -> Option<&Task> {
        self.slots.get(slot as usize)?.as_ref()
    }

    /// The task of a slot that is known to be taken.
    pub fn task(&self, slot: Slot) -> &Task {
        self.slots[slot as usize].as_ref().expect("slots are named only by what is removed with their task")
    }

    pub fn task_mut(&mut self, slot: Slot) -> &mut Task {
        self.slots[slot as usize].as_mut().expect("slots are named only by what is removed with their task")
    }

    pub fn key(&self, slot: Slot) -> TaskKey {
        TaskKey { slot, serial: self.task(slot).serial }
    }

    /// The slot that the next task gets.
    pub fn next_slot(&self) -> Slot {
        self.free.last().copied().unwrap_or(self.slots.len() as Slot)
    }

    /// Puts a task where `next_slot` said.
    pub fn insert(&mut self, task: Task) -> Slot {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            (self.slots.len() - 1) as Slot
        });
        self.place(slot, task);
        slot
    }

    /// Puts a task into a slot of its own choice, as a restart does. The slot must be empty.
    pub fn restore(&mut self, slot: Slot, task: Task) {
        if self.slots.len() <= slot as usize {
            self.slots.resize_with(slot as usize + 1, || None);
        }
        self.place(slot, task);
    }

    fn place(&mut self, slot: Slot, task: Task) {
        let hash = self.hasher.hash_one(&*task.id);
        debug_assert!(self.find(&task.id).is_none(), "one id, one task");
        assert!(self.slots[slot as usize].is_none(), "slot {slot} is taken");
        self.slots[slot as usize] = Some(task);
        let (slots, hasher) = (&self.slots, &self.hasher);
        self.by_id.insert_unique(hash, slot, |slot| {
            let task = slots[*slot as usize].as_ref().expect("every slot in the index is taken");
            hasher.hash_one(&*task.id)
        });
    }

    pub fn remove(&mut self, slot: Slot) -> Task {
        let task = self.slots[slot as usize].take().expect("only a task that is there is removed");
        let hash = self.hasher.hash_one(&*task.id);
        match self.by_id.find_entry(hash, |other| *other == slot) {
            Ok(entry) => {
                entry.remove();
            }
            Err(_) => unreachable!("every task is in the index"),
        }
        self.free.push(slot);
        task
    }

    /// After a restart: every slot that no record filled may be used, the lowest first.
    pub fn collect_free_slots(&mut self) {
        self.free = (0..self.slots()).rev().filter(|slot| self.slots[*slot as usize].is_none()).collect();
    }
}
