//! Leases: this module grants, restores, checks and ends leases. A lease is the right of one
//! consumer to report on one task. The numbers of leases rise with every lease, over restarts too.
//!
//! Other modules decide how long a lease lives: a session that is silent for the lease time loses
//! its leases (`connect.rs`), and a report may end a lease (`report.rs`).

use celeriac_record::{ClosedBy, SessionId, Slot, State, TaskError, Timestamp};

use crate::Machine;
use crate::command::{
    Code, Now, Push, Release, ReportKind, ReportOutcome, SignalKind, TaskReport, tells_of_retry,
};
use crate::keys::SessionKey;
use crate::step::Step;
use crate::task::Task;
use crate::timers::MonoTimer;
use crate::transitions::{Cause, broker_error};

/// How the holder of a lease was lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Loss {
    /// Nothing was heard of its session for the lease time.
    Silence,
    /// It ended its session with the lease.
    Goodbye,
    /// It lives, and reported that the process of the handler died.
    Handler,
}

impl Loss {
    fn closed_by(self) -> ClosedBy {
        match self {
            Self::Silence | Self::Goodbye => ClosedBy::Nobody,
            Self::Handler => ClosedBy::Lost,
        }
    }
}

impl Machine {
    /// Gives a queued task to a consumer.
    pub(crate) fn grant_lease(&mut self, step: &mut Step<'_>, slot: Slot, holder: SessionKey) {
        self.latest_lease += 1;
        let alone = self.is_suspect(slot);
        if let Some(waited_ms) = self.waited_ms(step, slot) {
            let queue = self.tasks.task(slot).queue();
            self.queues.queue_mut(queue).counters.note_wait(waited_ms);
        }
        let session = self.sessions.session_mut(holder);
        session.consumer.alone = alone;
        let task = self.tasks.task_mut(slot);
        let redelivered = task.lease() != 0;
        task.closed_by = ClosedBy::Nobody;
        let payload_bytes = task.payload_bytes();
        self.tasks.set_lease(slot, self.latest_lease);
        let run = self.tasks.extra_mut(slot).run.get_or_insert_default();
        run.holder = Some(holder);
        run.place = session.consumer.add_lease(slot, payload_bytes);
        run.worker.clone_from(&session.instance);
        run.deliveries = run.deliveries.saturating_add(1);
        run.alone = alone;
        run.redelivered = redelivered;
        run.leased_at = Some(step.now.wall);
        run.started_at = None;
        // A retry may be handed out before it is due. It is told of until it begins.
        run.progress = run.progress.take().filter(|progress| tells_of_retry(&progress.state));
        self.change_state(step, slot, State::Leased, Cause::Delivered);
        self.note_hunger(holder);
        self.arm_balance(step.now, holder);
        self.publish(step, slot);
    }

