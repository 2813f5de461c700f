//! Queues: tasks in line by priority and age. Each task name has its own line, so that a name that
//! no worker can run does not delay the other names.

mod arrivals;
mod line;
mod names;
mod rate;
mod table;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

use celeriac_proto::QueueName;
use celeriac_record::{QueueRecord, Slot, State};

pub(crate) use self::arrivals::Arrivals;
use self::line::{Line, Place};
use self::names::ReadyNames;
use self::rate::Rate;
pub(crate) use self::table::Queues;
use crate::command::{Monotonic, QueueCounters};
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
    pub ready_names: ReadyNames,
    pub scheduled: u64,
    /// Tasks that a worker holds and has not begun.
    pub leased: u64,
    pub started: u64,
    pub dead: u64,
    /// Payload bytes of tasks that have not ended.
    pub bytes: u64,
    pub counters: QueueCounters,
    pub submitted_rate: Rate,
    pub ended_rate: Rate,
    /// Workers that serve the queue: all workers; idle workers, which hold fewer leases than their
    /// concurrency; and hungry workers, which could take one more task.
    pub servers: BTreeSet<SessionKey>,
    pub idle: BTreeSet<SessionKey>,
    pub hungry: BTreeSet<SessionKey>,
    /// The connected ones of them, and the handlers that those run at once, together.
    pub workers: u32,
    pub slots: u64,
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

/// The place of a waiting task among all tasks that wait in its queue: the order of delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct LinePlace {
    rank: u8,
    pub order: u64,
    pub slot: Slot,
}

/// The bits of an order, which is the lower part of the number of a place.
const ORDER_BITS: u32 = 48;

impl LinePlace {
    /// The rank and the order in one number.
    pub fn number(self) -> u64 {
        u64::from(self.rank) << ORDER_BITS | self.order
    }

    pub fn from_number(number: u64, slot: Slot) -> Self {
        let order = number & ((1 << ORDER_BITS) - 1);
        Self { rank: (number >> ORDER_BITS) as u8, order, slot }
    }
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
            ready_names: ReadyNames::default(),
            scheduled: 0,
            leased: 0,
            started: 0,
            dead: 0,
            bytes: 0,
            counters: QueueCounters::default(),
            submitted_rate: Rate::default(),
            ended_rate: Rate::default(),
            servers: BTreeSet::new(),
            idle: BTreeSet::new(),
            hungry: BTreeSet::new(),
            workers: 0,
            slots: 0,
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

    /// Resets the settings, counters and rates to those of a new queue. Tasks and workers stay.
    /// Returns the counters.
    pub fn reset(&mut self) -> QueueCounters {
        self.record = Self::unconfigured(self.record.name.clone());
        (self.submitted_rate, self.ended_rate) = (Rate::default(), Rate::default());
        std::mem::take(&mut self.counters)
    }

