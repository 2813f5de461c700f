//! Frames that the broker sends to workers unasked, and its last frame on a connection.

use bytes::Bytes;
use celeriac_proto::wire::server_frame::Body;
use celeriac_proto::wire::{
    CancelSignal, Closing, Deliver, Delivery, ErrorCode, Order, ServerFrame, cancel_signal, order,
};

use super::{error, vector};
use crate::client::ID;
use crate::{HOUR_MS, NOW_MS, Vector};

pub(super) fn delivery() -> Delivery {
    Delivery {
        id: ID.into(),
        lease: 42,
        name: "songs.preprocess".into(),
        queue: "songs".into(),
        payload: Bytes::from_static(br#"[["Dynamite"],{}]"#),
        shadow: "preprocess: Dynamite".into(),
        priority: 4,
        attempt: 1,
        attempts_max: 4,
        deliveries: 1,
        generation: 1,
        submitted_at_ms: NOW_MS,
        ..Delivery::default()
    }
}

pub(super) fn pushed() -> Vec<Vector<ServerFrame>> {
    let second = Delivery {
        id: "user-0000".into(),
        lease: 43,
        headers: [("traceparent".to_owned(), Bytes::from_static(b"00-0af7651916cd43dd-01"))].into(),
        attempt: 2,
        deliveries: 3,
        generation: 2,
        eta_at_ms: Some(NOW_MS + 50),
        expires_at_ms: Some(NOW_MS + HOUR_MS),
        soft_time_limit_ms: Some(540_000),
        time_limit_ms: Some(600_000),
        root_id: "album-1".into(),
        parent_id: "album-1".into(),
        tags: vec!["album:1".into()],
        ..delivery()
    };
    let stop = CancelSignal {
        leases: vec![42],
        kind: cancel_signal::Kind::Cooperative.into(),
        reason: "not needed".into(),
    };
    let bye = error(ErrorCode::ShuttingDown, "the broker is closing down", Some(1_000));
    vec![
        vector(
            "deliver",
            "The first task of the transcripts.",
            0,
            Body::Deliver(Deliver { deliveries: vec![delivery()] }),
        ),
        vector(
            "deliver/batch",
            "Two tasks, the second with everything set.",
            0,
            Body::Deliver(Deliver { deliveries: vec![delivery(), second] }),
        ),
        vector(
            "cancel-signal",
            "The handler of lease 42 should stop when it can.",
            0,
            Body::CancelSignal(stop),
        ),
        vector(
            "order",
            "Take no new tasks.",
            0,
            Body::Order(Order { kind: order::Kind::Quiet.into() }),
        ),
        vector("closing", "Reconnect in a second.", 0, Body::Closing(Closing { error: Some(bye) })),
    ]
}

/// Deliveries, signals and orders of every other kind, and the reasons why a connection ends.
pub(super) fn told() -> Vec<Vector<ServerFrame>> {
    [deliveries(), signals(), orders()].into_iter().flatten().collect()
}

fn deliveries() -> Vec<Vector<ServerFrame>> {
    // With early_ack the attempt is the last one.
    let once = Delivery { attempts_max: 1, report_start: true, redelivered: true, ..delivery() };
    let called_off = Delivery { revoked_reason: "expired".into(), ..delivery() };
    let msgpack = Delivery {
        payload: Bytes::from_static(b"\x92\x91\xa8Dynamite\x80"),
        content_type: "application/msgpack".into(),
        ..delivery()
    };
    vec![
        vector(
            "deliver/report-start",
            "The worker reports Started and begins once that is answered. Another worker had the task before.",
            0,
            Body::Deliver(Deliver { deliveries: vec![once] }),
        ),
        vector(
            "deliver/called-off",
            "The task has expired, and asks for an announcement of its end: the handler does not begin.",
            0,
            Body::Deliver(Deliver { deliveries: vec![called_off] }),
        ),
        vector(
            "deliver/msgpack",
            "The payload has a content type of its own.",
            0,
            Body::Deliver(Deliver { deliveries: vec![msgpack] }),
        ),
    ]
}

fn signals() -> Vec<Vector<ServerFrame>> {
    let signal = |kind: cancel_signal::Kind, reason: &str| {
        Body::CancelSignal(CancelSignal {
            leases: vec![42],
            kind: kind.into(),
            reason: reason.into(),
        })
    };
    vec![
        vector(
            "cancel-signal/force",
            "The worker drops the handler of lease 42.",
            0,
            signal(cancel_signal::Kind::Force, "not needed"),
        ),
        vector(
            "cancel-signal/soft-time-limit",
            "The handler of lease 42 should come to an end.",
            0,
            signal(cancel_signal::Kind::SoftTimeLimit, "soft_time_limit"),
        ),
        vector(
            "cancel-signal/time-limit",
            "The task has ended as FAILURE, and lease 42 is gone.",
            0,
            signal(cancel_signal::Kind::TimeLimit, "time_limit"),
        ),
        vector(
            "cancel-signal/taken-back",
            "Lease 42 is gone before its handler began.",
            0,
            signal(cancel_signal::Kind::TakenBack, "another worker is idle"),
        ),
        vector(
            "cancel-signal/batch",
            "The handlers of two leases should stop when they can.",
            0,
            Body::CancelSignal(CancelSignal {
                leases: vec![42, 43],
                kind: cancel_signal::Kind::Cooperative.into(),
                reason: "not needed".into(),
            }),
        ),
    ]
}

fn orders() -> Vec<Vector<ServerFrame>> {
    let order = |kind: order::Kind| Body::Order(Order { kind: kind.into() });
    let lost = |message| {
        Body::Closing(Closing { error: Some(error(ErrorCode::SessionLost, message, Some(0))) })
    };
    vec![
        vector(
            "order/shutdown",
            "The worker shuts down as on SIGTERM.",
            0,
            order(order::Kind::Shutdown),
        ),
        vector("order/resume", "The worker takes tasks again.", 0, order(order::Kind::Resume)),
        vector(
            "closing/session-resumed",
            "The session goes on with another connection.",
            0,
            lost("another connection took the session over"),
        ),
        vector(
            "closing/session-silent",
            "The session is over, and its leases went back.",
            0,
            lost("nothing was heard for the lease time"),
        ),
    ]
}
