//! Delivery of tasks to workers. A queue with ready tasks gives them to workers that have credit,
//! know the task's name and serve the queue. Idle workers, which hold fewer tasks than their
//! concurrency, come before workers that could not begin the task at once.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use celeriac_record::{Cancel, Slot};

use crate::Machine;
use crate::command::{ConnectionKey, DeliveryOutline, Message};
use crate::keys::{QueueKey, SessionKey};
use crate::slice::CHANGE;
use crate::step::Step;

/// The bound of one tick, in looks at a slot: some milliseconds of work. The next tick follows at
/// once with the rest.
const TICK: u32 = 400_000;

impl Machine {
    /// Delivers the ready tasks that a worker can take. Each worker gets all its tasks of one tick
    /// in one message.
    pub(crate) fn dispatch(&mut self, step: &mut Step<'_>) {
        let from = self.dispatch_from.take().unwrap_or_default();
        if self.drain || self.sessions.hungry == 0 || self.queues.ready.is_empty() {
            return;
        }
        let mut outgoing: BTreeMap<ConnectionKey, Vec<DeliveryOutline>> = BTreeMap::new();
        let ready = &self.queues.ready;
        let queues: Vec<QueueKey> =
            ready.range(from..).chain(ready.range(..from)).copied().collect();
        let mut looks = TICK;
        for queue in queues {
            self.dispatch_queue(step, queue, &mut looks, &mut outgoing);
            if looks == 0 {
                // The next tick begins with the next queue, so that no queue waits for ever.
                self.dispatch_from = Some(queue + 1);
                break;
            }
        }
        for (connection, deliveries) in outgoing {
            step.send(connection, Message::Deliver(deliveries));
        }
    }

    fn dispatch_queue(
        &mut self,
        step: &mut Step<'_>,
        queue: QueueKey,
        looks: &mut u32,
        outgoing: &mut BTreeMap<ConnectionKey, Vec<DeliveryOutline>>,
    ) {
        let mut unable: Vec<SessionKey> = Vec::new();
        while *looks > 0 && self.queues.ready.contains(&queue) {
            let Some(taker) = self.next_taker(queue, &unable) else { return };
            self.queues.queue_mut(queue).turn = taker;
            if self.begins_to_drain(queue, taker) {
                continue;
            }
            // This check is cheap. `choose_queue` below is slow for a worker of very many queues.
            let session = self.sessions.session(taker);
            if !self
                .queues
                .queue(queue)
                .has_for(session.consumer.leases.is_empty(), |name| session.consumer.can_run(name))
            {
                unable.push(taker);
                continue;
            }
            let from = self.choose_queue(taker, queue);
            let taken = self
                .take_from(from, taker, looks)
                .or_else(|| (from != queue).then(|| self.take_from(queue, taker, looks))?);
            let Some(slot) = taken else {
                unable.push(taker);
                continue;
            };
            *looks = looks.saturating_sub(CHANGE);
            if self.ends_expired(step, slot) {
                continue;
            }
            self.grant_lease(step, slot, taker);
            let connection =
                self.sessions.session(taker).connection.expect("only a connected worker is hungry");
            outgoing.entry(connection).or_default().push(self.delivery(slot));
        }
    }

    /// The next worker in turn. Idle workers come first.
    fn next_taker(&self, queue: QueueKey, unable: &[SessionKey]) -> Option<SessionKey> {
        let queue = self.queues.queue(queue);
        next_in_turn(&queue.idle, queue.turn, unable)
            .or_else(|| next_in_turn(&queue.hungry, queue.turn, unable))
    }

    /// The queue that a worker serves next: by weight, in turn.
    fn choose_queue(&mut self, taker: SessionKey, offered: QueueKey) -> QueueKey {
        let session = self.sessions.session_mut(taker);
        if let Some(queue) = session.consumer.drains {
            // The worker took no tasks from other queues so that it can serve this queue.
            return queue;
        }
        let worker = session.consumer.worker.as_mut().expect("only workers take tasks");
        if worker.queues.len() == 1 {
            return offered;
        }
        let mut total = 0;
        let mut best: Option<(i64, usize)> = None;
        for (index, subscription) in worker.queues.iter_mut().enumerate() {
            if self.queues.ready.contains(&subscription.queue) {
                subscription.owed += subscription.weight;
                total += subscription.weight;
                if best.is_none_or(|(owed, _)| subscription.owed > owed) {
                    best = Some((subscription.owed, index));
                }
            }
        }
        let Some((_, index)) = best else { return offered };
        worker.queues[index].owed -= total;
        worker.queues[index].queue
    }

    fn take_from(&mut self, queue: QueueKey, taker: SessionKey, looks: &mut u32) -> Option<Slot> {
        let session = self.sessions.session(taker);
        self.queues.queue_mut(queue).pop(
            |slot| self.tasks.queued_order(slot),
            session.consumer.leases.is_empty(),
            |name| session.consumer.can_run(name),
            looks,
        )
    }

    /// The message to a worker about a task that it holds.
    pub(crate) fn delivery(&self, slot: Slot) -> DeliveryOutline {
        let task = self.tasks.task(slot);
        let deliveries = self.tasks.run(task).map_or(0, |run| run.deliveries);
        let attempt = self.tasks.attempts(task).saturating_add(1);
        let plan = self.tasks.plan(task);
        let (alone, silent, redelivered) = self
            .tasks
            .run(task)
            .map_or((false, 0, false), |run| (run.alone, run.silent, run.redelivered));
        let deliveries_max = self.deliveries_max(task);
        let is_last = attempt.saturating_add(silent) >= self.retry_policy(task).attempts_max
            || deliveries.saturating_add(silent) >= deliveries_max;
        // If the worker is lost, such a task may begin again only if it is certain that it did not
        // begin.
        let report_start = alone || is_last || plan.is_some_and(|plan| plan.early_ack);
        let called_off = self.tasks.run(task).filter(|run| run.cancel_as == Cancel::CalledOff);
        let revoked_reason = called_off.and_then(|run| run.cancel.clone());
        DeliveryOutline {
            slot,
            lease: task.lease(),
            attempt,
            deliveries,
            report_start,
            redelivered,
            revoked_reason,
        }
    }
}

/// The first member after `turn`. After the last member the search continues with the first.
fn next_in_turn(
    set: &BTreeSet<SessionKey>,
    turn: SessionKey,
    unable: &[SessionKey],
) -> Option<SessionKey> {
    let after = set.range((Bound::Excluded(turn), Bound::Unbounded));
    let before = set.range(..=turn);
    after.chain(before).find(|key| !unable.contains(key)).copied()
}
