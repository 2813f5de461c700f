//! Queues: tasks in line by priority and age, a line of their own for each name so that a name
//! nobody can run does not hold up the others.

use std::collections::{BTreeMap, BTreeSet};

use celeriac_proto::QueueName;

use super::command::{Code, Refusal};
use super::line::{Line, Place};
use super::names::NameKey;
use super::rate::Rate;
use super::sessions::SessionKey;
use super::table::Tasks;
use super::task::Task;
use crate::record::{QueueRecord, Slot, State};

/// Queues that may exist; names are for kinds of work, not for single tasks.
const QUEUES_MAX: usize = 100_000;

/// A queue that exists.
pub(super) type QueueKey = u32;

#[derive(Debug)]
pub(super) struct Queue {
    pub record: QueueRecord,
    /// Not listed until it is used again. Its number stays, for the ended tasks that name it.
    pub deleted: bool,
    /// Tasks in each of these conditions.
    pub ready: u64,
    pub scheduled: u64,
    pub leased: u64,
    pub dead: u64,
    /// Payloads of tasks that have not ended.
    pub bytes: u64,
    pub submitted_total: u64,
    pub ended_total: u64,
    pub submitted_rate: Rate,
    pub ended_rate: Rate,
    /// Workers that serve the queue: all of them, those with a free hand, and those with credit left.
    pub servers: BTreeSet<SessionKey>,
    pub idle: BTreeSet<SessionKey>,
    pub hungry: BTreeSet<SessionKey>,
    /// Who was served last, so that the next one is another.
    pub turn: SessionKey,
    /// Ready tasks that are suspects, and workers that take nothing more until they are free for one of them.
    pub suspects: u64,
    pub draining: BTreeSet<SessionKey>,
    lanes: Vec<Lane>,
    lane_of: BTreeMap<LaneKey, usize>,
    /// The head of each lane that has one: lowest rank (highest priority) first, then oldest first.
    heads: BTreeSet<Head>,
}

/// The name, the priority, and whether the tasks are suspects.
type LaneKey = (NameKey, u8, bool);

/// Tasks of one name and one priority, in line; suspects in a line of their own, for they are given out alone.
#[derive(Debug)]
struct Lane {
    name: NameKey,
    rank: u8,
    of_suspects: bool,
    /// May hold places whose task has left; they are skipped when they come up.
    places: Line,
    /// The entry of this lane in `heads`.
    head: Option<Head>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Head {
    rank: u8,
    order: u64,
    lane: usize,
}

fn rank(priority: u8) -> u8 {
    u8::MAX - priority
}

impl Queue {
    pub fn new(record: QueueRecord) -> Self {
        Self {
            record,
            deleted: false,
            ready: 0,
            scheduled: 0,
            leased: 0,
            dead: 0,
            bytes: 0,
            submitted_total: 0,
            ended_total: 0,
            submitted_rate: Rate::default(),
            ended_rate: Rate::default(),
            servers: BTreeSet::new(),
            idle: BTreeSet::new(),
            hungry: BTreeSet::new(),
            turn: 0,
            suspects: 0,
            draining: BTreeSet::new(),
            lanes: Vec::new(),
            lane_of: BTreeMap::new(),
            heads: BTreeSet::new(),
        }
    }

    /// Settings of a queue that nobody has configured.
    pub fn unconfigured(name: QueueName) -> QueueRecord {
        QueueRecord { name, paused: false, tasks_max: None, bytes_max: None, expires_in_ms: None, result_ttl_ms: None }
    }

    /// The counter that a task in `state` belongs to.
    pub fn counter(&mut self, state: State) -> Option<&mut u64> {
        match state {
            State::Queued => Some(&mut self.ready),
            State::Scheduled | State::Retry => Some(&mut self.scheduled),
            State::Leased | State::Started => Some(&mut self.leased),
            State::Failure => Some(&mut self.dead),
            State::Success | State::Revoked => None,
        }
    }

    /// Puts a task at the end of its line, or in front when it has been out already.
    pub fn push(&mut self, slot: Slot, task: &Task, is_suspect: bool, in_front: bool) {
        let index = *self.lane_of.entry((task.name, task.priority, is_suspect)).or_insert_with(|| {
            let (name, rank) = (task.name, rank(task.priority));
            self.lanes.push(Lane { name, rank, of_suspects: is_suspect, places: Line::default(), head: None });
            self.lanes.len() - 1
        });
        let lane = &mut self.lanes[index];
        let place = Place { slot, order: task.order() as u32 };
        if in_front {
            lane.places.push_front(place);
        } else {
            lane.places.push_back(place);
        }
        if in_front || lane.head.is_none() {
            self.set_head(index, Some(task.order()));
        }
    }

    fn set_head(&mut self, index: usize, order: Option<u64>) {
        let lane = &mut self.lanes[index];
        if let Some(head) = lane.head.take() {
            self.heads.remove(&head);
        }
        lane.head = order.map(|order| Head { rank: lane.rank, order, lane: index });
        self.heads.extend(lane.head);
    }

