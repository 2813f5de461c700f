//! What leaves the broker: messages as the machine gives them, completed from the records. The
//! committer makes them, a session encodes them. A message that is not complete cannot be made.

#![allow(missing_docs, reason = "a field whose name says it all has no comment")]

use celeriac_machine::command::{
    Answer, Cursor, DeliveryOutline, Outline, Push, QueueOutline, RequestId, WatchKey, WorkerKey,
    WorkerStatus,
};
use celeriac_proto::{QueueName, TaskId};
use celeriac_record::{Changed, Submitted};

/// One message, which becomes one frame.
#[derive(Debug)]
pub enum Outgoing {
    /// An answer that shows nothing of the records. A request id of 0: nobody asked.
    Answer(RequestId, Answer),
    /// An answer about tasks, queues or workers.
    Show(RequestId, Shown),
    Deliver(Vec<Delivery>),
    Transition {
        watch: WatchKey,
        task: TaskView,
    },
    Push(Push),
}

/// An answer about tasks, queues or workers.
#[derive(Debug)]
pub enum Shown {
    Got { tasks: Selection },
    Waited { satisfied: bool, tasks: Selection },
    Watching { watch: WatchKey, tasks: Selection },
    Queues { queues: Vec<QueueView>, next: Option<QueueName> },
    Page { tasks: Vec<TaskView>, next: Option<Cursor> },
    Workers { workers: Vec<WorkerView>, next: Option<WorkerKey> },
}

/// Tasks that were asked for by id.
#[derive(Debug)]
pub struct Selection {
    pub tasks: Vec<TaskView>,
    /// The places of the ids whose tasks have no room in the frame, in order.
    pub left_out: Vec<u32>,
}

/// One task as a reader sees it.
#[derive(Debug, Clone)]
pub struct TaskView {
    pub id: TaskId,
    /// Absent: no such task.
    pub found: Option<FoundTask>,
}

/// A task that is there, with its records.
#[derive(Debug, Clone)]
pub struct FoundTask {
    pub outline: Outline,
    /// Without its payload.
    pub submitted: Box<Submitted>,
    /// Without its result, unless that was asked for.
    pub changed: Option<Box<Changed>>,
}

/// One task on its way to a worker.
#[derive(Debug)]
pub struct Delivery {
    pub outline: DeliveryOutline,
    pub submitted: Box<Submitted>,
}

/// A queue in a listing.
#[derive(Debug, Clone)]
pub struct QueueView {
    pub outline: QueueOutline,
    /// For how long the oldest ready task has been ready.
    pub oldest_ms: u64,
}

/// A worker in a listing.
#[derive(Debug)]
pub struct WorkerView {
    pub status: WorkerStatus,
    pub running: Vec<TaskView>,
    /// Leases beyond those that are shown.
    pub running_left_out: u32,
}

impl TaskView {
    /// Takes from the view what may be large: an end without its result is better than none.
    pub(crate) fn strip(&mut self) {
        let changed = self.found.as_mut().and_then(|found| found.changed.as_deref_mut());
        if let Some(changed) = changed {
            changed.result = None;
            for error in &mut changed.errors {
                error.traceback = Box::default();
            }
        }
    }
}
