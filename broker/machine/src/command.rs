//! The interface of the machine for the rest of the broker: the machine takes commands and gives
//! effects, all in types of the domain.
//!
//! Sessions turn wire frames into commands and messages into wire frames; these modules do not know
//! the wire. `ask` has the requests of clients, `mail` those about mailboxes and routes, `chord`
//! those about chords, `counters` what happens in a queue, `effect` the effects and messages of the
//! machine, `outcome` the outcomes that clients put, `outline` the parts of messages about tasks,
//! queues and workers, `stats` the figures for monitors, `scope` what a client may see.

mod ask;
mod chord;
mod counters;
mod effect;
mod mail;
mod outcome;
mod outline;
mod scope;
mod stats;

use std::sync::Arc;

pub use celeriac_record::Order;
use celeriac_record::{SessionId, Timestamp};

use celeriac_proto::{QueueName, TaskName};

pub use self::ask::{
    Ask, CancelMode, CancelTarget, Cursor, Dead, Failure, Filter, List, ListPlace, Observe,
    OnConflict, Operate, Produce, Release, ReportKind, Serving, Submission, TaskReport, When, Work,
    WorkerKey, WrongReport,
};
pub use self::chord::{ChordAsk, ChordExtend, ChordPart, ChordState};
pub use self::counters::{Bounds, Histogram, QueueCounters, SPAN_BOUNDS_MS, Spans};
pub use self::effect::{
    Answer, CancelOutcome, Code, Effect, Forbidden, LostWorker, Message, Outlines, Page, Push,
    Refusal, ReportOutcome, SignalKind, SubmitOutcome,
};
pub use self::mail::{
    Binding, BindingOutline, DeliveredMail, DestinationName, Mail, MailConsumerKey, MailMessage,
    MailTag, MailboxOptions, MailboxOutline, Publish, Route,
};
pub use self::outcome::{OutcomeKind, StoredOutcome, TaskOutcome, tells_of_retry};
pub use self::outline::{
    BrokerOutline, DeliveryOutline, Outline, QueueOutline, TaskOutline, WaitingFor, WorkerOutline,
    WorkerStatus,
};
pub use self::scope::{Patterns, Scope};
pub use self::stats::{BrokerStats, QueueStats, Stats};

/// Milliseconds on a clock that never jumps. The zero of the clock is arbitrary.
pub type Monotonic = u64;

/// The two times of one moment. Leases, waits and limits run on `mono`, schedules on `wall`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    pub wall: Timestamp,
    pub mono: Monotonic,
}

/// One connection of this process. A key is never used again.
pub type ConnectionKey = u64;

/// The number that a client gave its request.
pub type RequestId = u64;

/// One watch: a client's subscription to transitions of tasks.
pub type WatchKey = u64;

/// Every input of the machine except the time.
#[derive(Debug)]
pub enum Command {
    /// A client finished its handshake.
    Connect(Box<Connect>),
    /// The connection is lost, or the broker closes it and sends the client the reason. A worker
    /// may resume its session later.
    Disconnect { connection: ConnectionKey, reason: Option<Refusal> },
    /// The access of this client has ended: the broker tells it so and closes the connection. A
    /// worker may resume its session later.
    Expel { connection: ConnectionKey, reason: Refusal },
    /// A connected client sent a request.
    Request { connection: ConnectionKey, request: RequestId, ask: Ask },
    /// The client sent a part of a frame, or a frame that waits behind the frames of other clients.
    Heard(ConnectionKey),
    /// The client sent a request that the broker has not carried out yet.
    Alive(ConnectionKey),
    /// Whether the disk is nearly full.
    DiskLow(bool),
    /// From now on the broker keeps an ended task for this long if neither the task nor its queue
    /// sets a time. Tasks that were submitted before keep their time.
    ResultTtl(u64),
    /// The broker shuts down: the machine informs every client and closes every connection.
    Shutdown,
}

/// The handshake of a client.
#[derive(Debug)]
pub struct Connect {
    pub connection: ConnectionKey,
    pub request: RequestId,
    /// A random id for a new session.
    pub session_id: SessionId,
    /// The session that the client wants to resume.
    pub resume: Option<SessionId>,
    pub instance: Arc<str>,
    pub worker: Option<WorkerInfo>,
    /// The name of its entry in the access file, if there is one: a session is of this entry.
    pub entry: Option<Arc<str>>,
    /// What the client may see. Absent: everything.
    pub scope: Option<Arc<Scope>>,
}

/// The queues and names that a worker serves, and where the worker runs.
#[derive(Debug, Clone, Default)]
pub struct WorkerInfo {
    /// The queues that the worker serves, with the weight of each.
    pub queues: Vec<(QueueName, u32)>,
    pub task_names: Vec<TaskName>,
    /// Whether the worker takes tasks of any name.
    pub any_name: bool,
    /// Whether the worker cannot give back a task that it was handed.
    pub keeps_leases: bool,
    pub hostname: Box<str>,
    pub pid: u32,
    pub concurrency: u32,
}

impl Command {
    /// The size of the payloads, results and metadata in the command. This size bounds a batch.
    pub fn payload_bytes(&self) -> usize {
        let Command::Request { ask, .. } = self else { return 0 };
        match ask {
            Ask::Produce(Produce::Submit(tasks)) => {
                tasks.iter().flatten().map(|task| task.spec.payload.len()).sum()
            }
            Ask::Work(Work::Report(reports)) => {
                reports.iter().flatten().map(|report| report.kind.payload_bytes()).sum()
            }
            Ask::Mail(Mail::Publish(publish)) => publish.message.bytes(),
            Ask::Produce(Produce::Chord { ask: ChordAsk::Part(part), .. }) => part.body.bytes.len(),
            Ask::Produce(Produce::PutOutcome(outcomes)) => {
                outcomes.iter().flatten().map(|outcome| outcome.body.bytes.len()).sum()
            }
            _ => 0,
        }
    }
}
