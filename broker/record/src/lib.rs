//! The records of the log, in types of the domain. The machine gives them to the store.
//!
//! The store encodes each record as bytes (`store/codec.rs`); the machine interprets the record. A
//! task has at most two records that count: its submit, and the latest change of its state. If you
//! add a field here, add it to the codec as an optional field, so that the broker can still read
//! older data directories.

#![allow(missing_docs, reason = "a field whose name says it all has no comment")]

use std::sync::Arc;

use bytes::Bytes;
use celeriac_proto::limits::PRIORITY_DEFAULT;
use celeriac_proto::{ExchangeName, QueueName, TaskId, TaskName};

/// Wall-clock time in milliseconds since 1970, UTC.
pub type Timestamp = i64;

/// A place in the machine's table of tasks. A slot is used again after its task is forgotten. So a
/// record also has a serial number, which distinguishes two tasks of one slot.
pub type Slot = u32;

/// The key of the task of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TaskKey {
    /// The place of the task in the machine's table.
    pub slot: Slot,
    /// A number that rises with every submit, for the life of the data directory. It is never 0.
    pub serial: u64,
}

/// The number of a lease: the right to report on a task. The numbers rise strictly for the life of
/// the data directory. 0: no lease.
pub type Lease = u64;

/// The public id of a session. The id is random, so that no other client can resume the session.
pub type SessionId = [u8; 16];

/// One entry of the log.
#[derive(Debug, Clone, PartialEq)]
pub enum Record {
    /// A new task. This record replaces every earlier record of its slot.
    Submitted(Box<Submitted>),
    /// The present state of a task. This record replaces the earlier change.
    Changed(Box<Changed>),
    /// The task is forgotten: none of its records counts any more.
    Forgotten(TaskKey),
    /// The present record of a named thing. This record replaces the earlier one of its name.
    Named(Named),
    /// The named thing is removed.
    Removed(Name),
}

/// A record of something that has a name and is no task. If you add a family, give it a file in the
/// store's codec and a line in the table there; the machine says what it means.
#[derive(Debug, Clone, PartialEq)]
pub enum Named {
    /// A queue that somebody configured, paused or declared.
    Queue(QueueRecord),
    /// A worker's session, which its worker may resume.
    Session(SessionRecord),
    Exchange(ExchangeRecord),
    /// A binding to a queue of tasks.
    Binding(BindingRecord),
    /// A chord, without its parts.
    Chord(ChordRecord),
}

/// The name of such a thing, within its family.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Name {
    Queue(QueueName),
    Session(SessionId),
    Exchange(ExchangeName),
    /// A binding is its own name.
    Binding(BindingRecord),
    Chord(TaskId),
}

impl Named {
    /// The name that the record is found by.
    pub fn name(&self) -> Name {
        match self {
            Named::Queue(queue) => Name::Queue(queue.name.clone()),
            Named::Session(session) => Name::Session(session.id),
            Named::Exchange(exchange) => Name::Exchange(exchange.name.clone()),
            Named::Binding(binding) => Name::Binding(binding.clone()),
            Named::Chord(chord) => Name::Chord(chord.group.clone()),
        }
    }
}

/// A submitted task, with the defaults of its queue filled in.
#[derive(Debug, Clone, PartialEq)]
pub struct Submitted {
    pub key: TaskKey,
    pub generation: u32,
    /// The task of the same id that must end before this task runs.
    pub after: Option<TaskKey>,
    pub submitted_at: Timestamp,
    pub eta: Option<Timestamp>,
    pub expires: Option<Timestamp>,
    pub result_ttl_ms: u64,
    pub spec: TaskSpec,
}

/// The part of a task that its producer sets. It does not change for the life of the task. If you
/// add an option to a task, add it here; CONTRIBUTING.md lists the other places.
#[derive(Debug, Clone, PartialEq)]
pub struct TaskSpec {
    pub id: TaskId,
    pub name: TaskName,
    pub queue: QueueName,
    pub payload: Bytes,
    /// Empty: JSON.
    pub content_type: Box<str>,
    pub headers: Vec<(Box<str>, Bytes)>,
    /// Empty: none.
    pub shadow: Box<str>,
    pub priority: u8,
    pub retry: RetryPolicy,
    pub soft_time_limit_ms: Option<u64>,
    pub time_limit_ms: Option<u64>,
    /// The number of deliveries that may begin without an outcome.
    pub max_deliveries: u32,
    pub early_ack: bool,
    /// Empty: none.
    pub root_id: Box<str>,
    /// Empty: none.
    pub parent_id: Box<str>,
    pub tags: Vec<Box<str>>,
    /// Marks the submit, so that the machine knows the same submit again. Empty: none.
    pub submit_key: Box<str>,
    /// How long before its eta the task may be handed out.
    pub lead_ms: u64,
    /// Whether the task is forgotten at once when it ends, however it ends.
    pub forget_at_end: bool,
    /// Whether a worker announces the end of the task if it does not begin.
    pub announce_end: bool,
}

