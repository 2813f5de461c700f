//! Outlines: the machine's own data of a task, a queue, a worker or the broker. Payloads, results,
//! errors and headers are in the records, and the sender of a message completes the outline from
//! the records.

use std::sync::Arc;

use celeriac_proto::{QueueName, TaskId, TaskName};
use celeriac_record::{Lease, QueueRecord, Slot, State, Timestamp};

use super::WorkerKey;

/// One task in an answer, with the parts that the client asked for.
#[derive(Debug, Clone)]
pub struct TaskOutline {
    pub id: TaskId,
    /// Absent: there is no task with this id.
    pub task: Option<Outline>,
    pub with_result: bool,
    pub with_payload: bool,
    pub with_tracebacks: bool,
}

/// The machine's own data of a task.
#[derive(Debug, Clone, Copy)]
pub struct Outline {
    pub slot: Slot,
    pub state: State,
    pub generation: u32,
    pub version: u32,
    pub waiting_for: WaitingFor,
    pub forget_at: Option<Timestamp>,
}

/// The reason why a task does not run yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WaitingFor {
    Nothing,
    Turn,
    Time,
    Worker,
    Queue,
}

/// One task that is delivered to a worker.
#[derive(Debug, Clone)]
pub struct DeliveryOutline {
    pub slot: Slot,
    pub lease: Lease,
    pub attempt: u32,
    pub deliveries: u32,
    /// Whether the worker must report the start, and begin the handler only after the answer.
    pub report_start: bool,
    /// Whether the task was handed out before.
    pub redelivered: bool,
    /// The reason why the task never begins: the worker announces its end.
    pub revoked_reason: Option<Box<str>>,
}

/// A queue in a listing.
#[derive(Debug, Clone, PartialEq)]
pub struct QueueOutline {
    pub record: QueueRecord,
    pub ready: u64,
    pub scheduled: u64,
    pub leased: u64,
    pub dead: u64,
    /// The task that has been ready for the longest time.
    pub oldest: Option<Slot>,
    pub workers: u32,
    pub submitted_total: u64,
    pub ended_total: u64,
    pub submitted_per_second: f64,
    pub ended_per_second: f64,
    pub bytes: u64,
}

/// A worker in a listing, with some of the tasks that it holds.
#[derive(Debug)]
pub struct WorkerOutline {
    pub status: WorkerStatus,
    pub running: Vec<TaskOutline>,
    /// The number of leases of the worker that `running` does not show.
    pub running_left_out: u32,
}

/// The machine's own data of a worker, without its tasks.
#[derive(Debug, Clone)]
pub struct WorkerStatus {
    pub key: WorkerKey,
    pub instance: Arc<str>,
    pub hostname: Box<str>,
    pub pid: u32,
    pub queues: Vec<QueueName>,
    pub task_names: Vec<TaskName>,
    pub concurrency: u32,
    pub credit: u32,
    pub memory_bytes: u64,
    pub connected_at: Timestamp,
    pub seen_at: Timestamp,
    pub quiet: bool,
    pub lost: bool,
}

/// The figures of the broker that the machine knows. The store knows how full the disk is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BrokerOutline {
    /// How long the machine has carried out commands, and when it began by the present wall clock.
    pub uptime_ms: u64,
    pub started_at: Timestamp,
    /// Connections that have a session.
    pub connections: u32,
    /// Workers that are connected.
    pub workers: u32,
    pub workers_lost: u32,
    /// Queues that a listing shows.
    pub queues: u32,
    pub mailboxes: u32,
    pub ready: u64,
    pub scheduled: u64,
    pub leased: u64,
    pub dead: u64,
    /// Tasks that ended as SUCCESS or REVOKED.
    pub ended: u64,
    /// Whether an operator drains the broker.
    pub draining: bool,
}
