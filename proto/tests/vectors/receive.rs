//! Bytes that a client must survive, and its reaction to them: frames of a later broker, frames
//! that another broker may write in other bytes than this one, and bytes that no broker should
//! send.

mod connection;
mod encodings;
mod unknown;

use bytes::Bytes;
use celeriac_proto::FrameError;
use celeriac_proto::wire::ServerFrame;
use celeriac_proto::wire::server_frame::Body;

use crate::framed;

/// The point in the life of a connection at which the bytes come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum When {
    /// In answer to `Hello`.
    Handshake,
    /// After `Welcome`.
    Open,
}

/// The reaction of the client. `VOCABULARY` explains the words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Then {
    Ignore,
    SameAs(&'static str),
    Take(&'static str),
    FailRequest { retryable: bool },
    FailItem,
    Reconnect,
    ReconnectAfter { ms: u64 },
    ReconnectWithoutSession,
    GiveUp,
}

impl Then {
    pub(crate) fn text(self) -> String {
        match self {
            Then::Ignore => "ignore".to_owned(),
            Then::SameAs(name) => format!("same as {name}"),
            Then::Take(value) => format!("take {value}"),
            Then::FailRequest { retryable: false } => "fail the request".to_owned(),
            Then::FailRequest { retryable: true } => "fail the request, retryable".to_owned(),
            Then::FailItem => "fail the item".to_owned(),
            Then::Reconnect => "reconnect".to_owned(),
            Then::ReconnectAfter { ms } => format!("reconnect after {ms} ms"),
            Then::ReconnectWithoutSession => "reconnect without the session".to_owned(),
            Then::GiveUp => "give up".to_owned(),
        }
    }
}

/// The text at the head of the file.
pub(crate) const VOCABULARY: &str = "\
# What a client must survive.
# when: `handshake` in answer to Hello, `open` after Welcome.
# given: what was said before, by the names of client.txt (C:) and broker.txt (B:), after a handshake with hello/worker.
# then: what the client does, and nothing else:
#   ignore: nothing changes, and the connection stays open.
#   same as NAME: the bytes mean what the frame NAME of broker.txt means.
#   take VALUE: a value that the client does not know counts as this one, the 0 of its enum. The rest of the frame holds.
#   fail the request: its caller is told that it failed, and that the same request will fail again.
#   fail the request, retryable: its caller is told that it failed, and that the same request may succeed later.
#   fail the item: as `fail the request`, for one item of it. The others hold.
#   reconnect: the connection is over. The client closes it, opens another after a pause of its own, and names its session.
#   reconnect after N ms: the same, and not sooner.
#   reconnect without the session: the same, but the session and its leases are lost: Hello names none.
#   give up: the client closes the connection, tells its user, and does not try again by itself.
";

/// The result of decoding the bytes with the codec.
#[derive(Debug)]
pub(crate) enum View {
    Frame(Box<ServerFrame>),
    Empty,
    TooLarge,
    Malformed,
    CutShort,
}

pub(crate) struct Received {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    pub(crate) when: When,
    /// Names of vectors, each with its side, with commas between; may be empty.
    pub(crate) given: &'static str,
    pub(crate) then: Then,
    pub(crate) bytes: Bytes,
    pub(crate) view: View,
}

pub(crate) fn all() -> Vec<Received> {
    let parts = [
        connection::framing(),
        connection::welcomes(),
        connection::answers(),
        connection::ends(),
        connection::leases(),
        unknown::fields(),
        unknown::bodies(),
        unknown::values(),
        unknown::outcomes(),
        encodings::encodings(),
    ];
    parts.into_iter().flatten().collect()
}

fn frame(request_id: u64, body: Body) -> ServerFrame {
    ServerFrame { request_id, body: Some(body) }
}

/// A frame that comes after the handshake.
fn received(
    name: &'static str,
    about: &'static str,
    given: &'static str,
    frame: ServerFrame,
    then: Then,
) -> Received {
    let bytes = framed(&frame).freeze();
    Received {
        name,
        about,
        when: When::Open,
        given,
        then,
        bytes,
        view: View::Frame(Box::new(frame)),
    }
}

/// The frame of broker.txt with this name.
fn frame_of(name: &str) -> ServerFrame {
    let vectors = crate::broker::vectors();
    vectors
        .into_iter()
        .find(|vector| vector.name == name)
        .unwrap_or_else(|| panic!("no vector is called {name}"))
        .frame
}

/// Whether the codec decodes the bytes to the result that the vector names.
pub(crate) fn codec_agrees(view: &View, decoded: &Result<Option<ServerFrame>, FrameError>) -> bool {
    match (view, decoded) {
        (View::Frame(frame), Ok(Some(decoded))) => **frame == *decoded,
        (View::Empty, Err(FrameError::Empty))
        | (View::TooLarge, Err(FrameError::TooLarge { .. }))
        | (View::Malformed, Err(FrameError::Malformed(_)))
        | (View::CutShort, Err(FrameError::Io(_))) => true,
        _ => false,
    }
}

/// Whether the result of the codec is a reason for this reaction.
pub(crate) fn is_reason(received: &Received) -> bool {
    let View::Frame(frame) = &received.view else { return received.then == Then::Reconnect };
    let Some(body) = &frame.body else {
        return match frame.request_id {
            0 => received.then == Then::Ignore,
            _ => received.then == Then::FailRequest { retryable: false },
        };
    };
    match received.then {
        Then::SameAs(name) => is_the_same(frame, frame_of(name)),
        Then::Ignore | Then::Take(_) => true,
        Then::FailRequest { retryable } => match body {
            Body::Error(error) => frame.request_id > 0 && error.retryable == retryable,
            _ => frame.request_id > 0 && !retryable,
        },
        Then::FailItem => frame.request_id > 0,
        Then::Reconnect | Then::ReconnectWithoutSession => {
            matches!(body, Body::Closing(_) | Body::Error(_))
        }
        Then::ReconnectAfter { ms } => {
            matches!(body, Body::Closing(closing) if closing.error.as_ref().is_some_and(|error| error.retry_after_ms == ms))
        }
        Then::GiveUp => matches!(body, Body::Welcome(welcome) if welcome.protocol != 1),
    }
}

/// Unknown features change nothing.
fn is_the_same(frame: &ServerFrame, mut known: ServerFrame) -> bool {
    if let (Some(Body::Welcome(said)), Some(Body::Welcome(known))) = (&frame.body, &mut known.body)
    {
        known.features.clone_from(&said.features);
    }
    *frame == known
}
