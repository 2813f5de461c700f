//! Consuming: a worker subscribes to queues, announces task names and gives credit. This module
//! updates the queues' sets of hungry and idle consumers.

use std::collections::BTreeSet;

use crate::Machine;
use crate::command::WorkerInfo;
use crate::consumer::{Subscription, Worker};
use crate::keys::{NameKey, SessionKey};

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
        consumer.worker = Some(Worker { queues, names, info });
    }

    pub(crate) fn unsubscribe(&mut self, key: SessionKey) {
        self.set_hunger(key, false, false);
        let Some(worker) = self.sessions.consumer_mut(key).worker.take() else { return };
        for subscription in &worker.queues {
            self.queues.queue_mut(subscription.queue).servers.remove(&key);
            self.queues.note_use(subscription.queue);
        }
        for name in worker.names {
            self.names.release(name);
        }
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

fn set_member(set: &mut BTreeSet<SessionKey>, key: SessionKey, member: bool) {
    if member {
        set.insert(key);
    } else {
        set.remove(&key);
    }
}
