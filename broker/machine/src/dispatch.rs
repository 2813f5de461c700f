//! Who gets which task: queues with ready tasks are matched with workers that have credit, know the
//! task's name and serve the queue; workers with a free hand come before those that would only hold
//! it.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use celeriac_record::Slot;

use super::command::{ConnectionKey, Delivery, Message, Now};
use super::queue::QueueKey;
use super::sessions::SessionKey;
use super::{Effects, Machine};

impl Machine {
    /// Hands out all that can be handed out. One frame's worth for each worker.
    pub(super) fn dispatch(&mut self, now: Now, fx: &mut Effects) {
        if self.sessions.hungry == 0 || self.queues.ready.is_empty() {
            return;
        }
        let mut outgoing: BTreeMap<ConnectionKey, Vec<Delivery>> = BTreeMap::new();
        let queues: Vec<QueueKey> = self.queues.ready.iter().copied().collect();
        for queue in queues {
            self.dispatch_queue(now, queue, &mut outgoing, fx);
        }
        for (connection, deliveries) in outgoing {
            fx.send(connection, Message::Deliver(deliveries));
        }
    }

    fn dispatch_queue(
        &mut self,
        now: Now,
        queue: QueueKey,
        outgoing: &mut BTreeMap<ConnectionKey, Vec<Delivery>>,
        fx: &mut Effects,
    ) {
        let mut unable: Vec<SessionKey> = Vec::new();
        while self.queues.ready.contains(&queue) {
            let Some(taker) = self.next_taker(queue, &unable) else { return };
            self.queues.queue_mut(queue).turn = taker;
            if self.begins_to_drain(queue, taker) {
                continue;
            }
            // Looking for its queue in turn takes long for a worker of very many queues.
            let session = self.sessions.session(taker);
            if !self
                .queues
                .queue(queue)
                .has_for(session.leases.is_empty(), |name| session.can_run(name))
            {
                unable.push(taker);
                continue;
            }
            let from = self.choose_queue(taker, queue);
            let taken = self
                .take_from(from, taker)
                .or_else(|| (from != queue).then(|| self.take_from(queue, taker))?);
            let Some(slot) = taken else {
                unable.push(taker);
                continue;
            };
            if self.is_expired(slot) {
                self.revoke(now, slot, "expired", fx);
                continue;
            }
            self.lease(now, slot, taker, fx);
            let connection =
                self.sessions.session(taker).connection.expect("only the connected are hungry");
            outgoing.entry(connection).or_default().push(self.delivery(slot));
        }
    }

    /// The next worker in turn, from those with a free hand if there are any.
    fn next_taker(&self, queue: QueueKey, unable: &[SessionKey]) -> Option<SessionKey> {
        let queue = self.queues.queue(queue);
        next_in_turn(&queue.idle, queue.turn, unable)
            .or_else(|| next_in_turn(&queue.hungry, queue.turn, unable))
    }

    /// Which of its queues a worker serves next: by weight, in turn.
    fn choose_queue(&mut self, taker: SessionKey, offered: QueueKey) -> QueueKey {
        let session = self.sessions.session_mut(taker);
        if let Some(queue) = session.drains {
            // It has taken nothing from any queue for the sake of this one.
            return queue;
        }
        let worker = session.worker.as_mut().expect("only workers take tasks");
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

    fn take_from(&mut self, queue: QueueKey, taker: SessionKey) -> Option<Slot> {
        let session = self.sessions.session(taker);
        self.queues
            .queue_mut(queue)
            .pop(&self.tasks, session.leases.is_empty(), |name| session.can_run(name))
    }

    /// What a worker is told of a task that it holds.
    pub(super) fn delivery(&self, slot: Slot) -> Delivery {
        let task = self.tasks.task(slot);
        let deliveries = self.tasks.run(task).map_or(0, |run| run.deliveries);
        let attempt = self.tasks.attempts(task).saturating_add(1);
        let plan = self.tasks.plan(task);
        let (alone, silent) =
            self.tasks.run(task).map_or((false, 0), |run| (run.alone, run.silent));
        let deliveries_max = plan.map_or(super::task::MAX_DELIVERIES, |plan| plan.max_deliveries);
        let is_last = attempt.saturating_add(silent) >= self.retry_policy(task).attempts_max
            || deliveries.saturating_add(silent) >= deliveries_max;
        // What must not begin once more unless it is known that it did not begin.
        let report_start = alone || is_last || plan.is_some_and(|plan| plan.early_ack);
        Delivery { slot, lease: task.lease(), attempt, deliveries, report_start, submitted: None }
    }
}

/// The first member after `turn`, going round.
fn next_in_turn(
    set: &BTreeSet<SessionKey>,
    turn: SessionKey,
    unable: &[SessionKey],
) -> Option<SessionKey> {
    let after = set.range((Bound::Excluded(turn), Bound::Unbounded));
    let before = set.range(..=turn);
    after.chain(before).find(|key| !unable.contains(key)).copied()
}
