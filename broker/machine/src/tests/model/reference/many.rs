//! Requests that look at many tasks, in the reference.

use celeriac_record::State;

use super::super::steps::Submit;
use super::Reference;
use crate::command::{CancelMode, CancelOutcome};

impl Reference {
    /// Cancels every unfinished task with the tag, in the order of the slots.
    pub fn cancel_tagged(&mut self, mode: CancelMode) -> Vec<(u8, CancelOutcome)> {
        let mut ids = self.ids(|task| task.submit.tagged && !task.state.is_terminal());
        ids.sort_by_key(|id| self.tasks[id].slot);
        ids.into_iter().map(|id| (id, self.cancel(id, mode))).collect()
    }

    /// The dead tasks of a queue. The task that died first comes first.
    pub fn dead(&self, queue: u8) -> Vec<u8> {
        let mut ids = self.ids(|task| task.submit.queue == queue && task.state == State::Failure);
        ids.sort_by_key(|id| (self.tasks[id].ended, self.tasks[id].slot));
        ids
    }

    pub fn replay_dead(&mut self, queue: u8) -> u64 {
        let dead = self.dead(queue);
        for id in &dead {
            let task = self.tasks[id].clone();
            self.remove(*id);
            let submit = Submit { eta: None, expires: None, ..task.submit };
            self.create(*id, submit, task.slot, task.generation + 1);
        }
        dead.len() as u64
    }

    pub fn discard_dead(&mut self, queue: u8) -> u64 {
        let dead = self.dead(queue);
        dead.iter().for_each(|id| self.remove(*id));
        dead.len() as u64
    }
}
