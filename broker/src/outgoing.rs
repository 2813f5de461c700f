//! Messages to clients: the machine's messages, completed from the records. The committer makes
//! these messages, and a session encodes them. The types allow no incomplete message.

#![allow(missing_docs, reason = "a field whose name says it all has no comment")]

use bytes::Bytes;
use celeriac_machine::command::{
    Answer, BindingOutline, Bounds, BrokerOutline, Code, DeliveryOutline, Histogram,
    MailboxOutline, Outline, Page, Push, QueueOutline, RequestId, Stats, WatchKey, WorkerKey,
    WorkerStatus,
};
use celeriac_proto::{MailboxName, QueueName, TaskId};
use celeriac_record::{Changed, Submitted, Timestamp};
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
    Stats(Box<StatsView>),
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

/// The figures for monitors.
#[derive(Debug)]
pub struct StatsView {
    pub stats: Stats,
    /// With the broker's own figures alone.
    pub outside: Option<Outside>,
}

/// The upper bounds of the buckets of commits, in microseconds.
pub const COMMIT_BOUNDS_US: Bounds = [
    100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000,
    1_000_000, 2_500_000, 5_000_000, 10_000_000,
];

/// What the broker knows of itself outside the machine.
#[derive(Debug)]
pub struct Outside {
    /// How long the broker took to read its data folder.
    pub restore_ms: u64,
    /// Connections before Hello.
    pub guests: u32,
    pub auth_failures: AuthFailures,
    /// Codes that were used, and how often.
    pub refused: Vec<(Code, u64)>,
    /// In microseconds, in the buckets of [`COMMIT_BOUNDS_US`].
    pub commit: Histogram,
    pub usage: Option<Usage>,
    pub certificate_expires_at: Option<Timestamp>,
    pub reload: Reload,
    pub process: Process,
}

/// How many connections were not let in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AuthFailures {
    pub token_missing: u64,
    pub token_wrong: u64,
    pub certificate: u64,
    pub handshake: u64,
}

/// The last reload, or the start of the broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reload {
    pub at: Timestamp,
    /// Nothing of the new settings was taken.
    pub failed: bool,
}

/// The process, where the system tells.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Process {
    pub memory_bytes: Option<u64>,
    pub cpu_us: Option<u64>,
    pub open_files: Option<u64>,
    pub open_files_max: Option<u64>,
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
