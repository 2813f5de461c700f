//! Queues: tasks in line by priority and age. Each task name has its own line, so that a name that
//! no worker can run does not delay the other names.

mod line;
mod rate;
mod table;

use std::collections::{BTreeMap, BTreeSet};

use celeriac_proto::QueueName;
use celeriac_record::{QueueRecord, Slot, State};

use self::line::{Line, Place};
use self::rate::Rate;
pub(crate) use self::table::Queues;
use crate::command::Monotonic;
use crate::keys::{NameKey, SessionKey};

#[derive(Debug)]
pub(crate) struct Queue {
    pub record: QueueRecord,
    /// Tasks of any state that name the queue by its number.
    pub tasks: u64,
    /// Whether the queue counts against the maximum number of queues. `Queues::note_use` updates
    /// this field.
    pub counted: bool,
    /// The numbers of tasks: ready (QUEUED), and SCHEDULED or RETRY.
    pub ready: u64,
    pub scheduled: u64,
    /// Tasks that a worker holds and has not begun.
    pub leased: u64,
    pub started: u64,
    pub dead: u64,
    /// Payload bytes of tasks that have not ended.
    pub bytes: u64,
    pub submitted_total: u64,
    pub ended_total: u64,
    pub submitted_rate: Rate,
    pub ended_rate: Rate,
    /// Workers that serve the queue: all workers; idle workers, which hold fewer leases than their
    /// concurrency; and hungry workers, which could take one more task.
    pub servers: BTreeSet<SessionKey>,
    pub idle: BTreeSet<SessionKey>,
    pub hungry: BTreeSet<SessionKey>,
    /// The worker that was served last. The next worker in turn comes after it.
    pub turn: SessionKey,
    /// The number of ready suspects, and the workers that take no more tasks until they are free
    /// for a suspect.
    pub suspects: u64,
    pub draining: BTreeSet<SessionKey>,
    /// When a client last declared the queue, or a look found it in use.
    pub used_at: Monotonic,
    /// When the machine next looks whether the declared queue is still used.
    pub idle_at: Option<Monotonic>,
    lanes: Vec<Lane>,
    lane_of: BTreeMap<LaneKey, usize>,
    /// The head of each lane that has one: lowest rank (highest priority) first, then oldest
    /// first.
    heads: BTreeSet<Head>,
}

/// The name, the priority, and whether the tasks are suspects.
type LaneKey = (NameKey, u8, bool);

/// A task that is put in line.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Arrival {
    pub slot: Slot,
    pub name: NameKey,
    pub priority: u8,
    pub is_suspect: bool,
    /// The place among all waiting tasks. A smaller place is served first.
    pub order: u64,
    /// Whether the task takes its earlier place again, because it was leased before.
    pub is_back: bool,
}