    /// Counts one more connected worker with so many handlers, or one less.
    pub fn count_worker(&mut self, concurrency: u32, is_more: bool) {
        let slots = u64::from(concurrency);
        (self.workers, self.slots) = match is_more {
            true => (self.workers + 1, self.slots + slots),
            false => (self.workers - 1, self.slots - slots),
        };
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
    /// task of a slot, if the task is in line. Very many tasks may have left the line behind its
    /// head: when no `looks` are left, the next call goes on where this one ended.
    pub fn pop(
        &mut self,
        order_of: impl Fn(Slot) -> Option<u64>,
        suspects: bool,
        can_run: impl Fn(NameKey) -> bool,
        looks: &mut u32,
    ) -> Option<Slot> {
        loop {
            let lane_of = |head: &Head| &self.lanes[head.lane];
            let may_take = |lane: &Lane| can_run(lane.name) && (suspects || !lane.of_suspects);
            let head = *self.heads.iter().find(|head| may_take(lane_of(head)))?;
            let lane = &mut self.lanes[head.lane];
            let first = lane.places.pop_front().filter(|place| stands(&order_of, *place).is_some());
            let next = skip_gone(&order_of, &mut lane.places, head.order, looks);
            self.set_head(head.lane, next);
            if first.is_some() || *looks == 0 {
                return first.map(|place| place.slot);
            }
        }
    }

    /// Removes suspects that have left the line from the heads of their lanes.
    pub fn drop_gone_suspects(&mut self, order_of: impl Fn(Slot) -> Option<u64>) {
        // There are few suspects, so few of them have left.
        let mut looks = u32::MAX;
        for lane in 0..self.lanes.len() {
            if self.lanes[lane].of_suspects {
                self.drop_gone(lane, &order_of, &mut looks);
            }
        }
    }

    /// Removes tasks that have left the line from the head of a lane.
    fn drop_gone(&mut self, lane: usize, order_of: &impl Fn(Slot) -> Option<u64>, looks: &mut u32) {
        let Lane { places, head: Some(head), .. } = &mut self.lanes[lane] else { return };
        if places.front().is_some_and(|place| stands(order_of, *place).is_none()) {
            let next = skip_gone(order_of, places, head.order, looks);
            self.set_head(lane, next);
        }
    }

    /// The task that has been in line for the longest time. While very many tasks that have left
    /// the line stand in front of it, it is not known: each call takes some of them away.
    pub fn oldest(
        &mut self,
        order_of: impl Fn(Slot) -> Option<u64>,
        looks: &mut u32,
    ) -> Option<Slot> {
        let mut oldest = None;
        for lane in 0..self.lanes.len() {
            self.drop_gone(lane, &order_of, looks);
            if let Some(front) = self.lanes[lane].places.front()
                && let Some(order) = stands(&order_of, *front)
                && oldest.is_none_or(|(earlier, _)| order < earlier)
            {
                oldest = Some((order, front.slot));
            }
        }
        oldest.map(|(_, slot)| slot)
    }

    /// The next places in the order of delivery: behind a place, or from the first one on. The
    /// tasks of some places may have left. The cost is that of a look for each lane and place.
    pub fn in_line(&self, behind: Option<LinePlace>, count: usize) -> Vec<LinePlace> {
        let mut lanes = Vec::new();
        for lane in &self.lanes {
            let (rank, Some(Head { order: near, .. })) = (lane.rank, lane.head) else { continue };
            let behind = behind.filter(|behind| behind.rank >= rank);
            if behind.is_some_and(|behind| behind.rank > rank) {
                continue;
            }
            let places = lane.places.behind(behind.map(|behind| behind.order as u32));
            lanes.push(places.map(move |place| LinePlace {
                rank,
                order: full_order(place.order, near),
                slot: place.slot,
            }));
        }
        let firsts = lanes.iter_mut().enumerate();
        let mut heads: BinaryHeap<_> =
            firsts.filter_map(|(lane, places)| Some(Reverse((places.next()?, lane)))).collect();
        let mut found = Vec::new();
        while found.len() < count
            && let Some(Reverse((place, lane))) = heads.pop()
        {
            found.push(place);
            heads.extend(lanes[lane].next().map(|next| Reverse((next, lane))));
        }
        found
    }

    /// The number of lanes that the queue has now.
    pub fn lanes(&self) -> usize {
        self.lanes.len()
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

/// Drops the places at the front whose tasks have left, as far as the looks go. Returns the order
/// of the first place that remains. `near` is an order of the same line.
fn skip_gone(
    order_of: &impl Fn(Slot) -> Option<u64>,
    places: &mut Line,
    near: u64,
    looks: &mut u32,
) -> Option<u64> {
    loop {
        let front = *places.front()?;
        if let Some(order) = stands(order_of, front) {
            return Some(order);
        }
        if *looks == 0 {
            return Some(full_order(front.order, near));
        }
        *looks -= 1;
        places.pop_front();
    }
}

/// The order of a place whose task may have left, from its lowest bits. `near` is an order of the
/// same line.
fn full_order(order: u32, near: u64) -> u64 {
    near.saturating_add_signed(i64::from(order.wrapping_sub(near as u32) as i32))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A queue of a hundred tasks of one name. Those whose slot is in `gone` have left.
    fn queue() -> Queue {
        let mut queue = Queue::new(Queue::unconfigured(QueueName::default()));
        for slot in 0..100 {
            let order = ORDER + u64::from(slot);
            let (is_suspect, is_back) = (false, false);
            queue.push(Arrival { slot, name: 1, priority: 4, is_suspect, order, is_back });
        }
        queue
    }

    /// An order whose lower half is about to begin again.
    const ORDER: u64 = (1 << 40) - 50;

    fn order_of(gone: std::ops::Range<Slot>) -> impl Fn(Slot) -> Option<u64> {
        move |slot| (!gone.contains(&slot)).then_some(ORDER + u64::from(slot))
    }

    #[test]
    fn tasks_that_have_left_are_skipped_in_steps() {
        let mut queue = queue();
        let order_of = order_of(1..95);
        let mut pop = |looks: &mut u32| queue.pop(&order_of, true, |_| true, looks);
        assert_eq!(pop(&mut 10), Some(0));
        for _ in 0..7 {
            let mut looks = 10;
            assert_eq!((pop(&mut looks), looks), (None, 0));
        }
        let rest: Vec<Slot> = std::iter::from_fn(|| pop(&mut 10)).collect();
        assert_eq!(rest, [95, 96, 97, 98, 99]);
    }

    #[test]
    fn the_oldest_task_is_found_in_steps_behind_those_that_have_left() {
        let mut queue = queue();
        let order_of = order_of(0..95);
        for _ in 0..9 {
            assert_eq!(queue.oldest(&order_of, &mut 10), None);
        }
        assert_eq!(queue.oldest(&order_of, &mut 10), Some(95));
    }

    #[test]
    fn the_line_is_read_in_the_order_of_delivery_from_any_place() {
        let mut queue = queue();
        for slot in 100..104 {
            let (order, is_suspect) = (ORDER + u64::from(slot), false);
            let (name, priority) = ([1, 2][slot as usize % 2], 5);
            queue.push(Arrival { slot, name, priority, is_suspect, order, is_back: false });
        }
        let all: Vec<Slot> = (100..104).chain(0..100).collect();
        let slots =
            |places: &[LinePlace]| places.iter().map(|place| place.slot).collect::<Vec<_>>();
        let places = queue.in_line(None, 1_000);
        assert_eq!(slots(&places), all);
        for (at, place) in places.iter().enumerate() {
            assert_eq!(LinePlace::from_number(place.number(), place.slot), *place);
            let behind = queue.in_line(Some(*place), 7);
            assert_eq!(slots(&behind), all[at + 1..].iter().copied().take(7).collect::<Vec<_>>());
        }
    }
}
