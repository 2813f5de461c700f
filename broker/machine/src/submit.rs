//! Submits: the machine fills in defaults, decides conflicts of ids, and puts the task in line.

use celeriac_proto::limits::SPAN_MS_MAX;
use celeriac_record::{Record, Slot, State, Submitted, TaskKey};

use crate::Machine;
use crate::clocks::Moment;
use crate::command::{Code, Now, Refusal, SignalKind, Submission, SubmitOutcome, When};
use crate::keys::{NameKey, QueueKey};
use crate::step::Step;
use crate::successors::Place;
use crate::task::{NewTask, Plan};
use crate::timers::Kind;
use crate::transitions::Cause;

/// The time that a producer should wait after `queue_full` or `disk_full`.
const RETRY_AFTER_MS: u64 = 1_000;

impl Machine {
    pub(crate) fn submit(&mut self, step: &mut Step<'_>, submission: Submission) -> SubmitOutcome {
        if let Some(outcome) = self.known_beside(step, &submission) {
            return outcome;
        }
        // A task that exists already needs no room: a producer that repeats its submit gets an
        // answer even when the broker is full.
        match self.tasks.find(&submission.spec.id) {
            Some(slot) => self.resolve_conflict(step, slot, submission),
            None => match self.create_first(step, submission) {
                Ok(state) => SubmitOutcome::Created { state },
                Err(refusal) => SubmitOutcome::Refused(refusal),
            },
        }
    }

    /// Makes the first generation of an id.
    pub(crate) fn create_first(
        &mut self,
        step: &mut Step<'_>,
        submission: Submission,
    ) -> Result<State, Refusal> {
        let queue = self.admit(&submission)?;
        let place = Place { slot: self.tasks.next_slot(), queue, generation: 1, after: None };
        Ok(self.create(step, place, submission))
    }

    /// Makes the next generation of an id. The present generation ends first.
    pub(crate) fn run_again(
        &mut self,
        step: &mut Step<'_>,
        slot: Slot,
        submission: Submission,
    ) -> SubmitOutcome {
        let queue = match self.admit(&submission) {
            Ok(queue) => queue,
            Err(refusal) => return SubmitOutcome::Refused(refusal),
        };
        // A successor that waits has a generation already; the new generation is the one after it.
        let latest = self.successors.of(slot).unwrap_or(slot);
        let generation = self.tasks.generation(self.tasks.task(latest)).saturating_add(1);
        self.make_way(step, slot);
        let state = self.create(step, Place { slot, queue, generation, after: None }, submission);
        SubmitOutcome::NewGeneration { generation, state }
    }

    /// The queue of a submit, if the queue and the disk have room.
    pub(crate) fn admit(&mut self, submission: &Submission) -> Result<QueueKey, Refusal> {
        self.room_on_disk()?;
        self.queues.room_for([&submission.spec.queue])?;
        let key = self.queues.find_or_create(&submission.spec.queue);
        let queue = self.queues.queue(key);
        let bounds = [
            ("tasks_max", queue.record.tasks_max, queue.unfinished() + 1),
            (
                "bytes_max",
                queue.record.bytes_max,
                queue.bytes + submission.spec.payload.len() as u64,
            ),
        ];
        let reached = bounds.into_iter().find_map(|(name, bound, count)| {
            bound.filter(|bound| count > *bound).map(|bound| (name, bound))
        });
        if let Some((name, bound)) = reached {
            let message = format!(
                "the queue `{}` is full: its {name} is {bound}; submit later, or raise the bound \
                 with `celeriac queues set`",
                submission.spec.queue
            );
            return Err(Refusal {
                retry_after_ms: RETRY_AFTER_MS,
                ..Refusal::new(Code::QueueFull, message)
            });
        }
        Ok(key)
    }

    /// Removes the present generation of an id from the table. An unfinished task ends first.
    fn make_way(&mut self, step: &mut Step<'_>, slot: Slot) {
        self.drop_successor(step, slot);
        if self.tasks.task(slot).is_leased() {
            self.signal(step, slot, SignalKind::Force, "replaced");
        }
        if !self.tasks.task(slot).state.is_terminal() {
            self.revoke(step, slot, Cause::Replaced, "replaced");
        }
        // With a TTL of 0 the revoked task is removed already. The new record of the slot, which
        // follows, replaces the old records.
        if self.tasks.try_task(slot).is_some() {
            self.keep_for_waits(step, slot);
            self.leave_chord(slot);
            let task = self.tasks.remove(slot);
            self.uncount(slot, &task);
        }
    }

