//! Invariants that must hold between any two commands. The tests and the simulation check them
//! after every step.

use std::collections::{BTreeMap, BTreeSet};

use celeriac_proto::QueueName;
use celeriac_record::{Cancel, Slot, State};

use crate::Machine;
use crate::exchange::Destination;
use crate::keys::{NameKey, QueueKey};
use crate::session::Session;
use crate::task::Run;

impl Machine {
    /// # Panics
    /// When the tables, counters and indexes of the machine do not agree with each other.
    pub fn check_invariants(&self) {
        let mut leased = 0;
        let mut counts: BTreeMap<QueueKey, [u64; 7]> = BTreeMap::new();
        for slot in 0..self.tasks.slots() {
            let Some(task) = self.tasks.try_task(slot) else { continue };
            let found = self.tasks.find(&self.tasks.id(task));
            let present = self.successors.present_of(slot);
            assert_eq!(
                found,
                present.or(Some(slot)),
                "the id finds every task except a successor that waits"
            );
            assert_eq!(
                self.tasks.find_leased(&self.tasks.id(task), task.lease()),
                found.filter(|_| task.lease() == 0).or(Some(slot)),
                "a lease leads to the same task as the id"
            );
            assert!(present.is_none_or(|present| self.successors.of(present) == Some(slot)));
            let count = counts.entry(task.queue()).or_default();
            count[6] += 1;
            match task.state {
                State::Queued => count[0] += 1,
                State::Scheduled | State::Retry => count[1] += 1,
                State::Leased => count[2] += 1,
                State::Started => count[3] += 1,
                State::Failure => count[4] += 1,
                State::Success | State::Revoked => {}
            }
            if !task.state.is_terminal() {
                count[5] += task.payload_bytes();
            }
            let run = self.tasks.run(task);
            assert_eq!(
                task.is_leased(),
                run.is_some_and(|run| run.holder.is_some()),
                "each lease has a holder"
            );
            if let Some((run, holder)) = run.and_then(|run| Some((run, run.holder?))) {
                leased += 1;
                assert_eq!(
                    self.sessions.consumer(holder).leases[run.place],
                    slot,
                    "the holder knows its lease"
                );
            }
            assert!(!task.state.is_terminal() || run.is_none(), "an ended task has no run");
            assert!(
                !task.is_waiting() || run.is_none_or(may_wait),
                "after a cancel a task waits only so that its end is announced"
            );
            assert!(
                task.state != State::Failure || self.ends.is_dead(task.queue(), slot),
                "each dead task has its place among them"
            );
            assert!(task.lease() <= self.latest_lease && task.serial() <= self.latest_serial);
        }
        let dead: u64 = counts.values().map(|count| count[4]).sum();
        assert_eq!(self.ends.dead() as u64, dead, "only dead tasks stand among them");
        self.check_sessions(leased);
        self.check_queues(&counts);
        self.check_names();
        self.check_mail();
        self.check_chords();
    }

    /// Compares the sessions with the tasks, of which `leased` are leased.
    fn check_sessions(&self, leased: usize) {
        let held: usize =
            self.sessions.all.values().map(|session| session.consumer.leases.len()).sum();
        assert_eq!(leased, held, "every lease is some task's");
        for session in self.sessions.all.values() {
            let consumer = &session.consumer;
            let is_outside = |slot: &&Slot| {
                self.tasks.run(self.tasks.task(**slot)).is_some_and(|run| run.outside_credit)
            };
            let outside = consumer.leases.iter().filter(is_outside).count();
            assert_eq!(outside, consumer.outside_credit);
        }
        let is_present =
            |session: &&Session| session.connection.is_some() && session.consumer.worker.is_some();
        let present = self.sessions.all.values().filter(is_present).count();
        assert_eq!(present, self.sessions.workers);
        let hungry = self.sessions.all.values().filter(|session| session.consumer.hungry).count();
        assert_eq!(hungry, self.sessions.hungry);
        for (key, session) in &self.sessions.all {
            assert_eq!(
                self.observers.ids_of(*key),
                (session.observed.waited_ids, session.observed.watched_ids),
                "the session counts its observed ids"
            );
        }
    }

    fn check_names(&self) {
        let mut names: BTreeMap<(QueueKey, NameKey), u64> = BTreeMap::new();
        let tasks = (0..self.tasks.slots()).filter_map(|slot| self.tasks.try_task(slot));
        for task in tasks.filter(|task| task.state == State::Queued) {
            *names.entry((task.queue(), task.name)).or_default() += 1;
        }
        let said = self.queues.all().0.flat_map(|(key, queue)| {
            queue.ready_names.iter().map(move |(name, count)| ((key, name), count))
        });
        assert_eq!(names, said.collect(), "the ready tasks of each name");
    }

    fn check_mail(&self) {
        self.mailboxes.check(|connection| self.sessions.of(connection).is_some());
        self.exchanges.check(|to| match to {
            Destination::Mailbox(key) => self.mailboxes.exists(*key),
            Destination::Queue(_) => true,
        });
    }

    fn check_chords(&self) {
        assert!(self.chords.is_consistent(), "the tables of chords agree");
        for key in self.chords.keys() {
            for slot in self.chords.chord(key).slots() {
                let task = self.tasks.task(slot);
                assert!(task.state.is_terminal() && self.is_below_chord(task));
            }
        }
    }

    fn check_queues(&self, counts: &BTreeMap<QueueKey, [u64; 7]>) {
        let (mut known, mut in_use) = (BTreeSet::new(), 0);
        let may_keep = self.sessions.all.values().any(|session| session.consumer.keeps_leases);
        let (queues, said_in_use) = self.queues.all();
        for (key, queue) in queues {
            known.insert(key);
            let books = [
                queue.ready,
                queue.scheduled,
                queue.leased,
                queue.started,
                queue.dead,
                queue.bytes,
                queue.tasks,
            ];
            assert_eq!(
                books,
                counts.get(&key).copied().unwrap_or_default(),
                "the counters of {}",
                queue.record.name
            );
            assert_eq!(self.queues.ready.contains(&key), queue.is_servable());
            assert_eq!(queue.counted, queue.is_in_use(), "whether {} is in use", queue.record.name);
            let is_default = queue.record.name == QueueName::default();
            assert!(
                is_default || queue.counted || queue.tasks > 0,
                "nothing needs {}",
                queue.record.name
            );
            assert!(
                !queue.record.paused || !self.scans.is_empty() || queue.leased == 0 || may_keep,
                "a paused queue holds no lease of a worker that gives leases back"
            );
            in_use += usize::from(queue.counted && !is_default);
            let servers = queue.servers.iter().map(|server| self.sessions.session(*server));
            let connected = servers.filter(|session| session.connection.is_some());
            let (workers, slots) = connected.fold((0, 0), |(workers, slots), session| {
                (workers + 1, slots + u64::from(session.consumer.concurrency))
            });
            assert_eq!((workers, slots), (queue.workers, queue.slots), "the connected workers");
            for server in &queue.servers {
                assert!(
                    self.sessions.all.contains_key(server),
                    "each worker of a queue has a session"
                );
            }
        }
        assert_eq!(in_use, said_in_use);
        assert!(counts.keys().all(|key| known.contains(key)), "the queue of each task exists");
    }
}

/// Whether the task of this run may wait for a worker.
fn may_wait(run: &Run) -> bool {
    run.cancel.is_none() || run.cancel_as == Cancel::CalledOff
}
