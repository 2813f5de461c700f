//! Cancel: what waits is revoked at once, what runs is told.

use celeriac_proto::TaskId;
use celeriac_proto::limits::BATCH_ITEMS_MAX;

use super::command::{CancelOutcome, CancelTarget, Code, Now, Refusal, SignalKind};
use super::task::Task;
use super::timers::MonoTimer;
use super::{Effects, Machine};
use crate::record::{Lease, Slot, State};

impl Machine {
    pub(super) fn cancel(
        &mut self,
        now: Now,
        target: CancelTarget,
        force: bool,
        grace_ms: u64,
        reason: &str,
        fx: &mut Effects,
    ) -> Result<Vec<(TaskId, CancelOutcome)>, Refusal> {
        let reason = if reason.is_empty() { "cancelled" } else { reason };
        let ids = match target {
            CancelTarget::Ids(ids) => ids,
            CancelTarget::Root(root) => {
                let is_root = |task: &Task| self.tasks.with_id(task, |id| *id == *root);
                self.unended(|task| is_root(task) || self.tasks.plan(task).is_some_and(|plan| plan.root_id == root))?
            }
            CancelTarget::Tag(tag) => {
                self.unended(|task| self.tasks.plan(task).is_some_and(|plan| plan.tags.contains(&tag)))?
            }
        };
        let outcome = |id: TaskId| {
            let outcome = match self.tasks.find(&id) {
                Some(slot) => self.cancel_task(now, slot, force, grace_ms, reason, fx),
                None => CancelOutcome::NotFound,
            };
            (id, outcome)
        };
        Ok(ids.into_iter().map(outcome).collect())
    }

    /// The ids of all tasks that have not ended and for which something holds, if they are not too many for one request.
    fn unended(&self, holds: impl Fn(&Task) -> bool) -> Result<Vec<TaskId>, Refusal> {
        let tasks = (0..self.tasks.slots()).filter_map(|slot| self.tasks.try_task(slot));
        let found = tasks.filter(|task| !task.state.is_terminal() && holds(task)).take(BATCH_ITEMS_MAX + 1);
        let ids: Vec<TaskId> = found.map(|task| self.tasks.id(task)).collect();
        if ids.len() > BATCH_ITEMS_MAX {
            let message = format!("more than {BATCH_ITEMS_MAX} tasks: cancel them by their ids");
            return Err(Refusal::new(Code::Overloaded, message));
        }
        Ok(ids)
    }

    fn cancel_task(
        &mut self,
        now: Now,
        slot: Slot,
        force: bool,
        grace_ms: u64,
        reason: &str,
        fx: &mut Effects,
    ) -> CancelOutcome {
        // Who cancels an id wants none of its runs.
        self.drop_successor(slot, fx);
        let task = self.tasks.task(slot);
        match task.state {
            State::Success | State::Failure | State::Revoked => CancelOutcome::AlreadyEnded,
            State::Scheduled | State::Queued | State::Retry => {
                self.revoke(now, slot, reason, fx);
                CancelOutcome::Revoked
            }
            // Its worker has not begun: it is told to leave it alone.
            State::Leased => {
                self.signal(slot, SignalKind::TakenBack, reason, fx);
                self.revoke(now, slot, reason, fx);
                CancelOutcome::Revoked
            }
            State::Started => {
                if force {
                    self.arm_grace(now, slot, grace_ms);
                }
                self.request_cancel(now, slot, reason, fx);
                let kind = if force { SignalKind::Force } else { SignalKind::Cooperative };
                self.signal(slot, kind, reason, fx);
                CancelOutcome::Signalled
            }
        }
    }

    fn arm_grace(&mut self, now: Now, slot: Slot, grace_ms: u64) {
        let timer = MonoTimer::CancelGrace(slot, self.tasks.task(slot).lease());
        let run = self.tasks.run_mut(slot).expect("a leased task has a run");
        if let Some(at) = run.grace_at.take() {
            self.timers.clear_mono(at, timer);
        }
        let at = now.mono.saturating_add(grace_ms);
        run.grace_at = Some(at);
        self.timers.set_mono(at, timer);
    }

    /// A forced cancel was not answered in time: the lease is revoked.
    pub(super) fn cancel_grace_timer(&mut self, now: Now, slot: Slot, lease: Lease, fx: &mut Effects) {
        let Some(task) = self.tasks.try_task(slot).filter(|task| task.lease() == lease && task.is_leased()) else {
            return;
        };
        let reason = self.tasks.run(task).and_then(|run| run.cancel.clone()).unwrap_or_default();
        self.revoke(now, slot, &reason, fx);
    }
}