impl TaskSpec {
    /// A task without payload in the default queue, with the default of each option.
    pub fn new(id: TaskId, name: TaskName) -> Self {
        Self {
            id,
            name,
            queue: QueueName::default(),
            payload: Bytes::new(),
            content_type: "".into(),
            headers: Vec::new(),
            shadow: "".into(),
            priority: PRIORITY_DEFAULT as u8,
            retry: RetryPolicy::default(),
            soft_time_limit_ms: None,
            time_limit_ms: None,
            max_deliveries: MAX_DELIVERIES_DEFAULT,
            early_ack: false,
            root_id: "".into(),
            parent_id: "".into(),
            tags: Vec::new(),
            submit_key: "".into(),
            lead_ms: 0,
            forget_at_end: false,
            announce_end: false,
        }
    }
}

impl Submitted {
    /// The same task as a new submit: the task is due at once and does not expire.
    pub fn again(self, key: TaskKey, generation: u32, at: Timestamp) -> Self {
        Self { key, generation, after: None, submitted_at: at, eta: None, expires: None, ..self }
    }
}

/// The default of [`TaskSpec::max_deliveries`].
pub const MAX_DELIVERIES_DEFAULT: u32 = 20;

/// When a failed task runs again.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RetryPolicy {
    /// The maximum number of runs, the first run included.
    pub attempts_max: u32,
    pub backoff: Backoff,
    pub delay_ms: u64,
    pub factor: f64,
    pub delay_max_ms: u64,
    pub jitter: Jitter,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            attempts_max: 4,
            backoff: Backoff::Exponential,
            delay_ms: 1_000,
            factor: 2.0,
            delay_max_ms: 600_000,
            jitter: Jitter::None,
        }
    }
}

/// How the delay grows from one attempt to the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backoff {
    Exponential,
    Fixed,
    Polynomial,
}

/// The random spread of the delay. It keeps tasks that failed together from running again together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Jitter {
    None,
    Full,
    Equal,
}

/// The states of a task. An id without a task has no state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum State {
    Scheduled,
    Queued,
    Leased,
    Started,
    Retry,
    Success,
    Failure,
    Revoked,
}

impl State {
    /// The name that people and programs see.
    pub fn name(self) -> &'static str {
        match self {
            State::Scheduled => "SCHEDULED",
            State::Queued => "QUEUED",
            State::Leased => "LEASED",
            State::Started => "STARTED",
            State::Retry => "RETRY",
            State::Success => "SUCCESS",
            State::Failure => "FAILURE",
            State::Revoked => "REVOKED",
        }
    }

    /// SUCCESS, FAILURE and REVOKED never change within a generation.
    pub fn is_terminal(self) -> bool {
        matches!(self, State::Success | State::Failure | State::Revoked)
    }
}

/// The full record of the changes of a task since its submit.
#[derive(Debug, Clone, PartialEq)]
pub struct Changed {
    pub key: TaskKey,
    pub state: State,
    /// A number that rises with every transition. The submit has version 1.
    pub version: u32,
    /// When this transition happened.
    pub at: Timestamp,
    /// The actor that caused this transition.
    pub actor: Actor,
    /// The current lease, or the last one.
    pub lease: Lease,
    /// How that lease ended.
    pub closed_by: ClosedBy,
    /// The session that holds the lease; `None` if the task is not leased.
    pub session: Option<SessionId>,
    /// The worker instance that holds or held the lease. Empty: no lease yet. The text is shared,
    /// because every change has it.
    pub worker: Arc<str>,
    pub attempts: u32,
    pub deliveries: u32,
    /// The number of workers that were lost while they ran the task, or may have run it, since the
    /// last outcome.
    pub losses: u32,
    /// The losses without a report of a start.
    pub silent: u32,
    /// The time when a waiting task is due. For a running task: the time when a forced cancel
    /// revokes its lease.
    pub due: Option<Timestamp>,
    pub leased_at: Option<Timestamp>,
    pub started_at: Option<Timestamp>,
    pub progress: Option<Progress>,
    /// The last few errors, oldest first.
    pub errors: Vec<TaskError>,
    /// Only with SUCCESS, and with a FAILURE whose worker reported one.
    pub result: Option<Body>,
    /// The result TTL that the last report set, in place of the task's own.
    pub result_ttl_ms: Option<u64>,
    /// Set with REVOKED and while a cancel is requested; otherwise empty.
    pub revoked_reason: Box<str>,
    pub cancel: Cancel,
    /// When that cancel was first requested.
    pub cancel_at: Option<Timestamp>,
    /// Whether the worker reported that the task never runs again.
    pub settled: bool,
    /// Whether the task was handed out before the current lease, or the last one.
    pub redelivered: bool,
}