    /// Whether the first task in line whose name `can_run` allows is a suspect.
    pub fn is_suspect_next(&self, can_run: impl Fn(NameKey) -> bool) -> bool {
        let mut lanes = self.heads.iter().map(|head| &self.lanes[head.lane]);
        self.suspects > 0 && lanes.find(|lane| can_run(lane.name)).is_some_and(|lane| lane.of_suspects)
    }

    /// Takes the first task in line whose name `can_run` allows.
    pub fn pop(&mut self, tasks: &Tasks, suspects: bool, can_run: impl Fn(NameKey) -> bool) -> Option<Slot> {
        loop {
            let lane_of = |head: &Head| &self.lanes[head.lane];
            let may_take = |lane: &Lane| can_run(lane.name) && (suspects || !lane.of_suspects);
            let head = *self.heads.iter().find(|head| may_take(lane_of(head)))?;
            let lane = &mut self.lanes[head.lane];
            let first = lane.places.pop_front().filter(|place| stands(tasks, *place));
            while lane.places.front().is_some_and(|place| !stands(tasks, *place)) {
                lane.places.pop_front();
            }
            let next = lane.places.front().map(|place| tasks.task(place.slot).order());
            self.set_head(head.lane, next);
            if let Some(place) = first {
                return Some(place.slot);
            }
        }
    }

    /// The task that has been in line for longest.
    pub fn oldest(&self, tasks: &Tasks) -> Option<Slot> {
        let fronts = self.lanes.iter().filter_map(|lane| lane.places.iter().find(|place| stands(tasks, **place)));
        fronts.map(|place| place.slot).min_by_key(|slot| tasks.task(*slot).order())
    }

    /// Drops lanes that are empty, when names have come and gone by the thousand.
    pub fn prune_lanes(&mut self) {
        const LANES_KEPT: usize = 64;
        if self.lanes.len() <= LANES_KEPT || self.lanes.iter().any(|lane| lane.head.is_some()) {
            return;
        }
        self.lanes.clear();
        self.lane_of.clear();
    }
}

/// Whether the task that took this place is still waiting in it.
fn stands(tasks: &Tasks, place: Place) -> bool {
    tasks.try_task(place.slot).is_some_and(|task| task.state == State::Queued && task.order() as u32 == place.order)
}

/// All queues: by number, and by name.
#[derive(Debug, Default)]
pub(super) struct Queues {
    queues: Vec<Queue>,
    by_name: BTreeMap<QueueName, QueueKey>,
    /// Queues that have something to hand out.
    pub ready: BTreeSet<QueueKey>,
    /// The queue asked for last: batches are mostly for one queue.
    latest: QueueKey,
    /// The present second of the monotonic clock, for the rates.
    pub second: u64,
}

impl Queues {
    pub fn find(&self, name: &QueueName) -> Option<QueueKey> {
        match self.queues.get(self.latest as usize) {
            Some(queue) if queue.record.name == *name => Some(self.latest),
            _ => self.by_name.get(name).copied(),
        }
    }

    /// Whether queues of these names are there or may be made; otherwise what to say.
    pub fn room_for<'n>(&self, names: impl IntoIterator<Item = &'n QueueName>) -> Result<(), Refusal> {
        let new = names.into_iter().filter(|name| self.find(name).is_none()).count();
        if new > 0 && self.len() + new > QUEUES_MAX {
            return Err(Refusal::new(Code::Overloaded, "there are too many queues"));
        }
        Ok(())
    }

    /// The queue of this name, made if need be, and shown again if it was deleted.
    pub fn find_or_create(&mut self, name: &QueueName) -> QueueKey {
        let key = self.find(name).unwrap_or_else(|| {
            self.queues.push(Queue::new(Queue::unconfigured(name.clone())));
            let key = (self.queues.len() - 1) as QueueKey;
            self.by_name.insert(name.clone(), key);
            key
        });
        self.latest = key;
        self.queue_mut(key).deleted = false;
        key
    }

    pub fn len(&self) -> usize {
        self.queues.len()
    }

    /// By name, as listings show them.
    pub fn listed(&self) -> impl Iterator<Item = QueueKey> {
        self.by_name.values().copied().filter(|key| !self.queue(*key).deleted)
    }

    pub fn queue(&self, key: QueueKey) -> &Queue {
        &self.queues[key as usize]
    }

    pub fn queue_mut(&mut self, key: QueueKey) -> &mut Queue {
        &mut self.queues[key as usize]
    }

    /// Keeps `ready` true after the queue gained or lost ready tasks, or was paused or resumed.
    pub fn note_ready(&mut self, key: QueueKey) {
        let queue = &self.queues[key as usize];
        if queue.ready > 0 && !queue.record.paused {
            self.ready.insert(key);
        } else {
            self.ready.remove(&key);
        }
    }
}
