//! Consuming: a worker subscribes to queues, announces task names, changes both while it is
//! connected, gives credit, and takes tasks by a request. This module updates the queues' sets of
//! hungry and idle consumers.

use std::collections::BTreeSet;

use celeriac_proto::limits::{CREDIT_MAX, SUBSCRIPTIONS_MAX};
use celeriac_proto::{QueueName, TaskName};

use celeriac_record::{Actor, Slot};

use crate::Machine;
use crate::command::{Answer, Code, Message, Refusal, Serving, WorkerInfo};
use crate::consumer::{Subscription, Worker};
use crate::keys::{NameKey, SessionKey};
use crate::step::{Asker, Step};

impl Machine {
    pub(crate) fn subscribe(&mut self, key: SessionKey, info: WorkerInfo) {
        let mut queues: Vec<Subscription> = Vec::with_capacity(info.queues.len());
        for (name, weight) in &info.queues {
            let queue = self.queues.find_or_create(name);
            // A queue that is named twice counts once.
            if self.queues.queue_mut(queue).servers.insert(key) {
                queues.push(Subscription { queue, weight: i64::from((*weight).max(1)), owed: 0 });
                self.queues.note_use(queue);
            }
        }
        let mut names: BTreeSet<NameKey> = BTreeSet::new();
        for name in &info.task_names {
            let name = self.names.take(name);
            // A name that is announced twice counts as one use.
            if !names.insert(name) {
                self.names.release(name);
            }
        }
        let consumer = self.sessions.consumer_mut(key);
        consumer.concurrency = info.concurrency;
        consumer.keeps_leases = info.keeps_leases;
        consumer.worker = Some(Worker { queues, names, info });
        self.set_present(key, true);
    }

    /// Counts a worker among the connected workers of its queues, or no longer.
    pub(crate) fn set_present(&mut self, key: SessionKey, present: bool) {
        let consumer = self.sessions.consumer_mut(key);
        let was = std::mem::replace(&mut consumer.present, present && consumer.worker.is_some());
        let is = consumer.present;
        if was == is {
            return;
        }
        let consumer = self.sessions.consumer(key);
        for subscription in consumer.worker.iter().flat_map(|worker| &worker.queues) {
            self.queues.queue_mut(subscription.queue).count_worker(consumer.concurrency, is);
        }
        match is {
            true => self.sessions.workers += 1,
            false => self.sessions.workers -= 1,
        }
    }

    pub(crate) fn unsubscribe(&mut self, key: SessionKey) {
        self.set_hunger(key, false, false);
        self.set_present(key, false);
        let Some(worker) = self.sessions.consumer_mut(key).worker.take() else { return };
        for subscription in &worker.queues {
            self.queues.queue_mut(subscription.queue).servers.remove(&key);
            self.queues.note_use(subscription.queue);
        }
        for name in worker.names {
            self.names.release(name);
        }
    }

    /// Changes the queues and names of a connected worker.
    ///
    /// # Errors
    /// The session has no worker, the worker would serve too many, or there are too many queues.
    /// Then nothing changes.
    pub(crate) fn serve(&mut self, key: SessionKey, change: Serving) -> Result<(), Refusal> {
        let Some(worker) = &self.sessions.consumer(key).worker else {
            return Err(not_a_worker());
        };
        let queues = worker.info.queues.len() + change.add_queues.len();
        let names = worker.info.task_names.len() + change.add_names.len();
        if queues > SUBSCRIPTIONS_MAX || names > SUBSCRIPTIONS_MAX {
            let message = format!("a worker serves at most {SUBSCRIPTIONS_MAX} queues and names");
            return Err(Refusal::new(Code::InvalidArgument, message));
        }
        self.queues.room_for(change.add_queues.iter().map(|(name, _)| name))?;
        for name in &change.remove_queues {
            self.unserve_queue(key, name);
        }
        for (name, weight) in change.add_queues {
            self.serve_queue(key, name, weight);
        }
        self.change_names(key, change.add_names, &change.remove_names);
        self.note_hunger(key);
        Ok(())
    }

    fn serve_queue(&mut self, key: SessionKey, name: QueueName, weight: u32) {
        let queue = self.queues.find_or_create(&name);
        let is_new = self.queues.queue_mut(queue).servers.insert(key);
        let consumer = self.sessions.consumer_mut(key);
        let (hungry, idle, present) = (consumer.hungry, consumer.idle, consumer.present);
        let concurrency = consumer.concurrency;
        let worker = consumer.worker.as_mut().expect("only a worker serves queues");
        let subscription = Subscription { queue, weight: i64::from(weight.max(1)), owed: 0 };
        if !is_new {
            let known = worker.queues.iter_mut().find(|known| known.queue == queue);
            known.into_iter().for_each(|known| known.weight = subscription.weight);
            let named = worker.info.queues.iter_mut().find(|(known, _)| *known == name);
            named.into_iter().for_each(|named| named.1 = weight);
            return;
        }
        worker.queues.push(subscription);
        worker.info.queues.push((name, weight));
        set_member(&mut self.queues.queue_mut(queue).hungry, key, hungry);
        set_member(&mut self.queues.queue_mut(queue).idle, key, idle);
        if present {
            self.queues.queue_mut(queue).count_worker(concurrency, true);
        }
        self.queues.note_use(queue);
        self.queues.note_ready(queue);
    }

