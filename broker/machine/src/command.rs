//! The language that the rest of the broker speaks to the machine: commands go in, effects come
//! out, all in the domain's own types.
//!
//! Sessions turn wire frames into commands and messages into wire frames; nothing here knows the
//! wire. `ask` has what clients ask, `effect` what the machine wants done and says, `outline` what
//! it says about tasks, queues and workers.

mod ask;
mod effect;
mod outline;

use std::sync::Arc;

pub use celeriac_record::Order;
use celeriac_record::{SessionId, Timestamp};

use celeriac_proto::{QueueName, TaskName};

pub use self::ask::{
    Ask, CancelTarget, Cursor, Dead, Failure, Filter, Observe, OnConflict, Operate, Produce,
    ReportKind, Submission, TaskReport, When, Work, WorkerKey, WrongReport,
};
pub use self::effect::{
    Answer, CancelOutcome, Code, Effect, Message, Outlines, Push, Refusal, ReportOutcome,
    SignalKind, SubmitOutcome,
};
pub use self::outline::{
    DeliveryOutline, Outline, QueueOutline, TaskOutline, WaitingFor, WorkerOutline, WorkerStatus,
};

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

/// One subscription to transitions.
pub type WatchKey = u64;

/// Everything that can happen to the machine, except that time passes.
#[derive(Debug)]
pub enum Command {
    /// A client shook hands.
    Connect(Box<Connect>),
    /// The connection is lost, or it is closed for a reason that its client is told. Its session
    /// may come back.
    Disconnect { connection: ConnectionKey, reason: Option<Refusal> },
    /// A connected client asks something.
    Request { connection: ConnectionKey, request: RequestId, ask: Ask },
    /// The client has sent bytes that are not a whole frame yet, or a frame that waits behind the
    /// frames of other clients.
    Heard(ConnectionKey),
    /// A request came that is not carried out yet.
    Alive(ConnectionKey),
    /// The disk is nearly full, or no longer.
    DiskLow(bool),
    /// The broker closes down: every connection is told and closed.
    Shutdown,
}

/// A client that shook hands.
#[derive(Debug)]
pub struct Connect {
    pub connection: ConnectionKey,
    pub request: RequestId,
    /// The id for a new session, random.
    pub session_id: SessionId,
    /// The session that the client wants to resume.
    pub resume: Option<SessionId>,
    pub instance: Arc<str>,
    pub worker: Option<WorkerInfo>,
}

/// What a worker can do and where it runs.
#[derive(Debug, Clone, Default)]
pub struct WorkerInfo {
    /// The queues that the worker serves, with the weight of each.
    pub queues: Vec<(QueueName, u32)>,
    pub task_names: Vec<TaskName>,
    pub hostname: Box<str>,
    pub pid: u32,
    pub concurrency: u32,
}

impl Command {
    /// Opaque bytes that came with the command, for bounding a batch.
    pub fn payload_bytes(&self) -> usize {
        let Command::Request { ask, .. } = self else { return 0 };
        match ask {
            Ask::Produce(Produce::Submit(tasks)) => {
                tasks.iter().flatten().map(|task| task.spec.payload.len()).sum()
            }
            Ask::Work(Work::Report(reports)) => {
                reports.iter().flatten().map(|report| report.kind.payload_bytes()).sum()
            }
            _ => 0,
        }
    }
}
