//! The only place where a task's state changes. Each transition keeps the counters and timers true,
//! hands the store the task's new record, and tells those who watch.

use celeriac_proto::limits::ERRORS_KEPT;
use celeriac_record::{Body, Changed, ClosedBy, Progress, Record, Slot, State, TaskError};

use super::command::{Now, SignalKind};
use super::sessions::SessionKey;
use super::task::{Extra, Plan, Task};
use super::timers::{Kind, Moment, MonoTimer};
use super::{Effects, Machine};
use crate::command::Effect;

impl Machine {
    /// Moves a task between the counters of its queue.
    fn set_state(&mut self, slot: Slot, state: State) {
        let is_suspect = self.is_suspect(slot);
        let task = self.tasks.task_mut(slot);
        let (was, key, bytes) = (task.state, task.queue(), task.payload_bytes());
        assert!(!was.is_terminal(), "an ended task never changes");
        task.state = state;
        task.version = task.version.saturating_add(1);
        let second = self.queues.second;
        let queue = self.queues.queue_mut(key);
        if let Some(count) = queue.counter(was) {
            *count -= 1;
        }
        if let Some(count) = queue.counter(state) {
            *count += 1;
        }
        if state.is_terminal() {
            queue.bytes -= bytes;
            queue.ended_total += 1;
            queue.ended_rate.note(second);
            if queue.unfinished() == 0 {
                self.queues.note_use(key);
            }
        }
        if was == State::Queued || state == State::Queued {
            self.queues.note_ready(key);
            if is_suspect {
                self.count_suspect(key, state == State::Queued);
            }
        }
    }

    /// Hands the store what the task is now and tells the watchers.
    fn publish(&mut self, now: Now, slot: Slot, ended: Ended, fx: &mut Effects) {
        let key = self.tasks.key(slot);
        let task = self.tasks.task(slot);
        let run = self.tasks.run(task);
        let holder = run.and_then(|run| run.holder);
        let mut changed = Changed {
            key,
            state: task.state,
            version: task.version,
            at: now.wall,
            actor: self.actor.clone(),
            lease: task.lease(),
            closed_by: task.closed_by,
            session: holder.map(|holder| self.sessions.session(holder).id),
            worker: "".into(),
            attempts: 0,
            deliveries: 0,
            losses: 0,
            silent: 0,
            due: (task.state == State::Retry).then(|| self.clocks.wall_at(task.due())),
            leased_at: None,
            started_at: None,
            progress: None,
            errors: Vec::new(),
            result: ended.result,
            revoked_reason: ended.revoked_reason,
            cancel_requested: false,
        };
        if let Some(run) = run {
            changed.worker.clone_from(&run.worker);
            changed.attempts = run.attempts;
            changed.deliveries = run.deliveries;
            changed.losses = run.losses;
            changed.silent = run.silent;
            changed.leased_at = run.leased_at;
            changed.started_at = run.started_at;
            changed.progress.clone_from(&run.progress);
            changed.errors.clone_from(&run.errors);
            changed.cancel_requested = run.cancel.is_some();
            if let Some(at) = run.grace_at {
                changed.due = Some(now.wall.saturating_add_unsigned(at.saturating_sub(now.mono)));
            }
            if let Some(reason) = run.cancel.as_ref().filter(|_| !task.state.is_terminal()) {
                // Kept for the end that it may lead to, over a restart too.
                changed.revoked_reason.clone_from(reason);
            }
        }
        fx.push(Effect::Store(Record::Changed(Box::new(changed))));
        self.notify(slot, fx);
    }

    /// SCHEDULED or RETRY, and due. It is stored although a restart could find out by itself: by
    /// then the clock may say otherwise, and what was shown with this version would be another
    /// state.
    pub(super) fn promote(&mut self, now: Now, slot: Slot, fx: &mut Effects) {
        self.set_state(slot, State::Queued);
        self.line_up(slot, false);
        self.publish(now, slot, Ended::default(), fx);
    }

    /// Puts a QUEUED task in line; one that was out already goes in front.
    pub(super) fn line_up(&mut self, slot: Slot, in_front: bool) {
        if !in_front {
            self.take_place(slot);
        }
        let is_suspect = self.is_suspect(slot);
        let task = self.tasks.task(slot);
        self.queues.queue_mut(task.queue()).push(slot, task, is_suspect, in_front);
    }

