//! Leases: where they are given, held, judged and ended. A lease is the right of one consumer to
//! report on one task; its number rises with every lease, over restarts too.
//!
//! How long a lease lives is not decided here: a session that falls silent loses its leases
//! (`connect.rs`), and what a report does to its task stands in `report.rs`.

use celeriac_record::{ClosedBy, SessionId, Slot, State, TaskError, Timestamp};

use crate::Machine;
use crate::command::{Code, Now, Push, ReportKind, ReportOutcome, SignalKind, TaskReport};
use crate::keys::SessionKey;
use crate::step::Step;
use crate::task::Task;
use crate::timers::MonoTimer;
use crate::transitions::{Cause, broker_error};

impl Machine {
    /// Gives a queued task to a consumer.
    pub(crate) fn grant_lease(&mut self, step: &mut Step<'_>, slot: Slot, holder: SessionKey) {
        self.latest_lease += 1;
        let alone = self.is_suspect(slot);
        let session = self.sessions.session_mut(holder);
        session.consumer.alone = alone;
        let task = self.tasks.task_mut(slot);
        task.set_lease(self.latest_lease);
        task.closed_by = ClosedBy::Nobody;
        let payload_bytes = task.payload_bytes();
        let run = self.tasks.extra_mut(slot).run.get_or_insert_default();
        run.holder = Some(holder);
        run.place = session.consumer.add_lease(slot, payload_bytes);
        run.worker.clone_from(&session.instance);
        run.deliveries = run.deliveries.saturating_add(1);
        run.alone = alone;
        run.leased_at = Some(step.now.wall);
        run.started_at = None;
        run.progress = None;
        self.change_state(step, slot, State::Leased, Cause::Delivered);
        self.note_hunger(holder);
        self.arm_balance(step.now, holder);
        self.publish(step, slot);
    }

    /// After a restart a leased task stays with its session, which has the lease time to be
    /// resumed.
    pub(crate) fn restore_lease(
        &mut self,
        now: Now,
        slot: Slot,
        id: SessionId,
        grace_until: Option<Timestamp>,
    ) {
        let task = self.tasks.task(slot);
        if !task.is_leased() {
            return;
        }
        let payload_bytes = task.payload_bytes();
        let worker = self.tasks.run(task).map_or("".into(), |run| run.worker.clone());
        let started = task.state == State::Started;
        let holder = self.sessions.find_or_restore(id, &worker, now);
        let alone = self.was_suspect(slot, started);
        let consumer = self.sessions.consumer_mut(holder);
        consumer.alone |= alone;
        let place = consumer.add_lease(slot, payload_bytes);
        let run = self.tasks.run_mut(slot).expect("a leased task has a run");
        run.holder = Some(holder);
        run.place = place;
        run.alone = alone;
        self.resume_limits(now, slot);
        if let Some(until) = grace_until {
            let left_ms = until.saturating_sub(now.wall).max(0) as u64;
            self.arm_grace(now, slot, left_ms);
        }
    }

    /// Finds the task that a report may change. Only the current lease, reported by the session
    /// that holds it, changes anything; any other report is answered from what counted before.
    pub(crate) fn judge(
        &self,
        session: SessionKey,
        report: &TaskReport,
    ) -> Result<Slot, ReportOutcome> {
        let slot = self.tasks.find(&report.id).ok_or(Err((Code::NotFound, None)))?;
        let task = self.tasks.task(slot);
        let stale = Err((Code::StaleLease, Some(task.state)));
        if task.lease() != report.lease || report.lease == 0 {
            return Err(stale);
        }
        if !self.sessions.session(session).is_of_worker() {
            return Err(stale);
        }
        if !task.is_leased() {
            return Err(counted_before(task, &report.kind));
        }
        if self.tasks.run(task).and_then(|run| run.holder) != Some(session) {
            return Err(stale);
        }
        Ok(slot)
    }

    /// Tells the holder of a lease something about it.
    pub(crate) fn signal(&self, step: &mut Step<'_>, slot: Slot, kind: SignalKind, reason: &str) {
        let task = self.tasks.task(slot);
        let holder = self.tasks.run(task).and_then(|run| run.holder);
        if let Some(connection) = holder.and_then(|key| self.sessions.session(key).connection) {
            let leases = vec![task.lease()];
            step.tell(connection, Push::Signal { leases, kind, reason: reason.into() });
        }
    }

    /// Takes a lease back that has not begun: that counts as no delivery. The caller tells the
    /// worker.
    pub(crate) fn take_back(&mut self, step: &mut Step<'_>, slot: Slot) {
        assert_eq!(self.tasks.task(slot).state, State::Leased, "what has begun is not taken back");
        self.requeue(step, slot, ClosedBy::TakenBack, Cause::TakenBack);
    }

