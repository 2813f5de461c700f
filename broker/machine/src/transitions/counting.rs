//! What the changes of tasks count in the counters of their queues.

use celeriac_record::{ClosedBy, Slot, State};

use super::Cause;
use crate::Machine;
use crate::command::QueueCounters;
use crate::step::Step;

/// Counts a change to `state`.
pub(super) fn count(counters: &mut QueueCounters, state: State, cause: Cause) {
    match (state, cause) {
        (State::Leased, _) => counters.deliveries += 1,
        (State::Success, _) => counters.succeeded += 1,
        (State::Failure, _) => counters.failed += 1,
        (State::Revoked, _) => counters.revoked += 1,
        (State::Retry, _) => counters.retried += 1,
        (State::Queued, Cause::WorkerLost) => counters.worker_lost += 1,
        (State::Queued, Cause::Released) => counters.released += 1,
        (State::Queued, Cause::TakenBack) => counters.taken_back += 1,
        (State::Queued | State::Scheduled | State::Started, _) => {}
    }
}

impl Machine {
    /// How long the handler of a task has run. `None`: it does not run.
    pub(super) fn ran_ms(&self, step: &Step<'_>, slot: Slot) -> Option<u64> {
        let task = self.tasks.task(slot);
        let run = self.tasks.run(task).filter(|_| task.state == State::Started)?;
        Some(step.clocks.steady.saturating_sub(run.began).max(0) as u64)
    }

    /// How long a task that is about to be leased has waited. `None`: it came back from a worker
    /// without an outcome, so that its wait was counted before.
    pub(crate) fn waited_ms(&mut self, step: &Step<'_>, slot: Slot) -> Option<u64> {
        let task = self.tasks.task(slot);
        let is_ready_anew = task.lease() == 0 || task.closed_by == ClosedBy::Fail;
        is_ready_anew.then(|| self.ready_for_ms(step, slot))
    }

    /// How long a QUEUED task has been ready. The entry of a task has no room for this time, so it
    /// comes from the task's place in line. A restart gives all places anew: a task that has not
    /// changed since its submit is ready since then, and any other since the restart.
    pub(crate) fn ready_for_ms(&mut self, step: &Step<'_>, slot: Slot) -> u64 {
        let task = self.tasks.task(slot);
        let (since, version, submitted_at) = (task.order(), task.version, task.submitted_at());
        match self.arrivals.at(since) {
            Some(at) => step.now.mono.saturating_sub(at),
            None if version == 1 => step.clocks.steady.saturating_sub(submitted_at).max(0) as u64,
            None => step.now.mono.saturating_sub(self.began),
        }
    }
}
