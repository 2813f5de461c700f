//! What goes into the machine and what comes out: commands, effects and messages, in the domain's
//! own types.
//!
//! Sessions turn wire frames into commands and messages into wire frames; nothing here knows the
//! wire.

mod shown;

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use celeriac_proto::{InvalidName, QueueName, TaskId, TaskName};
use celeriac_record::{
    Body, Lease, QueueRecord, Record, RetryPolicy, SessionId, Slot, State, Submitted, TaskError,
    TaskKey, Timestamp,
};

pub use celeriac_record::Order;
pub use shown::{Outline, View, WorkerStatus};

/// Milliseconds on a clock that never jumps; its zero is arbitrary.
pub type Monotonic = u64;

/// The two times of one moment. Leases, waits and limits run on `mono`, schedules on `wall`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    pub wall: Timestamp,
    pub mono: Monotonic,
}

/// One connection of this process; never used again.
pub type ConnectionKey = u64;

/// The number a client gave its request.
pub type RequestId = u64;

/// Everything that can happen to the machine, but for the passing of time.
#[derive(Debug)]
pub enum Command {
    Connect(Box<Connect>),
    /// The connection is lost, or closed for a reason that it is told. Its session may come back.
    Disconnect {
        connection: ConnectionKey,
        reason: Option<Refusal>,
    },
    /// What a connected client asks.
    Request {
        connection: ConnectionKey,
        request: RequestId,
        ask: Ask,
    },
    /// Bytes came that are no whole frame yet, or a frame that has to wait for the frames of
    /// others.
    Heard(ConnectionKey),
    /// A request came that is not carried out yet.
    Alive(ConnectionKey),
    /// The disk is nearly full, or no longer.
    DiskLow(bool),
    /// The broker closes down: every connection is told and closed.
    Shutdown,
}

/// A client shook hands.
#[derive(Debug)]
pub struct Connect {
    pub connection: ConnectionKey,
    pub request: RequestId,
    /// The id for a new session, random.
    pub session_id: SessionId,
    /// The session to go on with.
    pub resume: Option<SessionId>,
    pub instance: Arc<str>,
    pub worker: Option<WorkerInfo>,
}

/// What a worker can do and where it runs.
#[derive(Debug, Clone, Default)]
pub struct WorkerInfo {
    /// With the weight of each.
    pub queues: Vec<(QueueName, u32)>,
    pub task_names: Vec<TaskName>,
    pub hostname: Box<str>,
    pub pid: u32,
    pub concurrency: u32,
}

/// A report that the session could not make sense of, with the task that it names, if it names one.
#[derive(Debug)]
pub struct WrongReport(pub Option<TaskId>);

/// A request of a connected client.
#[derive(Debug)]
pub enum Ask {
    /// The session could not make sense of the request; it is refused in its turn.
    Refuse(Refusal),
    Goodbye,
    Heartbeat {
        memory_bytes: u64,
    },
    Submit(Vec<Result<Submission, Refusal>>),
    Credit(u32),
    Report(Vec<Result<TaskReport, WrongReport>>),
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
    Watch {
        ids: Vec<TaskId>,
        with_results: bool,
    },
    Unwatch {
        watch: WatchKey,
    },
    /// The requests that wait.
    Unwait(Vec<RequestId>),
    Forget(Vec<TaskId>),
    Cancel {
        target: CancelTarget,
        force: bool,
        grace_ms: u64,
        reason: Box<str>,
    },
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
    pub id: TaskId,
    pub name: TaskName,
    pub queue: QueueName,
    pub payload: Bytes,
    pub content_type: Box<str>,
    pub headers: Vec<(Box<str>, Bytes)>,
    pub shadow: Box<str>,
    pub priority: u8,
    pub eta: Option<When>,
    pub expires: Option<When>,
    pub result_ttl_ms: Option<u64>,
    pub retry: RetryPolicy,
    pub soft_time_limit_ms: Option<u64>,
    pub time_limit_ms: Option<u64>,
    pub max_deliveries: Option<u32>,
    pub on_conflict: OnConflict,
    pub early_ack: bool,
    pub root_id: Box<str>,
    pub parent_id: Box<str>,
    pub tags: Vec<Box<str>>,
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
    /// Handed back; the start that was reported, if any, may have been of a handler that has not
    /// begun.
    Release {
        not_begun: bool,
    },
    Reject(Failure),
}

/// Why a handler failed, as it says.
#[derive(Debug, Default)]
pub struct Failure {
    pub kind: Box<str>,
    pub message: Box<str>,
    pub traceback: Box<str>,
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

/// A worker's session in a listing of them; the list is in this order.
pub type WorkerKey = u64;

/// Why a request, or one item of it, was not carried out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    pub code: Code,
    pub message: Box<str>,
    pub retry_after_ms: u64,
}

impl Refusal {
    /// A refusal that names no time to try again.
    pub fn new(code: Code, message: impl Into<Box<str>>) -> Self {
        Self { code, message: message.into(), retry_after_ms: 0 }
    }
}

impl From<InvalidName> for Refusal {
    fn from(error: InvalidName) -> Self {
        Self::new(Code::InvalidArgument, error.to_string())
    }
}

/// The codes of the protocol that the broker uses; PROTOCOL.md says what each means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    Malformed,
    FrameTooLarge,
    Unsupported,
    VersionMismatch,
    Handshake,
    Unauthenticated,
    InvalidArgument,
    PayloadTooLarge,
    ResultTooLarge,
    NotFound,
    TaskExists,
    NotFinished,
    StaleLease,
    QueueFull,
    DiskFull,
    Overloaded,
    ShuttingDown,
    SessionLost,
    Internal,
}

