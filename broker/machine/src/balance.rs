//! Balance between workers: a task that waits behind other tasks of its worker is taken back for an
//! idle worker.

use std::collections::BTreeMap;

use celeriac_record::{Slot, State};

use crate::Machine;
use crate::command::{Monotonic, Now, SignalKind};
use crate::keys::SessionKey;
use crate::step::Step;
use crate::timers::MonoTimer;

/// The balance does not take back an unstarted lease for this time: a worker of short tasks will
/// begin it soon.
const HELD_MS: u64 = 100;

impl Machine {
    /// Sets the timer of the balance if a worker holds more tasks than it can run at once.
    pub(crate) fn arm_balance(&mut self, now: Now, holder: SessionKey) {
        let consumer = self.sessions.consumer(holder);
        let is_crowded = consumer.leases.len() > consumer.connected_concurrency();
        if is_crowded && self.balance_at.is_none() {
            self.set_balance_timer(now.mono + HELD_MS);
        }
    }

    fn set_balance_timer(&mut self, at: Monotonic) {
        self.balance_at = Some(at);
        self.timers.set_mono(at, MonoTimer::Balance);
    }

    /// Takes back tasks that idle workers could run now. The timer is set again as long as a worker
    /// holds more tasks than it can run at once.
    pub(crate) fn balance_timer(&mut self, step: &mut Step<'_>) {
        self.balance_at = None;
        let crowded: Vec<(SessionKey, usize)> = self.crowded().collect();
        if crowded.is_empty() {
            return;
        }
        // The number of tasks promised to each idle worker in this round.
        let mut promised: BTreeMap<SessionKey, usize> = BTreeMap::new();
        for (holder, surplus) in crowded {
            for slot in self.unstarted(step.now, holder, surplus) {
                if self.promise(slot, &mut promised) {
                    self.signal(step, slot, SignalKind::TakenBack, "another worker is idle");
                    self.take_back(step, slot);
                }
            }
        }
        self.set_balance_timer(step.now.mono + HELD_MS);
    }

    /// Connected workers that hold more leases than they can run at once, with the number of leases
    /// beyond that.
    fn crowded(&self) -> impl Iterator<Item = (SessionKey, usize)> {
        self.sessions.all.iter().filter_map(|(key, session)| {
            session.connection?;
            let consumer = &session.consumer;
            consumer.worker.as_ref().filter(|worker| !worker.info.keeps_leases)?;
            let surplus = consumer.leases.len().saturating_sub(consumer.connected_concurrency());
            (surplus > 0).then_some((*key, surplus))
        })
    }

    /// The leases that the worker will probably begin last: the latest of the leases that are older
    /// than `HELD_MS`.
    fn unstarted(&self, now: Now, holder: SessionKey, most: usize) -> Vec<Slot> {
        let leases = self.sessions.consumer(holder).leases.iter().copied();
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

    /// Finds an idle worker for a task, and promises the task to it.
    fn promise(&self, slot: Slot, promised: &mut BTreeMap<SessionKey, usize>) -> bool {
        let task = self.tasks.task(slot);
        let queue = self.queues.queue(task.queue());
        if queue.record.paused || queue.ready > 0 {
            return false;
        }
        for key in &queue.idle {
            let consumer = self.sessions.consumer(*key);
            let free = consumer.connected_concurrency().saturating_sub(consumer.leases.len());
            let room = free.min(consumer.credit_left());
            let taken = promised.entry(*key).or_default();
            if *taken < room && consumer.can_run(task.name) {
                *taken += 1;
                return true;
            }
        }
        false
    }
}
