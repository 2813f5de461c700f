//! Messages to clients: the machine's messages, completed from the records. The committer makes
//! these messages, and a session encodes them. The types allow no incomplete message.

#![allow(missing_docs, reason = "a field whose name says it all has no comment")]

use bytes::Bytes;
use celeriac_machine::command::{
    Answer, BindingOutline, BrokerOutline, DeliveryOutline, MailboxOutline, Outline, Page, Push,
    QueueOutline, RequestId, WatchKey, WorkerKey, WorkerStatus,
};
use celeriac_proto::{MailboxName, QueueName, TaskId};
use celeriac_record::{Changed, Submitted};
use celeriac_store::Usage;

/// One message, which becomes one frame.
#[derive(Debug)]
pub enum Outgoing {
    /// An answer that shows nothing of the records. A request id of 0 belongs to no request.
    Answer(RequestId, Answer),
    /// An answer about tasks, queues, workers, mailboxes, bindings or the broker.
    Show(RequestId, Shown),
    Deliver(Vec<Delivery>),
    Transition {
        watch: WatchKey,
        task: TaskView,
    },
    Push(Push),
}

/// An answer about tasks, queues, workers, mailboxes, bindings or the broker.
#[derive(Debug)]
pub enum Shown {
    Got { tasks: Selection },
    Waited { satisfied: bool, tasks: Selection },
    Watching { watch: WatchKey, tasks: Selection },
    Queues { queues: Vec<QueueView>, next: Option<QueueName> },
    Page(Page<TaskView>),
    Workers { workers: Vec<WorkerView>, next: Option<WorkerKey> },
    Mailboxes { mailboxes: Vec<MailboxOutline>, next: Option<MailboxName> },
    Bindings { bindings: Vec<BindingOutline>, is_last: bool },
    Broker(Box<BrokerView>),
}

/// Tasks that a client asked for by id.
#[derive(Debug)]
pub struct Selection {
    pub tasks: Vec<TaskView>,
    /// The places of the ids whose tasks have no room in the frame, in order.
    pub left_out: Vec<u32>,
}

/// One task as a client sees it.
#[derive(Debug, Clone)]
pub struct TaskView {
    pub id: TaskId,
    /// `None`: there is no such task.
    pub found: Option<FoundTask>,
}

/// A task that exists, with its records.
#[derive(Debug, Clone)]
pub struct FoundTask {
    pub outline: Outline,
    /// The submit record, without the payload unless the client asked for it.
    pub submitted: Box<Submitted>,
    /// The last change, without the result unless the client asked for it.
    pub changed: Option<Box<Changed>>,
    /// Whether the payload that the client asked for has no room.
    pub payload_left_out: bool,
}

/// One delivery of a task to a worker.
#[derive(Debug)]
pub struct Delivery {
    pub outline: DeliveryOutline,
    pub submitted: Box<Submitted>,
}

/// A queue in a listing.
#[derive(Debug, Clone)]
pub struct QueueView {
    pub outline: QueueOutline,
    /// How long the oldest ready task has been ready.
    pub oldest_ms: u64,
}

/// A worker in a listing.
#[derive(Debug)]
pub struct WorkerView {
    pub status: WorkerStatus,
    pub running: Vec<TaskView>,
    /// The number of leases that are not shown.
    pub running_left_out: u32,
}

/// The figures of the broker itself.
#[derive(Debug)]
pub struct BrokerView {
    pub outline: BrokerOutline,
    /// The memory of the process, where the system tells.
    pub memory_bytes: Option<u64>,
    /// How full the store is, where the system tells.
    pub usage: Option<Usage>,
}

impl TaskView {
    /// The view without the payload that the client asked for.
    pub(crate) fn without_payload(mut self) -> Self {
        if let Some(found) = &mut self.found {
            found.submitted.spec.payload = Bytes::new();
            found.payload_left_out = true;
        }
        self
    }

    /// Removes the large parts of the view: an ended task without its result is better than none.
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
