//! From an address to a connection that may be used: a stream, Hello, Welcome. One attempt;
//! repeating is the driver's work.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use std::{fmt, io};

use bytes::BytesMut;
use celeriac_proto::limits::{FRAME_BYTES_MAX_BEFORE_HELLO, PROTOCOL_VERSION};
use celeriac_proto::wire::{self, client_frame, server_frame};
use celeriac_proto::{FrameCodec, FrameError};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::lookup_host;
use tokio::time::{Instant, timeout_at};
use tokio_util::codec::{Decoder, Encoder};
use tracing::debug;

use super::stream::{self, Reader, Writer};
use super::{ConnectionOptions, deadline_after, effective_limits};
use crate::error::{Error, ErrorCode};

pub(super) type Codec = FrameCodec<wire::ServerFrame, wire::ClientFrame>;

/// The longest Welcome: it lists the leases of a session. It says how long the frames after it may
/// be; memory is taken as the bytes come.
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
const NOT_FOUND: &str = "a host that cannot be found (it is not named here: it may be a token, which stands before an `@`)";

/// Which of several addresses of a name comes next. It goes on over all attempts: an address that
/// lets nobody in, or whose connection was lost, is followed by another one, in whatever order the
/// name's addresses come.
#[derive(Debug, Default)]
pub(super) struct Turn {
    /// The addresses of before, the latest last.
    tried: Vec<SocketAddr>,
}

impl Turn {
    /// A name whose addresses change keeps no more of them than this.
    const TRIED_MAX: usize = 64;

    /// Those that were not tried yet come first, in the order of the resolver; then the others, the
    /// latest last.
    fn order(&self, addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
        let mut order: Vec<SocketAddr> = Vec::with_capacity(addresses.len());
        for address in addresses {
            if !order.contains(&address) {
                order.push(address);
            }
        }
        order.sort_by_key(|address| self.tried.iter().position(|tried| tried == address));
        order
    }

    fn try_now(&mut self, address: SocketAddr) {
        self.tried.retain(|tried| *tried != address);
        self.tried.push(address);
        self.tried.drain(..self.tried.len().saturating_sub(Self::TRIED_MAX));
    }
}

/// Connects once: to each address of the name in turn, until one lets this client in.
pub(super) async fn connect(
    options: &ConnectionOptions,
    session_id: &str,
    turn: &mut Turn,
) -> Result<Link, Error> {
    let deadline = deadline_after(options.connect_timeout);
    let mut address = NOT_FOUND;
    let outcome = async {
        if let Some(connector) = &options.connector {
            address = &options.address;
            return within(
                deadline,
                options,
                greet(options, session_id, connector.dial(&options.address)),
            )
            .await;
        }
        let addresses =
            within(deadline, options, async { Ok(lookup_host(&options.address).await?.collect()) })
                .await?;
        address = &options.address;
        connect_to_any(addresses, deadline, options, session_id, turn).await
    };
    match outcome.await {
        Ok(link) => Ok(link),
        Err(Failure::Unreachable(source)) => {
            Err(Error::Connect { address: address.to_owned(), source: Arc::new(source) })
        }
        Err(Failure::NotLetIn { code, message, retryable }) => {
            Err(Error::Handshake { code, message, retryable })
        }
    }
}

/// Each has an equal share of the time that is left when its turn comes.
async fn connect_to_any(
    addresses: Vec<SocketAddr>,
    deadline: Instant,
    options: &ConnectionOptions,
    session_id: &str,
    turn: &mut Turn,
) -> Result<Link, Failure> {
    let mut outcome =
        Err(io::Error::new(io::ErrorKind::NotFound, "the name has no address").into());
    let addresses = turn.order(addresses);
    let shares = (1..=addresses.len()).rev();
    for (address, untried) in addresses.into_iter().zip(shares) {
        turn.try_now(address);
        let left = deadline.saturating_duration_since(Instant::now());
        let share = Instant::now() + left / u32::try_from(untried).unwrap_or(u32::MAX);
        outcome = within(share, options, greet(options, session_id, stream::dial(address))).await;
        match &outcome {
            Ok(_) => break,
            // The others are the same broker's.
            Err(Failure::NotLetIn { code, .. }) if *code != ErrorCode::Unspecified => break,
            Err(failure) => debug!(%address, "not this address: {failure}"),
        }
    }
    outcome
}

async fn within<T>(
    deadline: Instant,
    options: &ConnectionOptions,
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    let no_answer = || {
        let text = format!("no broker answered within {:?}", options.connect_timeout);
        io::Error::new(io::ErrorKind::TimedOut, text)
    };
    timeout_at(deadline, work).await.unwrap_or_else(|_| Err(no_answer().into()))
}

#[derive(Debug)]
enum Failure {
    Unreachable(io::Error),
    NotLetIn { code: ErrorCode, message: String, retryable: bool },
}

impl Failure {
    fn no_broker(message: impl Into<String>) -> Self {
        Failure::NotLetIn { code: ErrorCode::Unspecified, message: message.into(), retryable: true }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Unreachable(error) => error.fmt(f),
            Failure::NotLetIn { message, .. } => f.write_str(message),
        }
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

async fn greet(
    options: &ConnectionOptions,
    session_id: &str,
    dialled: impl Future<Output = io::Result<(Reader, Writer)>>,
) -> Result<Link, Failure> {
    let (mut reader, mut writer) = dialled.await?;
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
            retryable: false,
        });
    }
    writer.write_all(&buffer).await?;
    buffer.clear();
    loop {
        if reader.read_buf(&mut buffer).await? == 0 {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "it closed the connection in the handshake",
            )
            .into());
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

