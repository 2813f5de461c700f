//! Successors: an id that is submitted while its task is unfinished may be to run once more
//! afterwards. The new task waits beside the present one, in a slot of its own that is not found by
//! the id, until that has ended; then it takes its place.
//!
//! At most one waits for each id. Its record names the task that it follows, so that a restart
//! finds the same.

use std::collections::BTreeMap;

use celeriac_record::{Record, Slot, State, TaskKey};

use super::command::{Effect, Now, Submission, SubmitOutcome};
use super::submit::Place;
use super::timers::{Kind, Moment};
use super::{Effects, Machine};

/// A task that waits for the end of another.
#[derive(Debug, Clone, Copy)]
struct Successor {
    slot: Slot,
    /// Should it be later than that end.
    eta: Option<Moment>,
}

/// Which task waits for the end of which.
#[derive(Debug, Default)]
pub(super) struct Successors {
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

    /// The task that waits for the end of this one.
    pub fn of(&self, present: Slot) -> Option<Slot> {
        self.of.get(&present).map(|successor| successor.slot)
    }

    /// The task that this one waits for.
    pub fn present_of(&self, successor: Slot) -> Option<Slot> {
        self.present.get(&successor).copied()
    }

    /// A task has ended.
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
    /// Has a task wait for the end of another one of its id.
    pub(super) fn follow(
        &mut self,
        now: Now,
        present: Slot,
        submission: Submission,
        fx: &mut Effects,
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
            now,
            Place { slot: self.tasks.next_slot(), queue, generation, after },
            submission,
            fx,
        );
        SubmitOutcome::NewGeneration { generation, state }
    }

    /// Lets the successors of what has ended take their places.
    pub(super) fn advance_successors(&mut self, now: Now, fx: &mut Effects) {
        for present in std::mem::take(&mut self.successors.due) {
            let Some(Successor { slot, eta }) = self.successors.take(present) else { continue };
            // With a TTL of 0 it is gone already.
            if self.tasks.try_task(present).is_some() {
                self.keep_for_waits(present, fx);
                fx.push(Effect::Store(Record::Forgotten(self.tasks.key(present))));
                let ended = self.tasks.remove(present);
                self.uncount(&ended);
            }
            let id = self.tasks.id(self.tasks.task(slot));
            if self.tasks.find(&id).is_some() {
                // A log that says so was not written by a broker.
                self.discard(slot, fx);
                continue;
            }
            self.tasks.reveal(slot);
            if self.is_watched(&id) {
                self.tasks.extra_mut(slot).watched = true;
            }
            match eta.filter(|eta| !self.clocks.has_come(*eta)) {
                Some(eta) => {
                    self.timers.set(eta, slot, Kind::Due);
                    self.notify(slot, fx);
                }
                None => self.promote(now, slot, fx),
            }
        }
    }

    /// What was to follow shall not run. Nobody saw it yet.
    pub(super) fn drop_successor(&mut self, present: Slot, fx: &mut Effects) {
        if let Some(Successor { slot, .. }) = self.successors.take(present) {
            self.discard(slot, fx);
        }
    }

    fn discard(&mut self, slot: Slot, fx: &mut Effects) {
        fx.push(Effect::Store(Record::Forgotten(self.tasks.key(slot))));
        let task = self.tasks.remove_hidden(slot);
        let queue = self.queues.queue_mut(task.queue());
        queue.scheduled -= 1;
        queue.tasks -= 1;
        queue.bytes -= task.payload_bytes();
        self.queues.note_use(task.queue());
        self.names.release(task.name);
    }

    /// After a restart: what follows a task that has not ended waits for it again.
    pub(super) fn restore_successors(&mut self, following: BTreeMap<Slot, TaskKey>) {
        for (slot, present) in following {
            if self.follows(slot, present) && self.successors.of(present.slot).is_none() {
                let eta = Moment::At(self.tasks.task(slot).due());
                self.successors.add(present.slot, slot, Some(eta));
            }
        }
    }

    /// Whether it waits for a task of its id that is there and has not ended. Anything else no
    /// broker writes, but for a task whose present one has ended: that is found by its id like
    /// all others.
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
