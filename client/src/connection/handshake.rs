//! From an address to a connection that can be used: a stream, Hello, Welcome. This module makes
//! one attempt; the driver repeats it.

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
use super::tls::Tls;
use super::{ConnectionOptions, deadline_after, effective_limits};
use crate::error::{Error, ErrorCode, TlsReason, rounded};

pub(super) type Codec = FrameCodec<wire::ServerFrame, wire::ClientFrame>;

/// The longest Welcome, which lists the leases of a session. The Welcome says how long the frames
/// after it may be. Memory is only taken for bytes that were received.
const WELCOME_BYTES_MAX: usize = 1024 * 1024;

/// A connection after a successful handshake.
pub(super) struct Link {
    pub(super) reader: Reader,
    pub(super) writer: Writer,
    pub(super) codec: Codec,
    /// The bytes that were received after the Welcome.
    pub(super) incoming: BytesMut,
    pub(super) welcome: wire::Welcome,
}

/// Replaces a host that cannot be found in error messages: in `celeriac://s3cret` it is a token.
const NOT_FOUND: &str = "a host that cannot be found (it is not named here: it may be a token, \
                         which is written before an `@`)";

/// The order in which the addresses of a name are tried, over all attempts. After an address that
/// does not answer, or whose connection was lost, the next attempt takes another address, in
/// whatever order the resolver returns them.
#[derive(Debug, Default)]
pub(super) struct AddressOrder {
    /// The addresses that were tried, the latest last.
    tried: Vec<SocketAddr>,
}

impl AddressOrder {
    /// The most addresses that are remembered of a name whose addresses change.
    const TRIED_MAX: usize = 64;

    /// Sorts addresses: those that were not tried yet come first, in the order of the resolver;
    /// then the others, the latest last.
    fn sort(&self, addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
        let mut order: Vec<SocketAddr> = Vec::with_capacity(addresses.len());
        for address in addresses {
            if !order.contains(&address) {
                order.push(address);
            }
        }
        order.sort_by_key(|address| self.tried.iter().position(|tried| tried == address));
        order
    }

    /// Notes that an address is tried now.
    fn note(&mut self, address: SocketAddr) {
        self.tried.retain(|tried| *tried != address);
        self.tried.push(address);
        self.tried.drain(..self.tried.len().saturating_sub(Self::TRIED_MAX));
    }
}

/// Connects once: tries the addresses of the name one after the other, until one of them accepts
/// this client.
pub(super) async fn connect(
    options: &ConnectionOptions,
    session_id: &str,
    order: &mut AddressOrder,
) -> Result<Link, Error> {
    // One deadline for all steps: resolving, connecting, and the handshake with every address.
    let deadline = deadline_after(options.connect_timeout);
    // The error names the address only after it was found.
    let mut address = NOT_FOUND;
    let mut tls = None;
    let outcome = async {
        tls = Tls::prepare(options).await?;
        if let Some(connector) = &options.connector {
            address = &options.address;
            let dialled = async {
                let halves = connector.dial(&options.address).await?;
                match &tls {
                    None => Ok(stream::of_other(halves)),
                    Some(tls) => tls.secure(tokio::io::join(halves.read, halves.write)).await,
                }
            };
            return within(deadline, options, greet(options, session_id, dialled)).await;
        }
        let addresses =
            within(deadline, options, async { Ok(lookup_host(&options.address).await?.collect()) })
                .await?;
        address = &options.address;
        connect_to_any(addresses, deadline, options, tls.as_ref(), session_id, order).await
    };
    let failure = match outcome.await {
        Ok(link) => return Ok(link),
        Err(failure) => failure,
    };
    match with_reason_of_tls(failure, tls.as_ref()) {
        Failure::Unreachable(source) => {
            Err(Error::Connect { address: address.to_owned(), source: Arc::new(source) })
        }
        // The files were read before the host was looked up, which may be a token.
        Failure::Tls { reason: reason @ TlsReason::Files, message } => {
            Err(Error::Tls { address: None, reason, message })
        }
        Failure::Tls { reason, message } => {
            Err(Error::Tls { address: Some(options.address.clone()), reason, message })
        }
        Failure::Refused { code, message, retryable } => {
            Err(Error::Handshake { code, message, retryable })
        }
    }
}

/// The failure, with the reason of TLS when a stream broke for one. The broker refuses a client's
/// certificate only after the client's side of the handshake has ended, so it may come at any read.
fn with_reason_of_tls(failure: Failure, tls: Option<&Tls>) -> Failure {
    match (failure, tls) {
        (Failure::Unreachable(error), Some(tls)) => match tls.reason(&error) {
            Some((reason, message)) => Failure::Tls { reason, message },
            None => Failure::Unreachable(error),
        },
        (failure, _) => failure,
    }
}