    /// Gives a task the place behind all others.
    pub(super) fn take_place(&mut self, slot: Slot) {
        self.latest_order += 1;
        self.tasks.task_mut(slot).set_order(self.latest_order);
    }

    pub(super) fn lease(&mut self, now: Now, slot: Slot, holder: SessionKey, fx: &mut Effects) {
        self.latest_lease += 1;
        let alone = self.is_suspect(slot);
        let session = self.sessions.session_mut(holder);
        session.alone = alone;
        let task = self.tasks.task_mut(slot);
        task.set_lease(self.latest_lease);
        task.closed_by = ClosedBy::Nobody;
        let payload_bytes = task.payload_bytes();
        let run = self.tasks.extra_mut(slot).run.get_or_insert_default();
        run.holder = Some(holder);
        run.place = session.leases.len();
        run.worker.clone_from(&session.instance);
        run.deliveries = run.deliveries.saturating_add(1);
        run.alone = alone;
        run.leased_at = Some(now.wall);
        run.started_at = None;
        run.progress = None;
        session.leases.push(slot);
        session.leased_bytes += payload_bytes;
        self.set_state(slot, State::Leased);
        self.note_hunger(holder);
        self.arm_balance(now, holder);
        self.publish(now, slot, Ended::default(), fx);
    }

    /// The handler has begun.
    pub(super) fn start(&mut self, now: Now, slot: Slot, fx: &mut Effects) {
        self.begin(now, slot);
        self.publish(now, slot, Ended::default(), fx);
    }

    /// What a start changes, told to nobody: an attempt is counted and its limits run.
    pub(super) fn begin(&mut self, now: Now, slot: Slot) {
        let lease = self.tasks.task(slot).lease();
        let Extra { plan, run: Some(run), .. } = self.tasks.extra_mut(slot) else {
            unreachable!("a leased task has a run");
        };
        let (soft, hard) = plan
            .as_ref()
            .map_or((None, None), |plan| (plan.soft_time_limit_ms, plan.time_limit_ms));
        run.attempts = run.attempts.saturating_add(1);
        run.started_at = Some(now.wall);
        run.soft_limit_at = soft.map(|span| now.mono.saturating_add(span));
        run.limit_at = hard.map(|span| now.mono.saturating_add(span));
        if let Some(at) = run.soft_limit_at {
            self.timers.set_mono(at, MonoTimer::SoftTimeLimit(slot, lease));
        }
        if let Some(at) = run.limit_at {
            self.timers.set_mono(at, MonoTimer::TimeLimit(slot, lease));
        }
        self.set_state(slot, State::Started);
    }

    pub(super) fn progress(&mut self, now: Now, slot: Slot, progress: Progress, fx: &mut Effects) {
        self.tasks.run_mut(slot).expect("a started task has a run").progress = Some(progress);
        let task = self.tasks.task_mut(slot);
        task.version = task.version.saturating_add(1);
        self.publish(now, slot, Ended::default(), fx);
    }

    pub(super) fn succeed(&mut self, now: Now, slot: Slot, result: Body, fx: &mut Effects) {
        self.end_lease(slot, ClosedBy::Complete);
        self.end(
            now,
            slot,
            State::Success,
            Ended { result: Some(result), revoked_reason: "".into() },
            fx,
        );
    }

    /// Fails for good: kept as dead.
    pub(super) fn fail(
        &mut self,
        now: Now,
        slot: Slot,
        closed_by: ClosedBy,
        error: TaskError,
        fx: &mut Effects,
    ) {
        self.end_lease(slot, closed_by);
        self.keep_error(slot, error);
        self.end(now, slot, State::Failure, Ended::default(), fx);
    }

    /// Failed, and waits for its next attempt.
    pub(super) fn retry(
        &mut self,
        now: Now,
        slot: Slot,
        delay_ms: u64,
        error: TaskError,
        fx: &mut Effects,
    ) {
        self.end_lease(slot, ClosedBy::Fail);
        self.keep_error(slot, error);
        self.tasks.task_mut(slot).set_due(self.clocks.after(delay_ms));
        self.set_state(slot, State::Retry);
        self.timers.set(Moment::Steady(self.tasks.task(slot).due()), slot, Kind::Due);
        self.expire_if_over(slot);
        self.publish(now, slot, Ended::default(), fx);
    }

    /// Back to the front of its queue, unfinished.
    pub(super) fn requeue(&mut self, now: Now, slot: Slot, closed_by: ClosedBy, fx: &mut Effects) {
        self.end_lease(slot, closed_by);
        self.set_state(slot, State::Queued);
        self.line_up(slot, true);
        self.expire_if_over(slot);
        self.publish(now, slot, Ended::default(), fx);
    }

