//! What has happened in each queue, in the reference: numbers and lists of spans.

use celeriac_record::State;

use super::Reference;

#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Counters {
    pub submitted: u64,
    pub succeeded: u64,
    pub failed: u64,
    pub revoked: u64,
    pub retried: u64,
    pub deliveries: u64,
    pub worker_lost: u64,
    pub released: u64,
    pub taken_back: u64,
    pub waits: Vec<u64>,
    pub runs: Vec<u64>,
}

/// Why a task goes back to its queue.
#[derive(Debug, Clone, Copy)]
pub(super) enum Back {
    Lost,
    Released,
    Taken,
}

/// What a queue has now.
#[derive(Debug, PartialEq)]
pub(crate) struct Present {
    pub leased: u64,
    pub started: u64,
    pub oldest_ready_at: Option<i64>,
    pub workers: u32,
    pub waiting_paused: u64,
    pub waiting_no_worker: u64,
}

impl Reference {
    pub(super) fn counters_of(&mut self, id: u8) -> &mut Counters {
        let queue = self.tasks[&id].submit.queue;
        self.counters.entry(queue).or_default()
    }

    /// Counts what a task becomes. The caller changes the state afterwards.
    pub(super) fn count(&mut self, id: u8, state: State) {
        let steady = self.steady + self.now.mono as i64;
        let (was, began) = (self.tasks[&id].state, self.tasks[&id].began);
        let counters = self.counters_of(id);
        match state {
            State::Success => counters.succeeded += 1,
            State::Failure => counters.failed += 1,
            State::Revoked => counters.revoked += 1,
            State::Retry => counters.retried += 1,
            State::Leased => counters.deliveries += 1,
            State::Queued | State::Scheduled | State::Started => {}
        }
        if was == State::Started && state != State::Queued {
            counters.runs.push((steady - began).max(0) as u64);
        }
        self.forget_submit_time(id);
        let wall = self.now.wall;
        let task = self.task(id);
        match state {
            State::Started => (task.began, task.began_at) = (steady, wall),
            State::Leased => task.is_ready_anew = false,
            _ => {}
        }
    }

    pub(super) fn count_back(&mut self, id: u8, back: Back) {
        let counters = self.counters_of(id);
        match back {
            Back::Lost => counters.worker_lost += 1,
            Back::Released => counters.released += 1,
            Back::Taken => counters.taken_back += 1,
        }
    }

    /// A worker gets the task, which has waited since it became ready.
    pub(super) fn count_wait(&mut self, id: u8) {
        if self.tasks[&id].is_ready_anew {
            let waited = self.waited(id);
            self.counters_of(id).waits.push(waited);
        }
    }

    fn waited(&self, id: u8) -> u64 {
        (self.now.mono as i64 - self.tasks[&id].ready).max(0) as u64
    }

    /// A task that changes after a restart counts as ready since the restart.
    pub(super) fn forget_submit_time(&mut self, id: u8) {
        let started = self.started;
        let task = self.task(id);
        if std::mem::take(&mut task.is_as_submitted) {
            task.ready = started;
        }
    }

    /// After a restart the broker knows when a task was submitted, and of no later change.
    pub(super) fn ready_after_restart(&self, id: u8) -> i64 {
        let task = &self.tasks[&id];
        match task.stored {
            None => task.submitted_at - self.steady,
            Some(_) => self.now.mono as i64,
        }
    }

    pub(super) fn restart_counters(&mut self) {
        (self.counters, self.removed) = Default::default();
        self.started = self.now.mono as i64;
        for task in self.tasks.values_mut() {
            task.began = task.began_at;
        }
    }

    /// The queue is deleted, or no listing shows it any more.
    pub fn remove_counters(&mut self, queue: u8) {
        if let Some(counters) = self.counters.remove(&queue) {
            self.removed.add(&counters);
        }
    }

    /// The counters of a queue that listings show.
    pub fn counters(&self, queue: u8) -> Counters {
        self.counters.get(&queue).cloned().unwrap_or_default()
    }

    pub fn forget_queues(&mut self) {
        let queues: Vec<u8> = self.counters.keys().copied().collect();
        for queue in queues {
            if !self.is_listed(queue) {
                self.remove_counters(queue);
            }
        }
    }

    /// READY, SCHEDULED, LEASED and dead tasks of a queue.
    pub fn counts(&self, queue: u8) -> [u64; 4] {
        use State::*;
        let count = |states: &[State]| {
            self.ids(|task| task.submit.queue == queue && states.contains(&task.state)).len()
        };
        [count(&[Queued]), count(&[Scheduled, Retry]), count(&[Leased, Started]), count(&[Failure])]
            .map(|n| n as u64)
    }

    pub fn present(&self, queue: u8) -> Present {
        let count = |state: State| {
            self.ids(|task| task.submit.queue == queue && task.state == state).len() as u64
        };
        let ready = self.line.iter().filter(|id| self.tasks[*id].submit.queue == queue);
        let oldest = ready.min_by_key(|id| self.tasks[*id].order);
        let serves =
            |session: &&super::Session| session.is_connected && session.queues.contains(&queue);
        let workers = self.sessions.values().filter(serves).count() as u32;
        let knows = |name: &u8| {
            let mut servers = self.sessions.values().filter(serves);
            servers.any(|session| session.names.contains(name))
        };
        let unserved = self.ids(|task| {
            let submit = &task.submit;
            submit.queue == queue && task.state == State::Queued && !knows(&submit.name)
        });
        let unserved = unserved.len() as u64;
        let (paused, ready) = (self.paused.contains(&queue), count(State::Queued));
        Present {
            leased: count(State::Leased),
            started: count(State::Started),
            oldest_ready_at: oldest.map(|id| self.now.wall - self.waited(*id) as i64),
            workers,
            waiting_paused: if paused { ready } else { 0 },
            waiting_no_worker: if paused { 0 } else { unserved },
        }
    }
}

impl Counters {
    fn add(&mut self, other: &Counters) {
        self.submitted += other.submitted;
        self.succeeded += other.succeeded;
        self.failed += other.failed;
        self.revoked += other.revoked;
        self.retried += other.retried;
        self.deliveries += other.deliveries;
        self.worker_lost += other.worker_lost;
        self.released += other.released;
        self.taken_back += other.taken_back;
        self.waits.extend(&other.waits);
        self.runs.extend(&other.runs);
    }
}
