//! Requests about chords, and their answer.

use celeriac_proto::TaskId;
use celeriac_record::{Body, Lease};

/// A request about one chord.
#[derive(Debug)]
pub enum ChordAsk {
    Part(ChordPart),
    Extend(ChordExtend),
    /// The body was sent under this lease.
    Done {
        lease: Lease,
        result_ttl_ms: Option<u64>,
    },
}

/// The result of one member.
#[derive(Debug)]
pub struct ChordPart {
    pub member: TaskId,
    /// The place of the member in its group. Absent: behind all others.
    pub index: Option<u32>,
    pub size: Option<u32>,
    pub body: Body,
    pub result_ttl_ms: Option<u64>,
    /// How long the caller may take to send the body, if it gets the lease.
    pub lease_ms: u64,
}

/// A change of a chord, or a request for its lease or its parts.
#[derive(Debug)]
pub struct ChordExtend {
    pub size: Option<u32>,
    pub added: Vec<TaskId>,
    /// The lease that the caller holds and renews; 0: none.
    pub lease: Lease,
    /// Whether the caller wants the lease.
    pub claim: bool,
    /// The place of the first part that the answer names.
    pub parts_from: u32,
    pub result_ttl_ms: Option<u64>,
    pub lease_ms: u64,
}

/// The state of a chord, for one caller.
#[derive(Debug, Clone)]
pub struct ChordState {
    /// The number of parts.
    pub count: u32,
    pub size: Option<u32>,
    pub added: u32,
    /// The lease, if the caller holds it now; otherwise 0.
    pub lease: Lease,
    pub is_done: bool,
    /// Only for the caller with the lease: the ids of parts, in the order of their indexes.
    pub parts: Vec<TaskId>,
    /// The number of parts behind these.
    pub parts_left: u32,
}
