//! Dead tasks: what failed for good is kept, and may be run again or discarded.

use celeriac_record::{Slot, State, TaskKey};

use super::command::{ConnectionKey, Dead, Effect, Filter, Message, Now, RequestId};
use super::queue::QueueKey;
use super::scan::{CHANGE, Look, Work};
use super::task::NewTask;
use super::{Effects, Machine};

/// What is done to a dead task.
#[derive(Debug, Clone, Copy)]
pub(super) enum Fate {
    /// It runs again, as a new generation without an expiry.
    Replay,
    /// It is dropped before its time.
    Discard,
}

/// A replay or discard of all dead tasks that match, under way.
#[derive(Debug)]
pub(super) struct DeadMany {
    pub filter: Filter,
    /// The queue of the filter, during a slice.
    pub queue: Option<Option<QueueKey>>,
    fate: Fate,
    pub count: u64,
}

impl Machine {
    /// Replays or discards dead tasks, and says how many.
    pub(super) fn settle_dead(
        &mut self,
        now: Now,
        connection: ConnectionKey,
        request: RequestId,
        which: Dead,
        fate: Fate,
        fx: &mut Effects,
    ) {
        let ids = match which {
            Dead::Ids(ids) => ids,
            Dead::Matching(filter) => {
                let many = DeadMany { filter, queue: None, fate, count: 0 };
                return self.begin_scan(now, connection, request, Work::Dead(many), fx);
            }
        };
        let mut slots: Vec<Slot> = ids.iter().filter_map(|id| self.tasks.find(id)).collect();
        slots.sort_unstable();
        slots.dedup();
        slots.retain(|slot| self.tasks.task(*slot).state == State::Failure);
        for slot in &slots {
            self.settle_one(now, *slot, fate, fx);
        }
        fx.send(connection, Message::Count { request, count: slots.len() as u64 });
    }

    pub(super) fn dead_slot(
        &mut self,
        now: Now,
        slot: Slot,
        before: u64,
        dead: &mut DeadMany,
        fx: &mut Effects,
    ) -> Look {
        let is_dead = self
            .tasks
            .try_task(slot)
            .filter(|task| task.state == State::Failure && task.serial() <= before);
        let Some(task) = is_dead else { return Look::Cost(1) };
        if !self.matches(task, &dead.filter, dead.queue) {
            return Look::Cost(self.cost_of(task, &dead.filter));
        }
        self.settle_one(now, slot, dead.fate, fx);
        dead.count += 1;
        Look::Cost(CHANGE)
    }

    fn settle_one(&mut self, now: Now, slot: Slot, fate: Fate, fx: &mut Effects) {
        match fate {
            Fate::Replay => self.replay(now, slot, fx),
            Fate::Discard => self.forget(slot, fx),
        }
    }

    fn replay(&mut self, now: Now, slot: Slot, fx: &mut Effects) {
        self.keep_for_waits(slot, fx);
        let dead = self.tasks.task(slot);
        let generation = self.tasks.generation(dead).saturating_add(1);
        let mut plan = self.tasks.plan(dead).cloned();
        if let Some(plan) = &mut plan {
            plan.expires = None;
        }
        let (id, watched) = (self.tasks.id(dead), self.tasks.is_watched(dead));
        let dead = self.tasks.remove(slot);
        // The name is in use before it is given back.
        self.names.take_again(dead.name);
        self.uncount(&dead);
        self.latest_serial += 1;
        let task = NewTask {
            id,
            serial: self.latest_serial,
            due: now.wall,
            submitted_at: now.wall,
            generation,
            name: dead.name,
            queue: dead.queue(),
            payload_bytes: dead.payload_bytes(),
            priority: dead.priority,
            state: State::Queued,
            watched,
            plan: plan.filter(|plan| *plan != self.usual_plan).map(Box::new),
        };
        // The new record of the slot hides the old ones.
        self.tasks.put(slot, task);
        let key = TaskKey { slot, serial: self.latest_serial };
        fx.push(Effect::Replay { key, generation, at: now.wall });
        self.enter(slot);
        self.note_submitted(slot);
        self.line_up(slot, false);
        self.notify(slot, fx);
    }
}
