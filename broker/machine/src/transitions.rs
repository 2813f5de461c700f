//! The only place where a task's state changes. Each transition updates the counters and timers,
//! gives the store the task's new record, and informs the clients that wait or watch.
//! `transitions/table.rs` lists the transitions and the actors that may make them.

mod counting;
mod table;

use celeriac_proto::limits::ERRORS_KEPT;
use celeriac_record::{Body, Cancel, Changed, ClosedBy, Progress, Record, Slot, State, TaskError};

pub(crate) use self::table::Cause;
use self::table::assert_allowed;
use crate::Machine;
use crate::clocks::Moment;
use crate::command::{Code, Effect, Now, SignalKind, tells_of_retry};
use crate::queue::Arrival;
use crate::step::Step;
use crate::task::{Extra, Plan, Task};
use crate::timers::{Kind, MonoTimer};

impl Machine {
    /// Changes the state of a task and updates the counters of its queue.
    ///
    /// # Panics
    /// When the table of transitions has no such transition.
    pub(crate) fn change_state(&mut self, step: &Step<'_>, slot: Slot, state: State, cause: Cause) {
        let is_suspect = self.is_suspect(slot);
        let ran_ms = self.ran_ms(step, slot).filter(|_| state != State::Queued);
        let task = self.tasks.task_mut(slot);
        let (was, key, bytes, name) = (task.state, task.queue(), task.payload_bytes(), task.name);
        assert_allowed(was, state, cause, &step.actor);
        task.state = state;
        task.version = task.version.saturating_add(1);
        let queue = self.queues.queue_mut(key);
        if let Some(count) = queue.counter(was) {
            *count -= 1;
        }
        if was == State::Queued {
            queue.ready_names.remove(name);
        }
        if let Some(count) = queue.counter(state) {
            *count += 1;
        }
        if state == State::Queued {
            queue.ready_names.add(name);
        }
        counting::count(&mut queue.counters, state, cause);
        if let Some(ran_ms) = ran_ms {
            queue.counters.note_run(ran_ms);
        }
        if state == State::Failure {
            self.ends.add_dead(key, slot, step.clocks.steady);
        }
        if state.is_terminal() {
            queue.bytes -= bytes;
            queue.ended_rate.note(step.second());
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

    /// Gives the store the task's new record and informs the clients that wait or watch.
    pub(crate) fn publish(&mut self, step: &mut Step<'_>, slot: Slot) {
        self.publish_end(step, slot, Ended::default());
    }

    /// Like [`publish`](Self::publish), with the result or the reason of a task that ended.
    pub(crate) fn publish_end(&mut self, step: &mut Step<'_>, slot: Slot, ended: Ended) {
        let key = self.tasks.key(slot);
        let task = self.tasks.task(slot);
        let run = self.tasks.run(task);
        let holder = run.and_then(|run| run.holder);
        let mut changed = Changed {
            key,
            state: task.state,
            version: task.version,
            at: step.now.wall,
            actor: step.actor.clone(),
            lease: task.lease(),
            closed_by: task.closed_by,
            session: holder.map(|holder| self.sessions.session(holder).id),
            worker: run.map_or_else(|| "".into(), |run| run.worker.clone()),
            attempts: 0,
            deliveries: 0,
            losses: 0,
            silent: 0,
            due: (task.state == State::Retry).then(|| step.clocks.wall_at(task.due())),
            leased_at: None,
            started_at: None,
            progress: None,
            errors: Vec::new(),
            result: ended.result,
            result_ttl_ms: ended.result_ttl_ms,
            revoked_reason: ended.revoked_reason,
            cancel: Cancel::None,
            cancel_at: None,
            settled: false,
            redelivered: false,
        };
        if let Some(run) = run {
            changed.attempts = run.attempts;
            changed.deliveries = run.deliveries;
            changed.losses = run.losses;
            changed.silent = run.silent;
            changed.leased_at = run.leased_at;
            changed.started_at = run.started_at;
            changed.progress.clone_from(&run.progress);
            changed.errors.clone_from(&run.errors);
            changed.settled = run.settled;
            changed.redelivered = run.redelivered;
            if let Some(at) = run.grace_at {
                changed.due =
                    Some(step.now.wall.saturating_add_unsigned(at.saturating_sub(step.now.mono)));
            }
            (changed.cancel, changed.cancel_at) = (run.cancel_as, run.cancel_at);
            if let Some(reason) = run.cancel.as_ref().filter(|_| !task.state.is_terminal()) {
                // The reason must survive a restart: the task may end with it later.
                changed.revoked_reason.clone_from(reason);
            }
        }
        step.store(Record::Changed(Box::new(changed)));
        self.notify(step, slot);
    }

    /// Queues a SCHEDULED or RETRY task that is due. The store keeps this transition, although a
    /// restart could derive it from the time: after a restart the clock may differ, and then this
    /// version of the task would have another state than clients saw.
    pub(crate) fn promote(&mut self, step: &mut Step<'_>, slot: Slot) {
        self.change_state(step, slot, State::Queued, Cause::Due);
        self.line_up(slot, false);
        self.publish(step, slot);
    }

    /// Puts a QUEUED task in line. A task that was leased before takes its earlier place: in front
    /// of all that have waited less long.
    pub(crate) fn line_up(&mut self, slot: Slot, is_back: bool) {
        if !is_back {
            self.take_place(slot);
        }
        let is_suspect = self.is_suspect(slot);
        let task = self.tasks.task(slot);
        let (name, priority, order) = (task.name, task.priority(), task.order());
        let arrival = Arrival { slot, name, priority, is_suspect, order, is_back };
        self.queues.queue_mut(task.queue()).push(arrival);
    }

    /// Gives a task the place behind all other tasks.
    pub(crate) fn take_place(&mut self, slot: Slot) {
        self.latest_order += 1;
        self.tasks.task_mut(slot).set_order(self.latest_order);
    }

    /// The handler of the task has begun.
    pub(crate) fn start(&mut self, step: &mut Step<'_>, slot: Slot) {
        self.begin(step, slot);
        self.publish(step, slot);
    }

    /// Makes the changes of a start without publishing them: counts the attempt and sets its time
    /// limits.
    pub(crate) fn begin(&mut self, step: &Step<'_>, slot: Slot) {
        let now = step.now;
        let lease = self.tasks.task(slot).lease();
        let Extra { plan, run: Some(run), .. } = self.tasks.extra_mut(slot) else {
            unreachable!("a leased task has a run");
        };
        let (soft, hard) = plan
            .as_ref()
            .map_or((None, None), |plan| (plan.soft_time_limit_ms, plan.time_limit_ms));
        run.attempts = run.attempts.saturating_add(1);
        run.started_at = Some(now.wall);
        run.began = step.clocks.steady;
        run.progress = run.progress.take().filter(|progress| !tells_of_retry(&progress.state));
        run.soft_limit_at = soft.map(|span| now.mono.saturating_add(span));
        run.limit_at = hard.map(|span| now.mono.saturating_add(span));
        if let Some(at) = run.soft_limit_at {
            self.timers.set_mono(at, MonoTimer::SoftTimeLimit(slot, lease));
        }
        if let Some(at) = run.limit_at {
            self.timers.set_mono(at, MonoTimer::TimeLimit(slot, lease));
        }
        self.change_state(step, slot, State::Started, Cause::Started);
    }

    /// Records that the task never runs again, and takes its lease out of the worker's credit.
    pub(crate) fn settle(&mut self, step: &mut Step<'_>, slot: Slot) {
        let run = self.tasks.run_mut(slot).expect("a leased task has a run");
        let holder = run.holder.expect("a leased task has a holder");
        run.settled = true;
        let counted = !std::mem::replace(&mut run.outside_credit, true);
        self.sessions.consumer_mut(holder).outside_credit += usize::from(counted);
        if self.tasks.task(slot).state == State::Leased {
            self.begin(step, slot);
        } else {
            let task = self.tasks.task_mut(slot);
            task.version = task.version.saturating_add(1);
        }
        self.note_hunger(holder);
        self.publish(step, slot);
    }

    pub(crate) fn progress(&mut self, step: &mut Step<'_>, slot: Slot, progress: Progress) {
        self.tasks.run_mut(slot).expect("the task has a run").progress = Some(progress);
        let task = self.tasks.task_mut(slot);
        task.version = task.version.saturating_add(1);
        self.publish(step, slot);
    }

    pub(crate) fn succeed(
        &mut self,
        step: &mut Step<'_>,
        slot: Slot,
        result: Body,
        result_ttl_ms: Option<u64>,
    ) {
        self.end_lease(slot, ClosedBy::Complete);
        let ended = Ended { result: Some(result), result_ttl_ms, ..Ended::default() };
        self.end(step, slot, State::Success, Cause::Completed, ended);
    }

    /// Fails a task for good. The broker keeps the task as dead.
    pub(crate) fn fail(
        &mut self,
        step: &mut Step<'_>,
        slot: Slot,
        closed_by: ClosedBy,
        error: TaskError,
        cause: Cause,
    ) -> State {
        self.fail_with(step, slot, closed_by, error, cause, Ended::default())
    }

    /// Like [`fail`](Self::fail), with what the worker reported besides the error.
    pub(crate) fn fail_with(
        &mut self,
        step: &mut Step<'_>,
        slot: Slot,
        closed_by: ClosedBy,
        error: TaskError,
        cause: Cause,
        ended: Ended,
    ) -> State {
        self.keep_error(slot, error);
        self.end_lease(slot, closed_by);
        self.end(step, slot, State::Failure, cause, ended);
        State::Failure
    }

    /// A failed task waits for its next attempt.
    pub(crate) fn retry(
        &mut self,
        step: &mut Step<'_>,
        slot: Slot,
        delay_ms: u64,
        error: TaskError,
    ) -> State {
        self.keep_error(slot, error);
        self.end_lease(slot, ClosedBy::Fail);
        self.tasks.task_mut(slot).set_due(step.clocks.after(delay_ms));
        self.change_state(step, slot, State::Retry, Cause::Failed);
        self.timers.set(Moment::Steady(self.tasks.task(slot).due()), slot, Kind::Due);
        self.expire_if_over(step, slot);
        self.publish(step, slot);
        State::Retry
    }

    /// Puts an unfinished task back at its earlier place in its queue.
    pub(crate) fn requeue(
        &mut self,
        step: &mut Step<'_>,
        slot: Slot,
        closed_by: ClosedBy,
        cause: Cause,
    ) -> State {
        self.end_lease(slot, closed_by);
        let run = self.tasks.run_mut(slot).expect("a task that was leased has a run");
        if run.cancel.is_some() {
            // After a cancel a task waits again only so that a worker announces its end.
            run.note_cancel(Cancel::CalledOff, step.now.wall);
        }
        self.change_state(step, slot, State::Queued, cause);
        self.line_up(slot, true);
        self.expire_if_over(step, slot);
        self.publish(step, slot);
        State::Queued
    }

    /// Ends a task that must not run, or must not continue. The caller informs the worker that
    /// holds the task.
    pub(crate) fn revoke(&mut self, step: &mut Step<'_>, slot: Slot, cause: Cause, reason: &str) {
        self.revoke_as(step, slot, ClosedBy::Nobody, cause, reason);
    }

    /// Like [`revoke`](Self::revoke), with the report that ended the lease.
    pub(crate) fn revoke_as(
        &mut self,
        step: &mut Step<'_>,
        slot: Slot,
        closed_by: ClosedBy,
        cause: Cause,
        reason: &str,
    ) -> State {
        if self.tasks.task(slot).is_leased() {
            self.end_lease(slot, closed_by);
        }
        let ended = Ended { revoked_reason: reason.into(), ..Ended::default() };
        self.end(step, slot, State::Revoked, cause, ended);
        State::Revoked
    }

    /// Records that a cancel was requested. The worker's next report decides how the task ends.
    pub(crate) fn request_cancel(
        &mut self,
        step: &mut Step<'_>,
        slot: Slot,
        cancel: Cancel,
        reason: &str,
    ) {
        let run = self.tasks.run_mut(slot).expect("a leased task has a run");
        run.cancel = Some(reason.into());
        run.note_cancel(cancel, step.now.wall);
        let task = self.tasks.task_mut(slot);
        task.version = task.version.saturating_add(1);
        self.publish(step, slot);
    }

    pub(crate) fn end(
        &mut self,
        step: &mut Step<'_>,
        slot: Slot,
        state: State,
        cause: Cause,
        ended: Ended,
    ) {
        self.change_state(step, slot, state, cause);
        let task = self.tasks.task(slot);
        let is_forgotten = self.tasks.plan(task).is_some_and(|plan| plan.forget_at_end);
        let mut ttl_ms = ended
            .result_ttl_ms
            .unwrap_or_else(|| self.tasks.plan(task).unwrap_or(&self.usual_plan).result_ttl_ms);
        if state == State::Failure && ttl_ms == 0 {
            // A result TTL of 0 does not apply to failures: an operator must be able to inspect a
            // task that failed for good.
            ttl_ms = self.config.result_ttl_ms.max(1);
        }
        self.tasks.task_mut(slot).set_due(step.clocks.after(ttl_ms));
        self.publish_end(step, slot, ended);
        self.strip(slot);
        self.successors.note_end(slot);
        if ttl_ms == 0 || is_forgotten {
            self.forget(step, slot);
        } else {
            self.ends.note_end(self.tasks.key(slot));
            self.timers.set(Moment::Steady(self.tasks.task(slot).due()), slot, Kind::Forget);
        }
    }

    /// Removes the data that an ended task no longer needs.
    pub(crate) fn strip(&mut self, slot: Slot) {
        let state = self.tasks.task(slot).state;
        if self.tasks.task(slot).extra.is_some() {
            let extra = self.tasks.extra_mut(slot);
            extra.run = None;
            extra.plan = extra.plan.take().filter(|plan| keeps_plan(state, plan));
            self.tasks.settle(slot);
        }
    }

    /// Removes the task of an id at a client's request, if the task has ended.
    pub(crate) fn forget_ended(&mut self, step: &mut Step<'_>, id: &str) -> Result<(), Code> {
        let slot = self.find_seen(step.scope.as_deref(), id).ok_or(Code::NotFound)?;
        if !self.tasks.task(slot).state.is_terminal() {
            return Err(Code::NotFinished);
        }
        self.forget(step, slot);
        Ok(())
    }

    /// Removes an ended task before its time is over, with a record in the log.
    pub(crate) fn forget(&mut self, step: &mut Step<'_>, slot: Slot) {
        self.keep_for_waits(step, slot);
        step.store(Record::Forgotten(self.tasks.key(slot)));
        self.remove(step, slot);
    }

    /// Removes an ended task whose time is over. The log needs no record: a restart would find the
    /// same from the time, unless the wall clock was set, or the end of a chord ended its time.
    pub(crate) fn drop_ended(&mut self, step: &mut Step<'_>, slot: Slot) {
        if self.clock_was_set || self.is_below_chord(self.tasks.task(slot)) {
            return self.forget(step, slot);
        }
        self.keep_for_waits(step, slot);
        step.push(Effect::Drop(slot));
        self.remove(step, slot);
    }

    fn remove(&mut self, step: &mut Step<'_>, slot: Slot) {
        let task = self.tasks.task(slot);
        let watched = self.tasks.is_watched(task).then(|| self.tasks.id(task));
        self.leave_chord(slot);
        let task = self.tasks.remove(slot);
        assert!(task.state.is_terminal(), "only an ended task is forgotten");
        if let Some(id) = watched {
            self.notify_forgotten(step, &id, &task);
        }
        self.uncount(slot, &task);
    }

    /// Removes an ended task from the counters of its queue and from the uses of its name.
    pub(crate) fn uncount(&mut self, slot: Slot, task: &Task) {
        if task.state == State::Failure {
            self.ends.remove_dead(task.queue(), slot);
        }
        let queue = self.queues.queue_mut(task.queue());
        queue.tasks -= 1;
        if let Some(count) = queue.counter(task.state) {
            *count -= 1;
        }
        if queue.tasks == 0 || task.state == State::Failure && queue.dead == 0 {
            self.queues.note_use(task.queue());
        }
        self.names.release(task.name);
    }

    /// Keeps an error. While a worker holds the task, the error is of that worker's attempt.
    pub(crate) fn keep_error(&mut self, slot: Slot, mut error: TaskError) {
        let is_leased = self.tasks.task(slot).is_leased();
        let run = self.tasks.run_mut(slot).expect("only a task that was delivered fails");
        if is_leased {
            (error.leased_at, error.started_at) = (run.leased_at, run.started_at);
            error.worker.clone_from(&run.worker);
        }
        if run.errors.len() == ERRORS_KEPT {
            run.errors.remove(0);
        }
        run.errors.push(error);
    }

    /// Fails a task that has run longer than its hard time limit.
    pub(crate) fn exceed_time_limit(&mut self, step: &mut Step<'_>, slot: Slot) {
        self.signal(step, slot, SignalKind::TimeLimit, "time_limit");
        let attempts = self.tasks.attempts(self.tasks.task(slot));
        let error = broker_error("time_limit", "the time limit is over", step.now, attempts);
        self.fail(step, slot, ClosedBy::Nobody, error, Cause::TimeLimit);
    }
}

/// The data that only the record of an ended task has.
#[derive(Debug, Default)]
pub(crate) struct Ended {
    pub result: Option<Body>,
    /// In place of the task's own.
    pub result_ttl_ms: Option<u64>,
    pub revoked_reason: Box<str>,
}

/// An error that the broker itself detects.
pub(crate) fn broker_error(kind: &str, message: &str, now: Now, attempt: u32) -> TaskError {
    TaskError {
        kind: kind.into(),
        message: message.into(),
        traceback: "".into(),
        at: now.wall,
        attempt,
        leased_at: None,
        started_at: None,
        worker: "".into(),
    }
}

/// Clients still find an ended task by its root and its tags, and a replay of a dead task needs its
/// rules.
fn keeps_plan(state: State, plan: &Plan) -> bool {
    state == State::Failure || !plan.root_id.is_empty() || !plan.tags.is_empty()
}
