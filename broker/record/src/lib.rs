//! What the machine hands to the store: the records of the log, in the domain's own types.
//!
//! The store gives each record its bytes (`store/codec.rs`); the machine gives it its meaning. A
//! task has at most two records that matter: how it was submitted, and the latest change of its
//! state. If you add a field here, add it to the codec as an optional one, so that older
//! directories stay readable.

#![allow(missing_docs, reason = "a field whose name says it all has no comment")]

use std::sync::Arc;

use bytes::Bytes;
use celeriac_proto::{QueueName, TaskId, TaskName};

/// Wall-clock time in milliseconds since 1970, UTC.
pub type Timestamp = i64;

/// A place in the machine's table of tasks. Used again after a task is forgotten, so a record also
/// carries the serial number that tells two tasks of one slot apart.
pub type Slot = u32;

/// Which task a record speaks of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TaskKey {
    /// Where the machine keeps it.
    pub slot: Slot,
    /// Rises with every submit, for the life of the data directory. Never 0.
    pub serial: u64,
}

/// The right to report on a task. Rises strictly for the life of the data directory. 0: none.
pub type Lease = u64;

/// The public id of a session: random, so that nobody else can resume it.
pub type SessionId = [u8; 16];

/// One entry of the log.
#[derive(Debug, Clone, PartialEq)]
pub enum Record {
    /// A task came to be. Replaces every earlier record of its slot.
    Submitted(Box<Submitted>),
    /// The present state of a task. Replaces the change before it.
    Changed(Box<Changed>),
    /// The task is gone; nothing of it matters any more.
    Forgotten(TaskKey),
    /// The present record of a named thing. Replaces the one before of its name.
    Named(Named),
    /// The named thing is gone.
    Removed(Name),
}

/// A record of something that has a name and is no task. If you add a family, give it a file in the
/// store's codec and a line in the table there; the machine says what it means.
#[derive(Debug, Clone, PartialEq)]
pub enum Named {
    /// A queue that somebody configured or paused.
    Queue(QueueRecord),
    /// A worker's session, which its worker may resume.
    Session(SessionRecord),
}

/// The name of such a thing, within its family.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Name {
    Queue(QueueName),
    Session(SessionId),
}

impl Named {
    /// The name that the record is found by.
    pub fn name(&self) -> Name {
        match self {
            Named::Queue(queue) => Name::Queue(queue.name.clone()),
            Named::Session(session) => Name::Session(session.id),
        }
    }
}

/// A task that was submitted, after defaults of its queue were filled in.
#[derive(Debug, Clone, PartialEq)]
pub struct Submitted {
    pub key: TaskKey,
    pub generation: u32,
    /// It runs once this task of its id has ended.
    pub after: Option<TaskKey>,
    pub submitted_at: Timestamp,
    pub eta: Option<Timestamp>,
    pub expires: Option<Timestamp>,
    pub result_ttl_ms: u64,
    pub spec: TaskSpec,
}

/// What a producer says of a task, and what stays so for the life of the task. If you add an option
/// to a task, add it here; CONTRIBUTING.md has the other places.
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
    /// Deliveries that may begin without an outcome.
    pub max_deliveries: u32,
    pub early_ack: bool,
    /// Empty: none.
    pub root_id: Box<str>,
    /// Empty: none.
    pub parent_id: Box<str>,
    pub tags: Vec<Box<str>>,
}

impl Submitted {
    /// The same task as submitted anew: due at once, and it no longer expires.
    pub fn again(self, key: TaskKey, generation: u32, at: Timestamp) -> Self {
        Self { key, generation, after: None, submitted_at: at, eta: None, expires: None, ..self }
    }
}

/// How often a task may be begun without an outcome, unless it says otherwise.
pub const MAX_DELIVERIES_DEFAULT: u32 = 20;

/// When a failed task runs again.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RetryPolicy {
    /// Runs in all, the first included.
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

/// How far the delay is spread, so that tasks that failed together do not return together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Jitter {
    None,
    Full,
    Equal,
}

/// The states of a task. An id without a task is no state but the absence of one.
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
    /// SUCCESS, FAILURE and REVOKED never change within a generation.
    pub fn is_terminal(self) -> bool {
        matches!(self, State::Success | State::Failure | State::Revoked)
    }
}

/// The whole of what happened to a task since its submit.
#[derive(Debug, Clone, PartialEq)]
pub struct Changed {
    pub key: TaskKey,
    pub state: State,
    /// Rises with every transition; the submit was version 1.
    pub version: u32,
    /// When this transition happened.
    pub at: Timestamp,
    /// Who made it happen.
    pub actor: Actor,
    /// The current lease, or the last one.
    pub lease: Lease,
    /// How that lease ended.
    pub closed_by: ClosedBy,
    /// Whose lease it is; `None` when the task is not leased.
    pub session: Option<SessionId>,
    /// The instance that holds or held the lease; empty: none yet. Shared, since every change
    /// names it.
    pub worker: Arc<str>,
    pub attempts: u32,
    pub deliveries: u32,
    /// How often a worker was lost while it ran the task, or may have run it, since the last
    /// outcome.
    pub losses: u32,
    /// How many of these were without a report of its start.
    pub silent: u32,
    /// When a waiting task is due; of a running one, when a forced cancel takes it from its
    /// worker.
    pub due: Option<Timestamp>,
    pub leased_at: Option<Timestamp>,
    pub started_at: Option<Timestamp>,
    pub progress: Option<Progress>,
    /// The last few errors, oldest first.
    pub errors: Vec<TaskError>,
    /// With SUCCESS.
    pub result: Option<Body>,
    /// With REVOKED, and while a cancel is requested; empty otherwise.
    pub revoked_reason: Box<str>,
    pub cancel_requested: bool,
}

/// Which report ended a lease, so that one that is sent again can be told from one that is stale.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClosedBy {
    /// None: the lease is current, or it was lost.
    Nobody,
    Complete,
    /// Fail, retry or reject.
    Fail,
    Release,
    /// None: the broker took it back before it began.
    TakenBack,
}

/// Who makes a task change its state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Actor {
    /// The broker itself: it hands out, it lets time pass, it finds a worker lost.
    Broker,
    /// The worker that holds or held the lease.
    Worker,
    /// Another client, by its instance.
    Client(Arc<str>),
}

/// Opaque bytes and what they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Body {
    pub bytes: Bytes,
    /// Empty: JSON.
    pub content_type: Box<str>,
}

/// What a handler last said of its progress.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    pub state: Box<str>,
    pub meta: Bytes,
    pub at: Timestamp,
}

/// Why one attempt, or one delivery, came to nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskError {
    pub kind: Box<str>,
    pub message: Box<str>,
    pub traceback: Box<str>,
    pub at: Timestamp,
    pub attempt: u32,
}

/// A queue that somebody configured or paused.
#[derive(Debug, Clone, PartialEq)]
pub struct QueueRecord {
    pub name: QueueName,
    pub paused: bool,
    pub tasks_max: Option<u64>,
    pub bytes_max: Option<u64>,
    pub expires_in_ms: Option<u64>,
    pub result_ttl_ms: Option<u64>,
}

/// A worker's session: what it keeps over a restart of the broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionRecord {
    pub id: SessionId,
    pub instance: Arc<str>,
    /// How many handlers its worker runs at once.
    pub concurrency: u32,
    /// What it was last ordered to do.
    pub order: Order,
}

/// What an operator asks of a worker.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Order {
    /// Take tasks, as every worker does that was never told otherwise.
    #[default]
    Resume,
    Quiet,
    Shutdown,
}
