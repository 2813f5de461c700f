//! Dead tasks: the broker keeps tasks that failed for good. An operator may run them again or
//! discard them.

use celeriac_record::{Slot, State, TaskKey, Timestamp};

use crate::Machine;
use crate::clocks::Moment;
use crate::command::{Answer, Dead, Effect, Filter};
use crate::ends::DeadPlace;
use crate::keys::QueueKey;
use crate::slice::CHANGE;
use crate::step::{Asker, Step};
use crate::task::{NewTask, Task};

/// The operation on a dead task.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Fate {
    /// The task runs again, as a new generation without an expiry.
    Replay,
    /// The task is removed before its time is over.
    Discard,
}

/// A replay or discard under way of all dead tasks that match a filter.
#[derive(Debug)]
pub(crate) struct DeadMany {
    pub filter: Filter,
    /// The queue of the filter, valid during one slice.
    pub queue: Option<Option<QueueKey>>,
    fate: Fate,
    /// The time of the request on the steady clock. Tasks that died later stay as they are.
    until: Timestamp,
    /// The place of the task that was looked at last. In each queue the task that died first comes
    /// first.
    place: Option<DeadPlace>,
    pub count: u64,
}

impl Machine {
    /// Replays or discards dead tasks, and answers with their number.
    pub(crate) fn settle_dead(
        &mut self,
        step: &mut Step<'_>,
        asker: Asker,
        which: Dead,
        fate: Fate,
    ) {
        let ids = match which {
            Dead::Ids(ids) => ids,
            Dead::Matching(filter) => {
                let filter = Filter { scope: step.scope.clone(), ..filter };
                let (queue, place, count) = (None, None, 0);
                let until = step.clocks.steady;
                let many = DeadMany { filter, queue, fate, until, place, count };
                return self.begin_scan(step, asker, many);
            }
        };
        let scope = step.scope.as_deref();
        let found = ids.iter().filter_map(|id| self.find_seen(scope, id));
        let mut slots: Vec<Slot> = found.collect();
        slots.sort_unstable();
        slots.dedup();
        slots.retain(|slot| self.is_dead_for(self.tasks.task(*slot), fate));
        for slot in &slots {
            self.settle_one(step, *slot, fate);
        }
        step.answer(asker, Answer::Count(slots.len() as u64));
    }

    /// Goes on with a replay or discard by filter. Returns false if the slice is used up before the
    /// end.
    pub(crate) fn settle_many(
        &mut self,
        step: &mut Step<'_>,
        before: u64,
        dead: &mut DeadMany,
    ) -> bool {
        let queue = match dead.queue {
            // There is no such queue.
            Some(None) => return true,
            queue => queue.flatten(),
        };
        while let Some(place) = self.ends.dead_before(queue, dead.place) {
            if !self.scans.has_looks() {
                return false;
            }
            dead.place = Some(place);
            let cost = self.settle_dead_task(step, place, before, dead);
            self.scans.spend(cost);
        }
        true
    }

    /// Looks at one dead task, and returns the cost.
    fn settle_dead_task(
        &mut self,
        step: &mut Step<'_>,
        place: DeadPlace,
        before: u64,
        dead: &mut DeadMany,
    ) -> u32 {
        let task = self.tasks.task(place.slot());
        let is_late = task.serial() > before || place.ended() > dead.until;
        if is_late || !self.is_dead_for(task, dead.fate) {
            return 1;
        }
        if !self.matches(task, &dead.filter, dead.queue) {
            return self.cost_of(task, &dead.filter);
        }
        self.settle_one(step, place.slot(), dead.fate);
        dead.count += 1;
        CHANGE
    }

    /// Whether a task is dead and may have this fate. A put task never ran, and nothing could run.
    fn is_dead_for(&self, task: &Task, fate: Fate) -> bool {
        let can_run = matches!(fate, Fate::Discard) || !self.is_put_task(task);
        task.state == State::Failure && can_run
    }

    fn settle_one(&mut self, step: &mut Step<'_>, slot: Slot, fate: Fate) {
        match fate {
            Fate::Replay => self.replay(step, slot),
            Fate::Discard => self.forget(step, slot),
        }
    }

    fn replay(&mut self, step: &mut Step<'_>, slot: Slot) {
        self.keep_for_waits(step, slot);
        let dead = self.tasks.task(slot);
        let generation = self.tasks.generation(dead).saturating_add(1);
        let mut plan = self.tasks.plan(dead).cloned();
        if let Some(plan) = &mut plan {
            plan.expires = None;
        }
        let (id, watched) = (self.tasks.id(dead), self.tasks.is_watched(dead));
        let submit_key = self.tasks.submit_key(dead);
        let dead = self.tasks.remove(slot);
        // The use is counted again before `uncount` ends one use, so that the name never becomes
        // unused.
        self.names.take_again(dead.name);
        self.uncount(slot, &dead);
        self.latest_serial += 1;
        let task = NewTask {
            id,
            serial: self.latest_serial,
            due: Moment::At(step.now.wall),
            submitted_at: step.now.wall,
            generation,
            name: dead.name,
            queue: dead.queue(),
            payload_bytes: dead.payload_bytes(),
            priority: dead.priority(),
            state: State::Queued,
            watched,
            submit_key,
            plan: plan.filter(|plan| *plan != self.usual_plan).map(Box::new),
        };
        // The new record of the slot hides the old ones.
        self.tasks.put(slot, task);
        let key = TaskKey { slot, serial: self.latest_serial };
        step.push(Effect::Replay { key, generation, at: step.now.wall });
        self.enter(slot);
        self.note_submitted(step, slot);
        self.line_up(slot, false);
        self.notify(step, slot);
    }
}
