//! Tasks and workers as readers see them.

use std::sync::Arc;

use celeriac_proto::{QueueName, TaskId, TaskName};
use celeriac_record::{Changed, Slot, State, Submitted, Timestamp};

use super::{WaitingFor, WorkerKey};

/// One task as a reader sees it. The machine knows the outline; the store fills in the rest from
/// the records.
#[derive(Debug, Clone)]
pub struct View {
    pub id: TaskId,
    /// Absent: no such task.
    pub task: Option<Outline>,
    pub with_result: bool,
    pub with_tracebacks: bool,
}

/// What the machine itself keeps of a task.
#[derive(Debug, Clone)]
pub struct Outline {
    pub slot: Slot,
    pub state: State,
    pub generation: u32,
    pub version: u32,
    pub waiting_for: WaitingFor,
    pub forget_at: Option<Timestamp>,
    /// Filled in on the way out.
    pub records: Option<(Box<Submitted>, Option<Box<Changed>>)>,
}

/// A worker for listings.
#[derive(Debug)]
pub struct WorkerStatus {
    pub key: WorkerKey,
    pub instance: Arc<str>,
    pub hostname: Box<str>,
    pub pid: u32,
    pub queues: Vec<QueueName>,
    pub task_names: Vec<TaskName>,
    pub concurrency: u32,
    pub credit: u32,
    pub running: Vec<View>,
    /// Leases beyond those that are shown.
    pub running_left_out: u32,
    pub memory_bytes: u64,
    pub connected_at: Timestamp,
    pub seen_at: Timestamp,
    pub quiet: bool,
    pub lost: bool,
}
