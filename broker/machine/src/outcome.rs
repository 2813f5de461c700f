//! Outcomes: any client may put the outcome of a task, or its progress. A request that names the
//! lease of a run speaks for that run, like a report of the worker. An id without a task gets a put
//! task: an ended task that never ran.
//!
//! A put task has a reserved name and a reserved queue, so that a restart knows it again. A put
//! task that shows a progress has ended too, and another outcome may take its place.

use celeriac_proto::limits::{NAME_BYTES_MAX, PROGRESS_BYTES_MAX, SPAN_MS_MAX};
use celeriac_proto::{
    OUTCOME_TASK_NAME, OUTCOMES_QUEUE, PROGRESS_TASK_NAME, QueueName, RESERVED_TASK_NAMES, TaskId,
    TaskName,
};
use celeriac_record::{
    Actor, ClosedBy, Lease, Progress, Record, Slot, State, Submitted, TaskError, TaskKey, TaskSpec,
};

use crate::Machine;
use crate::clocks::Moment;
use crate::command::{
    Answer, Code, Failure, Forbidden, OutcomeKind, Refusal, StoredOutcome, TaskOutcome,
};
use crate::conflicts::exists;
use crate::step::{Asker, Step};
use crate::task::{Run, Task};
use crate::timers::Kind;
use crate::transitions::{Cause, Ended};

/// The version of a put task: the version after that of its submit.
const PUT_VERSION: u32 = 2;

/// The reason of a REVOKED without an error.
const REVOKED: &str = "revoked";

/// The time that a client should wait after `disk_full`.
const RETRY_AFTER_MS: u64 = 1_000;

/// A put task before it is put into the table.
pub(crate) struct NewPutTask {
    pub id: TaskId,
    pub name: &'static str,
    pub root_id: Box<str>,
    /// The lease of the run that the client names, whatever has become of that run; 0: none.
    pub lease: Lease,
    pub state: State,
    pub progress: Option<Progress>,
    pub error: Option<TaskError>,
    pub ended: Ended,
    pub ttl_ms: u64,
}

impl Machine {
    pub(crate) fn put_outcomes(
        &mut self,
        step: &mut Step<'_>,
        asker: Asker,
        outcomes: Vec<Result<TaskOutcome, Refusal>>,
    ) {
        let mut stored = Vec::with_capacity(outcomes.len());
        let (mut ids, mut count) = (Vec::new(), 0);
        for outcome in outcomes {
            let outcome = outcome.map_err(|refusal| (refusal, None));
            // Without a scope the machine forbids nothing.
            let id = outcome.as_ref().ok().filter(|_| step.scope.is_some());
            let id = id.map(|outcome| outcome.id.clone());
            let outcome = outcome.and_then(|outcome| self.put_outcome(step, outcome));
            let is_forbidden = |(refusal, _): &(Refusal, _)| refusal.code == Code::Forbidden;
            if let Some(id) = id.filter(|_| outcome.as_ref().is_err_and(is_forbidden)) {
                count += 1;
                ids.extend((count <= Forbidden::IDS_MAX).then_some(id));
            }
            stored.push(outcome);
            // The next outcome of the batch may be of the same id.
            self.advance_successors(&mut step.on_behalf_of(Actor::Broker));
        }
        if count > 0 {
            step.forbade(asker, Forbidden::Outcomes { ids, count });
        }
        step.answer(asker, Answer::Stored(stored));
    }

    fn put_outcome(&mut self, step: &mut Step<'_>, outcome: TaskOutcome) -> StoredOutcome {
        let found = self.tasks.find(&outcome.id);
        let present = found.filter(|slot| self.sees(step.scope.as_deref(), *slot));
        let state = present.map(|slot| self.tasks.task(slot).state);
        // A refusal for the lease shows how many leases the broker has given out. So whoever may
        // put no outcome of such an id hears of that first.
        if present.is_none() {
            may_put(step).map_err(|refusal| (refusal, None))?;
        }
        self.check_outcome(step, &outcome, present).map_err(|refusal| (refusal, state))?;
        if found != present {
            return Err((exists(), None));
        }
        match present.map(|slot| (slot, self.tasks.task(slot))) {
            None => self.put_task(step, None, outcome).map_err(|refusal| (refusal, None)),
            Some((slot, task)) if task.state.is_terminal() => {
                self.put_to_ended(step, slot, outcome)
            }
            Some((slot, task)) => {
                if let Some(reason) = self.why_stale(task, &outcome) {
                    return Err((Refusal::new(Code::StaleLease, reason), state));
                }
                let generation = self.tasks.generation(task);
                Ok((self.put_to_unfinished(step, slot, outcome), generation))
            }
        }
    }

