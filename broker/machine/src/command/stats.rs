//! The figures for monitors: copies of what the machine counts, and of what it holds now.

use celeriac_proto::QueueName;
use celeriac_record::Timestamp;

use super::QueueCounters;

/// One page of queues, and the broker itself on the first page of a client without a scope.
#[derive(Debug)]
pub struct Stats {
    pub wall: Timestamp,
    pub broker: Option<BrokerStats>,
    pub queues: Vec<QueueStats>,
    /// The last queue of this page, if there are more.
    pub next: Option<QueueName>,
}

/// The figures of one queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueStats {
    pub name: QueueName,
    pub paused: bool,
    pub scheduled: u64,
    pub ready: u64,
    pub leased: u64,
    pub started: u64,
    pub dead: u64,
    /// Since when the oldest ready task is ready, on the wall clock.
    pub oldest_ready_at: Option<Timestamp>,
    pub bytes: u64,
    /// Connected workers that serve the queue.
    pub workers: u32,
    pub slots_busy: u64,
    pub slots_free: u64,
    /// Ready tasks that wait for the end of a pause, or for a worker that knows their name.
    pub waiting_paused: u64,
    pub waiting_no_worker: u64,
    pub counters: QueueCounters,
}

/// The figures of the broker that the machine knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokerStats {
    /// How long the machine has carried out commands, and when it began by the present wall clock.
    pub uptime_ms: u64,
    pub started_at: Timestamp,
    /// Connections that have a session.
    pub connections: u32,
    /// Workers that are connected.
    pub workers: u32,
    pub workers_lost: u32,
    pub mailboxes: u32,
    pub tasks: u64,
    pub draining: bool,
    /// The counters of the queues that are gone or were deleted.
    pub removed: QueueCounters,
}
