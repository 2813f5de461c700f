//! The requests of connected clients, grouped by the kind of client: producer, observer, worker,
//! operator. The requests about mailboxes and routes, which every client sends, are in `mail.rs`.

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use celeriac_proto::{QueueName, TaskId, TaskName};
use celeriac_record::{
    Body, Lease, Order, QueueRecord, Slot, State, TaskError, TaskSpec, Timestamp,
};

use super::{ChordAsk, Mail, Refusal, RequestId, Route, Scope, TaskOutcome, WatchKey};

/// A request of a connected client.
#[derive(Debug)]
pub enum Ask {
    /// The session could not decode the request. The machine refuses the request in its turn.
    Refuse(Refusal),
    /// The client closes its session on purpose.
    Goodbye,
    /// A sign of life of the client.
    Heartbeat {
        memory_bytes: u64,
    },
    Produce(Produce),
    Observe(Observe),
    Work(Work),
    Operate(Operate),
    Mail(Mail),
    Route(Route),
}

/// The requests of producers.
#[derive(Debug)]
pub enum Produce {
    Submit(Vec<Result<Submission, Refusal>>),
    Cancel { target: CancelTarget, mode: CancelMode, grace_ms: u64, reason: Box<str> },
    Forget(Vec<TaskId>),
    PutOutcome(Vec<Result<TaskOutcome, Refusal>>),
    Chord { group: TaskId, ask: ChordAsk },
}

/// The requests of clients that follow the states of tasks.
#[derive(Debug)]
pub enum Observe {
    Get {
        ids: Vec<TaskId>,
        with_results: bool,
        with_payloads: bool,
    },
    Wait {
        ids: Vec<TaskId>,
        any: bool,
        /// Absent: the wait lasts until the task has ended.
        until: Option<State>,
        with_results: bool,
        timeout_ms: u64,
    },
    /// Ends the waits that these requests began.
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
    /// The number of leases that the worker may hold at once.
    Credit(u32),
    Report(Vec<Result<TaskReport, WrongReport>>),
    Serve(Serving),
    /// Leases up to `count` ready tasks of the queue, outside the credit.
    Take {
        queue: QueueName,
        count: u32,
    },
}

/// A change of the queues and names that a worker serves.
#[derive(Debug, Default)]
pub struct Serving {
    /// Queues with their weights.
    pub add_queues: Vec<(QueueName, u32)>,
    pub remove_queues: Vec<QueueName>,
    pub add_names: Vec<TaskName>,
    pub remove_names: Vec<TaskName>,
}

/// The requests of operators.
#[derive(Debug)]
pub enum Operate {
    ListQueues {
        /// Empty: every queue.
        names: Vec<QueueName>,
        /// Only queues whose names come after this name.
        after: Option<QueueName>,
    },
    ConfigureQueue(QueueRecord),
    DeclareQueue {
        /// The record of a new queue.
        record: QueueRecord,
        passive: bool,
        /// Whether a queue that exists, and that nobody declared, configured or paused, takes the
        /// settings of the record too.
        may_configure: bool,
    },
    PauseQueues {
        queues: Vec<QueueName>,
        paused: bool,
    },
    /// Begins or ends a drain: the broker delivers nothing, and takes back what has not begun.
    Drain(bool),
    /// Changes or shows the filter of the log. The session has done that, and put the filter here
    /// that counts now.
    LogFilter(Option<Box<str>>),
    PurgeQueue {
        queue: QueueName,
        /// Whether the purge also drops the settings of the queue and takes the queue off the
        /// list.
        delete: bool,
    },
    ReplayDead(Dead),
    DiscardDead(Dead),
    ListTasks {
        filter: Filter,
        limit: usize,
        /// Whether the latest submits come first. The cursor is then a serial.
        newest_first: bool,
        /// Whether the listing is that of the tasks that ended last.
        just_ended: bool,
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
    /// The figures of the broker itself.
    Info,
    /// The counters of queues, and on the first page those of the broker.
    Stats {
        /// Empty: every queue.
        names: Vec<QueueName>,
        /// Only queues whose names come after this name.
        after: Option<QueueName>,
    },
}

/// A checked task of a producer. For an absent field the default of the queue or the broker
/// applies.
#[derive(Debug)]
pub struct Submission {
    pub spec: TaskSpec,
    pub eta: Option<When>,
    pub expires: Option<When>,
    pub result_ttl_ms: Option<u64>,
    pub on_conflict: OnConflict,
}

/// A time, or a span that begins when the machine carries out the submit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    At(Timestamp),
    In(u64),
}

impl When {
    /// The time of the value if the present time is `now`.
    pub fn resolve(self, now: Timestamp) -> Timestamp {
        match self {
            When::At(at) => at,
            When::In(span_ms) => now.saturating_add_unsigned(span_ms),
        }
    }