    /// Checks what the runs of the task do not decide.
    fn check_outcome(
        &self,
        step: &Step<'_>,
        outcome: &TaskOutcome,
        present: Option<Slot>,
    ) -> Result<(), Refusal> {
        let task = present.map(|slot| self.tasks.task(slot));
        let is_unfinished = task.is_some_and(|task| !task.state.is_terminal());
        let bytes = outcome.body.bytes.len();
        let max = match is_unfinished && !outcome.kind.is_end() {
            true => self.config.result_bytes_max.min(PROGRESS_BYTES_MAX),
            false => self.config.result_bytes_max,
        };
        if bytes > max {
            let message = format!("the body has {bytes} bytes, and {max} are allowed");
            return Err(Refusal::new(Code::ResultTooLarge, message));
        }
        // A client that may make no put tasks learns only of leases that its own tasks had.
        let latest = match task.filter(|_| may_put(step).is_err()) {
            Some(task) => task.lease(),
            None => self.latest_lease,
        };
        if outcome.lease > latest {
            return Err(Refusal::new(Code::StaleLease, "the broker has not given out this lease"));
        }
        Ok(())
    }

    fn put_to_unfinished(
        &mut self,
        step: &mut Step<'_>,
        slot: Slot,
        outcome: TaskOutcome,
    ) -> State {
        let task = self.tasks.task(slot);
        let speaks_for_run = task.is_leased() && outcome.lease == task.lease();
        match outcome.kind {
            OutcomeKind::Progress { state, error } => {
                if speaks_for_run {
                    self.ensure_started(step, slot);
                }
                let progress = Progress { state, meta: outcome.body.bytes, at: step.now.wall };
                if !self.has_progress(slot, &progress) {
                    self.keep_error_of_outcome(step, slot, error);
                    self.tasks.extra_mut(slot).run.get_or_insert_default();
                    self.progress(step, slot, progress);
                }
                self.tasks.task(slot).state
            }
            end => {
                if speaks_for_run {
                    self.ensure_started_in_passing(step, slot);
                }
                let ended = Ended {
                    result: Some(outcome.body),
                    result_ttl_ms: outcome.result_ttl_ms,
                    ..Ended::default()
                };
                self.end_by_outcome(step, slot, end, ended)
            }
        }
    }

    /// Ends a task that has not ended. Its worker is not told: the worker's next report is answered
    /// as a report on a lease that has ended.
    fn end_by_outcome(
        &mut self,
        step: &mut Step<'_>,
        slot: Slot,
        kind: OutcomeKind,
        mut ended: Ended,
    ) -> State {
        let mut state = kind.end_state();
        let task = self.tasks.task(slot);
        let cancelled = self.tasks.run(task).and_then(|run| run.cancel.clone());
        let is_leased = task.is_leased();
        let error = kind.into_error();
        ended.revoked_reason = reason_of(state, error.as_ref().map(|error| &*error.message));
        self.keep_error_of_outcome(step, slot, error);
        if is_leased {
            self.end_lease(slot, closed_by(state));
        }
        if let Some(reason) = cancelled.filter(|_| state == State::Failure) {
            // As with a worker's report of a failure.
            (state, ended.revoked_reason) = (State::Revoked, reason);
        }
        self.end(step, slot, state, Cause::Put, ended);
        state
    }

    fn keep_error_of_outcome(&mut self, step: &Step<'_>, slot: Slot, error: Option<Failure>) {
        if let Some(error) = error {
            let run = self.tasks.extra_mut(slot).run.get_or_insert_default();
            let error = error.into_error(step.now.wall, run.attempts);
            self.keep_error(slot, error);
        }
    }

