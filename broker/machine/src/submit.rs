//! Submits: defaults filled in, conflicts decided, the task put in line.

use celeriac_proto::limits::SPAN_MS_MAX;
use celeriac_record::{Record, Slot, State, Submitted, TaskKey};

use super::command::{
    Code, Effect, Now, OnConflict, Refusal, SignalKind, Submission, SubmitOutcome, When,
};
use super::queue::QueueKey;
use super::task::{MAX_DELIVERIES, NewTask, Plan};
use super::timers::{Kind, Moment};
use super::{Effects, Machine};

/// How long a producer should wait after `queue_full` or `disk_full`.
const RETRY_AFTER_MS: u64 = 1_000;

/// Where a new task goes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    pub slot: Slot,
    pub queue: QueueKey,
    pub generation: u32,
    /// It waits for the end of this one of its id.
    pub after: Option<TaskKey>,
}

impl Machine {
    pub(super) fn submit(
        &mut self,
        now: Now,
        submission: Submission,
        fx: &mut Effects,
    ) -> SubmitOutcome {
        // What is there already needs no room: a producer that asks again is answered even when the
        // broker is full.
        let present = self.tasks.find(&submission.id);
        if let Some(slot) = present {
            let task = self.tasks.task(slot);
            let (generation, state) = (self.tasks.generation(task), task.state);
            match submission.on_conflict {
                OnConflict::Reject => {
                    return refused(Code::TaskExists, "a task of this id exists", 0);
                }
                OnConflict::RunAgainIfFinished if !state.is_terminal() => {
                    return SubmitOutcome::Joined { generation, state };
                }
                OnConflict::RunAgainAfter if !state.is_terminal() => {
                    return self.follow(now, slot, submission, fx);
                }
                OnConflict::RunAgainIfFinished
                | OnConflict::Replace
                | OnConflict::RunAgainAfter => {}
            }
        }
        let queue = match self.admit(&submission) {
            Ok(queue) => queue,
            Err(refusal) => return SubmitOutcome::Refused(refusal),
        };
        let Some(slot) = present else {
            let place = Place { slot: self.tasks.next_slot(), queue, generation: 1, after: None };
            let state = self.create(now, place, submission, fx);
            return SubmitOutcome::Created { state };
        };
        // One that waits has a number already.
        let latest = self.successors.of(slot).unwrap_or(slot);
        let generation = self.tasks.generation(self.tasks.task(latest)).saturating_add(1);
        self.make_way(now, slot, fx);
        let state =
            self.create(now, Place { slot, queue, generation, after: None }, submission, fx);
        SubmitOutcome::NewGeneration { generation, state }
    }

    /// The queue, if there is room in it and on the disk.
    pub(super) fn admit(&mut self, submission: &Submission) -> Result<QueueKey, Refusal> {
        if self.disk_is_low {
            let message = "the broker's disk is nearly full";
            return Err(Refusal {
                retry_after_ms: RETRY_AFTER_MS,
                ..Refusal::new(Code::DiskFull, message)
            });
        }
        self.queues.room_for([&submission.queue])?;
        let key = self.queues.find_or_create(&submission.queue);
        let queue = self.queues.queue(key);
        let over = |bound: Option<u64>, count: u64| bound.is_some_and(|bound| count > bound);
        if over(queue.record.tasks_max, queue.unfinished() + 1)
            || over(queue.record.bytes_max, queue.bytes + submission.payload.len() as u64)
        {
            let message = format!("the queue `{}` is full", submission.queue);
            return Err(Refusal {
                retry_after_ms: RETRY_AFTER_MS,
                ..Refusal::new(Code::QueueFull, message)
            });
        }
        Ok(key)
    }

    /// Takes the present generation of an id out of the table, ending it first if need be.
    fn make_way(&mut self, now: Now, slot: Slot, fx: &mut Effects) {
        self.drop_successor(slot, fx);
        if self.tasks.task(slot).is_leased() {
            self.signal(slot, SignalKind::Force, "replaced", fx);
        }
        if !self.tasks.task(slot).state.is_terminal() {
            self.revoke(now, slot, "replaced", fx);
        }
        // With a TTL of 0 the revoked task is gone already. The new record of the slot, which comes
        // next, hides the old ones.
        if self.tasks.try_task(slot).is_some() {
            self.keep_for_waits(slot, fx);
            let task = self.tasks.remove(slot);
            self.uncount(&task);
        }
    }

