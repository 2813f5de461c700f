//! Suspects: tasks that may be killing their workers. One of them takes whatever else its worker
//! runs with it, again and again; so it is given out alone, to a worker that holds nothing else,
//! until it ends in one way or another.
//!
//! A task is a suspect when workers were lost twice while it ran or may have run, or once if it has
//! but one attempt left. A first loss proves little: workers are killed for many reasons, and what
//! ran on one of a hundred slots would else wait for a hundred others.

use celeriac_record::{Slot, State};

use super::Machine;
use super::queue::QueueKey;
use super::sessions::SessionKey;

/// So many lost workers make a task a suspect.
const LOSSES: u32 = 2;

impl Machine {
    /// Whether a task is a suspect that waits, or was given out and has not begun.
    pub(super) fn is_suspect(&self, slot: Slot) -> bool {
        self.was_suspect(slot, false)
    }

    /// Whether a task was a suspect when it was given out. Its present attempt counts only once it
    /// has started.
    pub(super) fn was_suspect(&self, slot: Slot, started: bool) -> bool {
        let task = self.tasks.task(slot);
        let Some(run) = self.tasks.run(task).filter(|run| run.losses > 0) else { return false };
        let starts = run.attempts.saturating_add(run.silent).saturating_add(u32::from(!started));
        run.losses >= LOSSES || starts >= self.retry_policy(task).attempts_max
    }

    /// Raises the suspicion against what a lost worker ran, and against what it may have begun
    /// without being heard: the first of what it held, for as many slots as it had left.
    pub(super) fn suspect_leases(&mut self, key: SessionKey) {
        let session = self.sessions.session(key);
        let mut slots = session.leases.clone();
        slots.sort_unstable_by_key(|slot| self.tasks.task(*slot).lease());
        let (started, unstarted): (Vec<Slot>, Vec<Slot>) =
            slots.into_iter().partition(|slot| self.tasks.task(*slot).state == State::Started);
        let free = (session.concurrency as usize).saturating_sub(started.len());
        for slot in started.iter().chain(unstarted.iter().take(free)) {
            let is_started = self.tasks.task(*slot).state == State::Started;
            let run = self.tasks.run_mut(*slot).expect("a leased task has a run");
            run.losses = run.losses.saturating_add(1);
            run.silent = run.silent.saturating_add(u32::from(!is_started));
        }
    }

    /// Keeps count of the suspects that wait in a queue.
    pub(super) fn count_suspect(&mut self, queue: QueueKey, waits: bool) {
        let books = self.queues.queue_mut(queue);
        books.suspects = if waits { books.suspects + 1 } else { books.suspects - 1 };
        // Fewer suspects need fewer workers.
        while self.queues.queue(queue).draining.len() as u64 > self.queues.queue(queue).suspects {
            let last = *self.queues.queue(queue).draining.last().expect("it is longer than 0");
            self.stop_draining(last);
        }
    }

    /// Whether a worker that could take more is to become free for a suspect instead, because it is
    /// the suspect's turn and nobody else is free for it.
    pub(super) fn begins_to_drain(&mut self, queue: QueueKey, taker: SessionKey) -> bool {
        if self.queues.queue(queue).suspects == 0 || self.sessions.session(taker).leases.is_empty()
        {
            return false;
        }
        // One that was cancelled in line is not to be waited for.
        self.queues.queue_mut(queue).drop_gone_suspects(&self.tasks);
        let (books, session) = (self.queues.queue(queue), self.sessions.session(taker));
        if !books.is_suspect_next(|name| session.can_run(name)) {
            return false;
        }
        let is_free = |key: &SessionKey| {
            let other = self.sessions.session(*key);
            other.leases.is_empty() && books.is_suspect_next(|name| other.can_run(name))
        };
        if books.draining.len() as u64 >= books.suspects || books.idle.iter().any(is_free) {
            return false;
        }
        self.queues.queue_mut(queue).draining.insert(taker);
        self.sessions.session_mut(taker).drains = Some(queue);
        self.note_hunger(taker);
        true
    }

    /// Nothing of this queue is handed out at present: nobody is to wait for it.
    pub(super) fn stop_draining_for(&mut self, queue: QueueKey) {
        while let Some(key) = self.queues.queue(queue).draining.first().copied() {
            self.stop_draining(key);
        }
    }

    /// The worker takes what comes, as before.
    pub(super) fn stop_draining(&mut self, key: SessionKey) {
        let Some(queue) = self.sessions.session_mut(key).drains.take() else { return };
        self.queues.queue_mut(queue).draining.remove(&key);
        self.note_hunger(key);
    }
}
