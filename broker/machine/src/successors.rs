//! Successors: a submit of an id whose task is unfinished may ask for another run afterwards. The
//! new task waits in its own slot, which the id does not find, until the present task has ended.
//! Then the new task replaces the present task.
//!
//! An id has at most one successor. The record of the successor names the task that it follows, so
//! that a restart finds the same order.

use std::collections::BTreeMap;

use celeriac_record::{Record, Slot, State, TaskKey};

use crate::Machine;
use crate::clocks::Moment;
use crate::command::{Submission, SubmitOutcome};
use crate::keys::QueueKey;
use crate::step::Step;
use crate::timers::Kind;

/// A task that waits for the end of another.
#[derive(Debug, Clone, Copy)]
struct Successor {
    slot: Slot,
    /// The eta of the successor, which may be later than the end of the present task.
    eta: Option<Moment>,
}

/// The place of a new task.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    pub slot: Slot,
    pub queue: QueueKey,
    pub generation: u32,
    /// The task of the same id whose end the new task waits for.
    pub after: Option<TaskKey>,
}

/// All successors with their present tasks.
#[derive(Debug, Default)]
pub(crate) struct Successors {
    of: BTreeMap<Slot, Successor>,
    present: BTreeMap<Slot, Slot>,
    /// Tasks that have ended and have a successor.
    due: Vec<Slot>,
}

impl Successors {
    pub fn add(&mut self, present: Slot, slot: Slot, eta: Option<Moment>) {
        self.of.insert(present, Successor { slot, eta });
        self.present.insert(slot, present);
    }

    /// The successor of a task.
    pub fn of(&self, present: Slot) -> Option<Slot> {
        self.of.get(&present).map(|successor| successor.slot)
    }

    /// The task that a successor waits for.
    pub fn present_of(&self, successor: Slot) -> Option<Slot> {
        self.present.get(&successor).copied()
    }

    /// Notes that a task has ended.
    pub fn note_end(&mut self, slot: Slot) {
        if self.of.contains_key(&slot) {
            self.due.push(slot);
        }
    }

    fn take(&mut self, present: Slot) -> Option<Successor> {
        let successor = self.of.remove(&present)?;
        self.present.remove(&successor.slot);
        Some(successor)
    }
}

impl Machine {
    /// Submits a task that waits for the end of the present task of its id.
    pub(crate) fn follow(
        &mut self,
        step: &mut Step<'_>,
        present: Slot,
        submission: Submission,
    ) -> SubmitOutcome {
        if let Some(waiting) = self.successors.of(present).map(|slot| self.tasks.task(slot)) {
            return SubmitOutcome::Joined {
                generation: self.tasks.generation(waiting),
                state: waiting.state,
            };
        }
        let queue = match self.admit(&submission) {
            Ok(queue) => queue,
            Err(refusal) => return SubmitOutcome::Refused(refusal),
        };
        let generation = self.tasks.generation(self.tasks.task(present)).saturating_add(1);
        let after = Some(self.tasks.key(present));
        let state = self.create(
            step,
            Place { slot: self.tasks.next_slot(), queue, generation, after },
            submission,
        );
        SubmitOutcome::NewGeneration { generation, state }
    }

    /// Replaces ended tasks by their successors.
    pub(crate) fn advance_successors(&mut self, step: &mut Step<'_>) {
        for present in std::mem::take(&mut self.successors.due) {
            let Some(Successor { slot, eta }) = self.successors.take(present) else { continue };
            // With a TTL of 0 the ended task is removed already.
            if self.tasks.try_task(present).is_some() {
                self.keep_for_waits(step, present);
                step.store(Record::Forgotten(self.tasks.key(present)));
                let ended = self.tasks.remove(present);
                self.uncount(present, &ended);
            }
            let id = self.tasks.id(self.tasks.task(slot));
            if self.tasks.find(&id).is_some() {
                // No broker writes such a log.
                self.discard(step, slot);
                continue;
            }
            self.tasks.reveal(slot);
            if self.is_observed(&id) {
                self.tasks.extra_mut(slot).watched = true;
            }
            match eta.filter(|eta| !step.clocks.has_come(*eta)) {
                Some(eta) => {
                    self.timers.set(eta, slot, Kind::Due);
                    self.notify(step, slot);
                }
                None => self.promote(step, slot),
            }
        }
    }

    /// Drops the successor of a task. No client has seen the successor yet.
    pub(crate) fn drop_successor(&mut self, step: &mut Step<'_>, present: Slot) {
        if let Some(Successor { slot, .. }) = self.successors.take(present) {
            self.discard(step, slot);
        }
    }

    fn discard(&mut self, step: &mut Step<'_>, slot: Slot) {
        step.store(Record::Forgotten(self.tasks.key(slot)));
        let task = self.tasks.remove_hidden(slot);
        let queue = self.queues.queue_mut(task.queue());
        queue.scheduled -= 1;
        queue.tasks -= 1;
        queue.bytes -= task.payload_bytes();
        self.queues.note_use(task.queue());
        self.names.release(task.name);
    }

    /// After a restart a successor waits again for its present task, if that task has not ended.
    pub(crate) fn restore_successors(&mut self, following: BTreeMap<Slot, TaskKey>) {
        for (slot, present) in following {
            if self.follows(slot, present) && self.successors.of(present.slot).is_none() {
                let eta = Moment::At(self.tasks.task(slot).due());
                self.successors.add(present.slot, slot, Some(eta));
            }
        }
    }

    /// Whether a task waits for a task of its id that exists and has not ended. A broker writes
    /// only one other case: the present task has ended. Then the id finds the successor like any
    /// other task.
    fn follows(&self, slot: Slot, present: TaskKey) -> bool {
        let (Some(task), Some(before)) =
            (self.tasks.try_task(slot), self.tasks.try_task(present.slot))
        else {
            return false;
        };
        let is_that = before.serial() == present.serial && before.serial() < task.serial();
        is_that
            && !before.state.is_terminal()
            && task.state == State::Scheduled
            && self.tasks.id(before) == self.tasks.id(task)
            && self.successors.present_of(present.slot).is_none()
            && self.successors.of(slot).is_none()
    }
}
