//! Suspects: tasks that may kill their workers. Such a task would end the other tasks of its worker
//! too, again and again. So the broker delivers a suspect only to a worker that holds no other
//! task, until the suspect ends.
//!
//! A task is a suspect when workers were lost twice while it ran or may have run, or once if the
//! task has only one attempt left. A first loss proves little: workers are killed for many reasons.
//! With a hundred tasks on one worker, one loss would otherwise make a hundred suspects, and each
//! of them must run alone.

use celeriac_record::{Slot, State};

use crate::Machine;
use crate::keys::{QueueKey, SessionKey};

/// A task is a suspect after this number of lost workers.
const LOSSES: u32 = 2;

impl Machine {
    /// Whether a task is a suspect. The task waits, or was delivered and has not begun.
    pub(crate) fn is_suspect(&self, slot: Slot) -> bool {
        self.was_suspect(slot, false)
    }

    /// Whether a task was a suspect when it was delivered. `started` says whether the attempts
    /// include its present attempt.
    pub(crate) fn was_suspect(&self, slot: Slot, started: bool) -> bool {
        let task = self.tasks.task(slot);
        let Some(run) = self.tasks.run(task).filter(|run| run.losses > 0) else { return false };
        let starts = run.attempts.saturating_add(run.silent).saturating_add(u32::from(!started));
        run.losses >= LOSSES || starts >= self.retry_policy(task).attempts_max
    }

    /// Counts the loss of a worker for the tasks that it ran, and for the tasks that it may have
    /// begun without a report: the first of its unstarted tasks, as many as its concurrency left
    /// room for.
    pub(crate) fn suspect_leases(&mut self, key: SessionKey) {
        let session = self.sessions.session(key);
        let mut slots = session.consumer.leases.clone();
        slots.sort_unstable_by_key(|slot| self.tasks.task(*slot).lease());
        let (started, unstarted): (Vec<Slot>, Vec<Slot>) =
            slots.into_iter().partition(|slot| self.tasks.task(*slot).state == State::Started);
        let free = (session.consumer.concurrency as usize).saturating_sub(started.len());
        for slot in started.iter().chain(unstarted.iter().take(free)) {
            let is_started = self.tasks.task(*slot).state == State::Started;
            let run = self.tasks.run_mut(*slot).expect("a leased task has a run");
            run.losses = run.losses.saturating_add(1);
            run.silent = run.silent.saturating_add(u32::from(!is_started));
        }
    }

    /// Updates the count of the suspects that wait in a queue.
    pub(crate) fn count_suspect(&mut self, queue: QueueKey, waits: bool) {
        let books = self.queues.queue_mut(queue);
        books.suspects = if waits { books.suspects + 1 } else { books.suspects - 1 };
        // Fewer suspects need fewer workers.
        while self.queues.queue(queue).draining.len() as u64 > self.queues.queue(queue).suspects {
            let last = *self.queues.queue(queue).draining.last().expect("the set is not empty");
            self.stop_draining(last);
        }
    }

    /// Whether a worker that could take more tasks begins to drain, so that it becomes free for a
    /// suspect: it is the suspect's turn, and no other worker is free for the suspect.
    pub(crate) fn begins_to_drain(&mut self, queue: QueueKey, taker: SessionKey) -> bool {
        if self.queues.queue(queue).suspects == 0 || self.sessions.consumer(taker).leases.is_empty()
        {
            return false;
        }
        // No worker must wait for a suspect that was cancelled in line.
        self.queues.queue_mut(queue).drop_gone_suspects(|slot| self.tasks.queued_order(slot));
        let (books, session) = (self.queues.queue(queue), self.sessions.session(taker));
        if !books.is_suspect_next(|name| session.consumer.can_run(name)) {
            return false;
        }
        let is_free = |key: &SessionKey| {
            let other = self.sessions.session(*key);
            other.consumer.leases.is_empty()
                && books.is_suspect_next(|name| other.consumer.can_run(name))
        };
        if books.draining.len() as u64 >= books.suspects || books.idle.iter().any(is_free) {
            return false;
        }
        self.queues.queue_mut(queue).draining.insert(taker);
        self.sessions.consumer_mut(taker).drains = Some(queue);
        self.note_hunger(taker);
        true
    }

    /// The queue delivers no tasks at present, so no worker must wait for its suspects.
    pub(crate) fn stop_draining_for(&mut self, queue: QueueKey) {
        while let Some(key) = self.queues.queue(queue).draining.first().copied() {
            self.stop_draining(key);
        }
    }

    /// The worker takes any task again.
    pub(crate) fn stop_draining(&mut self, key: SessionKey) {
        let Some(queue) = self.sessions.consumer_mut(key).drains.take() else { return };
        self.queues.queue_mut(queue).draining.remove(&key);
        self.note_hunger(key);
    }
}
