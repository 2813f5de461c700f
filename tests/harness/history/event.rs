//! What a history is made of: all that clients asked and were told, in the words of the wire, and
//! what was done to the broker meanwhile.

use celeriac_proto::wire::{self, ErrorCode, cancel_outcome, cancel_signal};

/// The place of an entry in its history. An entry with a lower mark was written down before one
/// with a higher mark.
pub type Mark = usize;

/// One client's connection, unique in its history. 0 stands for whoever wrote down what happened to
/// the broker.
pub type ConnectionId = u64;

/// The two times of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Moment {
    /// On a clock that only goes forward, the same for all of a history.
    pub mono_ms: u64,
    /// What the broker's wall clock shows at that moment. It may jump.
    pub wall_ms: i64,
}

/// One line of a history.
#[derive(Debug, Clone)]
pub struct Entry {
    /// When it was written down.
    pub at: Moment,
    /// On which connection.
    pub connection: ConnectionId,
    /// What happened.
    pub event: Event,
}

/// What a client asked or was told, or what was done to the broker.
///
/// What is asked is written down *before* its bytes may reach the broker, what is told *after* they
/// have come. So an answer that stands before a request was given before that request was seen: the
/// rules need no other order.
#[derive(Debug, Clone)]
pub enum Event {
    /// A client is about to connect. Before it, the broker knew nothing of this connection.
    Connecting,
    /// The broker accepted the handshake.
    Welcomed(Box<wire::Welcome>),
    /// The connection is gone, by whoever's fault.
    Disconnected,
    /// One item of a request was sent, or at least handed to the system.
    Asked(Ask),
    /// The answer to that item. An item that has none happened once or not at all.
    Answered {
        /// The item.
        ask: Mark,
        /// What it was told.
        answer: Answer,
    },
    /// The request with this item was refused as a whole.
    Refused {
        /// The item.
        ask: Mark,
        /// Why.
        code: ErrorCode,
    },
    /// A worker was handed a task.
    Delivered(Box<wire::Delivery>),
    /// A worker was told something about a lease of its own.
    Signalled {
        /// Which.
        lease: u64,
        /// What.
        kind: cancel_signal::Kind,
    },
    /// A watch told of a transition.
    Pushed(Box<wire::TaskInfo>),
    /// A handler began to run, by the word of its own `Context`.
    Began {
        /// The task.
        id: String,
        /// Its run.
        generation: u32,
        /// Under this lease.
        lease: u64,
        /// How often it was handed out.
        deliveries: u32,
        /// Which attempt it is.
        attempt: u32,
    },
    /// The broker's process is gone: killed, ended, or cut off from power.
    BrokerDown,
    /// The broker's process is about to be started again.
    BrokerUp,
    /// The broker's wall clock was set.
    ClockSet,
    /// The queue has one producer connection and one worker session in all of this history, and is
    /// never paused.
    InOrder {
        /// Its name.
        queue: String,
    },
    /// Nothing is asked any more and all had time to end: what is read from here on shows how it
    /// ended.
    Settled,
}

/// One item of a request.
#[derive(Debug, Clone)]
pub enum Ask {
    /// A task was submitted.
    Submit(Box<wire::Task>),
    /// An id was to be cancelled.
    Cancel {
        /// Which.
        id: String,
        /// Whether by force.
        force: bool,
    },
    /// All of a tree or with a tag were to be cancelled.
    CancelMany {
        /// Of this root, if not empty.
        root_id: String,
        /// With this tag, if not empty.
        tag: String,
    },
    /// A queue was to be paused, or to go on.
    Pause {
        /// Which.
        queue: String,
        /// False: it was to go on.
        paused: bool,
    },
    /// Everything that waits in a queue was to be revoked.
    Purge {
        /// Which.
        queue: String,
    },
    /// The same, and the queue itself was to go.
    Delete {
        /// Which.
        queue: String,
    },
    /// Dead tasks were to run again, or to be dropped.
    Dead {
        /// Which; empty: those that match a filter.
        ids: Vec<String>,
        /// Whether they were to run again.
        again: bool,
    },
    /// An id was to be forgotten.
    Forget {
        /// Which.
        id: String,
    },
    /// An id was looked at or waited for.
    Read {
        /// Which.
        id: String,
        /// Whether its result was asked for.
        with_result: bool,
    },
    /// An id was watched from then on. The answer is its state at that moment.
    Watch {
        /// Which.
        id: String,
        /// Whether its result was asked for.
        with_result: bool,
    },
    /// Tasks were listed, by themselves or with the workers that hold them.
    List,
    /// Queues were listed.
    Queues,
    /// A worker reported.
    Report(Box<wire::TaskReport>),
    /// A worker said how many leases it wants to hold.
    Credit(u32),
    /// A client took its leave.
    Goodbye,
    /// Anything else, such as a heartbeat: the sign of life matters.
    Other,
}

/// The answer to one item.
#[derive(Debug, Clone)]
pub enum Answer {
    /// To [`Ask::Submit`].
    Submit(wire::SubmitOutcome),
    /// To [`Ask::Cancel`].
    Cancel(cancel_outcome::Kind),
    /// To [`Ask::CancelMany`].
    CancelMany(Vec<wire::CancelOutcome>),
    /// To [`Ask::Forget`].
    Forget(ErrorCode),
    /// To [`Ask::Read`] and [`Ask::Watch`].
    Read(Box<wire::TaskInfo>),
    /// To [`Ask::List`].
    List(Vec<wire::TaskInfo>),
    /// To [`Ask::Queues`].
    Queues(Vec<wire::QueueInfo>),
    /// To [`Ask::Report`].
    Report(wire::ReportOutcome),
    /// To all others: it was done.
    Done,
}
