//! What the machine knows of a task, a queue or a worker: an outline. Payloads, results, errors and
//! headers stand in the records, and whoever sends a message completes it from there.

use std::sync::Arc;

use celeriac_proto::{QueueName, TaskId, TaskName};
use celeriac_record::{Lease, QueueRecord, Slot, State, Timestamp};

use super::WorkerKey;

/// One task as a reader asks for it.
#[derive(Debug, Clone)]
pub struct TaskOutline {
    pub id: TaskId,
    /// Absent: no such task.
    pub task: Option<Outline>,
    pub with_result: bool,
    pub with_tracebacks: bool,
}

/// What the machine itself keeps of a task.
#[derive(Debug, Clone, Copy)]
pub struct Outline {
    pub slot: Slot,
    pub state: State,
    pub generation: u32,
    pub version: u32,
    pub waiting_for: WaitingFor,
    pub forget_at: Option<Timestamp>,
}

/// Why a waiting task does not run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WaitingFor {
    Nothing,
    Turn,
    Time,
    Worker,
    Queue,
}

/// One task on its way to a worker.
#[derive(Debug, Clone, Copy)]
pub struct DeliveryOutline {
    pub slot: Slot,
    pub lease: Lease,
    pub attempt: u32,
    pub deliveries: u32,
    /// The worker reports the start, and begins once that is answered.
    pub report_start: bool,
}

/// A queue for listings.
#[derive(Debug, Clone, PartialEq)]
pub struct QueueOutline {
    pub record: QueueRecord,
    pub ready: u64,
    pub scheduled: u64,
    pub leased: u64,
    pub dead: u64,
    /// The task that has been ready for longest.
    pub oldest: Option<Slot>,
    pub workers: u32,
    pub submitted_total: u64,
    pub ended_total: u64,
    pub submitted_per_second: f64,
    pub ended_per_second: f64,
    pub bytes: u64,
}

/// A worker for listings, with some of the tasks that it holds.
#[derive(Debug)]
pub struct WorkerOutline {
    pub status: WorkerStatus,
    pub running: Vec<TaskOutline>,
    /// Leases beyond those that are shown.
    pub running_left_out: u32,
}

/// What the machine knows of a worker, without its tasks.
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
