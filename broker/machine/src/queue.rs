//! Queues: tasks in line by priority and age, a line of their own for each name so that a name
//! nobody can run does not hold up the others.

use std::collections::{BTreeMap, BTreeSet};

use celeriac_proto::QueueName;
use celeriac_record::{QueueRecord, Slot, State};

use super::line::{Line, Place};
use super::names::NameKey;
use super::rate::Rate;
use super::sessions::SessionKey;
use super::table::Tasks;
use super::task::Task;

/// A queue that exists.
pub(super) type QueueKey = u32;

#[derive(Debug)]
pub(super) struct Queue {
    pub record: QueueRecord,
    /// Tasks of any state that name the queue by its number.
    pub tasks: u64,
    /// Whether it counts as one of the queues that there may be; kept true by `Queues::note_use`.
    pub counted: bool,
    /// Tasks in each of these conditions.
    pub ready: u64,
    pub scheduled: u64,
    /// Handed to a worker and not begun.
    pub leased: u64,
    pub started: u64,
    pub dead: u64,
    /// Payloads of tasks that have not ended.
    pub bytes: u64,
    pub submitted_total: u64,
    pub ended_total: u64,
    pub submitted_rate: Rate,
    pub ended_rate: Rate,
    /// Workers that serve the queue: all of them, those with a free hand, and those with credit
    /// left.
    pub servers: BTreeSet<SessionKey>,
    pub idle: BTreeSet<SessionKey>,
    pub hungry: BTreeSet<SessionKey>,
    /// Who was served last, so that the next one is another.
    pub turn: SessionKey,
    /// Ready tasks that are suspects, and workers that take nothing more until they are free for
    /// one of them.
    pub suspects: u64,
    pub draining: BTreeSet<SessionKey>,
    lanes: Vec<Lane>,
    lane_of: BTreeMap<LaneKey, usize>,
    /// The head of each lane that has one: lowest rank (highest priority) first, then oldest
    /// first.
    heads: BTreeSet<Head>,
}

/// The name, the priority, and whether the tasks are suspects.
type LaneKey = (NameKey, u8, bool);

/// Tasks of one name and one priority, in line; suspects in a line of their own, for they are given
/// out alone.
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
            tasks: 0,
            counted: false,
            ready: 0,
            scheduled: 0,
            leased: 0,
            started: 0,
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
        QueueRecord {
            name,
            paused: false,
            tasks_max: None,
            bytes_max: None,
            expires_in_ms: None,
            result_ttl_ms: None,
        }
    }

    /// Somebody has given it settings, or paused it.
    pub fn is_configured(&self) -> bool {
        let QueueRecord { name: _, paused, tasks_max, bytes_max, expires_in_ms, result_ttl_ms } =
            &self.record;
        *paused
            || [tasks_max, bytes_max, expires_in_ms, result_ttl_ms].into_iter().any(Option::is_some)
    }

    /// Tasks that have not ended.
    pub fn unfinished(&self) -> u64 {
        self.ready + self.scheduled + self.leased + self.started
    }

    /// More than ended tasks needs it.
    pub fn is_in_use(&self) -> bool {
        self.unfinished() > 0 || !self.servers.is_empty() || self.is_configured()
    }

    /// Has something to hand out, and somebody to hand it to.
    pub fn is_servable(&self) -> bool {
        self.ready > 0 && !self.record.paused && !self.hungry.is_empty()
    }

    /// As if it were new: its settings and what it has counted are gone. What is there stays.
    pub fn reset(&mut self) {
        self.record = Self::unconfigured(self.record.name.clone());
        (self.submitted_total, self.ended_total) = (0, 0);
        (self.submitted_rate, self.ended_rate) = (Rate::default(), Rate::default());
    }

    /// The counter that a task in `state` belongs to.
    pub fn counter(&mut self, state: State) -> Option<&mut u64> {
        match state {
            State::Queued => Some(&mut self.ready),
            State::Scheduled | State::Retry => Some(&mut self.scheduled),
            State::Leased => Some(&mut self.leased),
            State::Started => Some(&mut self.started),
            State::Failure => Some(&mut self.dead),
            State::Success | State::Revoked => None,
        }
    }

    /// Puts a task at the end of its line, or in front when it has been out already.
    pub fn push(&mut self, slot: Slot, task: &Task, is_suspect: bool, in_front: bool) {
        let index =
            *self.lane_of.entry((task.name, task.priority, is_suspect)).or_insert_with(|| {
                let (name, rank) = (task.name, rank(task.priority));
                self.lanes.push(Lane {
                    name,
                    rank,
                    of_suspects: is_suspect,
                    places: Line::default(),
                    head: None,
                });
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
        self.suspects > 0
            && lanes.find(|lane| can_run(lane.name)).is_some_and(|lane| lane.of_suspects)
    }

    /// Whether there is a line of tasks whose name `can_run` allows. All that stood in it may have
    /// left it.
    pub fn has_for(&self, suspects: bool, can_run: impl Fn(NameKey) -> bool) -> bool {
        let mut lanes = self.heads.iter().map(|head| &self.lanes[head.lane]);
        lanes.any(|lane| can_run(lane.name) && (suspects || !lane.of_suspects))
    }

    /// Takes the first task in line whose name `can_run` allows.
    pub fn pop(
        &mut self,
        tasks: &Tasks,
        suspects: bool,
        can_run: impl Fn(NameKey) -> bool,
    ) -> Option<Slot> {
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

    /// Takes the suspects from the heads of their lanes that do not stand in line any more.
    pub fn drop_gone_suspects(&mut self, tasks: &Tasks) {
        for lane in 0..self.lanes.len() {
            let is_gone = |place: &Place| !stands(tasks, *place);
            if !self.lanes[lane].of_suspects
                || !self.lanes[lane].places.front().is_some_and(is_gone)
            {
                continue;
            }
            let places = &mut self.lanes[lane].places;
            while places.front().is_some_and(is_gone) {
                places.pop_front();
            }
            let next = places.front().map(|place| tasks.task(place.slot).order());
            self.set_head(lane, next);
        }
    }

    /// The task that has been in line for longest.
    pub fn oldest(&self, tasks: &Tasks) -> Option<Slot> {
        let fronts = self
            .lanes
            .iter()
            .filter_map(|lane| lane.places.iter().find(|place| stands(tasks, **place)));
        fronts.map(|place| place.slot).min_by_key(|slot| tasks.task(*slot).order())
    }

    /// Gives back the lines when nobody stands in them.
    pub fn drop_empty_lanes(&mut self) {
        if self.ready == 0 {
            (self.lanes, self.lane_of, self.heads) = Default::default();
        }
    }
}

/// Whether the task that took this place is still waiting in it.
fn stands(tasks: &Tasks, place: Place) -> bool {
    tasks
        .try_task(place.slot)
        .is_some_and(|task| task.state == State::Queued && task.order() as u32 == place.order)
}
