//! Reports of workers on their leases. Only a report on the current lease, from the session that
//! holds the lease, changes a task. A report that already counted gets its answer again and changes
//! nothing; such a report may come from the worker's next session, which asks for the outcome.

use celeriac_record::{Body, ClosedBy, MAX_DELIVERIES_DEFAULT, Progress, RetryPolicy, Slot, State};

use crate::Machine;
use crate::command::{Code, Failure, Release, ReportKind, ReportOutcome, TaskReport};
use crate::keys::SessionKey;
use crate::lease::Loss;
use crate::retry::delay_ms;
use crate::step::Step;
use crate::task::Task;
use crate::transitions::{Cause, Ended, broker_error};

impl Machine {
    pub(crate) fn report(
        &mut self,
        step: &mut Step<'_>,
        session: SessionKey,
        report: TaskReport,
    ) -> ReportOutcome {
        let slot = match self.judge(session, &report) {
            Ok(slot) => slot,
            Err(outcome) => return outcome,
        };
        match report.kind {
            ReportKind::Started => self.ensure_started(step, slot),
            ReportKind::Settle => self.ensure_settled(step, slot),
            ReportKind::Progress { state, meta } => {
                self.ensure_started(step, slot);
                let progress = Progress { state, meta, at: step.now.wall };
                if !self.has_progress(slot, &progress) {
                    self.progress(step, slot, progress);
                }
            }
            ReportKind::Complete { result, result_ttl_ms } => {
                return self.complete(step, slot, result, result_ttl_ms);
            }
            ReportKind::Fail { error, last, result, result_ttl_ms } => {
                // Without the result the readers still have the error.
                let result =
                    result.filter(|result| result.bytes.len() <= self.config.result_bytes_max);
                let ended = Ended { result, result_ttl_ms, ..Ended::default() };
                return Ok(self.failed(step, slot, error, last, ended));
            }
            ReportKind::RetryLater { after_ms, error } => {
                return Ok(self.retry_later(step, slot, after_ms, error));
            }
            ReportKind::Reject(error) => {
                return Ok(self.failed(step, slot, error, true, Ended::default()));
            }
            ReportKind::Release(Release::Lost) => return Ok(self.lose_handler(step, slot)),
            ReportKind::Release(release) => return Ok(self.release(step, slot, release)),
        }
        Ok(self.tasks.task(slot).state)
    }

    /// Whether the task has this progress already, because the report came twice.
    pub(crate) fn has_progress(&self, slot: Slot, progress: &Progress) -> bool {
        let shown = self.tasks.run(self.tasks.task(slot)).and_then(|run| run.progress.as_ref());
        shown.is_some_and(|shown| shown.state == progress.state && shown.meta == progress.meta)
    }

    fn ensure_settled(&mut self, step: &mut Step<'_>, slot: Slot) {
        let run = self.tasks.run(self.tasks.task(slot));
        if run.is_some_and(|run| !run.settled) {
            self.settle(step, slot);
        }
    }

    pub(crate) fn ensure_started(&mut self, step: &mut Step<'_>, slot: Slot) {
        if self.tasks.task(slot).state == State::Leased {
            self.start(step, slot);
        }
    }

    /// Starts a task whose outcome follows in the same report. The record of the outcome replaces a
    /// record of the start at once, so the start is published only for a task that a client
    /// watches.
    pub(crate) fn ensure_started_in_passing(&mut self, step: &mut Step<'_>, slot: Slot) {
        let task = self.tasks.task(slot);
        match task.state {
            State::Leased if self.tasks.is_watched(task) => self.start(step, slot),
            State::Leased => self.begin(step, slot),
            _ => {}
        }
    }

    fn complete(
        &mut self,
        step: &mut Step<'_>,
        slot: Slot,
        result: Body,
        result_ttl_ms: Option<u64>,
    ) -> ReportOutcome {
        self.ensure_started_in_passing(step, slot);
        if let Some(reason) = self.call_off_reason(slot) {
            return Ok(self.revoke_as(step, slot, ClosedBy::Complete, Cause::Cancelled, &reason));
        }
        if result.bytes.len() <= self.config.result_bytes_max {
            self.succeed(step, slot, result, result_ttl_ms);
            return Ok(State::Success);
        }
        let message = format!(
            "the result has {} bytes, and {} are allowed",
            result.bytes.len(),
            self.config.result_bytes_max
        );
        let error = broker_error(
            "result_too_large",
            &message,
            step.now,
            self.tasks.attempts(self.tasks.task(slot)),
        );
        self.fail(step, slot, ClosedBy::Complete, error, Cause::Failed);
        Err((Code::ResultTooLarge, Some(State::Failure)))
    }

