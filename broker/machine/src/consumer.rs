//! Consumers: the tasks that a session may get. A consumer has subscriptions to queues, the task
//! names that it announced, its credit, and the leases that it holds.
//!
//! Each session has one consumer. The consumer of a client that is no worker has no subscriptions
//! and no credit. The session (`session.rs`) has the client and its connection.

use std::collections::BTreeSet;

use celeriac_record::Slot;

use crate::command::{Patterns, WorkerInfo};
use crate::keys::{NameKey, QueueKey};

#[derive(Debug, Default)]
pub(crate) struct Consumer {
    /// Absent for a client that is no worker, and until a worker resumes its session.
    pub worker: Option<Worker>,
    /// The number of handlers that the worker runs at once; 0 for a client that is no worker.
    pub concurrency: u32,
    /// Whether the worker cannot give back a task that it was handed.
    pub keeps_leases: bool,
    /// The number of leases that the consumer may hold at once.
    pub credit: u32,
    pub leases: Vec<Slot>,
    /// The number of leases that do not count against the credit.
    pub outside_credit: usize,
    /// The payload bytes of those leases.
    pub leased_bytes: u64,
    /// Whether the consumer holds a suspect, and so takes no other task.
    pub alone: bool,
    /// The queue whose suspect the consumer waits for. The consumer takes no tasks until it is
    /// free for the suspect.
    pub drains: Option<QueueKey>,
    /// Whether the queues count the consumer as a connected worker.
    pub present: bool,
    /// Whether the queues have the consumer in their sets of the same names.
    pub idle: bool,
    pub hungry: bool,
}

/// The data that only a worker has.
#[derive(Debug)]
pub(crate) struct Worker {
    pub queues: Vec<Subscription>,
    pub names: BTreeSet<NameKey>,
    pub info: WorkerInfo,
}

/// One queue that a worker serves.
#[derive(Debug)]
pub(crate) struct Subscription {
    pub queue: QueueKey,
    pub weight: i64,
    /// The current weight of smooth weighted round robin: the queue with the largest is next.
    pub owed: i64,
}

impl Consumer {
    pub fn can_run(&self, name: NameKey) -> bool {
        self.worker
            .as_ref()
            .is_some_and(|worker| worker.info.any_name || worker.names.contains(&name))
    }

    /// Whether the worker is connected, and serves one or more of these queues and no others.
    pub fn serves_only(&self, queues: &Patterns) -> bool {
        self.worker.as_ref().is_some_and(|worker| {
            let served = &worker.info.queues;
            !served.is_empty() && served.iter().all(|(name, _)| queues.allow(name))
        })
    }

    /// Whether the worker is connected and serves one of these queues.
    pub fn serves_any(&self, queues: &Patterns) -> bool {
        self.worker
            .as_ref()
            .is_some_and(|worker| worker.info.queues.iter().any(|(name, _)| queues.allow(name)))
    }

    /// The number of handlers that the connected worker runs at once; 0 while no worker is
    /// connected.
    pub fn connected_concurrency(&self) -> usize {
        self.worker.as_ref().map_or(0, |worker| worker.info.concurrency as usize)
    }

    /// The number of leases that the credit allows beside those that the consumer holds.
    pub fn credit_left(&self) -> usize {
        (self.credit as usize).saturating_sub(self.leases.len() - self.outside_credit)
    }

    /// Whether the consumer has room for one more lease, apart from its credit.
    pub fn has_room(&self, leased_bytes_max: u64) -> bool {
        self.leases.is_empty()
            || (self.leased_bytes < leased_bytes_max && !self.alone && self.drains.is_none())
    }

    /// Adds a lease, and returns its place in the list.
    pub fn add_lease(&mut self, slot: Slot, payload_bytes: u64) -> usize {
        self.leases.push(slot);
        self.leased_bytes += payload_bytes;
        self.leases.len() - 1
    }

    /// Removes the lease at a place. If another lease moves to that place, its task is returned.
    pub fn remove_lease(&mut self, place: usize, payload_bytes: u64) -> Option<Slot> {
        self.leased_bytes -= payload_bytes;
        self.leases.swap_remove(place);
        self.leases.get(place).copied()
    }
}