    /// The task of the id has ended. The outcome changes nothing, or it becomes the next
    /// generation.
    fn put_to_ended(
        &mut self,
        step: &mut Step<'_>,
        slot: Slot,
        outcome: TaskOutcome,
    ) -> StoredOutcome {
        let task = self.tasks.task(slot);
        let (state, generation) = (task.state, self.tasks.generation(task));
        let name = self.names.name(task.name).as_str();
        let is_of_that_run = outcome.lease != 0 && outcome.lease == task.lease();
        let is_earlier = outcome.lease != 0 && outcome.lease < task.lease();
        let says_the_same = is_of_that_run && state == outcome.kind.end_state();
        let is_kept = name != PROGRESS_TASK_NAME && (state == State::Success || says_the_same);
        if is_kept && !is_earlier {
            return Ok((state, generation));
        }
        if is_earlier || is_of_that_run && !self.is_put_task(task) {
            let message = "the run of this lease is over, and the task has ended otherwise";
            return Err((Refusal::new(Code::StaleLease, message), Some(state)));
        }
        let next = Some((slot, generation.saturating_add(1)));
        self.put_task(step, next, outcome).map_err(|refusal| (refusal, Some(state)))
    }

    /// Makes a put task: the first generation of its id, or the one that takes the place of an
    /// ended task.
    fn put_task(
        &mut self,
        step: &mut Step<'_>,
        next: Option<(Slot, u32)>,
        outcome: TaskOutcome,
    ) -> Result<(State, u32), Refusal> {
        let TaskOutcome { id, lease, kind, body, result_ttl_ms } = outcome;
        let state = kind.end_state();
        let generation = next.map_or(1, |(_, generation)| generation);
        let ttl_ms = result_ttl_ms.unwrap_or(self.config.result_ttl_ms);
        may_put(step)?;
        if ttl_ms == 0 {
            if let Some((slot, _)) = next {
                self.forget(step, slot);
            }
            return Ok((state, generation));
        }
        self.room_on_disk()?;
        let at = step.now.wall;
        let (progress, error) = match kind {
            OutcomeKind::Progress { state, error } => {
                (Some(Progress { state, meta: Default::default(), at }), error)
            }
            end => (None, end.into_error()),
        };
        let revoked_reason = reason_of(state, error.as_ref().map(|error| &*error.message));
        let new = NewPutTask {
            id,
            name: if progress.is_some() { PROGRESS_TASK_NAME } else { OUTCOME_TASK_NAME },
            root_id: "".into(),
            lease,
            state,
            progress,
            error: error.map(|error| error.into_error(at, 0)),
            ended: Ended { result: Some(body), revoked_reason, ..Ended::default() },
            ttl_ms,
        };
        let slot = match next {
            Some((slot, _)) => {
                // The new record of the slot, which follows, replaces the old records.
                self.keep_for_waits(step, slot);
                let task = self.tasks.remove(slot);
                self.uncount(slot, &task);
                slot
            }
            None => self.tasks.next_slot(),
        };
        self.create_put_task(step, slot, generation, new);
        Ok((state, generation))
    }

    /// Refuses new tasks and put tasks while the disk is nearly full.
    pub(crate) fn room_on_disk(&self) -> Result<(), Refusal> {
        if !self.disk_is_low {
            return Ok(());
        }
        let message = "the broker's disk is nearly full, so it takes no new tasks: make room on \
                       it, or submit later";
        Err(Refusal { retry_after_ms: RETRY_AFTER_MS, ..Refusal::new(Code::DiskFull, message) })
    }

