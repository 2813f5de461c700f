//! Consumers: what may be delivered to a session. A consumer has subscriptions to queues, the task
//! names that it announced, its credit, and the leases that it holds.
//!
//! Each session has one consumer; that of a client that only asks has no subscriptions and no
//! credit. Who is there, and how to reach it, stands in the session (`session.rs`).

use std::collections::BTreeSet;

use celeriac_record::Slot;

use crate::command::WorkerInfo;
use crate::keys::{NameKey, QueueKey};

#[derive(Debug, Default)]
pub(crate) struct Consumer {
    /// Absent for connections that only ask, and until a worker resumes its session.
    pub worker: Option<Worker>,
    /// How many handlers the worker runs at once; 0 for connections that only ask.
    pub concurrency: u32,
    /// Leases that the consumer may hold at once.
    pub credit: u32,
    pub leases: Vec<Slot>,
    /// Payloads of those leases.
    pub leased_bytes: u64,
    /// The consumer holds a suspect, and takes nothing else.
    pub alone: bool,
    /// The consumer takes nothing until it is free for a suspect of this queue.
    pub drains: Option<QueueKey>,
    /// As the queues have the consumer in their sets.
    pub idle: bool,
    pub hungry: bool,
}

/// What makes a client a worker.
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
    /// How far the queue is owed its turn (smooth weighted round robin).
    pub owed: i64,
}

impl Consumer {
    pub fn can_run(&self, name: NameKey) -> bool {
        self.worker.as_ref().is_some_and(|worker| worker.names.contains(&name))
    }

    /// Handlers that the connected worker runs at once; 0 while there is none.
    pub fn connected_concurrency(&self) -> usize {
        self.worker.as_ref().map_or(0, |worker| worker.info.concurrency as usize)
    }

    /// Whether the consumer has room for one lease more, apart from its credit.
    pub fn has_room(&self, leased_bytes_max: u64) -> bool {
        self.leases.is_empty()
            || (self.leased_bytes < leased_bytes_max && !self.alone && self.drains.is_none())
    }

    /// Adds a lease, and says which place it has among the others.
    pub fn add_lease(&mut self, slot: Slot, payload_bytes: u64) -> usize {
        self.leases.push(slot);
        self.leased_bytes += payload_bytes;
        self.leases.len() - 1
    }

    /// Removes the lease at a place. The lease that takes the place is returned, if one does.
    pub fn remove_lease(&mut self, place: usize, payload_bytes: u64) -> Option<Slot> {
        self.leased_bytes -= payload_bytes;
        self.leases.swap_remove(place);
        self.leases.get(place).copied()
    }
}
