//! Cancel: what waits is revoked at once, what runs is told.

use celeriac_proto::TaskId;
use celeriac_proto::limits::BATCH_ITEMS_MAX;
use celeriac_record::{Lease, Slot, State};

use super::command::{
    CancelOutcome, CancelTarget, ConnectionKey, Message, Now, RequestId, SignalKind,
};
use super::scan::{CHANGE, Look, RULES, Work};
use super::signals::Signals;
use super::timers::MonoTimer;
use super::{Effects, Machine};

/// How tasks are cancelled.
#[derive(Debug)]
pub(super) struct Cancelling {
    pub force: bool,
    pub grace_ms: u64,
    pub reason: Box<str>,
    /// Whose leases are taken back, and whose handlers are told.
    taken: Signals,
    told: Signals,
}

impl Cancelling {
    pub fn new(force: bool, grace_ms: u64, reason: Box<str>) -> Self {
        let reason = if reason.is_empty() { "cancelled".into() } else { reason };
        Self { force, grace_ms, reason, taken: Signals::default(), told: Signals::default() }
    }

    fn tell(&mut self, fx: &mut Effects) {
        let kind = if self.force { SignalKind::Force } else { SignalKind::Cooperative };
        self.taken.send(SignalKind::TakenBack, &self.reason, fx);
        self.told.send(kind, &self.reason, fx);
    }
}

/// A cancel of all tasks of a root or a tag, under way.
#[derive(Debug)]
pub(super) struct CancelMany {
    pub root_id: Option<Box<str>>,
    /// Where the task of that id is, during a slice.
    pub root: Option<Slot>,
    tag: Option<Box<str>>,
    how: Cancelling,
    /// Of the first ones.
    pub outcomes: Vec<(TaskId, CancelOutcome)>,
}

impl CancelMany {
    pub fn tell(&mut self, fx: &mut Effects) {
        self.how.tell(fx);
    }
}

impl Machine {
    /// A cancel by ids is done at once, any other slot by slot.
    pub(super) fn cancel(
        &mut self,
        now: Now,
        connection: ConnectionKey,
        request: RequestId,
        target: CancelTarget,
        mut how: Cancelling,
        fx: &mut Effects,
    ) {
        let (root_id, tag) = match target {
            CancelTarget::Ids(ids) => {
                let outcome = |id: TaskId| {
                    let slot = self.tasks.find(&id);
                    let outcome = slot.map_or(CancelOutcome::NotFound, |slot| {
                        self.cancel_task(now, slot, &mut how, fx)
                    });
                    (id, outcome)
                };
                let outcomes = ids.into_iter().map(outcome).collect();
                how.tell(fx);
                return fx.send(connection, Message::Cancelled { request, outcomes });
            }
            CancelTarget::Root(root) => (Some(root), None),
            CancelTarget::Tag(tag) => (None, Some(tag)),
        };
        let many = CancelMany { root_id, root: None, tag, how, outcomes: Vec::new() };
        self.begin_scan(now, connection, request, Work::Cancel(many), fx);
    }

    pub(super) fn cancel_slot(
        &mut self,
        now: Now,
        slot: Slot,
        before: u64,
        cancel: &mut CancelMany,
        fx: &mut Effects,
    ) -> Look {
        let task = self
            .tasks
            .try_task(slot)
            .filter(|task| !task.state.is_terminal() && task.serial() <= before);
        let Some(task) = task else { return Look::Cost(1) };
        let plan = self.tasks.plan(task);
        let is_meant = cancel.root == Some(slot)
            || plan.is_some_and(|plan| match (&cancel.root_id, &cancel.tag) {
                (Some(root), _) => plan.root_id == *root,
                (None, tag) => tag.as_ref().is_some_and(|tag| plan.tags.contains(tag)),
            });
        if !is_meant {
            return Look::Cost(plan.map_or(1, |plan| RULES + plan.tags.len() as u32));
        }
        let id = (cancel.outcomes.len() < BATCH_ITEMS_MAX).then(|| self.tasks.id(task));
        let outcome = match self.successors.present_of(slot) {
            Some(present) => {
                self.drop_successor(present, fx);
                CancelOutcome::Revoked
            }
            None => self.cancel_task(now, slot, &mut cancel.how, fx),
        };
        cancel.outcomes.extend(id.map(|id| (id, outcome)));
        Look::Cost(CHANGE)
    }

    fn cancel_task(
        &mut self,
        now: Now,
        slot: Slot,
        how: &mut Cancelling,
        fx: &mut Effects,
    ) -> CancelOutcome {
        // Who cancels an id wants none of its runs.
        self.drop_successor(slot, fx);
        match self.tasks.task(slot).state {
            State::Success | State::Failure | State::Revoked => CancelOutcome::AlreadyEnded,
            // A worker that has it and has not begun is told to leave it alone.
            State::Scheduled | State::Queued | State::Retry | State::Leased => {
                self.note_signal(slot, &mut how.taken);
                self.revoke(now, slot, &how.reason, fx);
                CancelOutcome::Revoked
            }
            State::Started => {
                if how.force {
                    self.arm_grace(now, slot, how.grace_ms);
                }
                self.request_cancel(now, slot, &how.reason, fx);
                self.note_signal(slot, &mut how.told);
                CancelOutcome::Signalled
            }
        }
    }

    pub(super) fn arm_grace(&mut self, now: Now, slot: Slot, grace_ms: u64) {
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
    pub(super) fn cancel_grace_timer(
        &mut self,
        now: Now,
        slot: Slot,
        lease: Lease,
        fx: &mut Effects,
    ) {
        let Some(task) =
            self.tasks.try_task(slot).filter(|task| task.lease() == lease && task.is_leased())
        else {
            return;
        };
        let reason = self.tasks.run(task).and_then(|run| run.cancel.clone()).unwrap_or_default();
        self.revoke(now, slot, &reason, fx);
    }
}