    fn unserve_queue(&mut self, key: SessionKey, name: &QueueName) {
        let Some(queue) = self.queues.find(name) else { return };
        if !self.queues.queue_mut(queue).servers.remove(&key) {
            return;
        }
        if self.sessions.consumer(key).drains == Some(queue) {
            self.stop_draining(key);
        }
        set_member(&mut self.queues.queue_mut(queue).hungry, key, false);
        set_member(&mut self.queues.queue_mut(queue).idle, key, false);
        let consumer = self.sessions.consumer(key);
        if consumer.present {
            self.queues.queue_mut(queue).count_worker(consumer.concurrency, false);
        }
        self.queues.note_ready(queue);
        self.queues.note_use(queue);
        let worker = self.sessions.consumer_mut(key).worker.as_mut();
        let worker = worker.expect("only a worker serves queues");
        worker.queues.retain(|known| known.queue != queue);
        worker.info.queues.retain(|(known, _)| known != name);
    }

    fn change_names(&mut self, key: SessionKey, add: Vec<TaskName>, remove: &[TaskName]) {
        let worker = self.sessions.consumer_mut(key).worker.as_mut();
        let worker = worker.expect("only a worker announces names");
        for name in remove {
            let is_known = self.names.lookup(name).filter(|known| worker.names.remove(known));
            if let Some(known) = is_known {
                self.names.release(known);
                worker.info.task_names.retain(|other| other != name);
            }
        }
        for name in add {
            let taken = self.names.take(&name);
            match worker.names.insert(taken) {
                true => worker.info.task_names.push(name),
                false => self.names.release(taken),
            }
        }
    }

    /// Leases ready tasks of one queue to a worker that asks for them, whatever its credit and its
    /// names. The tasks go out before the answer.
    pub(crate) fn take_tasks(
        &mut self,
        step: &mut Step<'_>,
        asker: Asker,
        key: SessionKey,
        queue: &QueueName,
        count: u32,
    ) {
        if self.sessions.consumer(key).worker.is_none() {
            return step.answer(asker, Answer::Refused(not_a_worker()));
        }
        // The broker decides which task is delivered, as ever.
        let step = &mut step.on_behalf_of(Actor::Broker);
        let mut taken = Vec::new();
        while (taken.len() as u32) < count {
            let Some(slot) = self.next_to_take(key, queue) else { break };
            if self.ends_expired(step, slot) {
                continue;
            }
            self.grant_lease(step, slot, key);
            let run = self.tasks.run_mut(slot).expect("a leased task has a run");
            run.outside_credit = true;
            self.sessions.consumer_mut(key).outside_credit += 1;
            self.note_hunger(key);
            taken.push(self.delivery(slot));
        }
        let count = taken.len() as u64;
        if !taken.is_empty() {
            step.send(asker.connection, Message::Deliver(taken));
        }
        step.answer(asker, Answer::Count(count));
    }

    /// The first ready task of the queue, if the worker may take one more.
    fn next_to_take(&mut self, key: SessionKey, queue: &QueueName) -> Option<Slot> {
        let queue = self.queues.find(queue)?;
        let session = self.sessions.session(key);
        let consumer = &session.consumer;
        let may_take = !session.is_quiet()
            && !self.holds_back(queue)
            && consumer.has_room(self.config.leased_bytes_max)
            && consumer.leases.len() < CREDIT_MAX as usize;
        let is_alone = consumer.leases.is_empty();
        let order_of = |slot| self.tasks.queued_order(slot);
        // The answer says how many tasks there were, so the search goes to the end of the line.
        let mut looks = u32::MAX;
        let queue = self.queues.queue_mut(queue);
        may_take.then(|| queue.pop(order_of, is_alone, |_| true, &mut looks))?
    }

    pub(crate) fn set_credit(&mut self, key: SessionKey, credit: u32) {
        self.sessions.consumer_mut(key).credit = credit;
        self.note_hunger(key);
    }

    /// Updates the queues' sets of idle and hungry consumers. Call this after every change of a
    /// session.
    pub(crate) fn note_hunger(&mut self, key: SessionKey) {
        let session = self.sessions.session(key);
        let consumer = &session.consumer;
        let present =
            session.connection.is_some() && consumer.worker.is_some() && !session.is_quiet();
        if consumer.drains.is_some() && (!present || consumer.credit == 0 || consumer.alone) {
            return self.stop_draining(key);
        }
        let leases = consumer.leases.len();
        let has_room = consumer.has_room(self.config.leased_bytes_max);
        let hungry = present && has_room && consumer.credit_left() > 0;
        let idle = hungry && leases < consumer.concurrency as usize;
        self.set_hunger(key, hungry, idle);
    }

    fn set_hunger(&mut self, key: SessionKey, hungry: bool, idle: bool) {
        let consumer = self.sessions.consumer_mut(key);
        let was = (consumer.hungry, consumer.idle);
        if was == (hungry, idle) {
            return;
        }
        (consumer.hungry, consumer.idle) = (hungry, idle);
        let Some(worker) = &self.sessions.consumer(key).worker else { return };
        for subscription in &worker.queues {
            let queue = self.queues.queue_mut(subscription.queue);
            set_member(&mut queue.hungry, key, hungry);
            set_member(&mut queue.idle, key, idle);
            if was.0 != hungry {
                self.queues.note_ready(subscription.queue);
            }
        }
        match (was.0, hungry) {
            (false, true) => self.sessions.hungry += 1,
            (true, false) => self.sessions.hungry -= 1,
            _ => {}
        }
    }
}

fn not_a_worker() -> Refusal {
    Refusal::new(Code::InvalidArgument, "only a worker serves queues and takes tasks")
}

fn set_member(set: &mut BTreeSet<SessionKey>, key: SessionKey, member: bool) {
    if member {
        set.insert(key);
    } else {
        set.remove(&key);
    }
}
