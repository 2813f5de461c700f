//! Cancel: a waiting task is revoked at once; the worker of a running task gets a signal.

use std::sync::Arc;

use celeriac_proto::TaskId;
use celeriac_proto::limits::BATCH_ITEMS_MAX;
use celeriac_record::{Cancel, Lease, Slot, State};

use crate::Machine;
use crate::command::{Answer, CancelMode, CancelOutcome, CancelTarget, Now, Scope, SignalKind};
use crate::signals::Signals;
use crate::slice::{CHANGE, Look, RULES};
use crate::step::{Asker, Step};
use crate::timers::MonoTimer;
use crate::transitions::Cause;

/// The options of a cancel, and its signals to workers.
#[derive(Debug)]
pub(crate) struct Cancelling {
    pub mode: CancelMode,
    pub grace_ms: u64,
    pub reason: Box<str>,
    /// The signals for leases that are taken back, and for handlers that run.
    taken: Signals,
    told: Signals,
}

impl Cancelling {
    pub fn new(mode: CancelMode, grace_ms: u64, reason: Box<str>) -> Self {
        let reason = if reason.is_empty() { "cancelled".into() } else { reason };
        Self { mode, grace_ms, reason, taken: Signals::default(), told: Signals::default() }
    }

    fn tell(&mut self, step: &mut Step<'_>) {
        let kind = match self.mode {
            CancelMode::Force => SignalKind::Force,
            // Nobody is told of a cancel of what only waits, so the list is empty.
            CancelMode::Cooperative | CancelMode::Waiting => SignalKind::Cooperative,
        };
        self.taken.send(step, SignalKind::TakenBack, &self.reason);
        self.told.send(step, kind, &self.reason);
    }
}

/// A cancel under way of all tasks of a root or a tag.
#[derive(Debug)]
pub(crate) struct CancelMany {
    pub root_id: Option<Box<str>>,
    /// The slot of the task with that id, valid during one slice.
    pub root: Option<Slot>,
    tag: Option<Box<str>>,
    scope: Option<Arc<Scope>>,
    how: Cancelling,
    /// The outcomes of the first tasks.
    pub outcomes: Vec<(TaskId, CancelOutcome)>,
}

impl CancelMany {
    pub fn tell(&mut self, step: &mut Step<'_>) {
        self.how.tell(step);
    }
}

impl Machine {
    /// A cancel by ids is done at once. A cancel by root or tag looks at one slot after another.
    pub(crate) fn cancel(
        &mut self,
        step: &mut Step<'_>,
        asker: Asker,
        target: CancelTarget,
        mut how: Cancelling,
    ) {
        let (root_id, tag) = match target {
            CancelTarget::Ids(ids) => {
                let mut outcomes = Vec::with_capacity(ids.len());
                for id in ids {
                    let outcome = match self.find_seen(step.scope.as_deref(), &id) {
                        Some(slot) => self.cancel_task(step, slot, &mut how),
                        None => CancelOutcome::NotFound,
                    };
                    outcomes.push((id, outcome));
                }
                how.tell(step);
                return step.answer(asker, Answer::Cancelled(outcomes));
            }
            CancelTarget::Root(root) => (Some(root), None),
            CancelTarget::Tag(tag) => (None, Some(tag)),
        };
        let scope = step.scope.clone();
        let many = CancelMany { root_id, root: None, tag, scope, how, outcomes: Vec::new() };
        self.begin_scan(step, asker, many);
    }

    pub(crate) fn cancel_slot(
        &mut self,
        step: &mut Step<'_>,
        slot: Slot,
        before: u64,
        cancel: &mut CancelMany,
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
        if !is_meant || !self.sees(cancel.scope.as_deref(), slot) {
            return Look::Cost(plan.map_or(1, |plan| RULES + plan.tags.len() as u32));
        }
        let id = (cancel.outcomes.len() < BATCH_ITEMS_MAX).then(|| self.tasks.id(task));
        let outcome = match self.successors.present_of(slot) {
            Some(present) => {
                self.drop_successor(step, present);
                CancelOutcome::Revoked
            }
            None => self.cancel_task(step, slot, &mut cancel.how),
        };
        cancel.outcomes.extend(id.map(|id| (id, outcome)));
        Look::Cost(CHANGE)
    }

    fn cancel_task(
        &mut self,
        step: &mut Step<'_>,
        slot: Slot,
        how: &mut Cancelling,
    ) -> CancelOutcome {
        // A cancel of an id is for all of its runs.
        self.drop_successor(step, slot);
        match self.tasks.task(slot).state {
            State::Success | State::Failure | State::Revoked => CancelOutcome::AlreadyEnded,
            // A worker that holds the task and has not begun it must not begin it.
            State::Scheduled | State::Queued | State::Retry | State::Leased
                if self.announces_end(slot) =>
            {
                let is_held = self.tasks.task(slot).state == State::Leased;
                self.call_off(step, slot, &how.reason);
                // The worker may have begun it and not said so yet.
                if is_held { CancelOutcome::Signalled } else { CancelOutcome::Revoked }
            }
            State::Scheduled | State::Queued | State::Retry | State::Leased => {
                self.note_signal(slot, &mut how.taken);
                self.revoke(step, slot, Cause::Cancelled, &how.reason);
                CancelOutcome::Revoked
            }
            State::Started if how.mode == CancelMode::Waiting => {
                let run = self.tasks.run(self.tasks.task(slot));
                // A task that was asked to stop does not run again either.
                if run.is_some_and(|run| run.cancel.is_none()) {
                    self.request_cancel(step, slot, Cancel::Silent, &how.reason);
                }
                CancelOutcome::LeftRunning
            }
            State::Started => {
                if how.mode == CancelMode::Force {
                    self.arm_grace(step.now, slot, how.grace_ms);
                }
                self.request_cancel(step, slot, Cancel::Told, &how.reason);
                self.note_signal(slot, &mut how.told);
                CancelOutcome::Signalled
            }
        }
    }

    pub(crate) fn arm_grace(&mut self, now: Now, slot: Slot, grace_ms: u64) {
        let timer = MonoTimer::CancelGrace(slot, self.tasks.task(slot).lease());
        let run = self.tasks.run_mut(slot).expect("a leased task has a run");
        if let Some(at) = run.grace_at.take() {
            self.timers.clear_mono(at, timer);
        }
        let at = now.mono.saturating_add(grace_ms);
        run.grace_at = Some(at);
        self.timers.set_mono(at, timer);
    }

    /// The worker did not answer a forced cancel in time: the lease is revoked.
    pub(crate) fn cancel_grace_timer(&mut self, step: &mut Step<'_>, slot: Slot, lease: Lease) {
        let Some(task) =
            self.tasks.try_task(slot).filter(|task| task.lease() == lease && task.is_leased())
        else {
            return;
        };
        let reason = self.tasks.run(task).and_then(|run| run.cancel.clone()).unwrap_or_default();
        self.revoke(step, slot, Cause::Cancelled, &reason);
    }
}
