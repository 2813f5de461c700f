//! Requests about chords.

use bytes::Bytes;
use celeriac_proto::wire::client_frame::Body;
use celeriac_proto::wire::{ChordDone, ChordExtend, ChordPart, ClientFrame};

use super::{ID, ids, vector};
use crate::{HOUR_MS, Vector};

/// The id of a group.
pub(crate) const GROUP: &str = "album-1";

pub(super) fn chords() -> Vec<Vector<ClientFrame>> {
    let hour = Some(HOUR_MS as u64);
    let part = ChordPart {
        group: GROUP.into(),
        member: ID.into(),
        index: Some(0),
        size: Some(2),
        body: Bytes::from_static(br#"{"tempo":114.0}"#),
        content_type: "application/json".into(),
        result_ttl_ms: hour,
        lease_ms: Some(60_000),
    };
    let plain = ChordPart { group: GROUP.into(), member: ID.into(), ..ChordPart::default() };
    let size = ChordExtend { group: GROUP.into(), size: Some(2), ..ChordExtend::default() };
    let more = ChordExtend {
        added: ids(&["user-0000", "user-0001"]),
        claim: true,
        size: None,
        ..size.clone()
    };
    let renew = ChordExtend {
        group: GROUP.into(),
        lease: 43,
        parts_from: 1_000,
        result_ttl_ms: hour,
        lease_ms: Some(60_000),
        ..ChordExtend::default()
    };
    let done = ChordDone { group: GROUP.into(), lease: 43, result_ttl_ms: hour };
    vec![
        vector("chord-part", "The first member has returned.", 12, Body::ChordPart(part)),
        vector("chord-part/plain", "A part without an index.", 12, Body::ChordPart(plain)),
        vector("chord-extend/size", "Two members.", 13, Body::ChordExtend(size)),
        vector(
            "chord-extend/added",
            "Two more members, and the caller would send the body.",
            13,
            Body::ChordExtend(more),
        ),
        vector(
            "chord-extend/renew",
            "The caller with the lease reads on.",
            14,
            Body::ChordExtend(renew),
        ),
        vector("chord-done", "The body was sent.", 15, Body::ChordDone(done)),
    ]
}
