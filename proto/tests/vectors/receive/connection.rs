//! The connection itself: framing, welcomes, answers for which the client does not wait, leases
//! that it does not hold, and the last frame of the broker.

use bytes::Bytes;
use celeriac_proto::wire::server_frame::Body;
use celeriac_proto::wire::{
    CancelSignal, Closing, Done, Error, ErrorCode, ServerFrame, Welcome, cancel_signal,
};

use super::{Received, Then, View, When, frame, frame_of, received};
use crate::framed;

pub(super) fn framing() -> Vec<Received> {
    let bytes = |name, about, bytes: &[u8], view| Received {
        name,
        about,
        when: When::Open,
        given: "",
        then: Then::Reconnect,
        bytes: Bytes::copy_from_slice(bytes),
        view,
    };
    let half = framed(&frame_of("deliver"));
    vec![
        bytes(
            "framing/over-the-limit",
            "One byte more than Welcome allows is announced: no memory is taken for it.",
            &[1, 0, 0, 1],
            View::TooLarge,
        ),
        bytes(
            "framing/length-2-32-less-1",
            "As much as can be announced.",
            &[0xff; 4],
            View::TooLarge,
        ),
        bytes("framing/length-0", "A frame of no bytes.", &[0; 4], View::Empty),
        bytes(
            "framing/garbage",
            "A field number of 0.",
            &[0, 0, 0, 6, 0, 0, 0xde, 0xad, 0xbe, 0xef],
            View::Malformed,
        ),
        bytes(
            "framing/invalid-utf8",
            "The message of an Error is not UTF-8.",
            &[0, 0, 0, 8, 0x08, 0x04, 0x8a, 0x01, 0x03, 0x12, 0x01, 0xff],
            View::Malformed,
        ),
        bytes(
            "framing/cut-short",
            "The stream ends in the middle of a frame: what had come of it counts for nothing.",
            &half[..half.len() - 3],
            View::CutShort,
        ),
    ]
}

pub(super) fn welcomes() -> Vec<Received> {
    let welcome = |name, about, then, change: fn(&mut Welcome)| {
        let mut frame = frame_of("welcome/new");
        if let Some(Body::Welcome(welcome)) = &mut frame.body {
            change(welcome);
        }
        Received { when: When::Handshake, ..received(name, about, "", frame, then) }
    };
    vec![
        welcome(
            "welcome/protocol-0",
            "A version that nobody asked for.",
            Then::GiveUp,
            |welcome| welcome.protocol = 0,
        ),
        welcome(
            "welcome/protocol-2",
            "A later version, which nobody asked for.",
            Then::GiveUp,
            |welcome| {
                welcome.protocol = 2;
            },
        ),
        welcome(
            "welcome/features",
            "The broker names an ability that the client does not know.",
            Then::SameAs("welcome/new"),
            |welcome| welcome.features = vec!["example.later".into()],
        ),
    ]
}

fn error(code: i32, message: &str, retryable: bool, retry_after_ms: u64) -> Error {
    Error { code, message: message.into(), retryable, retry_after_ms }
}

pub(super) fn answers() -> Vec<Received> {
    let forbidden =
        error(ErrorCode::Forbidden.into(), "the token does not allow this request", false, 0);
    let late = error(
        ErrorCode::DeadlineExceeded.into(),
        "the request was not answered in its time",
        true,
        0,
    );
    vec![
        received(
            "answer/nobody-asked",
            "An answer to a request that was never sent, or that nobody waits for any more.",
            "",
            frame(77, Body::Done(Done {})),
            Then::Ignore,
        ),
        received(
            "answer/of-another-kind",
            "Done, in answer to a Get: whether the request was carried out is not known.",
            "C: get",
            frame(4, Body::Done(Done {})),
            Then::FailRequest { retryable: false },
        ),
        received(
            "error/forbidden",
            "A broker with permissions says no.",
            "C: purge-queue",
            frame(5, Body::Error(forbidden)),
            Then::FailRequest { retryable: false },
        ),
        received(
            "error/deadline-exceeded",
            "A broker gave the request up; it may have been carried out.",
            "C: list-tasks",
            frame(7, Body::Error(late)),
            Then::FailRequest { retryable: true },
        ),
    ]
}

fn closing(code: i32, message: &str, retryable: bool, retry_after_ms: u64) -> ServerFrame {
    frame(
        0,
        Body::Closing(Closing { error: Some(error(code, message, retryable, retry_after_ms)) }),
    )
}

pub(super) fn ends() -> Vec<Received> {
    vec![
        received(
            "error/in-mid-stream",
            "The broker could not read a frame of this client; it closes, and unanswered requests stay unanswered.",
            "C: get",
            frame_of("error/malformed"),
            Then::Reconnect,
        ),
        received(
            "closing/session-lost",
            "The session goes on elsewhere or is over: its leases are not this client's any more.",
            "C: credit, B: deliver",
            frame_of("closing/session-resumed"),
            Then::ReconnectWithoutSession,
        ),
        received(
            "closing/shutting-down",
            "The broker is restarted: leases survive that, and handlers go on running.",
            "C: credit, B: deliver",
            closing(ErrorCode::ShuttingDown.into(), "the broker is shutting down", true, 1_000),
            Then::ReconnectAfter { ms: 1_000 },
        ),
        received(
            "closing/overloaded",
            "There is no room for this connection now.",
            "",
            closing(
                ErrorCode::Overloaded.into(),
                "there are as many connections as allowed",
                true,
                0,
            ),
            Then::Reconnect,
        ),
        received(
            "closing/slow-consumer",
            "The client did not read what it was sent, until now.",
            "C: watch, B: watch-reply",
            closing(
                ErrorCode::SlowConsumer.into(),
                "this connection does not read what it is sent",
                true,
                0,
            ),
            Then::Reconnect,
        ),
        received(
            "closing/unknown-code",
            "The connection ends for a reason of a later protocol.",
            "",
            closing(1_000, "a reason of a later protocol", true, 0),
            Then::Reconnect,
        ),
    ]
}

pub(super) fn leases() -> Vec<Received> {
    let signal = |kind: cancel_signal::Kind| {
        let signal =
            CancelSignal { leases: vec![7, 8], kind: kind.into(), reason: "not needed".into() };
        frame(0, Body::CancelSignal(signal))
    };
    vec![
        received(
            "cancel-signal/of-nobody",
            "Leases that the worker never had, or whose end it has reported.",
            "C: credit, B: deliver",
            signal(cancel_signal::Kind::Force),
            Then::Ignore,
        ),
        received(
            "cancel-signal/taken-back-from-nobody",
            "The same for leases that are gone.",
            "C: credit, B: deliver",
            signal(cancel_signal::Kind::TakenBack),
            Then::Ignore,
        ),
        received(
            "deliver/again",
            "A delivery whose lease the worker holds already is the same delivery: its handler runs once.",
            "C: credit, B: deliver",
            frame_of("deliver"),
            Then::Ignore,
        ),
        received(
            "transition/of-no-watch",
            "A Transition of a watch that the client ended, or never began.",
            "",
            frame_of("transition/started"),
            Then::Ignore,
        ),
    ]
}
