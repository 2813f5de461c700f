//! From an address to a connection that may be used: a stream, Hello, Welcome. One attempt; repeating is the driver's work.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::BytesMut;
use celeriac_proto::limits::{FRAME_BYTES_MAX_BEFORE_HELLO, PROTOCOL_VERSION};
use celeriac_proto::wire::{self, client_frame, server_frame};
use celeriac_proto::{FrameCodec, FrameError};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;
use tokio_util::codec::{Decoder, Encoder};

use super::stream::{self, Reader, Writer};
use super::{ConnectionOptions, effective_limits};
use crate::error::{Error, ErrorCode};

pub(super) type Codec = FrameCodec<wire::ServerFrame, wire::ClientFrame>;

/// The longest Welcome: it lists the leases of a session. It says how long the frames after it may be; memory is taken as
/// the bytes come.
const WELCOME_BYTES_MAX: usize = 1024 * 1024;

/// A connection whose handshake is over.
pub(super) struct Link {
    pub(super) reader: Reader,
    pub(super) writer: Writer,
    pub(super) codec: Codec,
    /// What came after the Welcome.
    pub(super) incoming: BytesMut,
    pub(super) welcome: wire::Welcome,
}

/// Stands for a host whose address nobody knows. In `celeriac://s3cret` it is a token.
const NOT_FOUND: &str =
    "a host that cannot be found (it is not named here: it may be a token, which stands before an `@`)";

/// Connects once.
pub(super) async fn connect(options: &ConnectionOptions, session_id: &str) -> Result<Link, Error> {
    let found = AtomicBool::new(false);
    let unreachable = |source: io::Error| {
        let address = if found.load(Ordering::Relaxed) { &options.address } else { NOT_FOUND };
        Error::Connect { address: address.to_owned(), source: Arc::new(source) }
    };
    match timeout(options.connect_timeout, greet(options, session_id, &found)).await {
        Ok(Ok(link)) => Ok(link),
        Ok(Err(Failure::Unreachable(source))) => Err(unreachable(source)),
        Ok(Err(Failure::NotLetIn { code, message })) => Err(Error::Handshake { code, message }),
        Err(_) => Err(unreachable(io::Error::new(
            io::ErrorKind::TimedOut,
            format!("no broker answered within {:?}", options.connect_timeout),
        ))),
    }
}

enum Failure {
    Unreachable(io::Error),
    NotLetIn { code: ErrorCode, message: String },
}

impl Failure {
    fn no_broker(message: impl Into<String>) -> Self {
        Failure::NotLetIn { code: ErrorCode::Unspecified, message: message.into() }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Failure::Unreachable(error)
    }
}

impl From<FrameError> for Failure {
    fn from(error: FrameError) -> Self {
        match error {
            FrameError::Io(error) => Failure::Unreachable(error),
            error => Failure::no_broker(format!("what answers is no Celeriac broker: {error}")),
        }
    }
}

async fn greet(options: &ConnectionOptions, session_id: &str, found: &AtomicBool) -> Result<Link, Failure> {
    let (mut reader, mut writer) = stream::open(options.connector.as_ref(), &options.address, found).await?;
    let mut codec = Codec::new(WELCOME_BYTES_MAX);
    let mut buffer = BytesMut::new();
    codec.encode(&hello(options, session_id), &mut buffer)?;
    if buffer.len() > FRAME_BYTES_MAX_BEFORE_HELLO {
        return Err(Failure::NotLetIn {
            code: ErrorCode::FrameTooLarge,
            message: format!(
                "the names of all queues and tasks make a Hello of {} bytes, and {FRAME_BYTES_MAX_BEFORE_HELLO} are allowed",
                buffer.len()
            ),
        });
    }
    writer.write_all(&buffer).await?;
    buffer.clear();
    loop {
        if reader.read_buf(&mut buffer).await? == 0 {
            return Err(
                io::Error::new(io::ErrorKind::UnexpectedEof, "it closed the connection in the handshake").into()
            );
        }
        if buffer.starts_with(b"HTTP") {
            return Err(Failure::no_broker("what answers speaks HTTP"));
        }
        if let Some(frame) = codec.decode(&mut buffer)? {
            let welcome = admitted(frame)?;
            let frame_bytes_max = effective_limits(welcome.limits).frame_bytes_max;
            codec.set_frame_bytes_max(usize::try_from(frame_bytes_max).unwrap_or(usize::MAX));
            return Ok(Link { reader, writer, codec, incoming: buffer, welcome });
        }
    }
}

fn hello(options: &ConnectionOptions, session_id: &str) -> wire::ClientFrame {
    let millis = |span: Duration| u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
    let hello = wire::Hello {
        protocol_min: PROTOCOL_VERSION,
        protocol_max: PROTOCOL_VERSION,
        client_name: options.client_name.clone(),
        client_version: options.client_version.clone(),
        token: options.token.clone(),
        instance_id: options.instance_id.clone(),
        session_id: session_id.to_owned(),
        heartbeat_ms: options.heartbeat.map(millis).unwrap_or_default(),
        features: Vec::new(),
        worker: options.worker.clone(),
    };
    wire::ClientFrame {
        request_id: 1,
        timeout_ms: millis(options.connect_timeout),
        body: Some(client_frame::Body::Hello(hello)),
    }
}

fn admitted(frame: wire::ServerFrame) -> Result<wire::Welcome, Failure> {
    match frame.body {
        Some(server_frame::Body::Welcome(welcome)) if welcome.protocol == PROTOCOL_VERSION => Ok(welcome),
        Some(server_frame::Body::Welcome(welcome)) => Err(Failure::NotLetIn {
            code: ErrorCode::VersionMismatch,
            message: format!(
                "the broker chose version {} of the protocol, this client speaks {PROTOCOL_VERSION}",
                welcome.protocol
            ),
        }),
        Some(server_frame::Body::Error(error))
        | Some(server_frame::Body::Closing(wire::Closing { error: Some(error) })) => {
            Err(Failure::NotLetIn { code: error.code(), message: error.message })
        }
        _ => Err(Failure::no_broker("it answered Hello with something other than Welcome")),
    }
}