    /// After a restart a leased task stays with its session. The worker has the lease time to
    /// resume the session.
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
        consumer.outside_credit += usize::from(run.settled);
        run.outside_credit = run.settled;
        run.holder = Some(holder);
        run.place = place;
        run.alone = alone;
        self.resume_limits(now, slot);
        if let Some(until) = grace_until {
            let left_ms = until.saturating_sub(now.wall).max(0) as u64;
            self.arm_grace(now, slot, left_ms);
        }
    }

    /// Finds the task that a report may change. A report changes a task only if it names the
    /// current lease and comes from the session that holds the lease. Any other report gets an
    /// answer and changes nothing.
    pub(crate) fn judge(
        &self,
        session: SessionKey,
        report: &TaskReport,
    ) -> Result<Slot, ReportOutcome> {
        let slot = self.tasks.find_leased(&report.id, report.lease);
        let slot = slot.ok_or(Err((Code::NotFound, None)))?;
        let task = self.tasks.task(slot);
        let is_holder = self.tasks.run(task).and_then(|run| run.holder) == Some(session);
        if !is_holder && !self.sees(self.scope_of(session), slot) {
            return Err(Err((Code::NotFound, None)));
        }
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
        if !is_holder {
            return Err(stale);
        }
        Ok(slot)
    }

    /// Sends a signal about a lease to its holder.
    pub(crate) fn signal(&self, step: &mut Step<'_>, slot: Slot, kind: SignalKind, reason: &str) {
        let task = self.tasks.task(slot);
        let holder = self.tasks.run(task).and_then(|run| run.holder);
        if let Some(connection) = holder.and_then(|key| self.sessions.session(key).connection) {
            let leases = vec![task.lease()];
            step.tell(connection, Push::Signal { leases, kind, reason: reason.into() });
        }
    }

    /// Takes back a lease whose handler has not begun. The lease does not count as a delivery. The
    /// caller informs the worker.
    pub(crate) fn take_back(&mut self, step: &mut Step<'_>, slot: Slot) {
        assert_eq!(
            self.tasks.task(slot).state,
            State::Leased,
            "a lease is taken back only before the handler has begun"
        );
        self.requeue(step, slot, ClosedBy::TakenBack, Cause::TakenBack);
    }

    /// The holder of the lease is lost without an outcome: the task runs again, or it fails if it
    /// lost workers too often. The loss counts against a task only if the task had begun.
    pub(crate) fn lose_lease(&mut self, step: &mut Step<'_>, slot: Slot, loss: Loss) -> State {
        let closed_by = loss.closed_by();
        let (is_run_once, announces_end) = (self.is_run_once(slot), self.announces_end(slot));
        let task = self.tasks.task(slot);
        let deliveries_max = self.deliveries_max(task);
        let attempts_max = self.retry_policy(task).attempts_max;
        let started = task.state == State::Started;
        let run = self.tasks.run_mut(slot).expect("a leased task has a run");
        if !started {
            run.deliveries = run.deliveries.saturating_sub(1);
        }
        // A suspect was the only task of its worker, so the loss counts against the suspect whether
        // or not the worker reported its start.
        let is_to_blame = started || run.alone;
        // Runs that may have begun without a report count once the loss counts against this task.
        let starts = run.attempts.saturating_add(run.silent);
        let message = if let Some(reason) = run.cancel.clone().filter(|_| !announces_end) {
            return self.revoke_as(step, slot, closed_by, Cause::Cancelled, &reason);
        } else if started && is_run_once {
            "the worker was lost, and the task asks not to be run twice"
        } else if is_to_blame && starts >= attempts_max {
            "the worker was lost during the last attempt"
        } else if is_to_blame && run.deliveries.saturating_add(run.silent) >= deliveries_max {
            "workers were lost with this task too often"
        } else {
            if started {
                let error = self.lost_attempt(step, slot, loss);
                self.keep_error(slot, error);
            }
            return self.requeue(step, slot, closed_by, Cause::WorkerLost);
        };
        let error: TaskError = broker_error("worker_lost", message, step.now, run.attempts);
        self.fail(step, slot, closed_by, error, Cause::WorkerLost)
    }

    /// The error of an attempt that ended with its worker. Another attempt follows, and the task
    /// must show why.
    fn lost_attempt(&self, step: &Step<'_>, slot: Slot, loss: Loss) -> TaskError {
        let run = self.tasks.run(self.tasks.task(slot)).expect("a leased task has a run");
        let worker = &run.worker;
        let message = match loss {
            Loss::Silence => {
                let seconds = self.config.lease_ms as f64 / 1_000.0;
                format!("the worker {worker} was silent for {seconds} s")
            }
            Loss::Goodbye => format!("the worker {worker} ended before the task did"),
            Loss::Handler => format!("the process of the handler on {worker} died"),
        };
        broker_error("worker_lost", &message, step.now, run.attempts)
    }

    /// Takes the lease from its holder. A report of a failure, a release or a take-back undoes the
    /// count of this delivery.
    pub(crate) fn end_lease(&mut self, slot: Slot, closed_by: ClosedBy) {
        let task = self.tasks.task_mut(slot);
        task.closed_by = closed_by;
        let (lease, bytes, started) =
            (task.lease(), task.payload_bytes(), task.state == State::Started);
        let run = self.tasks.run_mut(slot).expect("a leased task has a run");
        if matches!(closed_by, ClosedBy::Fail | ClosedBy::Release | ClosedBy::TakenBack) {
            run.deliveries = run.deliveries.saturating_sub(1);
            if started {
                // The task ran, and its worker survived.
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
        run.settled = false;
        let outside_credit = std::mem::take(&mut run.outside_credit);
        let consumer = self.sessions.consumer_mut(holder);
        consumer.outside_credit -= usize::from(outside_credit);
        consumer.alone &= !alone;
        if let Some(moved) = consumer.remove_lease(place, bytes) {
            self.tasks.run_mut(moved).expect("a leased task has a run").place = place;
        }
        self.note_hunger(holder);
    }
}

/// The answer to a report on a lease that has ended. A report of the same kind as the report that
/// ended the lease gets the same answer. `Started`, `Settle` and `Progress`, which come before the
/// end, are accepted. `Fail`, `RetryLater` and `Reject` are one kind. The contents of the reports
/// are not compared: the first report counts.
fn counted_before(task: &Task, kind: &ReportKind) -> ReportOutcome {
    if matches!(kind, ReportKind::Complete { .. })
        && task.closed_by == ClosedBy::Complete
        && task.state == State::Failure
    {
        return Err((Code::ResultTooLarge, Some(State::Failure)));
    }
    let counted = match kind {
        ReportKind::Started | ReportKind::Settle | ReportKind::Progress { .. } => {
            !matches!(task.closed_by, ClosedBy::Nobody | ClosedBy::TakenBack)
        }
        ReportKind::Complete { .. } => task.closed_by == ClosedBy::Complete,
        ReportKind::Fail { .. } | ReportKind::RetryLater { .. } | ReportKind::Reject(_) => {
            task.closed_by == ClosedBy::Fail
        }
        ReportKind::Release(Release::Lost) => task.closed_by == ClosedBy::Lost,
        // The worker may release a lease at the moment when the broker takes it back. The outcome
        // is the same.
        ReportKind::Release(Release::Unfinished | Release::NotBegun) => {
            matches!(task.closed_by, ClosedBy::Release | ClosedBy::TakenBack)
        }
    };
    if counted { Ok(task.state) } else { Err((Code::StaleLease, Some(task.state))) }
}
