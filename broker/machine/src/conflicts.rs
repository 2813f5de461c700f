//! Conflicts: a submit names an id that has a task already. The submit says what happens then, and
//! its key shows whether the broker has carried the same submit out before.

use celeriac_proto::TaskId;
use celeriac_record::{Lease, Slot, State};

use crate::Machine;
use crate::command::{Code, OnConflict, Refusal, Submission, SubmitOutcome};
use crate::step::Step;
use crate::successors::Place;
use crate::transitions::Cause;

impl Machine {
    /// Decides about a submit whose id has a task.
    pub(crate) fn resolve_conflict(
        &mut self,
        step: &mut Step<'_>,
        slot: Slot,
        submission: Submission,
    ) -> SubmitOutcome {
        if !self.sees(step.scope.as_deref(), slot) {
            return refused(exists());
        }
        if let Some(slot) = self.carrier_of(slot, &submission.spec.submit_key) {
            return self.joined(slot);
        }
        let is_over = self.tasks.task(slot).state.is_terminal();
        match submission.on_conflict {
            OnConflict::Reject => refused(exists()),
            OnConflict::RunAgainIfFinished if !is_over => self.joined(slot),
            OnConflict::RunAgainAfter if !is_over => self.follow(step, slot, submission),
            OnConflict::Beside if !is_over => self.create_beside(step, submission),
            OnConflict::Supersede { lease } => self.supersede(step, slot, lease, submission),
            OnConflict::RunAgainIfFinished
            | OnConflict::Replace
            | OnConflict::RunAgainAfter
            | OnConflict::Beside => self.run_again(step, slot, submission),
        }
    }

    /// The task of this slot, or the task that waits for its end, if it carries the key of a
    /// submit.
    fn carrier_of(&self, slot: Slot, submit_key: &str) -> Option<Slot> {
        if submit_key.is_empty() {
            return None;
        }
        let key = self.tasks.hash_of_key(submit_key);
        [Some(slot), self.successors.of(slot)]
            .into_iter()
            .flatten()
            .find(|slot| self.tasks.submit_key(self.tasks.task(*slot)) == key)
    }

    fn joined(&self, slot: Slot) -> SubmitOutcome {
        let task = self.tasks.task(slot);
        SubmitOutcome::Joined { generation: self.tasks.generation(task), state: task.state }
    }

    /// The outcome of a submit that runs beside another task already. The other task may be gone
    /// since then.
    pub(crate) fn known_beside(
        &self,
        step: &Step<'_>,
        submission: &Submission,
    ) -> Option<SubmitOutcome> {
        if submission.on_conflict != OnConflict::Beside {
            return None;
        }
        let id = id_beside(submission).ok()?;
        let found = self.find_seen(step.scope.as_deref(), &id)?;
        let slot = self.carrier_of(found, &submission.spec.submit_key)?;
        let task = self.tasks.task(slot);
        let (generation, state) = (self.tasks.generation(task), task.state);
        Some(SubmitOutcome::JoinedBeside { id, generation, state })
    }

    /// Makes a task with an id of its own, because the task of the id that was submitted goes on.
    fn create_beside(&mut self, step: &mut Step<'_>, mut submission: Submission) -> SubmitOutcome {
        let id = match id_beside(&submission) {
            Ok(id) => id,
            Err(refusal) => return refused(refusal),
        };
        if self.tasks.find(&id).is_some() {
            let message = format!("the id `{id}` beside it is that of another task");
            return refused(Refusal::new(Code::TaskExists, message));
        }
        submission.spec.id = id.clone();
        match self.create_first(step, submission) {
            Ok(state) => SubmitOutcome::CreatedBeside { id, state },
            Err(refusal) => refused(refusal),
        }
    }

    /// The handler of a run submits its own id again: the next generation takes the place of the
    /// run, and nobody sees an end of the run. If the worker dies before its next report, there is
    /// one run and not two.
    fn supersede(
        &mut self,
        step: &mut Step<'_>,
        slot: Slot,
        lease: Lease,
        submission: Submission,
    ) -> SubmitOutcome {
        let task = self.tasks.task(slot);
        let is_of_earlier_run = lease != 0 && lease != task.lease();
        if is_of_earlier_run || task.state == State::Revoked {
            return self.joined(slot);
        }
        if task.state.is_terminal() {
            return self.run_again(step, slot, submission);
        }
        let generation = self.tasks.generation(task);
        let cancel = self.tasks.run(task).and_then(|run| run.cancel.clone());
        if let Some(reason) = cancel.as_ref().filter(|_| !self.announces_end(slot)) {
            self.revoke(step, slot, Cause::Cancelled, reason);
            return SubmitOutcome::Joined { generation, state: State::Revoked };
        }
        if let Some(successor) = self.successors.of(slot) {
            self.revoke(step, slot, Cause::Replaced, "replaced");
            return self.joined(successor);
        }
        let queue = match self.admit(&submission) {
            Ok(queue) => queue,
            Err(refusal) => return refused(refusal),
        };
        self.remove_superseded(step, slot);
        let generation = generation.saturating_add(1);
        let mut state =
            self.create(step, Place { slot, queue, generation, after: None }, submission);
        if let Some(reason) = cancel {
            self.call_off(step, slot, &reason);
            state = self.tasks.task(slot).state;
        }
        SubmitOutcome::NewGeneration { generation, state }
    }

    /// Takes a run out of the table without an end that clients see. The new record of the slot,
    /// which follows, replaces the records of the run.
    fn remove_superseded(&mut self, step: &Step<'_>, slot: Slot) {
        if self.tasks.task(slot).is_leased() {
            self.end_lease(slot, celeriac_record::ClosedBy::Nobody);
        }
        self.change_state(step, slot, State::Revoked, Cause::Superseded);
        let task = self.tasks.remove(slot);
        self.uncount(slot, &task);
    }
}

/// The id of a task beside another: the id of the submit with the key of the submit.
fn id_beside(submission: &Submission) -> Result<TaskId, Refusal> {
    let (id, key) = (&submission.spec.id, &submission.spec.submit_key);
    if key.is_empty() {
        let message = "a submit that may run beside another needs a submit_key";
        return Err(Refusal::new(Code::InvalidArgument, message));
    }
    TaskId::parse(format!("{id}~{key}")).map_err(|_| {
        let message = "the id is too long for a task beside it";
        Refusal::new(Code::InvalidArgument, message)
    })
}

/// The refusal of a submit whose id has a task. A client that may not see the task learns no more.
pub(crate) fn exists() -> Refusal {
    Refusal::new(Code::TaskExists, "a task of this id exists")
}

fn refused(refusal: Refusal) -> SubmitOutcome {
    SubmitOutcome::Refused(refusal)
}
