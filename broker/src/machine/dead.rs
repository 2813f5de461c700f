//! Dead tasks: what failed for good is kept, and may be run again or discarded.

use celeriac_proto::limits::BATCH_ITEMS_MAX;

use super::command::{Dead, Effect, Now};
use super::task::NewTask;
use super::{Effects, Machine};
use crate::record::{Slot, State, TaskKey};

impl Machine {
    /// Runs dead tasks again, each as a new generation without an expiry. Says how many; never more than one batch.
    pub(super) fn replay_dead(&mut self, now: Now, which: &Dead, fx: &mut Effects) -> u64 {
        let slots = self.dead(which);
        for slot in &slots {
            self.replay(now, *slot, fx);
        }
        slots.len() as u64
    }

    /// Drops dead tasks before their time. Says how many; never more than one batch.
    pub(super) fn discard_dead(&mut self, which: &Dead, fx: &mut Effects) -> u64 {
        let slots = self.dead(which);
        for slot in &slots {
            self.forget(*slot, fx);
        }
        slots.len() as u64
    }

    fn dead(&self, which: &Dead) -> Vec<Slot> {
        let is_dead = |slot: &Slot| self.tasks.try_task(*slot).is_some_and(|task| task.state == State::Failure);
        match which {
            Dead::Ids(ids) => {
                let mut slots: Vec<Slot> = ids.iter().filter_map(|id| self.tasks.find(id)).filter(is_dead).collect();
                slots.sort_unstable();
                slots.dedup();
                slots
            }
            Dead::Matching(filter) => {
                let matching = (0..self.tasks.slots()).filter(|slot| is_dead(slot) && self.is_listed(*slot, filter));
                matching.take(BATCH_ITEMS_MAX).collect()
            }
        }
    }

    fn replay(&mut self, now: Now, slot: Slot, fx: &mut Effects) {
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