/// Tries these addresses. Each one has an equal share of the time that is left when it is tried.
async fn connect_to_any(
    addresses: Vec<SocketAddr>,
    deadline: Instant,
    options: &ConnectionOptions,
    tls: Option<&Tls>,
    session_id: &str,
    order: &mut AddressOrder,
) -> Result<Link, Failure> {
    let mut outcome =
        Err(io::Error::new(io::ErrorKind::NotFound, "the name has no address").into());
    let addresses = order.sort(addresses);
    // For each address, how many are still to be tried, itself included.
    let shares = (1..=addresses.len()).rev();
    for (address, untried) in addresses.into_iter().zip(shares) {
        order.note(address);
        let left = deadline.saturating_duration_since(Instant::now());
        let share = Instant::now() + left / u32::try_from(untried).unwrap_or(u32::MAX);
        let dialled = async {
            let stream = stream::dial(address).await?;
            match tls {
                None => Ok(stream::of_socket(stream)),
                Some(tls) => tls.secure(stream).await,
            }
        };
        outcome = within(share, options, greet(options, session_id, dialled)).await;
        outcome = outcome.map_err(|failure| with_reason_of_tls(failure, tls));
        match &outcome {
            Ok(_) => break,
            // Whatever answers there has to be put right first.
            Err(Failure::Tls { .. }) => break,
            // This is the broker. The other addresses belong to the same broker.
            Err(Failure::Refused { code, .. }) if *code != ErrorCode::Unspecified => break,
            Err(failure) => debug!(%address, "not this address: {failure}"),
        }
    }
    outcome
}

/// Fails when the deadline comes first.
async fn within<T>(
    deadline: Instant,
    options: &ConnectionOptions,
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    let no_answer = || {
        let text = format!("no broker answered within {}", rounded(options.connect_timeout));
        io::Error::new(io::ErrorKind::TimedOut, text)
    };
    timeout_at(deadline, work).await.unwrap_or_else(|_| Err(no_answer().into()))
}

/// Why an attempt failed.
#[derive(Debug)]
pub(super) enum Failure {
    /// The stream could not be opened, or broke in the handshake.
    Unreachable(io::Error),
    /// The broker refused the client, or the program that answers is no broker.
    Refused { code: ErrorCode, message: String, retryable: bool },
    /// One of the two sides does not accept the other one's TLS, or does not speak it.
    Tls { reason: TlsReason, message: String },
}

impl Failure {
    /// The program that answers is no broker.
    fn no_broker(message: impl Into<String>) -> Self {
        Failure::Refused { code: ErrorCode::Unspecified, message: message.into(), retryable: true }
    }
}

/// For log lines about one address of several.
impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Unreachable(error) => error.fmt(f),
            Failure::Refused { message, .. } | Failure::Tls { message, .. } => f.write_str(message),
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Failure::Unreachable(error)
    }
}

/// An error of the codec: either of the stream, or of a peer that does not speak the protocol.
impl From<FrameError> for Failure {
    fn from(error: FrameError) -> Self {
        match error {
            FrameError::Io(error) => Failure::Unreachable(error),
            FrameError::OtherProtocol(name) => {
                Failure::no_broker(format!("the program that answers speaks {name}"))
            }
            error => Failure::no_broker(format!(
                "the program that answers is no Celeriac broker (its answer is {error})"
            )),
        }
    }
}

/// Opens the stream, sends Hello and reads the Welcome.
async fn greet(
    options: &ConnectionOptions,
    session_id: &str,
    dialled: impl Future<Output = Result<(Reader, Writer), Failure>>,
) -> Result<Link, Failure> {
    let (mut reader, mut writer) = dialled.await?;
    let mut codec = Codec::new(WELCOME_BYTES_MAX);
    let mut buffer = BytesMut::new();
    codec.encode(&hello(options, session_id), &mut buffer)?;
    // The broker accepts no longer frame before Hello. Only a worker's Hello can be so long.
    if buffer.len() > FRAME_BYTES_MAX_BEFORE_HELLO {
        return Err(Failure::Refused {
            code: ErrorCode::FrameTooLarge,
            message: format!(
                "the names of all queues and tasks make a Hello of {} bytes, \
                 and {FRAME_BYTES_MAX_BEFORE_HELLO} are allowed",
                buffer.len()
            ),
            retryable: false,
        });
    }
    let sent = async {
        writer.write_all(&buffer).await?;
        writer.flush().await
    };
    let sent = sent.await;
    buffer.clear();
    if let Err(error) = sent {
        // A broker that refuses the handshake of TLS may close while the Hello is on its way. Why
        // it did, it has said before.
        let why = reader.read_buf(&mut buffer).await.err();
        return Err(why.filter(|why| why.get_ref().is_some()).unwrap_or(error).into());
    }
    loop {
        if reader.read_buf(&mut buffer).await? == 0 {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "the other side closed the connection in the handshake",
            )
            .into());
        }
        // A web server answers a Hello with an error page. Its first bytes would be read as an
        // absurd length.
        if buffer.starts_with(b"HTTP") {
            return Err(Failure::no_broker("the program that answers speaks HTTP"));
        }
        // The first bytes of an alert, which a broker with TLS sends to a client without.
        if buffer.starts_with(&[21, 3]) {
            let message = "the program that answers speaks TLS: \
                           write celeriacs:// in place of celeriac:// in the address";
            return Err(Failure::Tls { reason: TlsReason::Protocol, message: message.to_owned() });
        }
        if let Some(frame) = codec.decode(&mut buffer)? {
            let welcome = admitted(frame)?;
            let frame_bytes_max = effective_limits(welcome.limits).frame_bytes_max;
            codec.set_frame_bytes_max(usize::try_from(frame_bytes_max).unwrap_or(usize::MAX));
            return Ok(Link { reader, writer, codec, incoming: buffer, welcome });
        }
    }
}

