//! The effects that the machine asks for, and the messages that it sends to connections.

use std::path::PathBuf;
use std::sync::Arc;

use celeriac_proto::{ExchangeName, InvalidName, MailboxName, QueueName, TaskId};
use celeriac_record::{Lease, Order, Record, SessionId, Slot, State, TaskKey, Timestamp};

use super::{
    BindingOutline, BrokerOutline, ChordState, ConnectionKey, Cursor, DeliveredMail,
    DeliveryOutline, MailConsumerKey, MailboxOutline, QueueOutline, RequestId, Stats,
    StoredOutcome, TaskOutline, WatchKey, WorkerKey, WorkerOutline,
};

/// One effect. The broker carries effects out in their order.
#[derive(Debug)]
pub enum Effect {
    /// Append the record to the log. Messages after it in the same batch are sent once the record
    /// is durable.
    Store(Record),
    /// Submit the dead task of this slot again under a new key: the store copies its submit.
    Replay { key: TaskKey, generation: u32, at: Timestamp },
    /// The time of the ended task in this slot is over. Its records can go, and the log needs no
    /// record of that.
    Drop(Slot),
    /// Send a message to a connection.
    Send(ConnectionKey, Message),
    /// This task has reached the state that an unanswered wait asks for, and the machine is about
    /// to remove the task. Keep the task for the answer.
    Keep(ConnectionKey, RequestId, TaskOutline),
    /// Close this connection. The machine sends no more messages to it.
    Close(ConnectionKey),
    /// A worker lost its leases. This is for the log alone.
    WorkerLost(Box<LostWorker>),
    /// The machine refused a request of this connection, or items of it, as FORBIDDEN. This is for
    /// the audit log alone. The session writes down what it refuses itself.
    Forbade(ConnectionKey, Box<Forbidden>),
    /// Copy the stored records once the batch is durable. The store gives the answer.
    Backup {
        connection: ConnectionKey,
        request: RequestId,
        folder: PathBuf,
        /// The number of tasks.
        tasks: u64,
    },
}

/// A worker whose session ended without an outcome of its tasks, and what happened to these tasks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LostWorker {
    pub instance: Arc<str>,
    /// How long nothing was heard of the worker. `None`: it said goodbye.
    pub silent_ms: Option<u64>,
    /// The tasks that wait again, that ended as FAILURE, and that are REVOKED.
    pub queued: u64,
    pub failed: u64,
    pub revoked: u64,
    /// The oldest of these tasks, each with its new state; at most [`LostWorker::TASKS_MAX`].
    pub tasks: Vec<(TaskId, State)>,
}

/// What the machine refused, because the client may not do it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Forbidden {
    /// The outcomes of these ids: they have no task that the client sees, and it may make none.
    Outcomes { ids: Vec<TaskId>, count: usize },
    /// This exchange has bindings to what is of others, so the client may not delete it.
    Exchange(ExchangeName),
    /// This mailbox is exclusive to another connection.
    Mailbox(MailboxName),
}

impl Forbidden {
    /// The most ids that are named.
    pub const IDS_MAX: usize = 10;
}

impl LostWorker {
    /// The most tasks that are named: their ids fit into one line of a log.
    pub const TASKS_MAX: usize = 10;
}

/// A message to a connection.
#[derive(Debug)]
pub enum Message {
    /// A complete answer. The request id is 0 if the message answers no request.
    Answer(RequestId, Answer),
    /// An answer in outline. The broker completes the answer from the records before it sends the
    /// answer.
    Show(RequestId, Outlines),
    /// Tasks for a worker, in outline.
    Deliver(Vec<DeliveryOutline>),
    /// A watched task has changed.
    Transition { watch: WatchKey, task: TaskOutline },
    /// Any other message that answers no request.
    Push(Push),
}

/// An answer that needs nothing from the records.
#[derive(Debug, Clone)]
pub enum Answer {
    Welcome { session_id: SessionId, resumed: bool, leases: Vec<Lease>, wall: Timestamp },
    Done,
    Refused(Refusal),
    Heartbeat { wall: Timestamp },
    Submitted(Vec<SubmitOutcome>),
    Reported(Vec<ReportOutcome>),
    Stored(Vec<StoredOutcome>),
    Chord(ChordState),
    Forgot(Vec<Result<(), Code>>),
    Cancelled(Vec<(TaskId, CancelOutcome)>),
    Count(u64),
    Declared { created: bool, ready: u64, workers: u32 },
    BackedUp { tasks: u64, bytes: u64 },
    LogFilter(Box<str>),
    Mailbox { mailbox: MailboxName, ready: u64, consumers: u32 },
    Consuming(MailConsumerKey),
    Fetched { message: Option<DeliveredMail>, ready: u64, dropped: u64 },
}

