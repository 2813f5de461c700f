//! Answers to requests about chords.

use celeriac_proto::wire::server_frame::Body;
use celeriac_proto::wire::{ChordReply, ServerFrame};

use super::vector;
use crate::Vector;

pub(super) fn chords() -> Vec<Vector<ServerFrame>> {
    let open = ChordReply { count: 1, size: Some(2), ..ChordReply::default() };
    let lease = ChordReply {
        count: 1_003,
        size: Some(1_001),
        added: 2,
        lease: 43,
        parts: vec!["album-1/0/user-7f3a".into(), "album-1/1/user-0000".into()],
        parts_left: 1_001,
        ..ChordReply::default()
    };
    let done = ChordReply { done: true, ..ChordReply::default() };
    vec![
        vector("chord-reply/open", "One part of two.", 12, Body::ChordReply(open)),
        vector(
            "chord-reply/lease",
            "All parts are there: this caller sends the body.",
            13,
            Body::ChordReply(lease),
        ),
        vector("chord-reply/done", "The body was sent before.", 12, Body::ChordReply(done)),
    ]
}
