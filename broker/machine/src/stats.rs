//! The figures for monitors. They are copies: no request of a monitor looks at the tasks of a
//! queue, and so it costs the same for ten tasks and for ten million.

use celeriac_proto::QueueName;

use crate::Machine;
use crate::command::{BrokerStats, Outlines, QueueStats, Stats};
use crate::keys::{NameKey, QueueKey};
use crate::queue::Queue;
use crate::session::Session;
use crate::step::{Asker, Step};

/// The most queues of one page, and the looks at workers with a free handler after which a page
/// ends: some milliseconds of work.
const QUEUES_PER_PAGE: usize = 2_500;
const LOOKS_PER_PAGE: usize = 25_000;

/// The looks that the names of one queue take at its workers: some milliseconds of work. Names
/// behind them count as known.
const NAME_LOOKS: usize = 100_000;

/// The looks that a page takes at tasks that have left the lines of its queues.
const OLDEST_LOOKS: u32 = 25_000;

impl Machine {
    /// One page of the named queues that exist, or of all of them, in the order of their names.
    pub(crate) fn stats(
        &mut self,
        step: &mut Step<'_>,
        asker: Asker,
        mut names: Vec<QueueName>,
        after: Option<QueueName>,
    ) {
        names.sort_unstable();
        names.dedup();
        let scope = step.scope.clone();
        let is_seen = |key: &QueueKey| {
            let name = &self.queues.queue(*key).record.name;
            scope.as_ref().is_none_or(|scope| scope.queues.allow(name))
        };
        let mut keys: Vec<QueueKey> = if names.is_empty() {
            let later = self.queues.listed_after(after.as_ref());
            later.filter(is_seen).take(QUEUES_PER_PAGE + 1).collect()
        } else {
            let later = names.iter().filter(|name| after.as_ref().is_none_or(|from| *name > from));
            let found = later.filter_map(|name| self.queues.find(name));
            let listed = found.filter(|key| self.queues.is_listed(*key));
            listed.filter(is_seen).take(QUEUES_PER_PAGE + 1).collect()
        };
        let mut is_cut = keys.len() > QUEUES_PER_PAGE;
        keys.truncate(QUEUES_PER_PAGE);
        let (mut looks, mut oldest_looks) = (0, OLDEST_LOOKS);
        let mut queues = Vec::with_capacity(keys.len());
        for key in keys {
            if looks > LOOKS_PER_PAGE {
                is_cut = true;
                break;
            }
            queues.push(self.queue_stats(step, key, &mut looks, &mut oldest_looks));
        }
        let next = queues.last().filter(|_| is_cut).map(|queue: &QueueStats| queue.name.clone());
        let is_of_broker = after.is_none() && step.scope.is_none();
        let broker = is_of_broker.then(|| self.broker_stats(step));
        let wall = step.now.wall;
        step.show(asker, Outlines::Stats(Box::new(Stats { wall, broker, queues, next })));
    }

    /// Adds the looks at workers to `looks`.
    fn queue_stats(
        &mut self,
        step: &Step<'_>,
        key: QueueKey,
        looks: &mut usize,
        oldest_looks: &mut u32,
    ) -> QueueStats {
        let order_of = |slot| self.tasks.queued_order(slot);
        let oldest = self.queues.queue_mut(key).oldest(order_of, oldest_looks);
        let ready_for_ms = oldest.map(|slot| self.ready_for_ms(step, slot));
        let queue = self.queues.queue(key);
        let free = |session: &Session| {
            let consumer = &session.consumer;
            u64::from(consumer.concurrency).saturating_sub(consumer.leases.len() as u64)
        };
        let slots_free = queue.idle.iter().map(|key| free(self.sessions.session(*key))).sum();
        let paused = queue.record.paused;
        *looks += queue.idle.len();
        let waiting_no_worker = if paused { 0 } else { self.unserved(queue, looks) };
        QueueStats {
            name: queue.record.name.clone(),
            paused,
            scheduled: queue.scheduled,
            ready: queue.ready,
            leased: queue.leased,
            started: queue.started,
            dead: queue.dead,
            oldest_ready_at: ready_for_ms.map(|span| step.now.wall.saturating_sub_unsigned(span)),
            bytes: queue.bytes,
            workers: queue.workers,
            slots_busy: queue.slots.saturating_sub(slots_free),
            slots_free,
            waiting_paused: if paused { queue.ready } else { 0 },
            waiting_no_worker,
            counters: queue.counters.clone(),
        }
    }

    /// The ready tasks whose names no worker of the queue knows that takes tasks.
    fn unserved(&self, queue: &Queue, looks: &mut usize) -> u64 {
        let most = *looks + NAME_LOOKS;
        let mut is_unknown = |name: NameKey| {
            // A worker that is hungry takes tasks, so the search is rarely a long one.
            let mut servers = queue.hungry.iter().chain(&queue.servers);
            let is_known = servers.any(|key| {
                *looks += 1;
                let session = self.sessions.session(*key);
                let takes = session.connection.is_some() && !session.is_quiet();
                *looks > most || takes && session.consumer.can_run(name)
            });
            !is_known
        };
        let names = queue.ready_names.iter().filter(|(name, _)| is_unknown(*name));
        names.map(|(_, count)| count).sum()
    }

    fn broker_stats(&self, step: &Step<'_>) -> BrokerStats {
        let uptime_ms = step.now.mono.saturating_sub(self.began);
        BrokerStats {
            uptime_ms,
            started_at: step.now.wall.saturating_sub_unsigned(uptime_ms),
            connections: self.sessions.connected() as u32,
            workers: self.sessions.workers as u32,
            workers_lost: self.sessions.lost() as u32,
            mailboxes: self.mailboxes.len() as u32,
            tasks: self.tasks() as u64,
            draining: self.drain,
            removed: self.queues.removed().clone(),
        }
    }
}
