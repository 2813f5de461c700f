//! What the machine wants done, and what it says to connections.

use std::path::PathBuf;

use celeriac_proto::{InvalidName, QueueName, TaskId};
use celeriac_record::{Lease, Order, Record, SessionId, Slot, State, TaskKey, Timestamp};

use super::{
    ConnectionKey, Cursor, DeliveryOutline, QueueOutline, RequestId, TaskOutline, WatchKey,
    WorkerKey, WorkerOutline,
};

/// What the machine wants done, in order.
#[derive(Debug)]
pub enum Effect {
    /// Append to the log. Whatever is sent after it in the same batch waits for it to be durable.
    Store(Record),
    /// The dead task of this slot is submitted again under a new key: its submit is copied.
    Replay { key: TaskKey, generation: u32, at: Timestamp },
    /// The task of this slot is past its time: nothing of it matters any more, and the log need not
    /// say so.
    Drop(Slot),
    /// Tell a connection something.
    Send(ConnectionKey, Message),
    /// This task has come as far as an unanswered wait wants, and it is about to go: the answer
    /// shall show it.
    Keep(ConnectionKey, RequestId, TaskOutline),
    /// Nothing more will be sent to this connection: close it.
    Close(ConnectionKey),
    /// Copy what is stored once the batch is durable; the answer comes from there.
    Backup {
        connection: ConnectionKey,
        request: RequestId,
        folder: PathBuf,
        /// How many tasks there are.
        tasks: u64,
    },
}

/// What the machine says to a connection.
#[derive(Debug)]
pub enum Message {
    /// An answer that is whole as the machine gives it. A request id of 0: nobody asked.
    Answer(RequestId, Answer),
    /// An answer in outline. It is completed from the records on its way out.
    Show(RequestId, Outlines),
    /// Tasks for a worker, in outline.
    Deliver(Vec<DeliveryOutline>),
    /// A watched task has changed.
    Transition { watch: WatchKey, task: TaskOutline },
    /// Something else that no request asked for.
    Push(Push),
}

/// An answer that shows nothing of the records.
#[derive(Debug, Clone)]
pub enum Answer {
    Welcome { session_id: SessionId, resumed: bool, leases: Vec<Lease>, wall: Timestamp },
    Done,
    Refused(Refusal),
    Heartbeat { wall: Timestamp },
    Submitted(Vec<SubmitOutcome>),
    Reported(Vec<ReportOutcome>),
    Forgot(Vec<Result<(), Code>>),
    Cancelled(Vec<(TaskId, CancelOutcome)>),
    Count(u64),
    BackedUp { tasks: u64, bytes: u64 },
}

/// An answer about tasks, queues or workers.
#[derive(Debug)]
pub enum Outlines {
    Got { tasks: Vec<TaskOutline> },
    Waited { satisfied: bool, tasks: Vec<TaskOutline> },
    Watching { watch: WatchKey, tasks: Vec<TaskOutline> },
    Queues { queues: Vec<QueueOutline>, next: Option<QueueName>, wall: Timestamp },
    Page { tasks: Vec<TaskOutline>, next: Option<Cursor> },
    Workers { workers: Vec<WorkerOutline>, next: Option<WorkerKey> },
}

/// A message that no request asked for, and that shows nothing of the records.
#[derive(Debug, Clone)]
pub enum Push {
    Signal { leases: Vec<Lease>, kind: SignalKind, reason: Box<str> },
    Order(Order),
    Closing(Refusal),
}

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