/// Tasks of one name and one priority, in line. Suspects have a separate line, because a suspect is
/// delivered alone.
#[derive(Debug)]
struct Lane {
    name: NameKey,
    rank: u8,
    of_suspects: bool,
    /// The line may have places whose task has left. They are skipped when they come to the front.
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
            used_at: 0,
            idle_at: None,
            lanes: Vec::new(),
            lane_of: BTreeMap::new(),
            heads: BTreeSet::new(),
        }
    }

    /// The settings of a queue that no operator has configured.
    pub fn unconfigured(name: QueueName) -> QueueRecord {
        QueueRecord {
            name,
            paused: false,
            tasks_max: None,
            bytes_max: None,
            expires_in_ms: None,
            result_ttl_ms: None,
            declared: false,
            idle_ms: None,
        }
    }

    /// Whether somebody has set a setting of the queue, paused it or declared it.
    pub fn is_configured(&self) -> bool {
        let QueueRecord {
            name: _,
            paused,
            tasks_max,
            bytes_max,
            expires_in_ms,
            result_ttl_ms,
            declared,
            idle_ms: _,
        } = &self.record;
        *paused
            || *declared
            || [tasks_max, bytes_max, expires_in_ms, result_ttl_ms].into_iter().any(Option::is_some)
    }

    /// Tasks that have not ended.
    pub fn unfinished(&self) -> u64 {
        self.ready + self.scheduled + self.leased + self.started
    }

    /// Whether the queue is needed by more than ended tasks.
    pub fn is_in_use(&self) -> bool {
        self.unfinished() > 0 || !self.servers.is_empty() || self.is_configured()
    }

    /// Whether the queue has a ready task and a worker that could take a task.
    pub fn is_servable(&self) -> bool {
        self.ready > 0 && !self.record.paused && !self.hungry.is_empty()
    }

    /// Resets the settings, totals and rates to those of a new queue. Tasks and workers stay.
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

    /// Puts a task at the end of its line, or at its earlier place.
    pub fn push(&mut self, arrival: Arrival) {
        let Arrival { slot, name, priority, is_suspect, order, is_back } = arrival;
        let index = *self.lane_of.entry((name, priority, is_suspect)).or_insert_with(|| {
            self.lanes.push(Lane {
                name,
                rank: rank(priority),
                of_suspects: is_suspect,
                places: Line::default(),
                head: None,
            });
            self.lanes.len() - 1
        });
        let lane = &mut self.lanes[index];
        let place = Place { slot, order: order as u32 };
        let is_first = if is_back {
            lane.places.put_back(place)
        } else {
            lane.places.push_back(place);
            false
        };
        if is_first || lane.head.is_none() {
            self.set_head(index, Some(order));
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

    /// Whether there is a line of tasks whose name `can_run` allows. All tasks of that line may
    /// have left it.
    pub fn has_for(&self, suspects: bool, can_run: impl Fn(NameKey) -> bool) -> bool {
        let mut lanes = self.heads.iter().map(|head| &self.lanes[head.lane]);
        lanes.any(|lane| can_run(lane.name) && (suspects || !lane.of_suspects))
    }

    /// Takes the first task in line whose name `can_run` allows. `order_of` gives the order of the
    /// task of a slot, if the task is in line.
    pub fn pop(
        &mut self,
        order_of: impl Fn(Slot) -> Option<u64>,
        suspects: bool,
        can_run: impl Fn(NameKey) -> bool,
    ) -> Option<Slot> {
        loop {
            let lane_of = |head: &Head| &self.lanes[head.lane];
            let may_take = |lane: &Lane| can_run(lane.name) && (suspects || !lane.of_suspects);
            let head = *self.heads.iter().find(|head| may_take(lane_of(head)))?;
            let lane = &mut self.lanes[head.lane];
            let first = lane.places.pop_front().filter(|place| stands(&order_of, *place).is_some());
            let next = skip_gone(&order_of, &mut lane.places);
            self.set_head(head.lane, next);
            if let Some(place) = first {
                return Some(place.slot);
            }
        }
    }

    /// Removes suspects that have left the line from the heads of their lanes.
    pub fn drop_gone_suspects(&mut self, order_of: impl Fn(Slot) -> Option<u64>) {
        for lane in 0..self.lanes.len() {
            let is_gone = |place: &Place| stands(&order_of, *place).is_none();
            if self.lanes[lane].of_suspects && self.lanes[lane].places.front().is_some_and(is_gone)
            {
                let next = skip_gone(&order_of, &mut self.lanes[lane].places);
                self.set_head(lane, next);
            }
        }
    }

    /// The task that has been in line for the longest time.
    pub fn oldest(&self, order_of: impl Fn(Slot) -> Option<u64>) -> Option<Slot> {
        let first = |lane: &Lane| {
            let mut places = lane.places.iter();
            places.find_map(|place| Some((stands(&order_of, *place)?, place.slot)))
        };
        self.lanes.iter().filter_map(first).min().map(|(_, slot)| slot)
    }

    /// Frees the memory of the lines when no task waits.
    pub fn drop_empty_lanes(&mut self) {
        if self.ready == 0 {
            (self.lanes, self.lane_of, self.heads) = Default::default();
        }
    }
}

/// The order of the task that took this place, if the task still waits there.
fn stands(order_of: &impl Fn(Slot) -> Option<u64>, place: Place) -> Option<u64> {
    order_of(place.slot).filter(|order| *order as u32 == place.order)
}

/// Drops the places at the front whose tasks have left. Returns the order of the first task that
/// remains.
fn skip_gone(order_of: &impl Fn(Slot) -> Option<u64>, places: &mut Line) -> Option<u64> {
    loop {
        let front = *places.front()?;
        if let Some(order) = stands(order_of, front) {
            return Some(order);
        }
        places.pop_front();
    }
}