    /// The holder is gone without an outcome: the task runs again, or it ends if that happened too
    /// often. Only a task that had begun is charged for it.
    pub(crate) fn lose_lease(&mut self, step: &mut Step<'_>, slot: Slot) {
        let task = self.tasks.task(slot);
        let early_ack = self.tasks.plan(task).is_some_and(|plan| plan.early_ack);
        let deliveries_max = self.deliveries_max(task);
        let attempts_max = self.retry_policy(task).attempts_max;
        let started = task.state == State::Started;
        let run = self.tasks.run_mut(slot).expect("a leased task has a run");
        if !started {
            run.deliveries = run.deliveries.saturating_sub(1);
        }
        // A suspect was all that its worker had, so it is to blame whether or not the worker came
        // to say that it began.
        let is_to_blame = started || run.alone;
        // Runs that may have begun in silence count once it is certain that the task takes workers
        // with it.
        let starts = run.attempts.saturating_add(run.silent);
        let message = if let Some(reason) = run.cancel.clone() {
            return self.revoke(step, slot, Cause::Cancelled, &reason);
        } else if started && early_ack {
            "the worker was lost, and the task asks not to be run twice"
        } else if is_to_blame && starts >= attempts_max {
            "the worker was lost during the last attempt"
        } else if is_to_blame && run.deliveries.saturating_add(run.silent) >= deliveries_max {
            "workers were lost with this task too often"
        } else {
            return self.requeue(step, slot, ClosedBy::Nobody, Cause::WorkerLost);
        };
        let error: TaskError = broker_error("worker_lost", message, step.now, run.attempts);
        self.fail(step, slot, ClosedBy::Nobody, error, Cause::WorkerLost);
    }

    /// Takes the task from its holder. An outcome takes back the delivery that had been counted.
    pub(crate) fn end_lease(&mut self, slot: Slot, closed_by: ClosedBy) {
        let task = self.tasks.task_mut(slot);
        task.closed_by = closed_by;
        let (lease, bytes, started) =
            (task.lease(), task.payload_bytes(), task.state == State::Started);
        let run = self.tasks.run_mut(slot).expect("a leased task has a run");
        if matches!(closed_by, ClosedBy::Fail | ClosedBy::Release | ClosedBy::TakenBack) {
            run.deliveries = run.deliveries.saturating_sub(1);
            if started {
                // The task ran, and its worker lives.
                (run.losses, run.silent) = (0, 0);
            }
        }
        for (at, timer) in [
            (run.grace_at.take(), MonoTimer::CancelGrace(slot, lease)),
            (run.soft_limit_at.take(), MonoTimer::SoftTimeLimit(slot, lease)),
            (run.limit_at.take(), MonoTimer::TimeLimit(slot, lease)),
        ] {
            if let Some(at) = at {
                self.timers.clear_mono(at, timer);
            }
        }
        let holder = run.holder.take().expect("a leased task has a holder");
        let (place, alone) = (run.place, std::mem::take(&mut run.alone));
        let consumer = self.sessions.consumer_mut(holder);
        consumer.alone &= !alone;
        if let Some(moved) = consumer.remove_lease(place, bytes) {
            self.tasks.run_mut(moved).expect("a leased task has a run").place = place;
        }
        self.note_hunger(holder);
    }
}

/// The answer to a report on a lease that has ended: that of the report that ended it, if it is of
/// the same kind, and accepted if it is one of those before. `Fail`, `RetryLater` and `Reject` are
/// one kind. What the reports carry is not compared: the first one counts.
fn counted_before(task: &Task, kind: &ReportKind) -> ReportOutcome {
    if matches!(kind, ReportKind::Complete(_))
        && task.closed_by == ClosedBy::Complete
        && task.state == State::Failure
    {
        return Err((Code::ResultTooLarge, Some(State::Failure)));
    }
    let counted = match kind {
        ReportKind::Started | ReportKind::Progress { .. } => {
            !matches!(task.closed_by, ClosedBy::Nobody | ClosedBy::TakenBack)
        }
        ReportKind::Complete(_) => task.closed_by == ClosedBy::Complete,
        ReportKind::Fail { .. } | ReportKind::RetryLater { .. } | ReportKind::Reject(_) => {
            task.closed_by == ClosedBy::Fail
        }
        // Taken back, or given back at that moment: it is all the same.
        ReportKind::Release { .. } => {
            matches!(task.closed_by, ClosedBy::Release | ClosedBy::TakenBack)
        }
    };
    if counted { Ok(task.state) } else { Err((Code::StaleLease, Some(task.state))) }
}