    pub(super) fn create(
        &mut self,
        now: Now,
        place: Place,
        submission: Submission,
        fx: &mut Effects,
    ) -> State {
        let Place { slot, queue, .. } = place;
        self.latest_serial += 1;
        let key = TaskKey { slot, serial: self.latest_serial };
        let eta = submission.eta.map(|when| self.moment(when));
        let expires = self.expiry_of(now, queue, &submission).map(|when| self.moment(when));
        let submitted = self.complete_submission(now, key, submission, &place);
        let name = self.names.take(&submitted.name);
        let mut task = self.task_of(&submitted, queue, name);
        if let Some(plan) = &mut task.plan {
            plan.expires = expires;
        }
        if let Some(Moment::At(due) | Moment::Steady(due)) = eta {
            task.due = due;
        }
        let state = task.state;
        match place.after {
            None => self.tasks.put(slot, task),
            Some(present) => {
                self.tasks.put_hidden(slot, task);
                self.successors.add(present.slot, slot, eta);
            }
        }
        fx.push(Effect::Store(Record::Submitted(Box::new(submitted))));
        self.enter(slot);
        self.note_submitted(slot);
        self.set_expiry_timer(slot);
        if place.after.is_some() {
            // Its turn comes with the end of the other.
            return state;
        }
        match (state, eta) {
            (State::Scheduled, Some(eta)) => self.timers.set(eta, slot, Kind::Due),
            _ => self.line_up(slot, false),
        }
        self.notify(slot, fx);
        state
    }

    /// On which clock a producer's time is met: a span follows the steady one.
    fn moment(&self, when: When) -> Moment {
        match when {
            When::At(at) => Moment::At(at),
            When::In(span_ms) => Moment::Steady(self.clocks.after(span_ms)),
        }
    }

    pub(super) fn note_submitted(&mut self, slot: Slot) {
        let second = self.queues.second;
        let queue = self.queues.queue_mut(self.tasks.task(slot).queue());
        queue.submitted_total += 1;
        queue.submitted_rate.note(second);
    }

    /// Counts a task that came into the table.
    pub(super) fn enter(&mut self, slot: Slot) {
        let task = self.tasks.task(slot);
        let (key, state, bytes) = (task.queue(), task.state, task.payload_bytes());
        let queue = self.queues.queue_mut(key);
        queue.tasks += 1;
        if let Some(count) = queue.counter(state) {
            *count += 1;
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

    /// The submit's own, or the queue's, which begins when the task is due: it does not overrule an
    /// eta.
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
            .unwrap_or(self.settings.result_ttl_ms);
        Submitted {
            key,
            generation: place.generation,
            after: place.after,
            id: submission.id,
            name: submission.name,
            queue: submission.queue,
            payload: submission.payload,
            content_type: submission.content_type,
            headers: submission.headers,
            shadow: submission.shadow,
            priority: submission.priority,
            submitted_at: now.wall,
            eta: submission.eta.map(|when| when.resolve(now.wall)),
            expires,
            result_ttl_ms: ttl_ms.min(SPAN_MS_MAX),
            retry: submission.retry,
            soft_time_limit_ms: submission.soft_time_limit_ms,
            time_limit_ms: submission.time_limit_ms,
            max_deliveries: submission.max_deliveries.unwrap_or(MAX_DELIVERIES),
            early_ack: submission.early_ack,
            root_id: submission.root_id,
            parent_id: submission.parent_id,
            tags: submission.tags,
        }
    }

    /// The table's entry for a task as it was submitted, whenever that was; a restart makes the
    /// same, so that a version names the same state before and after it.
    pub(super) fn task_of(&self, submitted: &Submitted, queue: QueueKey, name: u32) -> NewTask {
        let plan = Plan::of(submitted);
        let waits = submitted.eta.is_some_and(|eta| eta > submitted.submitted_at);
        let scheduled = submitted.after.is_some() || waits;
        NewTask {
            id: submitted.id.clone(),
            serial: submitted.key.serial,
            due: submitted.eta.unwrap_or(submitted.submitted_at),
            submitted_at: submitted.submitted_at,
            generation: submitted.generation,
            name,
            queue,
            payload_bytes: submitted.payload.len() as u64,
            priority: submitted.priority,
            state: if scheduled { State::Scheduled } else { State::Queued },
            watched: self.is_watched(&submitted.id),
            plan: (plan != self.usual_plan).then(|| Box::new(plan)),
        }
    }
}

fn refused(code: Code, message: &str, retry_after_ms: u64) -> SubmitOutcome {
    SubmitOutcome::Refused(Refusal { retry_after_ms, ..Refusal::new(code, message) })
}