/// An answer about tasks, queues, workers, mailboxes or bindings.
#[derive(Debug)]
pub enum Outlines {
    Got { tasks: Vec<TaskOutline> },
    Waited { satisfied: bool, tasks: Vec<TaskOutline> },
    Watching { watch: WatchKey, tasks: Vec<TaskOutline> },
    Queues { queues: Vec<QueueOutline>, next: Option<QueueName>, wall: Timestamp },
    Page(Page<TaskOutline>),
    Workers { workers: Vec<WorkerOutline>, next: Option<WorkerKey> },
    Mailboxes { mailboxes: Vec<MailboxOutline>, next: Option<MailboxName> },
    Bindings { bindings: Vec<BindingOutline>, is_last: bool },
    Broker(Box<BrokerOutline>),
    Stats(Box<Stats>),
}

/// One page of a listing of tasks.
#[derive(Debug)]
pub struct Page<T> {
    /// Each task with the cursor behind it.
    pub tasks: Vec<(Cursor, T)>,
    pub newest_first: bool,
    pub just_ended: bool,
    /// The start of the next page; none at the end of the listing.
    pub next: Option<Cursor>,
    /// How many tasks the listing has looked at, those for the pages before included, out of how
    /// many.
    pub looked: u64,
    pub total: u64,
}

/// A message that answers no request and needs nothing from the records.
#[derive(Debug, Clone)]
pub enum Push {
    Signal {
        leases: Vec<Lease>,
        kind: SignalKind,
        reason: Box<str>,
    },
    Order(Order),
    Closing(Refusal),
    /// Messages of a mailbox, and the number of messages that the mailbox dropped since a reader
    /// was last told.
    Mail {
        consumer: MailConsumerKey,
        messages: Vec<DeliveredMail>,
        dropped: u64,
    },
    ConsumerEnded {
        consumer: MailConsumerKey,
        mailbox: MailboxName,
    },
}

/// The outcome of the submit of one task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SubmitOutcome {
    Created {
        state: State,
    },
    Joined {
        generation: u32,
        state: State,
    },
    NewGeneration {
        generation: u32,
        state: State,
    },
    /// The task runs beside another task of the id, under an id of its own.
    CreatedBeside {
        id: TaskId,
        state: State,
    },
    JoinedBeside {
        id: TaskId,
        generation: u32,
        state: State,
    },
    Refused(Refusal),
}

/// The outcome of a report: the state of the task after the report, or the reason of the refusal.
pub type ReportOutcome = Result<State, (Code, Option<State>)>;

/// The outcome of a cancel for one task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CancelOutcome {
    Revoked,
    Signalled,
    AlreadyEnded,
    NotFound,
    /// The task runs and goes on. It will not run again.
    LeftRunning,
}

/// The reason of a signal to a worker that it must stop a handler.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignalKind {
    Cooperative,
    Force,
    SoftTimeLimit,
    TimeLimit,
    TakenBack,
}

/// The reason why the machine did not carry out a request, or one item of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    pub code: Code,
    pub message: Box<str>,
    pub retry_after_ms: u64,
}

impl Refusal {
    /// A refusal without a time to try again.
    pub fn new(code: Code, message: impl Into<Box<str>>) -> Self {
        Self { code, message: message.into(), retry_after_ms: 0 }
    }
}

impl From<InvalidName> for Refusal {
    fn from(error: InvalidName) -> Self {
        Self::new(Code::InvalidArgument, error.to_string())
    }
}

/// The codes of the protocol that the broker uses. PROTOCOL.md explains each code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    Malformed,
    FrameTooLarge,
    Unsupported,
    VersionMismatch,
    Handshake,
    Unauthenticated,
    Forbidden,
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

impl Code {
    /// Every code, in the order of the list above.
    pub const ALL: [Code; 20] = [
        Code::Malformed,
        Code::FrameTooLarge,
        Code::Unsupported,
        Code::VersionMismatch,
        Code::Handshake,
        Code::Unauthenticated,
        Code::Forbidden,
        Code::InvalidArgument,
        Code::PayloadTooLarge,
        Code::ResultTooLarge,
        Code::NotFound,
        Code::TaskExists,
        Code::NotFinished,
        Code::StaleLease,
        Code::QueueFull,
        Code::DiskFull,
        Code::Overloaded,
        Code::ShuttingDown,
        Code::SessionLost,
        Code::Internal,
    ];
}