/// What a client asked of a task that runs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Cancel {
    #[default]
    None,
    /// The task must not run again, and its worker is not told.
    Silent,
    /// The worker is told to stop the handler.
    Told,
    /// The handler never begins. The task is handed out so that a worker announces its end.
    CalledOff,
}

/// The report that ended a lease. It distinguishes a report that is sent again from a stale report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClosedBy {
    /// No report: the lease is current, or it was lost.
    Nobody,
    Complete,
    /// A report of a failure, a retry or a reject.
    Fail,
    Release,
    /// No report: the broker took the lease back before the handler began.
    TakenBack,
    /// A release because the process of the handler died.
    Lost,
}

/// The actor of a change of a task's state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Actor {
    /// The broker itself: it delivers tasks, handles timers and detects lost workers.
    Broker,
    /// The worker that holds or held the lease.
    Worker,
    /// Another client, with its instance.
    Client(Arc<str>),
}

/// Opaque bytes with their content type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Body {
    pub bytes: Bytes,
    /// Empty: JSON.
    pub content_type: Box<str>,
}

/// The last progress that a handler reported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    pub state: Box<str>,
    pub meta: Bytes,
    pub at: Timestamp,
}

/// The reason why one attempt or one delivery failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskError {
    pub kind: Box<str>,
    pub message: Box<str>,
    pub traceback: Box<str>,
    pub at: Timestamp,
    pub attempt: u32,
    /// When the attempt was handed out and when it began; `None` when no worker had the task.
    pub leased_at: Option<Timestamp>,
    pub started_at: Option<Timestamp>,
    /// The worker instance that had the attempt; empty when none had.
    pub worker: Arc<str>,
}

/// A queue that an operator configured or paused, or that a client declared.
#[derive(Debug, Clone, PartialEq)]
pub struct QueueRecord {
    pub name: QueueName,
    pub paused: bool,
    pub tasks_max: Option<u64>,
    pub bytes_max: Option<u64>,
    pub expires_in_ms: Option<u64>,
    pub result_ttl_ms: Option<u64>,
    /// Whether a client declared the queue, so that it stays without tasks and workers.
    pub declared: bool,
    /// For a declared queue: the broker deletes it after this time without use.
    pub idle_ms: Option<u64>,
}

/// An exchange: it leads messages by their routing keys to mailboxes and queues.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExchangeRecord {
    pub name: ExchangeName,
    pub kind: ExchangeKind,
    /// Whether the exchange ends with its last binding.
    pub auto_delete: bool,
}

/// How an exchange compares routing keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExchangeKind {
    /// The key of the message equals the key of the binding.
    Direct,
    /// Word by word, with `*` for one word and `#` for any number of words.
    Topic,
    /// The exchange does not compare: every binding gets every message.
    Fanout,
}

/// A binding of an exchange to a queue of tasks.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BindingRecord {
    pub exchange: ExchangeName,
    /// At most 255 bytes; may be empty.
    pub routing_key: Box<str>,
    pub queue: QueueName,
}

/// The data of a worker's session that survives a restart of the broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionRecord {
    pub id: SessionId,
    pub instance: Arc<str>,
    /// The name of the entry in the access file that the worker came with, if there is one.
    pub entry: Option<Arc<str>>,
    /// The number of handlers that the worker runs at once.
    pub concurrency: u32,
    /// The last order to the worker.
    pub order: Order,
    /// Whether the worker cannot give back what it was handed.
    pub keeps_leases: bool,
}

/// The data of a chord that its parts do not show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChordRecord {
    /// The id of the group whose parts the chord counts.
    pub group: TaskId,
    /// The number of members, without members that were added.
    pub size: Option<u32>,
    /// The last lease: the right to send the body. 0: none yet.
    pub lease: Lease,
    /// The body was sent.
    pub is_done: bool,
    /// When the broker forgets the chord, unless it gets more parts.
    pub expires_at: Timestamp,
}

/// An order of an operator to a worker.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Order {
    /// Take tasks. This is the default for a worker without an order.
    #[default]
    Resume,
    Quiet,
    Shutdown,
}