/// Whether another attempt may be let in. What a code of a later broker means is known from
/// `retryable` alone.
fn may_be_let_in_later(error: &wire::Error) -> bool {
    ErrorCode::try_from(error.code).map_or(error.retryable, |code| !is_terminal(code))
}

/// A handshake refused with one of these will be refused again, however often it is tried.
fn is_terminal(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::Unauthenticated
            | ErrorCode::Forbidden
            | ErrorCode::VersionMismatch
            | ErrorCode::InvalidArgument
            | ErrorCode::FrameTooLarge
            | ErrorCode::Malformed
            | ErrorCode::Unsupported
    )
}

fn admitted(frame: wire::ServerFrame) -> Result<wire::Welcome, Failure> {
    match frame.body {
        Some(server_frame::Body::Welcome(welcome)) if welcome.protocol == PROTOCOL_VERSION => {
            Ok(welcome)
        }
        Some(server_frame::Body::Welcome(welcome)) => Err(Failure::NotLetIn {
            code: ErrorCode::VersionMismatch,
            message: format!(
                "the broker chose version {} of the protocol, this client speaks {PROTOCOL_VERSION}",
                welcome.protocol
            ),
            retryable: false,
        }),
        Some(server_frame::Body::Error(error))
        | Some(server_frame::Body::Closing(wire::Closing { error: Some(error) })) => {
            let retryable = may_be_let_in_later(&error);
            Err(Failure::NotLetIn { code: error.code(), message: error.message, retryable })
        }
        _ => Err(Failure::no_broker("it answered Hello with something other than Welcome")),
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    async fn bound() -> (TcpListener, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        (listener, address)
    }

    /// Lets everybody in.
    async fn welcome_all(listener: TcpListener) {
        loop {
            let (mut stream, _) = listener.accept().await.expect("it accepts");
            let welcome = wire::Welcome { protocol: PROTOCOL_VERSION, ..Default::default() };
            let frame = wire::ServerFrame {
                request_id: 1,
                body: Some(server_frame::Body::Welcome(welcome)),
            };
            let mut bytes = BytesMut::new();
            FrameCodec::<wire::ClientFrame, wire::ServerFrame>::new(0)
                .encode(frame, &mut bytes)
                .expect("it is short");
            stream.write_all(&bytes).await.expect("the client is there");
            tokio::spawn(async move { stream.read_to_end(&mut Vec::new()).await });
        }
    }

    async fn attempt(addresses: &[SocketAddr], turn: &mut Turn) -> Result<SocketAddr, Failure> {
        let options = ConnectionOptions::new("a name");
        let deadline = deadline_after(Duration::from_millis(600));
        let link = connect_to_any(addresses.to_vec(), deadline, &options, "", turn).await?;
        Ok(link.reader.peer())
    }

    #[tokio::test]
    async fn an_address_that_accepts_and_says_nothing_leaves_time_for_the_next_one() {
        let (silent, (broker, good)) = (bound().await, bound().await);
        let (closed, refused) = bound().await;
        drop(closed);
        tokio::spawn(welcome_all(broker));
        for addresses in [[silent.1, good], [refused, good], [good, silent.1]] {
            assert_eq!(
                attempt(&addresses, &mut Turn::default()).await.expect("one of them answers"),
                good
            );
        }
        let failure = attempt(&[silent.1, refused], &mut Turn::default())
            .await
            .expect_err("none of them answers");
        assert!(matches!(failure, Failure::Unreachable(_)), "{failure}");
        assert!(attempt(&[], &mut Turn::default()).await.is_err());
    }

    #[tokio::test]
    async fn the_next_attempt_goes_on_with_the_next_address() {
        let ((one, first), (two, second)) = (bound().await, bound().await);
        tokio::spawn(welcome_all(one));
        tokio::spawn(welcome_all(two));
        let mut turn = Turn::default();
        for expected in [first, second, first] {
            assert_eq!(attempt(&[first, second], &mut turn).await.expect("both answer"), expected);
        }
        // Resolvers turn their answers, so that the load is spread.
        for (addresses, expected) in
            [([second, first], second), ([first, second], first), ([second, first], second)]
        {
            assert_eq!(attempt(&addresses, &mut turn).await.expect("both answer"), expected);
        }
        for expected in [first, second, first] {
            assert_eq!(
                attempt(&[second, first, second], &mut turn).await.expect("both answer"),
                expected
            );
        }
    }

    #[test]
    fn of_a_name_whose_addresses_change_not_all_are_kept() {
        let (mut turn, all) = (Turn::default(), |from: u16| {
            (from..from + 100).map(|port| ([127, 0, 0, 1], port).into())
        });
        all(1).for_each(|address| turn.try_now(address));
        assert_eq!(turn.tried.len(), Turn::TRIED_MAX);
        assert_eq!(turn.order(all(51).collect())[0], ([127, 0, 0, 1], 101).into());
    }
}