    fn failed(
        &mut self,
        step: &mut Step<'_>,
        slot: Slot,
        error: Failure,
        last: bool,
        ended: Ended,
    ) -> State {
        self.ensure_started_in_passing(step, slot);
        let task = self.tasks.task(slot);
        let policy = self.retry_policy(task);
        let attempt = self.tasks.attempts(task);
        if let Some(reason) = self.cancel_reason(task) {
            return self.revoke_as(step, slot, ClosedBy::Fail, Cause::Cancelled, &reason);
        }
        let error = error.into_error(step.now.wall, attempt);
        if last || attempt >= policy.attempts_max || self.is_run_once(slot) {
            return self.fail_with(step, slot, ClosedBy::Fail, error, Cause::Failed, ended);
        }
        let delay_ms = delay_ms(&policy, attempt, self.config.seed ^ task.serial());
        self.retry(step, slot, delay_ms, error)
    }

    /// The handler asks for another attempt, after a given time or after the delay of the retry
    /// policy.
    fn retry_later(
        &mut self,
        step: &mut Step<'_>,
        slot: Slot,
        after_ms: Option<u64>,
        error: Failure,
    ) -> State {
        let Some(after_ms) = after_ms else {
            return self.failed(step, slot, error, false, Ended::default());
        };
        self.ensure_started_in_passing(step, slot);
        let task = self.tasks.task(slot);
        let is_last = self.tasks.attempts(task) >= self.retry_policy(task).attempts_max
            || self.is_run_once(slot);
        if self.cancel_reason(task).is_some() || is_last {
            return self.failed(step, slot, error, true, Ended::default());
        }
        let error = error.into_error(step.now.wall, self.tasks.attempts(task));
        self.retry(step, slot, after_ms, error)
    }

    /// The worker hands a task back: the task goes to the front of its queue, and the attempt does
    /// not count. But a cancelled task ends, as after a failure; so does a task that has begun and
    /// must not begin twice.
    fn release(&mut self, step: &mut Step<'_>, slot: Slot, release: Release) -> State {
        if self.announces_end(slot) && self.is_called_off_or_expired(step, slot) {
            return self.requeue(step, slot, ClosedBy::Release, Cause::Released);
        }
        if let Some(reason) = self.cancel_reason(self.tasks.task(slot)) {
            return self.revoke_as(step, slot, ClosedBy::Release, Cause::Cancelled, &reason);
        }
        let started = self.tasks.task(slot).state == State::Started;
        if started && release != Release::NotBegun && self.is_run_once(slot) {
            let attempts = self.tasks.attempts(self.tasks.task(slot));
            let message = "the worker handed it back after it had begun, and the task asks not to be run twice";
            let error = broker_error("worker_lost", message, step.now, attempts);
            return self.fail(step, slot, ClosedBy::Release, error, Cause::Released);
        }
        let is_expired = self.is_expired(step, slot);
        let run = self.tasks.run_mut(slot).expect("a leased task has a run");
        if started {
            run.attempts = run.attempts.saturating_sub(1);
        }
        if is_expired {
            return self.revoke_as(step, slot, ClosedBy::Release, Cause::Expired, "expired");
        }
        self.requeue(step, slot, ClosedBy::Release, Cause::Released)
    }

    /// The process of the handler died, and the worker lives. This counts as a lost worker.
    fn lose_handler(&mut self, step: &mut Step<'_>, slot: Slot) -> State {
        self.ensure_started_in_passing(step, slot);
        let run = self.tasks.run_mut(slot).expect("a leased task has a run");
        run.losses = run.losses.saturating_add(1);
        self.lose_lease(step, slot, Loss::Handler)
    }

    /// Whether the task must not begin again, however its run ends.
    pub(crate) fn is_run_once(&self, slot: Slot) -> bool {
        let task = self.tasks.task(slot);
        self.tasks.plan(task).is_some_and(|plan| plan.early_ack)
            || self.tasks.run(task).is_some_and(|run| run.settled)
    }

    pub(crate) fn retry_policy(&self, task: &Task) -> RetryPolicy {
        self.tasks.plan(task).map_or_else(RetryPolicy::default, |plan| plan.retry)
    }

    pub(crate) fn deliveries_max(&self, task: &Task) -> u32 {
        self.tasks.plan(task).map_or(MAX_DELIVERIES_DEFAULT, |plan| plan.max_deliveries)
    }

    fn cancel_reason(&self, task: &Task) -> Option<Box<str>> {
        self.tasks.run(task).and_then(|run| run.cancel.clone())
    }
}
