//! Bytes that a broker must refuse, with its answers. Any implementation of a broker can be tested
//! with them.

use bytes::{BufMut, Bytes, BytesMut};
use celeriac_proto::FrameError;
use celeriac_proto::wire::client_frame::Body;
use celeriac_proto::wire::{ClientFrame, ErrorCode, Get, Heartbeat, Hello};
use prost::Message;

use crate::client::ID;
use crate::framed;

/// The point in the life of a connection at which the bytes are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum When {
    /// As the first bytes.
    First,
    /// After the handshake.
    Open,
}

/// The answer of the broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    /// An `Error` frame with this request id, and the connection is closed.
    ErrorThenClose(ErrorCode, u64),
    /// An `Error` frame with this request id; the connection serves the next request.
    Error(ErrorCode, u64),
    /// `HTTP/1.1 400 Bad Request`, and the connection is closed.
    HttpThenClose,
    /// A fatal alert of TLS, and the connection is closed.
    AlertThenClose,
    /// The connection is closed without an answer.
    Close,
}

pub(crate) struct Refused {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    pub(crate) when: When,
    pub(crate) bytes: Bytes,
    pub(crate) answer: Answer,
}

fn refused(
    name: &'static str,
    about: &'static str,
    when: When,
    bytes: impl Into<Bytes>,
    answer: Answer,
) -> Refused {
    Refused { name, about, when, bytes: bytes.into(), answer }
}

fn frame(request_id: u64, body: Option<Body>) -> Bytes {
    framed(&ClientFrame { request_id, timeout_ms: 0, body }).freeze()
}

/// A frame of these bytes, which need not be a message.
fn raw(message: &[u8]) -> Bytes {
    let mut bytes = BytesMut::new();
    bytes.put_u32(u32::try_from(message.len()).expect("it is short"));
    bytes.put_slice(message);
    bytes.freeze()
}

pub(crate) fn all() -> Vec<Refused> {
    let mut all = framing();
    all.extend(other_protocols());
    all.extend(requests());
    all
}

fn framing() -> Vec<Refused> {
    let malformed = Answer::ErrorThenClose(ErrorCode::Malformed, 0);
    let too_large = Answer::ErrorThenClose(ErrorCode::FrameTooLarge, 0);
    let half =
        frame(1, Some(Body::Hello(Hello { protocol_min: 1, protocol_max: 1, ..Hello::default() })));
    let invalid_utf8 = raw(&[0x08, 0x01, 0x82, 0x01, 0x03, 0x1a, 0x01, 0xff]);
    vec![
        refused("length-0", "A frame of no bytes.", When::First, &[0_u8; 4][..], malformed),
        refused(
            "length-6-mib-and-1",
            "One byte more than is allowed.",
            When::First,
            &[0, 0x60, 0, 1][..],
            too_large,
        ),
        refused(
            "length-2-31",
            "Two gibibytes are announced.",
            When::First,
            &[0x80, 0, 0, 0][..],
            too_large,
        ),
        refused(
            "length-2-32-less-1",
            "As much as can be announced.",
            When::Open,
            &[0xff; 4][..],
            too_large,
        ),
        refused(
            "garbage",
            "A field number of 0.",
            When::First,
            raw(&[0, 0, 0xde, 0xad, 0xbe, 0xef]),
            malformed,
        ),
        refused(
            "garbage/open",
            "The same after the handshake.",
            When::Open,
            raw(&[0, 0, 0xde, 0xad]),
            malformed,
        ),
        refused(
            "invalid-utf8",
            "A client name that is not UTF-8.",
            When::First,
            invalid_utf8,
            malformed,
        ),
        refused(
            "cut-short",
            "Half a frame, and then the client closes its side.",
            When::First,
            half.slice(..half.len() - 3),
            Answer::Close,
        ),
    ]
}

fn other_protocols() -> Vec<Refused> {
    let tls: &[u8] = &[0x16, 0x03, 0x01, 0x02, 0x00, 0x01, 0x00, 0x01, 0xfc, 0x03, 0x03];
    vec![
        refused(
            "http",
            "A browser.",
            When::First,
            &b"GET / HTTP/1.1\r\nHost: localhost:23537\r\n\r\n"[..],
            Answer::HttpThenClose,
        ),
        refused(
            "tls",
            "The beginning of a TLS handshake.",
            When::First,
            tls,
            Answer::AlertThenClose,
        ),
    ]
}

fn requests() -> Vec<Refused> {
    let version = Hello { protocol_min: 98, protocol_max: 99, ..Hello::default() };
    let second = Hello { protocol_min: 1, protocol_max: 1, ..Hello::default() };
    let get = Get { ids: vec![ID.into()], ..Get::default() };
    let mut unknown = ClientFrame { request_id: 3, ..ClientFrame::default() }.encode_to_vec();
    // Field 2000, a message of no bytes.
    unknown.extend([0x82, 0x7d, 0x00]);
    let unsupported = Answer::Error(ErrorCode::Unsupported, 3);
    vec![
        refused(
            "no-hello",
            "The first frame is not Hello.",
            When::First,
            frame(1, Some(Body::Heartbeat(Heartbeat::default()))),
            Answer::ErrorThenClose(ErrorCode::Handshake, 1),
        ),
        refused(
            "version",
            "A client from the future.",
            When::First,
            frame(1, Some(Body::Hello(version))),
            Answer::ErrorThenClose(ErrorCode::VersionMismatch, 1),
        ),
        refused(
            "second-hello",
            "Hello comes twice.",
            When::Open,
            frame(2, Some(Body::Hello(second))),
            Answer::Error(ErrorCode::Handshake, 2),
        ),
        refused(
            "no-body",
            "A frame that asks for nothing.",
            When::Open,
            frame(3, None),
            unsupported,
        ),
        refused(
            "unknown-body",
            "A request of a later protocol.",
            When::Open,
            raw(&unknown),
            unsupported,
        ),
        refused(
            "request-id-0",
            "Only the broker may send 0.",
            When::Open,
            frame(0, Some(Body::Get(get))),
            Answer::Error(ErrorCode::InvalidArgument, 0),
        ),
    ]
}

/// Whether the result of decoding the bytes is a reason for this answer.
pub(crate) fn codec_agrees(
    answer: Answer,
    decoded: &Result<Option<ClientFrame>, FrameError>,
) -> bool {
    match answer {
        Answer::ErrorThenClose(ErrorCode::Malformed, 0) => {
            matches!(decoded, Err(FrameError::Empty | FrameError::Malformed(_)))
        }
        Answer::ErrorThenClose(ErrorCode::FrameTooLarge, 0) => {
            matches!(decoded, Err(FrameError::TooLarge { .. }))
        }
        Answer::HttpThenClose => matches!(decoded, Err(FrameError::OtherProtocol("HTTP"))),
        Answer::AlertThenClose => matches!(decoded, Err(FrameError::OtherProtocol("TLS"))),
        Answer::Close => matches!(decoded, Err(FrameError::OtherProtocol(_) | FrameError::Io(_))),
        Answer::Error(_, request_id) | Answer::ErrorThenClose(_, request_id) => {
            matches!(decoded, Ok(Some(frame)) if frame.request_id == request_id)
        }
    }
}