    /// Puts a put task into an empty slot.
    pub(crate) fn create_put_task(
        &mut self,
        step: &mut Step<'_>,
        slot: Slot,
        generation: u32,
        new: NewPutTask,
    ) {
        self.latest_serial += 1;
        let name = TaskName::parse(new.name).expect("a reserved name is a valid name");
        let queue = QueueName::parse(OUTCOMES_QUEUE).expect("a reserved name is a valid name");
        let (queue_key, name_key) = (self.queues.find_or_create(&queue), self.names.take(&name));
        let ttl_ms = new.ttl_ms.min(SPAN_MS_MAX);
        let submitted = Submitted {
            key: TaskKey { slot, serial: self.latest_serial },
            generation,
            after: None,
            submitted_at: step.now.wall,
            eta: None,
            expires: None,
            result_ttl_ms: ttl_ms,
            spec: TaskSpec { queue, root_id: new.root_id, ..TaskSpec::new(new.id, name) },
        };
        let mut entry = self.task_of(&submitted, queue_key, name_key);
        entry.state = new.state;
        self.tasks.put(slot, entry);
        step.store(Record::Submitted(Box::new(submitted)));
        let task = self.tasks.task_mut(slot);
        task.version = PUT_VERSION;
        task.set_lease(new.lease);
        task.set_due(step.clocks.after(ttl_ms));
        let due = task.due();
        let errors = new.error.into_iter().collect();
        let is_end = new.progress.is_none();
        let run = Run { progress: new.progress, errors, ..Run::default() };
        self.tasks.extra_mut(slot).run = Some(Box::new(run));
        self.enter(slot);
        if new.state == State::Failure {
            self.ends.add_dead(queue_key, slot, step.clocks.steady);
        }
        if is_end {
            self.ends.note_end(self.tasks.key(slot));
        }
        self.publish_end(step, slot, new.ended);
        self.strip(slot);
        self.timers.set(Moment::Steady(due), slot, Kind::Forget);
    }

    /// Whether a client put the task, so that there is nothing that could run.
    pub(crate) fn is_put_task(&self, task: &Task) -> bool {
        RESERVED_TASK_NAMES.contains(&self.names.name(task.name).as_str())
    }

    /// Why an outcome may not change a task that has not ended.
    fn why_stale(&self, task: &Task, outcome: &TaskOutcome) -> Option<&'static str> {
        let (lease, is_of_earlier_run) = (outcome.lease, outcome.lease != task.lease());
        match (task.is_leased(), lease) {
            (_, 0) if !task.is_leased() || !outcome.kind.is_end() => None,
            (_, 0) => Some("a worker holds the task, and only an outcome of its lease ends it"),
            (true, _) if is_of_earlier_run && !self.may_tell_of_retry(task, outcome) => {
                Some("the lease is not the current lease of the task")
            }
            (false, _) if !outcome.kind.is_retry() => {
                Some("the run of this lease is over, and the task waits for its next run")
            }
            (false, _) if lease < task.lease() => {
                Some("a later run of the task is over too, and the task waits for its next run")
            }
            _ => None,
        }
    }

    /// Whether the outcome is that of the run before, which tells of a run that has a lease and has
    /// not begun: a retry that was handed out before it is due.
    fn may_tell_of_retry(&self, task: &Task, outcome: &TaskOutcome) -> bool {
        outcome.kind.is_retry()
            && outcome.lease < task.lease()
            && task.state == State::Leased
            && self.tasks.run(task).is_some_and(|run| !run.redelivered)
    }
}

/// Whether the client may make put tasks. They are tasks of a reserved queue, with reserved names.
fn may_put(step: &Step<'_>) -> Result<(), Refusal> {
    let names = [OUTCOME_TASK_NAME, PROGRESS_TASK_NAME];
    match &step.scope {
        Some(scope) if names.iter().any(|name| !scope.allows(OUTCOMES_QUEUE, name)) => {
            let message = format!(
                "the access of this client does not allow the queue `{OUTCOMES_QUEUE}`, in which \
                 the outcome of an id without a task is kept"
            );
            Err(Refusal::new(Code::Forbidden, message))
        }
        _ => Ok(()),
    }
}

/// The report of a worker that ends a lease in the same way.
fn closed_by(state: State) -> ClosedBy {
    match state {
        State::Success => ClosedBy::Complete,
        State::Failure => ClosedBy::Fail,
        _ => ClosedBy::Nobody,
    }
}

/// The reason of a REVOKED: the message of its error.
fn reason_of(state: State, message: Option<&str>) -> Box<str> {
    match message {
        _ if state != State::Revoked => "".into(),
        None | Some("") => REVOKED.into(),
        Some(message) => message[..message.floor_char_boundary(NAME_BYTES_MAX)].into(),
    }
}