/// What the machine wants done, in order.
#[derive(Debug)]
pub enum Effect {
    /// Append to the log. Whatever is sent after it in the same batch waits for it to be durable.
    Store(Record),
    /// The dead task of this slot is submitted again under a new key: its submit is copied.
    Replay {
        key: TaskKey,
        generation: u32,
        at: Timestamp,
    },
    /// The task of this slot is past its time: nothing of it matters any more, and the log need not
    /// say so.
    Drop(Slot),
    Send(ConnectionKey, Message),
    /// This task has come as far as an unanswered wait wants, and is about to go: the answer shall
    /// show it.
    Keep(ConnectionKey, RequestId, View),
    /// Nothing more will be sent to this connection: close it.
    Close(ConnectionKey),
    /// Copy what is stored once the batch is durable; the answer comes from there.
    Backup {
        connection: ConnectionKey,
        request: RequestId,
        folder: PathBuf,
        /// How many there are.
        tasks: u64,
    },
}

/// What a connection is told.
#[derive(Debug)]
pub enum Message {
    Welcome {
        request: RequestId,
        session_id: SessionId,
        resumed: bool,
        leases: Vec<Lease>,
        wall: Timestamp,
    },
    Done {
        request: RequestId,
    },
    Refused {
        request: RequestId,
        refusal: Refusal,
    },
    HeartbeatReply {
        request: RequestId,
        wall: Timestamp,
    },
    Submitted {
        request: RequestId,
        outcomes: Vec<SubmitOutcome>,
    },
    Reported {
        request: RequestId,
        outcomes: Vec<ReportOutcome>,
    },
    Got {
        request: RequestId,
        tasks: Vec<View>,
        left_out: LeftOut,
    },
    Waited {
        request: RequestId,
        satisfied: bool,
        tasks: Vec<View>,
        left_out: LeftOut,
    },
    Watching {
        request: RequestId,
        watch: WatchKey,
        tasks: Vec<View>,
        left_out: LeftOut,
    },
    Forgot {
        request: RequestId,
        outcomes: Vec<Result<(), Code>>,
    },
    Cancelled {
        request: RequestId,
        outcomes: Vec<(TaskId, CancelOutcome)>,
    },
    Queues {
        request: RequestId,
        queues: Vec<QueueInfo>,
        next: Option<QueueName>,
        wall: Timestamp,
    },
    Count {
        request: RequestId,
        count: u64,
    },
    Page {
        request: RequestId,
        tasks: Vec<View>,
        next: Option<Cursor>,
    },
    Workers {
        request: RequestId,
        workers: Vec<WorkerStatus>,
        next: Option<WorkerKey>,
    },
    BackedUp {
        request: RequestId,
        tasks: u64,
        bytes: u64,
    },
    Deliver(Vec<Delivery>),
    Signal {
        leases: Vec<Lease>,
        kind: SignalKind,
        reason: Box<str>,
    },
    Order(Order),
    Transition {
        watch: WatchKey,
        task: View,
    },
    Closing(Refusal),
}

/// One subscription to transitions.
pub type WatchKey = u64;

/// The places of the ids whose tasks have no room in the answer; filled in on the way out.
pub type LeftOut = Vec<u32>;

/// What became of one submitted task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SubmitOutcome {
    Created { state: State },
    Joined { generation: u32, state: State },
    NewGeneration { generation: u32, state: State },
    Refused(Refusal),
}

/// What a report did: the task's state after it, or why it was refused.
pub type ReportOutcome = Result<State, (Code, Option<State>)>;

/// What a cancel did to one task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CancelOutcome {
    Revoked,
    Signalled,
    AlreadyEnded,
    NotFound,
}

/// Why a worker is told to stop a handler.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignalKind {
    Cooperative,
    Force,
    SoftTimeLimit,
    TimeLimit,
    TakenBack,
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
#[derive(Debug)]
pub struct Delivery {
    pub slot: Slot,
    pub lease: Lease,
    pub attempt: u32,
    pub deliveries: u32,
    /// The worker reports the start, and begins once that is answered.
    pub report_start: bool,
    /// Filled in on the way out.
    pub submitted: Option<Box<Submitted>>,
}

/// A queue for listings.
#[derive(Debug, Clone, PartialEq)]
pub struct QueueInfo {
    pub record: QueueRecord,
    pub ready: u64,
    pub scheduled: u64,
    pub leased: u64,
    pub dead: u64,
    /// The task that has been ready for longest.
    pub oldest: Option<Slot>,
    /// For how long; filled in on the way out.
    pub oldest_ms: u64,
    pub workers: u32,
    pub submitted_total: u64,
    pub ended_total: u64,
    pub submitted_per_second: f64,
    pub ended_per_second: f64,
    pub bytes: u64,
}

impl Failure {
    /// As it is kept with the task.
    pub fn into_error(self, at: Timestamp, attempt: u32) -> TaskError {
        TaskError { kind: self.kind, message: self.message, traceback: self.traceback, at, attempt }
    }
}

impl Command {
    /// Opaque bytes that came with it, for bounding a batch.
    pub fn payload_bytes(&self) -> usize {
        let Command::Request { ask, .. } = self else { return 0 };
        match ask {
            Ask::Submit(tasks) => tasks.iter().flatten().map(|task| task.payload.len()).sum(),
            Ask::Report(reports) => {
                reports.iter().flatten().map(|report| report.kind.payload_bytes()).sum()
            }
            _ => 0,
        }
    }
}

impl ReportKind {
    fn payload_bytes(&self) -> usize {
        match self {
            ReportKind::Complete(result) => result.bytes.len(),
            ReportKind::Progress { meta, .. } => meta.len(),
            _ => 0,
        }
    }
}