    /// Takes a lease back that has not begun: that counts as no delivery. The worker is told by the
    /// caller.
    pub(super) fn take_back(&mut self, now: Now, slot: Slot, fx: &mut Effects) {
        assert_eq!(self.tasks.task(slot).state, State::Leased, "what has begun is not taken back");
        self.requeue(now, slot, ClosedBy::TakenBack, fx);
    }

    /// Ends a task that shall not run, or not run on. A worker that holds it is told by the caller.
    pub(super) fn revoke(&mut self, now: Now, slot: Slot, reason: &str, fx: &mut Effects) {
        self.revoke_as(now, slot, ClosedBy::Nobody, reason, fx);
    }

    /// The same, as the consequence of a report.
    pub(super) fn revoke_as(
        &mut self,
        now: Now,
        slot: Slot,
        closed_by: ClosedBy,
        reason: &str,
        fx: &mut Effects,
    ) {
        if self.tasks.task(slot).is_leased() {
            self.end_lease(slot, closed_by);
        }
        self.end(
            now,
            slot,
            State::Revoked,
            Ended { result: None, revoked_reason: reason.into() },
            fx,
        );
    }

    /// Asks the holder to stop; what it does then decides how the task ends.
    pub(super) fn request_cancel(&mut self, now: Now, slot: Slot, reason: &str, fx: &mut Effects) {
        self.tasks.run_mut(slot).expect("a leased task has a run").cancel = Some(reason.into());
        let task = self.tasks.task_mut(slot);
        task.version = task.version.saturating_add(1);
        self.publish(now, slot, Ended::default(), fx);
    }

    fn end(&mut self, now: Now, slot: Slot, state: State, ended: Ended, fx: &mut Effects) {
        self.set_state(slot, state);
        let task = self.tasks.task(slot);
        let mut ttl_ms =
            self.tasks.plan(task).map_or(self.settings.result_ttl_ms, |plan| plan.result_ttl_ms);
        if state == State::Failure && ttl_ms == 0 {
            // "Keep no result" is not "keep no failure": what failed for good can be looked at.
            ttl_ms = self.settings.result_ttl_ms.max(1);
        }
        self.tasks.task_mut(slot).set_due(self.clocks.after(ttl_ms));
        self.publish(now, slot, ended, fx);
        self.strip(slot);
        self.successors.note_end(slot);
        if ttl_ms == 0 {
            self.forget(slot, fx);
        } else {
            self.timers.set(Moment::Steady(self.tasks.task(slot).due()), slot, Kind::Forget);
        }
    }

    /// Takes from an ended task what it no longer needs.
    pub(super) fn strip(&mut self, slot: Slot) {
        let state = self.tasks.task(slot).state;
        if self.tasks.task(slot).extra.is_some() {
            let extra = self.tasks.extra_mut(slot);
            extra.run = None;
            extra.plan = extra.plan.take().filter(|plan| keeps_plan(state, plan));
            self.tasks.settle(slot);
        }
    }

    /// Removes an ended task before its time.
    pub(super) fn forget(&mut self, slot: Slot, fx: &mut Effects) {
        self.keep_for_waits(slot, fx);
        fx.push(Effect::Store(Record::Forgotten(self.tasks.key(slot))));
        self.remove(slot, fx);
    }

    /// Removes an ended task whose time is over. The log need not say so: a restart would find the
    /// same, unless somebody has set the clock.
    pub(super) fn drop_ended(&mut self, slot: Slot, fx: &mut Effects) {
        if self.clock_was_set {
            return self.forget(slot, fx);
        }
        self.keep_for_waits(slot, fx);
        fx.push(Effect::Drop(slot));
        self.remove(slot, fx);
    }

    fn remove(&mut self, slot: Slot, fx: &mut Effects) {
        let task = self.tasks.task(slot);
        let watched = self.tasks.is_watched(task).then(|| self.tasks.id(task));
        let task = self.tasks.remove(slot);
        assert!(task.state.is_terminal(), "only an ended task is forgotten");
        self.uncount(&task);
        if let Some(id) = watched {
            self.notify_forgotten(&id, fx);
        }
    }

