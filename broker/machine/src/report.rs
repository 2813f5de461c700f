//! Reports: what workers say of their leases. Only the current lease, in the hands of the session
//! that holds it, changes anything. A report that already counted is answered again and changes
//! nothing; it may come from a worker's next session, which asks what became of it.

use celeriac_record::{Body, ClosedBy, Progress, RetryPolicy, Slot, State};

use super::command::{Code, Failure, Now, ReportKind, ReportOutcome, TaskReport};
use super::retry::delay_ms;
use super::sessions::SessionKey;
use super::task::Task;
use super::transitions::broker_error;
use super::{Effects, Machine};

impl Machine {
    pub(super) fn report(
        &mut self,
        now: Now,
        session: SessionKey,
        report: TaskReport,
        fx: &mut Effects,
    ) -> ReportOutcome {
        let slot = self.tasks.find(&report.id).ok_or((Code::NotFound, None))?;
        let task = self.tasks.task(slot);
        if task.lease() != report.lease || report.lease == 0 {
            return Err((Code::StaleLease, Some(task.state)));
        }
        if !self.sessions.session(session).is_of_worker() {
            return Err((Code::StaleLease, Some(task.state)));
        }
        if !task.is_leased() {
            return counted_before(task, &report.kind);
        }
        if self.tasks.run(task).and_then(|run| run.holder) != Some(session) {
            return Err((Code::StaleLease, Some(task.state)));
        }
        match report.kind {
            ReportKind::Started => self.ensure_started(now, slot, fx),
            ReportKind::Progress { state, meta } => {
                self.ensure_started(now, slot, fx);
                let progress = Progress { state, meta, at: now.wall };
                if !self.has_progress(slot, &progress) {
                    self.progress(now, slot, progress, fx);
                }
            }
            ReportKind::Complete(result) => return self.complete(now, slot, result, fx),
            ReportKind::Fail { error, last } => self.failed(now, slot, error, last, fx),
            ReportKind::RetryLater { after_ms, error } => {
                self.retry_later(now, slot, after_ms, error, fx)
            }
            ReportKind::Reject(error) => self.failed(now, slot, error, true, fx),
            ReportKind::Release { not_begun } => self.release(now, slot, not_begun, fx),
        }
        // Of these only a revoked task can be gone already, when it keeps no result.
        Ok(self.tasks.try_task(slot).map_or(State::Revoked, |task| task.state))
    }

    /// Whether the task shows this progress: it was reported twice.
    fn has_progress(&self, slot: Slot, progress: &Progress) -> bool {
        let shown = self.tasks.run(self.tasks.task(slot)).and_then(|run| run.progress.as_ref());
        shown.is_some_and(|shown| shown.state == progress.state && shown.meta == progress.meta)
    }

    fn ensure_started(&mut self, now: Now, slot: Slot, fx: &mut Effects) {
        if self.tasks.task(slot).state == State::Leased {
            self.start(now, slot, fx);
        }
    }

    /// Before an outcome, which hides at once what the store would be told of the start: only a
    /// watcher is to see it.
    fn ensure_started_in_passing(&mut self, now: Now, slot: Slot, fx: &mut Effects) {
        let task = self.tasks.task(slot);
        match task.state {
            State::Leased if self.tasks.is_watched(task) => self.start(now, slot, fx),
            State::Leased => self.begin(now, slot),
            _ => {}
        }
    }

    fn complete(&mut self, now: Now, slot: Slot, result: Body, fx: &mut Effects) -> ReportOutcome {
        self.ensure_started_in_passing(now, slot, fx);
        if result.bytes.len() <= self.settings.result_bytes_max {
            self.succeed(now, slot, result, fx);
            return Ok(State::Success);
        }
        let message = format!(
            "the result has {} bytes, and {} are allowed",
            result.bytes.len(),
            self.settings.result_bytes_max
        );
        let error = broker_error(
            "result_too_large",
            &message,
            now,
            self.tasks.attempts(self.tasks.task(slot)),
        );
        self.fail(now, slot, ClosedBy::Complete, error, fx);
        Err((Code::ResultTooLarge, Some(State::Failure)))
    }

    fn failed(&mut self, now: Now, slot: Slot, error: Failure, last: bool, fx: &mut Effects) {
        self.ensure_started_in_passing(now, slot, fx);
        let task = self.tasks.task(slot);
        let policy = self.retry_policy(task);
        let attempt = self.tasks.attempts(task);
        if let Some(reason) = self.cancel_reason(task) {
            return self.revoke_as(now, slot, ClosedBy::Fail, &reason, fx);
        }
        let error = error.into_error(now.wall, attempt);
        if last || attempt >= policy.attempts_max || self.is_run_once(slot) {
            return self.fail(now, slot, ClosedBy::Fail, error, fx);
        }
        let delay_ms = delay_ms(&policy, attempt, self.settings.seed ^ task.serial());
        self.retry(now, slot, delay_ms, error, fx);
    }

    /// The handler asks for another attempt, after a time of its own or by the policy.
    fn retry_later(
        &mut self,
        now: Now,
        slot: Slot,
        after_ms: Option<u64>,
        error: Failure,
        fx: &mut Effects,
    ) {
        let Some(after_ms) = after_ms else { return self.failed(now, slot, error, false, fx) };
        self.ensure_started_in_passing(now, slot, fx);
        let task = self.tasks.task(slot);
        let is_last = self.tasks.attempts(task) >= self.retry_policy(task).attempts_max
            || self.is_run_once(slot);
        if self.cancel_reason(task).is_some() || is_last {
            return self.failed(now, slot, error, true, fx);
        }
        let error = error.into_error(now.wall, self.tasks.attempts(task));
        self.retry(now, slot, after_ms, error, fx);
    }

    /// Handed back: again in front, and no attempt is counted. A cancelled task ends with it, as
    /// with a failure, and so does one that has begun and is not to begin twice.
    pub(super) fn release(&mut self, now: Now, slot: Slot, not_begun: bool, fx: &mut Effects) {
        if let Some(reason) = self.cancel_reason(self.tasks.task(slot)) {
            return self.revoke_as(now, slot, ClosedBy::Release, &reason, fx);
        }
        let started = self.tasks.task(slot).state == State::Started;
        if started && !not_begun && self.is_run_once(slot) {
            let attempts = self.tasks.attempts(self.tasks.task(slot));
            let message = "the worker handed it back after it had begun, and the task asks not to be run twice";
            return self.fail(
                now,
                slot,
                ClosedBy::Release,
                broker_error("worker_lost", message, now, attempts),
                fx,
            );
        }
        let is_expired = self.is_expired(slot);
        let run = self.tasks.run_mut(slot).expect("a leased task has a run");
        if started {
            run.attempts = run.attempts.saturating_sub(1);
        }
        if is_expired {
            return self.revoke_as(now, slot, ClosedBy::Release, "expired", fx);
        }
        self.requeue(now, slot, ClosedBy::Release, fx);
    }

    /// Whether the task asks not to begin again, however its run ends.
    fn is_run_once(&self, slot: Slot) -> bool {
        let plan = self.tasks.plan(self.tasks.task(slot));
        plan.is_some_and(|plan| plan.early_ack)
    }

    pub(super) fn retry_policy(&self, task: &Task) -> RetryPolicy {
        self.tasks.plan(task).map_or_else(RetryPolicy::default, |plan| plan.retry)
    }

    fn cancel_reason(&self, task: &Task) -> Option<Box<str>> {
        self.tasks.run(task).and_then(|run| run.cancel.clone())
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
