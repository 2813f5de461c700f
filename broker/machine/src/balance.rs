//! Fairness after the fact: a task that waits behind others in one worker is taken back for a
//! worker with a free hand.

use std::collections::BTreeMap;

use celeriac_record::{Slot, State};

use super::command::{Monotonic, Now, SignalKind};
use super::sessions::SessionKey;
use super::timers::MonoTimer;
use super::{Effects, Machine};

/// An unstarted lease is left alone for this long: a worker of short tasks is about to begin it.
const HELD_MS: u64 = 100;

impl Machine {
    /// Looks at the balance some time after a worker was given more than it can run at once.
    pub(super) fn arm_balance(&mut self, now: Now, holder: SessionKey) {
        let session = self.sessions.session(holder);
        let concurrency =
            session.worker.as_ref().map_or(0, |worker| worker.info.concurrency as usize);
        if session.leases.len() > concurrency && self.balance_at.is_none() {
            self.set_balance_timer(now.mono + HELD_MS);
        }
    }

    fn set_balance_timer(&mut self, at: Monotonic) {
        self.balance_at = Some(at);
        self.timers.set_mono(at, MonoTimer::Balance);
    }

    /// Takes back what idle workers could run now. Looks again as long as some worker holds more
    /// than it runs.
    pub(super) fn balance_timer(&mut self, now: Now, fx: &mut Effects) {
        self.balance_at = None;
        let crowded: Vec<(SessionKey, usize)> = self.crowded().collect();
        if crowded.is_empty() {
            return;
        }
        // What has been promised to each idle worker in this round.
        let mut promised: BTreeMap<SessionKey, usize> = BTreeMap::new();
        for (holder, surplus) in crowded {
            for slot in self.unstarted(now, holder, surplus) {
                if self.promise(slot, &mut promised) {
                    self.signal(slot, SignalKind::TakenBack, "another worker is idle", fx);
                    self.take_back(now, slot, fx);
                }
            }
        }
        self.set_balance_timer(now.mono + HELD_MS);
    }

    /// Connected workers that hold more leases than they can run at once, and how many more.
    fn crowded(&self) -> impl Iterator<Item = (SessionKey, usize)> {
        self.sessions.all.iter().filter_map(|(key, session)| {
            session.connection?;
            let concurrency = session.worker.as_ref()?.info.concurrency as usize;
            let surplus = session.leases.len().saturating_sub(concurrency);
            (surplus > 0).then_some((*key, surplus))
        })
    }

    /// The leases that a worker is least likely to begin soon: the latest of those it has had for a
    /// while.
    fn unstarted(&self, now: Now, holder: SessionKey, most: usize) -> Vec<Slot> {
        let leases = self.sessions.session(holder).leases.iter().copied();
        let mut slots: Vec<Slot> =
            leases.filter(|slot| self.is_held_unstarted(now, *slot)).collect();
        slots.sort_unstable_by_key(|slot| std::cmp::Reverse(self.tasks.task(*slot).lease()));
        slots.truncate(most);
        slots
    }

    fn is_held_unstarted(&self, now: Now, slot: Slot) -> bool {
        let task = self.tasks.task(slot);
        let leased_at = self.tasks.run(task).and_then(|run| run.leased_at).unwrap_or(now.wall);
        task.state == State::Leased && now.wall.abs_diff(leased_at) >= HELD_MS
    }

    /// Finds an idle worker for a task, and counts on it.
    fn promise(&self, slot: Slot, promised: &mut BTreeMap<SessionKey, usize>) -> bool {
        let task = self.tasks.task(slot);
        let queue = self.queues.queue(task.queue());
        if queue.record.paused || queue.ready > 0 {
            return false;
        }
        for key in &queue.idle {
            let session = self.sessions.session(*key);
            let concurrency =
                session.worker.as_ref().map_or(0, |worker| worker.info.concurrency as usize);
            let room =
                concurrency.min(session.credit as usize).saturating_sub(session.leases.len());
            let taken = promised.entry(*key).or_default();
            if *taken < room && session.can_run(task.name) {
                *taken += 1;
                return true;
            }
        }
        false
    }
}