    pub(crate) fn create(
        &mut self,
        step: &mut Step<'_>,
        place: Place,
        submission: Submission,
    ) -> State {
        let Place { slot, queue, .. } = place;
        self.latest_serial += 1;
        let key = TaskKey { slot, serial: self.latest_serial };
        let due = submission.eta.map(|when| step.moment(when.earlier(submission.spec.lead_ms)));
        let expires = self.expiry_of(step.now, queue, &submission).map(|when| step.moment(when));
        let submitted = self.complete_submission(step.now, key, submission, &place);
        let name = self.names.take(&submitted.spec.name);
        let mut task = self.task_of(&submitted, queue, name);
        if let Some(plan) = &mut task.plan {
            plan.expires = expires;
        }
        task.due = due.unwrap_or(task.due);
        let state = task.state;
        match place.after {
            None => self.tasks.put(slot, task),
            Some(present) => {
                self.tasks.put_hidden(slot, task);
                self.successors.add(present.slot, slot, due);
            }
        }
        step.store(Record::Submitted(Box::new(submitted)));
        self.enter(slot);
        self.note_submitted(step, slot);
        self.set_expiry_timer(slot);
        if place.after.is_some() {
            // The turn of the task comes when the task before it has ended.
            return state;
        }
        match (state, due) {
            (State::Scheduled, Some(due)) => self.timers.set(due, slot, Kind::Due),
            _ => self.line_up(slot, false),
        }
        self.notify(step, slot);
        state
    }

    pub(crate) fn note_submitted(&mut self, step: &Step<'_>, slot: Slot) {
        let queue = self.queues.queue_mut(self.tasks.task(slot).queue());
        queue.counters.submitted += 1;
        queue.submitted_rate.note(step.second());
    }

    /// Counts a task that was put into the table.
    pub(crate) fn enter(&mut self, slot: Slot) {
        let task = self.tasks.task(slot);
        let (key, state, bytes, name) = (task.queue(), task.state, task.payload_bytes(), task.name);
        let queue = self.queues.queue_mut(key);
        queue.tasks += 1;
        if let Some(count) = queue.counter(state) {
            *count += 1;
        }
        if state == State::Queued {
            queue.ready_names.add(name);
        }
        if !state.is_terminal() {
            queue.bytes += bytes;
        }
        if !queue.counted {
            self.queues.note_use(key);
        }
        self.queues.note_ready(key);
        if state == State::Queued && self.is_suspect(slot) {
            self.count_suspect(key, true);
        }
    }

    /// The expiry of the submit, or the default of the queue. The span of the default begins when
    /// the task is due, so that a later eta does not expire the task.
    fn expiry_of(&self, now: Now, queue: QueueKey, submission: &Submission) -> Option<When> {
        let of_queue = self.queues.queue(queue).record.expires_in_ms;
        let due = submission.eta.unwrap_or(When::In(0));
        submission.expires.or_else(|| of_queue.map(|span| due.later(span, now.wall)))
    }

    /// Fills in the defaults of the queue and of the broker.
    fn complete_submission(
        &self,
        now: Now,
        key: TaskKey,
        submission: Submission,
        place: &Place,
    ) -> Submitted {
        let defaults = &self.queues.queue(place.queue).record;
        let expires =
            self.expiry_of(now, place.queue, &submission).map(|when| when.resolve(now.wall));
        let ttl_ms = submission
            .result_ttl_ms
            .or(defaults.result_ttl_ms)
            .unwrap_or(self.config.result_ttl_ms);
        Submitted {
            key,
            generation: place.generation,
            after: place.after,
            submitted_at: now.wall,
            eta: submission.eta.map(|when| when.resolve(now.wall)),
            expires,
            result_ttl_ms: ttl_ms.min(SPAN_MS_MAX),
            spec: submission.spec,
        }
    }

    /// The table's entry for a submitted task. A restart makes the same entry from the record, so
    /// that a version has the same state before and after the restart.
    pub(crate) fn task_of(&self, submitted: &Submitted, queue: QueueKey, name: NameKey) -> NewTask {
        let plan = Plan::of(submitted);
        let due = submitted.eta.map(|eta| eta.saturating_sub_unsigned(submitted.spec.lead_ms));
        let waits = due.is_some_and(|due| due > submitted.submitted_at);
        let scheduled = submitted.after.is_some() || waits;
        NewTask {
            id: submitted.spec.id.clone(),
            serial: submitted.key.serial,
            due: Moment::At(due.unwrap_or(submitted.submitted_at)),
            submitted_at: submitted.submitted_at,
            generation: submitted.generation,
            name,
            queue,
            payload_bytes: submitted.spec.payload.len() as u64,
            priority: submitted.spec.priority,
            state: if scheduled { State::Scheduled } else { State::Queued },
            watched: self.is_observed(&submitted.spec.id),
            submit_key: self.tasks.hash_of_key(&submitted.spec.submit_key),
            plan: (plan != self.usual_plan).then(|| Box::new(plan)),
        }
    }
}