    /// The time that is `span_ms` earlier.
    pub fn earlier(self, span_ms: u64) -> When {
        match self {
            When::At(at) => When::At(at.saturating_sub_unsigned(span_ms)),
            When::In(span) => When::In(span.saturating_sub(span_ms)),
        }
    }

    /// The time that is `span_ms` later. A time in the past counts as now.
    pub fn later(self, span_ms: u64, now: Timestamp) -> When {
        match self {
            When::At(at) => When::At(at.max(now).saturating_add_unsigned(span_ms)),
            When::In(span) => When::In(span.saturating_add(span_ms)),
        }
    }
}

/// The effect of a submit whose id exists already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnConflict {
    RunAgainIfFinished,
    Reject,
    Replace,
    RunAgainAfter,
    /// The new generation takes the place of the run with this lease; 0: of any run.
    Supersede {
        lease: Lease,
    },
    /// The new task runs beside an unfinished task of its id, under an id of its own.
    Beside,
}

/// A worker's report on one lease.
#[derive(Debug)]
pub struct TaskReport {
    pub id: TaskId,
    pub lease: Lease,
    pub kind: ReportKind,
}

/// A report that the session could not decode, with the task that the report names, if any.
#[derive(Debug)]
pub struct WrongReport(pub Option<TaskId>);

/// The kinds of reports. All but the first three end the lease.
#[derive(Debug)]
pub enum ReportKind {
    Started,
    /// The handler has begun, and the task never runs again.
    Settle,
    Progress {
        state: Box<str>,
        meta: Bytes,
    },
    Complete {
        result: Body,
        /// In place of the task's own.
        result_ttl_ms: Option<u64>,
    },
    Fail {
        error: Failure,
        last: bool,
        /// Kept if the task ends.
        result: Option<Body>,
        result_ttl_ms: Option<u64>,
    },
    RetryLater {
        after_ms: Option<u64>,
        error: Failure,
    },
    /// The worker hands the task back.
    Release(Release),
    Reject(Failure),
}

/// What became of the handler of a task that its worker hands back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Release {
    /// The worker stopped the handler, or did not begin it.
    Unfinished,
    /// The handler has not begun, even if the worker reported a start.
    NotBegun,
    /// The process of the handler died.
    Lost,
}

impl ReportKind {
    pub(super) fn payload_bytes(&self) -> usize {
        match self {
            ReportKind::Complete { result, .. } | ReportKind::Fail { result: Some(result), .. } => {
                result.bytes.len()
            }
            ReportKind::Progress { meta, .. } => meta.len(),
            _ => 0,
        }
    }
}

/// The reason why a handler failed, as its worker reports it.
#[derive(Debug, Default)]
pub struct Failure {
    pub kind: Box<str>,
    pub message: Box<str>,
    pub traceback: Box<str>,
}

impl Failure {
    /// The failure in the form that the task keeps.
    pub fn into_error(self, at: Timestamp, attempt: u32) -> TaskError {
        let Self { kind, message, traceback } = self;
        let (leased_at, started_at, worker) = (None, None, "".into());
        TaskError { kind, message, traceback, at, attempt, leased_at, started_at, worker }
    }
}

/// What a cancel does to a task that runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CancelMode {
    /// The worker tells the handler.
    Cooperative,
    /// The worker drops the handler.
    Force,
    /// The handler goes on, and its worker is not told. The task does not run again.
    Waiting,
}

/// Which tasks to cancel.
#[derive(Debug)]
pub enum CancelTarget {
    Ids(Vec<TaskId>),
    Root(Box<str>),
    Tag(Box<str>),
}

/// A filter of tasks. A task matches the filter if it matches every field that is set.
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
    /// The machine sets it: only tasks that the asker may see.
    pub scope: Option<Arc<Scope>>,
}

/// The dead tasks that a replay or a discard names.
#[derive(Debug)]
pub enum Dead {
    Ids(Vec<TaskId>),
    Matching(Filter),
}

/// The start of the next page of a listing: after this task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cursor {
    /// In the order of the slots.
    Slot(Slot),
    /// In the order of the submits, the latest first.
    Serial(u64),
    /// In the order of a list.
    In(ListPlace),
}

/// A list of tasks that the machine keeps in an order, so that a listing of them looks at no other
/// task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum List {
    /// Dead tasks, queue by queue. In a queue the task that ended last comes first.
    Dead,
    /// The leases, session by session, in the order in which they were given.
    Leases,
    /// The line of a queue, in the order of delivery.
    Line,
    /// The tasks that ended last. The last one comes first.
    Ended,
}

/// A place in a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListPlace {
    pub list: List,
    /// The number of the queue or of the session.
    pub group: u64,
    pub order: u64,
    /// Of two tasks of one order, the one with the smaller slot comes first, or the other one: each
    /// list has its own way.
    pub slot: Slot,
    /// The number of tasks that the pages up to this place have looked at.
    pub looked: u64,
}

/// The key of a worker's session. The keys give the order of a listing of workers.
pub type WorkerKey = u64;
