//! Outcomes that a client puts, in the reference.

use celeriac_record::State;

use super::super::super::words::DAY_MS;
use super::super::PUT_QUEUE;
use super::super::steps::{Put, Says, Submit};
use super::Reference;
use crate::command::{Code, OnConflict};

impl Reference {
    /// Returns the state and the generation of the task, or why the outcome is refused.
    pub fn put(
        &mut self,
        id: u8,
        put: Put,
        latest_lease: u64,
        slot: u32,
    ) -> Result<(State, u32), Code> {
        if put.lease > latest_lease {
            return Err(Code::StaleLease);
        }
        let Some(task) = self.tasks.get(&id).cloned() else {
            return Ok(self.make_put_task(id, put, 1, slot));
        };
        let (names_lease, names_it) = (put.lease != 0, put.lease == task.lease);
        let is_end = !matches!(put.says, Says::Retry | Says::Progress);
        if task.state.is_terminal() {
            if names_lease && put.lease < task.lease {
                return Err(Code::StaleLease);
            }
            let is_same = names_lease && names_it && task.state == state_of(put.says);
            if !task.is_put_progress && (task.state == State::Success || is_same) {
                return Ok((task.state, task.generation));
            }
            let is_put = task.submit.queue == PUT_QUEUE;
            if names_lease && names_it && !is_put {
                return Err(Code::StaleLease);
            }
            return Ok(self.make_put_task(id, put, task.generation + 1, slot));
        }
        let is_leased = task.holder.is_some();
        let is_stale = match (is_leased, names_lease) {
            (true, true) => {
                let is_retry = put.says == Says::Retry && put.lease < task.lease;
                let has_not_begun = task.state == State::Leased && !task.redelivered;
                !(names_it || is_retry && has_not_begun)
            }
            (true, false) => is_end,
            (false, true) => put.says != Says::Retry || put.lease < task.lease,
            (false, false) => false,
        };
        if is_stale {
            return Err(Code::StaleLease);
        }
        if is_leased && names_it && task.state == State::Leased {
            self.becomes(id, State::Started);
            self.task(id).attempts += 1;
        }
        if !is_end {
            let now = self.now;
            if self.tasks[&id].progress != Some(put.says) {
                self.forget_submit_time(id);
                let task = self.task(id);
                task.progress = Some(put.says);
                task.stored = Some(task.state);
                // The store gets the time of the next attempt again, on the present wall clock.
                if let (State::Retry, Some(at)) = (task.state, task.due_mono) {
                    task.due = now.wall + (at as i64 - now.mono as i64);
                }
            }
            return Ok((self.tasks[&id].state, task.generation));
        }
        let state = match state_of(put.says) {
            State::Failure if task.cancelled => State::Revoked,
            state => state,
        };
        self.task(id).result_ttl_ms = put.result_ttl_ms;
        self.becomes(id, state);
        Ok((state, task.generation))
    }

    /// An ended task that never ran takes the place of what was there.
    fn make_put_task(&mut self, id: u8, put: Put, generation: u32, slot: u32) -> (State, u32) {
        let (state, ttl_ms) = (state_of(put.says), put.result_ttl_ms.unwrap_or(DAY_MS));
        self.remove(id);
        if ttl_ms > 0 {
            // Nobody submitted the task, and it did not end: the counters have nothing of it.
            let counters = self.counters.clone();
            self.create(id, nothing_to_run(ttl_ms), slot, generation);
            let task = self.task(id);
            task.lease = put.lease;
            task.is_put_progress = matches!(put.says, Says::Retry | Says::Progress);
            self.becomes(id, state);
            self.counters = counters;
        }
        (state, generation)
    }
}

fn state_of(says: Says) -> State {
    match says {
        Says::Success | Says::Retry | Says::Progress => State::Success,
        Says::Failure => State::Failure,
        Says::Revoked => State::Revoked,
    }
}

fn nothing_to_run(ttl_ms: u64) -> Submit {
    Submit {
        queue: PUT_QUEUE,
        name: 0,
        priority: 4,
        eta: None,
        expires: None,
        ttl_ms,
        attempts_max: 1,
        max_deliveries: 1,
        conflict: OnConflict::Reject,
        key: None,
        lead_ms: 0,
        forget_at_end: false,
        tagged: false,
    }
}
