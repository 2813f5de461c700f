//! The entries of a history: what clients asked and were told, in the words of the wire, and what
//! the test did to the broker.

use celeriac_proto::wire::{self, ErrorCode, cancel_outcome, cancel_signal};

/// The place of an entry in its history. An entry with a lower position was written down earlier.
pub type Position = usize;

/// The number of a connection, unique in its history. 0 stands for the test that starts and stops
/// the broker.
pub type ConnectionId = u64;

/// The two clocks at the time of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Moment {
    /// A clock that only goes forward, the same for the whole history.
    pub mono_ms: u64,
    /// The wall clock of the broker. It may jump.
    pub wall_ms: i64,
}

/// One entry of a history.
#[derive(Debug, Clone)]
pub struct Entry {
    /// When it was written down.
    pub at: Moment,
    /// The connection.
    pub connection: ConnectionId,
    /// What happened.
    pub event: Event,
}

/// What a client asked or was told, or what was done to the broker.
///
/// A request is written down *before* its bytes can reach the broker, an answer *after* its bytes
/// have arrived. So an answer that stands before a request was given before the broker saw that
/// request. The rules need no other order.
#[derive(Debug, Clone)]
pub enum Event {
    /// A client is about to connect. The broker did not know this connection before.
    Connecting,
    /// The broker accepted the handshake.
    Welcomed(Box<wire::Welcome>),
    /// The connection is closed, by either side.
    Disconnected,
    /// One item of a request was sent, or at least handed to the operating system.
    Asked(RequestItem),
    /// The answer to an item arrived. An item without an answer took effect once or not at all.
    Answered {
        /// The item.
        item: Position,
        /// The answer.
        answer: Answer,
    },
    /// The whole request with this item was refused.
    Refused {
        /// The item.
        item: Position,
        /// The error code.
        code: ErrorCode,
    },
    /// A worker received a delivery.
    Delivered(Box<wire::Delivery>),
    /// A worker received a signal about one of its leases.
    Signalled {
        /// The lease.
        lease: u64,
        /// The signal.
        kind: cancel_signal::Kind,
    },
    /// A watch pushed a transition.
    Pushed(Box<wire::TaskInfo>),
    /// A handler began to run. The values are those of its `Context`.
    Began {
        /// The task.
        id: String,
        /// Its generation.
        generation: u32,
        /// The lease.
        lease: u64,
        /// How often the task was delivered.
        deliveries: u32,
        /// The number of the attempt.
        attempt: u32,
    },
    /// The broker process is gone: killed, ended, or cut off from power.
    BrokerDown,
    /// The broker process is about to start again.
    BrokerUp,
    /// The broker's wall clock was set.
    ClockSet,
    /// The queue has one producer connection and one worker session in the whole history, and is
    /// never paused. So its order can be judged.
    InOrder {
        /// The name of the queue.
        queue: String,
    },
    /// All requests are over and all tasks had time to end. Reads after this entry show how they
    /// ended.
    Settled,
}

/// One item of a request.
#[derive(Debug, Clone)]
pub enum RequestItem {
    /// Submits a task.
    Submit(Box<wire::Task>),
    /// Cancels an id.
    Cancel {
        /// The id.
        id: String,
        /// Whether by force.
        force: bool,
    },
    /// Cancels all tasks of a tree or with a tag.
    CancelMany {
        /// The root of the tree, if not empty.
        root_id: String,
        /// The tag, if not empty.
        tag: String,
    },
    /// Pauses or resumes a queue.
    Pause {
        /// The name of the queue.
        queue: String,
        /// False: the queue is resumed.
        paused: bool,
    },
    /// Begins or ends a drain of the broker.
    Drain {
        /// False: the drain ends.
        draining: bool,
    },
    /// Revokes all tasks that wait in a queue.
    Purge {
        /// The name of the queue.
        queue: String,
    },
    /// Purges a queue and deletes it.
    Delete {
        /// The name of the queue.
        queue: String,
    },
    /// Replays or discards dead tasks.
    Dead {
        /// The ids. Empty: all dead tasks that match a filter.
        ids: Vec<String>,
        /// True: replay. False: discard.
        again: bool,
    },
    /// Forgets an id.
    Forget {
        /// The id.
        id: String,
    },
    /// Reads an id (Get) or waits for it.
    Read {
        /// The id.
        id: String,
        /// Whether its result was asked for.
        with_result: bool,
    },
    /// Watches an id. The answer is its state at that moment.
    Watch {
        /// The id.
        id: String,
        /// Whether its result was asked for.
        with_result: bool,
    },
    /// Lists tasks, or workers with the tasks that they hold.
    List,
    /// Lists queues.
    Queues,
    /// A report of a worker.
    Report(Box<wire::TaskReport>),
    /// An outcome that a client put, as the report that it amounts to. The outcome of no run has
    /// the lease 0. Where the id is unknown, an outcome makes an ended task that never ran.
    Put(Box<wire::TaskReport>),
    /// A part of a chord.
    ChordPart(Box<wire::ChordPart>),
    /// A change of a chord, or a claim of its lease.
    ChordExtend(Box<wire::ChordExtend>),
    /// The body of a chord was sent.
    ChordDone(wire::ChordDone),
    /// The credit of a worker: how many leases it wants to hold.
    Credit(u32),
    /// A client says goodbye.
    Goodbye,
    /// Any other request, such as a heartbeat. It shows that the client is alive.
    Other,
}

/// The answer to one item.
#[derive(Debug, Clone)]
pub enum Answer {
    /// To [`RequestItem::Submit`].
    Submit(wire::SubmitOutcome),
    /// To [`RequestItem::Cancel`].
    Cancel(cancel_outcome::Kind),
    /// To [`RequestItem::CancelMany`].
    CancelMany(Vec<wire::CancelOutcome>),
    /// To [`RequestItem::Forget`].
    Forget(ErrorCode),
    /// To [`RequestItem::Read`] and [`RequestItem::Watch`].
    Read(Box<wire::TaskInfo>),
    /// To [`RequestItem::List`].
    List(Vec<wire::TaskInfo>),
    /// To [`RequestItem::Queues`].
    Queues(Vec<wire::QueueInfo>),
    /// To [`RequestItem::Report`] and [`RequestItem::Put`].
    Report(wire::ReportOutcome),
    /// To [`RequestItem::ChordPart`] and [`RequestItem::ChordExtend`].
    Chord(Box<wire::ChordReply>),
    /// To all others: the request was carried out.
    Done,
}