/// The Hello of this client: it asks to resume the session `session_id`, unless that is empty.
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

/// Whether another attempt may succeed. For a code of a later broker only `retryable` says this.
fn may_succeed_later(error: &wire::Error) -> bool {
    ErrorCode::try_from(error.code).map_or(error.retryable, |code| !is_terminal(code))
}

/// Whether a handshake that was refused with this code will be refused again each time.
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

/// The Welcome, or why there is none.
fn admitted(frame: wire::ServerFrame) -> Result<wire::Welcome, Failure> {
    match frame.body {
        Some(server_frame::Body::Welcome(welcome)) if welcome.protocol == PROTOCOL_VERSION => {
            Ok(welcome)
        }
        Some(server_frame::Body::Welcome(welcome)) => Err(Failure::Refused {
            code: ErrorCode::VersionMismatch,
            message: format!(
                "the broker chose version {} of the protocol, \
                 and this client speaks {PROTOCOL_VERSION}",
                welcome.protocol
            ),
            retryable: false,
        }),
        Some(server_frame::Body::Error(error))
        | Some(server_frame::Body::Closing(wire::Closing { error: Some(error) })) => {
            let retryable = may_succeed_later(&error);
            Err(Failure::Refused { code: error.code(), message: error.message, retryable })
        }
        _ => Err(Failure::no_broker("the broker answered Hello with something other than Welcome")),
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    /// A listener and its address.
    async fn bound() -> (TcpListener, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        (listener, address)
    }

    /// A broker that accepts every client.
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

    /// Connects to one of these addresses, and returns the address that answered.
    async fn attempt(
        addresses: &[SocketAddr],
        order: &mut AddressOrder,
    ) -> Result<SocketAddr, Failure> {
        let options = ConnectionOptions::new("a name");
        let deadline = deadline_after(Duration::from_millis(600));
        let link = connect_to_any(addresses.to_vec(), deadline, &options, None, "", order).await?;
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
                attempt(&addresses, &mut AddressOrder::default())
                    .await
                    .expect("one of them answers"),
                good
            );
        }
        let failure = attempt(&[silent.1, refused], &mut AddressOrder::default())
            .await
            .expect_err("none of them answers");
        assert!(matches!(failure, Failure::Unreachable(_)), "{failure}");
        assert!(attempt(&[], &mut AddressOrder::default()).await.is_err());
    }

    #[tokio::test]
    async fn the_next_attempt_goes_on_with_the_next_address() {
        let ((one, first), (two, second)) = (bound().await, bound().await);
        tokio::spawn(welcome_all(one));
        tokio::spawn(welcome_all(two));
        let mut order = AddressOrder::default();
        for expected in [first, second, first] {
            assert_eq!(attempt(&[first, second], &mut order).await.expect("both answer"), expected);
        }
        // Resolvers rotate their answers, to spread the load.
        for (addresses, expected) in
            [([second, first], second), ([first, second], first), ([second, first], second)]
        {
            assert_eq!(attempt(&addresses, &mut order).await.expect("both answer"), expected);
        }
        for expected in [first, second, first] {
            assert_eq!(
                attempt(&[second, first, second], &mut order).await.expect("both answer"),
                expected
            );
        }
    }

    #[test]
    fn of_a_name_whose_addresses_change_not_all_are_kept() {
        let (mut order, all) = (AddressOrder::default(), |from: u16| {
            (from..from + 100).map(|port| ([127, 0, 0, 1], port).into())
        });
        for address in all(1) {
            order.note(address);
        }
        assert_eq!(order.tried.len(), AddressOrder::TRIED_MAX);
        assert_eq!(order.sort(all(51).collect())[0], ([127, 0, 0, 1], 101).into());
    }
}
