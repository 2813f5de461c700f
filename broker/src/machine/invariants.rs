//! What must hold between any two commands. Checked by the tests and the simulation after every step.

#![cfg(any(test, feature = "internals"))]

use super::Machine;
use crate::record::State;

impl Machine {
    /// # Panics
    /// When the books do not agree with each other.
    pub(crate) fn check_invariants(&self) {
        let mut leased = 0;
        let mut counts = vec![[0_u64; 5]; self.queues.len()];
        for slot in 0..self.tasks.slots() {
            let Some(task) = self.tasks.try_task(slot) else { continue };
            let found = self.tasks.find(&self.tasks.id(task));
            let present = self.successors.present_of(slot);
            assert_eq!(
                found,
                present.or(Some(slot)),
                "every task is found by its id, but for one that waits for another"
            );
            assert!(present.is_none_or(|present| self.successors.of(present) == Some(slot)));
            let count = &mut counts[task.queue() as usize];
            match task.state {
                State::Queued => count[0] += 1,
                State::Scheduled | State::Retry => count[1] += 1,
                State::Leased | State::Started => count[2] += 1,
                State::Failure => count[3] += 1,
                State::Success | State::Revoked => {}
            }
            if !task.state.is_terminal() {
                count[4] += task.payload_bytes();
            }
            let run = self.tasks.run(task);
            assert_eq!(task.is_leased(), run.is_some_and(|run| run.holder.is_some()), "a lease has a holder");
            if let Some((run, holder)) = run.and_then(|run| Some((run, run.holder?))) {
                leased += 1;
                assert_eq!(self.sessions.session(holder).leases[run.place], slot, "the holder knows its lease");
            }
            assert!(!task.state.is_terminal() || run.is_none(), "an ended task runs no more");
            assert!(task.lease() <= self.latest_lease && task.serial() <= self.latest_serial);
        }
        let held: usize = self.sessions.all.values().map(|session| session.leases.len()).sum();
        assert_eq!(leased, held, "every lease is some task's");
        let hungry = self.sessions.all.values().filter(|session| session.hungry).count();
        assert_eq!(hungry, self.sessions.hungry);
        for (key, count) in counts.iter().enumerate() {
            let queue = self.queues.queue(key as u32);
            let books = [queue.ready, queue.scheduled, queue.leased, queue.dead, queue.bytes];
            assert_eq!(&books, count, "the counters of queue {}", queue.record.name);
            assert_eq!(self.queues.ready.contains(&(key as u32)), queue.ready > 0 && !queue.record.paused);
        }
    }
}
