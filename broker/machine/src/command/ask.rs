//! What connected clients ask, grouped by who asks: producers, observers, workers, operators.

use std::path::PathBuf;

use bytes::Bytes;
use celeriac_proto::{QueueName, TaskId, TaskName};
use celeriac_record::{
    Body, Lease, Order, QueueRecord, Slot, State, TaskError, TaskSpec, Timestamp,
};

use super::{Refusal, RequestId, WatchKey};

/// A request of a connected client.
#[derive(Debug)]
pub enum Ask {
    /// The session could not make sense of the request; it is refused in its turn.
    Refuse(Refusal),
    /// The client closes on purpose.
    Goodbye,
    /// The client lives.
    Heartbeat {
        memory_bytes: u64,
    },
    Produce(Produce),
    Observe(Observe),
    Work(Work),
    Operate(Operate),
}

/// The requests of producers.
#[derive(Debug)]
pub enum Produce {
    Submit(Vec<Result<Submission, Refusal>>),
    Cancel { target: CancelTarget, force: bool, grace_ms: u64, reason: Box<str> },
    Forget(Vec<TaskId>),
}

/// The requests of clients that want to know what becomes of tasks.
#[derive(Debug)]
pub enum Observe {
    Get {
        ids: Vec<TaskId>,
        with_results: bool,
    },
    Wait {
        ids: Vec<TaskId>,
        any: bool,
        /// Absent: until the task has ended.
        until: Option<State>,
        with_results: bool,
        timeout_ms: u64,
    },
    /// Ends the waits of these requests.
    Unwait(Vec<RequestId>),
    Watch {
        ids: Vec<TaskId>,
        with_results: bool,
    },
    Unwatch {
        watch: WatchKey,
    },
}

/// The requests of workers.
#[derive(Debug)]
pub enum Work {
    /// How many leases the worker may hold at once.
    Credit(u32),
    Report(Vec<Result<TaskReport, WrongReport>>),
}

/// The requests of operators.
#[derive(Debug)]
pub enum Operate {
    ListQueues {
        /// Empty: all of them.
        names: Vec<QueueName>,
        /// Only those whose names come later.
        after: Option<QueueName>,
    },
    ConfigureQueue(QueueRecord),
    PauseQueues {
        queues: Vec<QueueName>,
        paused: bool,
    },
    PurgeQueue {
        queue: QueueName,
        /// Drop its settings too, and take it off the list.
        delete: bool,
    },
    ReplayDead(Dead),
    DiscardDead(Dead),
    ListTasks {
        filter: Filter,
        limit: usize,
        after: Option<Cursor>,
        with_tracebacks: bool,
    },
    ListWorkers {
        after: Option<WorkerKey>,
        with_tracebacks: bool,
    },
    OrderWorkers {
        /// Empty: every worker.
        instances: Vec<Box<str>>,
        order: Order,
    },
    /// The path is absolute.
    Backup(PathBuf),
}

/// A task as its producer describes it, checked. Absent: the queue's or the broker's default.
#[derive(Debug)]
pub struct Submission {
    pub spec: TaskSpec,
    pub eta: Option<When>,
    pub expires: Option<When>,
    pub result_ttl_ms: Option<u64>,
    pub on_conflict: OnConflict,
}

/// A time, or a span from the moment the machine sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    At(Timestamp),
    In(u64),
}

impl When {
    /// The time it means.
    pub fn resolve(self, now: Timestamp) -> Timestamp {
        match self {
            When::At(at) => at,
            When::In(span_ms) => now.saturating_add_unsigned(span_ms),
        }
    }

    /// So much later, and not before now.
    pub fn later(self, span_ms: u64, now: Timestamp) -> When {
        match self {
            When::At(at) => When::At(at.max(now).saturating_add_unsigned(span_ms)),
            When::In(span) => When::In(span.saturating_add(span_ms)),
        }
    }
}

/// What a submit of an id that exists does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnConflict {
    RunAgainIfFinished,
    Reject,
    Replace,
    RunAgainAfter,
}

/// What became of one lease.
#[derive(Debug)]
pub struct TaskReport {
    pub id: TaskId,
    pub lease: Lease,
    pub kind: ReportKind,
}

/// A report that the session could not make sense of, with the task that it names, if it names one.
#[derive(Debug)]
pub struct WrongReport(pub Option<TaskId>);

/// The kinds of reports. All but the first two end the lease.
#[derive(Debug)]
pub enum ReportKind {
    Started,
    Progress {
        state: Box<str>,
        meta: Bytes,
    },
    Complete(Body),
    Fail {
        error: Failure,
        last: bool,
    },
    RetryLater {
        after_ms: Option<u64>,
        error: Failure,
    },
    /// The worker hands the task back. The start that it reported, if it reported one, may have
    /// been of a handler that has not begun.
    Release {
        not_begun: bool,
    },
    Reject(Failure),
}

impl ReportKind {
    pub(super) fn payload_bytes(&self) -> usize {
        match self {
            ReportKind::Complete(result) => result.bytes.len(),
            ReportKind::Progress { meta, .. } => meta.len(),
            _ => 0,
        }
    }
}

/// Why a handler failed, as its worker says.
#[derive(Debug, Default)]
pub struct Failure {
    pub kind: Box<str>,
    pub message: Box<str>,
    pub traceback: Box<str>,
}

impl Failure {
    /// The failure as it is kept with the task.
    pub fn into_error(self, at: Timestamp, attempt: u32) -> TaskError {
        TaskError { kind: self.kind, message: self.message, traceback: self.traceback, at, attempt }
    }
}

/// Which tasks to cancel.
#[derive(Debug)]
pub enum CancelTarget {
    Ids(Vec<TaskId>),
    Root(Box<str>),
    Tag(Box<str>),
}

/// Which tasks to list: all that match every field that is set.
#[derive(Debug, Default)]
pub struct Filter {
    pub queue: Option<QueueName>,
    pub states: Vec<State>,
    pub name: Option<TaskName>,
    pub tag: Option<Box<str>>,
    pub root: Option<Box<str>>,
    pub id_prefix: Box<str>,
    pub submitted_before: Option<Timestamp>,
    pub submitted_after: Option<Timestamp>,
}

/// Which dead tasks are meant.
#[derive(Debug)]
pub enum Dead {
    Ids(Vec<TaskId>),
    Matching(Filter),
}

/// Where the next page of a listing begins: after the task of this slot.
pub type Cursor = Slot;

/// A worker's session in a listing of workers; the list is in this order.
pub type WorkerKey = u64;