    /// Takes an ended task out of the books.
    pub(super) fn uncount(&mut self, task: &Task) {
        let queue = self.queues.queue_mut(task.queue());
        queue.tasks -= 1;
        if let Some(count) = queue.counter(task.state) {
            *count -= 1;
        }
        if queue.tasks == 0 {
            self.queues.note_use(task.queue());
        }
        self.names.release(task.name);
    }

    /// Takes the task from its holder's hands. An outcome takes back the delivery that had been
    /// counted.
    fn end_lease(&mut self, slot: Slot, closed_by: ClosedBy) {
        let task = self.tasks.task_mut(slot);
        task.closed_by = closed_by;
        let (lease, bytes, started) =
            (task.lease(), task.payload_bytes(), task.state == State::Started);
        let run = self.tasks.run_mut(slot).expect("a leased task has a run");
        if matches!(closed_by, ClosedBy::Fail | ClosedBy::Release | ClosedBy::TakenBack) {
            run.deliveries = run.deliveries.saturating_sub(1);
            if started {
                // It ran, and its worker lives.
                (run.losses, run.silent) = (0, 0);
            }
        }
        run.grace_at
            .take()
            .inspect(|at| self.timers.clear_mono(*at, MonoTimer::CancelGrace(slot, lease)));
        run.soft_limit_at
            .take()
            .inspect(|at| self.timers.clear_mono(*at, MonoTimer::SoftTimeLimit(slot, lease)));
        run.limit_at
            .take()
            .inspect(|at| self.timers.clear_mono(*at, MonoTimer::TimeLimit(slot, lease)));
        let holder = run.holder.take().expect("a leased task has a holder");
        let (place, alone) = (run.place, std::mem::take(&mut run.alone));
        let session = self.sessions.session_mut(holder);
        session.alone &= !alone;
        session.leased_bytes -= bytes;
        session.leases.swap_remove(place);
        if let Some(moved) = session.leases.get(place) {
            self.tasks.run_mut(*moved).expect("a leased task has a run").place = place;
        }
        self.note_hunger(holder);
    }

    fn keep_error(&mut self, slot: Slot, error: TaskError) {
        let run = self.tasks.run_mut(slot).expect("only what was handed out fails");
        if run.errors.len() == ERRORS_KEPT {
            run.errors.remove(0);
        }
        run.errors.push(error);
    }

    /// The holder is gone without an outcome: again, or the end if that happened too often. Only
    /// what had begun is charged for it.
    pub(super) fn lose_lease(&mut self, now: Now, slot: Slot, fx: &mut Effects) {
        let task = self.tasks.task(slot);
        let plan = self.tasks.plan(task);
        let early_ack = plan.is_some_and(|plan| plan.early_ack);
        let deliveries_max = plan.map_or(super::task::MAX_DELIVERIES, |plan| plan.max_deliveries);
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
            return self.revoke(now, slot, &reason, fx);
        } else if started && early_ack {
            "the worker was lost, and the task asks not to be run twice"
        } else if is_to_blame && starts >= attempts_max {
            "the worker was lost during the last attempt"
        } else if is_to_blame && run.deliveries.saturating_add(run.silent) >= deliveries_max {
            "workers were lost with this task too often"
        } else {
            return self.requeue(now, slot, ClosedBy::Nobody, fx);
        };
        let error = broker_error("worker_lost", message, now, run.attempts);
        self.fail(now, slot, ClosedBy::Nobody, error, fx);
    }

    /// The hard time limit is over.
    pub(super) fn exceed_time_limit(&mut self, now: Now, slot: Slot, fx: &mut Effects) {
        self.signal(slot, SignalKind::TimeLimit, "time_limit", fx);
        let error = broker_error(
            "time_limit",
            "the time limit is over",
            now,
            self.tasks.attempts(self.tasks.task(slot)),
        );
        self.fail(now, slot, ClosedBy::Nobody, error, fx);
    }
}

/// What only a terminal transition has to say.
#[derive(Debug, Default)]
struct Ended {
    result: Option<Body>,
    revoked_reason: Box<str>,
}

/// An error that the broker itself finds.
pub(super) fn broker_error(kind: &str, message: &str, now: Now, attempt: u32) -> TaskError {
    TaskError {
        kind: kind.into(),
        message: message.into(),
        traceback: "".into(),
        at: now.wall,
        attempt,
    }
}

/// An ended task is still found by its root and its tags, and a dead one may be run again by its
/// rules.
fn keeps_plan(state: State, plan: &Plan) -> bool {
    state == State::Failure || !plan.root_id.is_empty() || !plan.tags.is_empty()
}
