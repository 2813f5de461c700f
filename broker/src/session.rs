//! Sessions at the edge: one per connection. Frames become commands, messages become frames; the only place that sees wire
//! types and credentials. What a session means (leases, credit, resume) is the machine's affair.

pub(crate) mod decode;
pub(crate) mod encode;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use celeriac_proto::limits::{FRAME_BYTES_MAX_BEFORE_HELLO, PROTOCOL_VERSION, REQUESTS_IN_FLIGHT_MAX};
use celeriac_proto::wire::{ClientFrame, ServerFrame, client_frame, server_frame};
use celeriac_proto::{FrameCodec, FrameError};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{Interval, MissedTickBehavior, interval};
use tokio_util::codec::{Decoder, Encoder};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};

use crate::config::Config;
use crate::driver::{INPUT_BYTES_MAX, Input};
use crate::machine::command::{Ask, Code, Command, Connect, ConnectionKey, Refusal};
use crate::outbox::{Gauge, Letter, Outbox, Weight};
use decode::Bounds;

/// A client has this long to say Hello.
const HANDSHAKE: Duration = Duration::from_secs(5);

/// A write that makes no headway for this long ends the connection.
const WRITE: Duration = Duration::from_secs(30);

/// Messages that wait for the writer. Answers are bounded by the requests in flight; the rest is for
/// deliveries and transitions. A client that lets it fill does not read.
const OUTBOX_MESSAGES: usize = 2 * REQUESTS_IN_FLIGHT_MAX;

/// Messages encoded into one write, and the bytes after which it is written in any case.
const MESSAGES_PER_WRITE: usize = 64;
const BYTES_PER_WRITE: usize = 256 * 1024;

/// What all sessions share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub config: Config,
    pub inputs: mpsc::Sender<Input>,
    /// A permit for each byte of a request that may wait for the driver.
    pub input_room: Arc<Semaphore>,
    /// No more requests are read.
    pub stop: CancellationToken,
}

type Codec = FrameCodec<ClientFrame, ServerFrame>;

/// Bytes from a client.
pub(crate) trait Incoming: AsyncRead + Unpin + Send + 'static {}

impl<T: AsyncRead + Unpin + Send + 'static> Incoming for T {}

/// Bytes to a client. The two halves are of their own types, so that a socket's need no lock.
pub(crate) trait Outgoing: AsyncWrite + Unpin + Send + 'static {}

impl<T: AsyncWrite + Unpin + Send + 'static> Outgoing for T {}

/// Says to a connection that there are too many of them.
pub(crate) async fn refuse(mut write: impl Outgoing) {
    Farewell::refuse(Code::Overloaded, "there are as many connections as allowed").say(&mut write).await;
}

/// Serves one connection until it ends.
pub(crate) async fn run(
    read: impl Incoming,
    mut write: impl Outgoing,
    peer: SocketAddr,
    connection: ConnectionKey,
    shared: Arc<Shared>,
) {
    let heartbeat = Duration::from_millis(shared.config.heartbeat_ms);
    let mut reader = Reader::new(read, heartbeat);
    let handshake = async {
        tokio::select! {
            connect = tokio::time::timeout(HANDSHAKE, handshake(&mut reader, connection, &shared.config)) => {
                connect.unwrap_or_else(|_| Err(Farewell::refuse(Code::Handshake, "no Hello came in time")))
            }
            () = shared.stop.cancelled() => {
                Err(Farewell::refuse(Code::ShuttingDown, "the broker is shutting down"))
            }
        }
    };
    let connect = match handshake.await {
        Ok(connect) => connect,
        Err(farewell) => {
            debug!(%peer, ?farewell, "no handshake");
            return farewell.say(&mut write).await;
        }
    };
    if let Some(worker) = &connect.worker {
        info!(%peer, connection, instance = %connect.instance, names = worker.task_names.len(), "worker connected");
    } else {
        debug!(%peer, connection, instance = %connect.instance, "connected");
    }
    reader.codec.set_frame_bytes_max(shared.config.frame_bytes_max);
    let is_worker = connect.worker.is_some();
    let reason = serve(reader, write, connect, &shared).await;
    if is_worker {
        info!(%peer, connection, reason, "worker disconnected");
    } else {
        debug!(%peer, connection, reason, "disconnected");
    }
}

/// From the handshake to the end. Says why it ended.
async fn serve(
    mut reader: Reader<impl Incoming>,
    write: impl Outgoing,
    connect: Connect,
    shared: &Shared,
) -> &'static str {
    let connection = connect.connection;
    let (outbox, letters) = Outbox::new(OUTBOX_MESSAGES);
    let kill = outbox.kill.clone();
    let in_flight = Arc::new(Semaphore::new(REQUESTS_IN_FLIGHT_MAX - 1));
    let writer = Writer {
        write,
        in_flight: in_flight.clone(),
        limits: encode::limits(&shared.config),
        gauge: outbox.gauge().clone(),
        weights: Vec::with_capacity(MESSAGES_PER_WRITE),
    };
    let mut writer = tokio::spawn(writer.run(letters));
    let opened = Input::Open(connection, outbox);
    for input in [opened, Input::Command(Command::Connect(Box::new(connect)))] {
        if shared.inputs.send(input).await.is_err() {
            return "the broker has stopped";
        }
    }
    let (reason, refusal) = tokio::select! {
        ended = reader.run(connection, shared, &in_flight) => ended,
        _ = &mut writer => ("the broker closed it", None),
        () = kill.cancelled() => ("it does not read", None),
        // Its last answers are on their way, and then the end of its outbox.
        () = shared.stop.cancelled() => ("the broker is shutting down", None),
    };
    let disconnect = Command::Disconnect { connection, reason: refusal };
    // A driver that is gone needs no telling.
    let _ = shared.inputs.send(Input::Command(disconnect)).await;
    let farewell = if kill.is_cancelled() { Duration::ZERO } else { WRITE };
    if !writer.is_finished() && tokio::time::timeout(farewell, &mut writer).await.is_err() {
        writer.abort();
    }
    reason
}

/// The reading half.
struct Reader<R> {
    read: R,
    buffer: BytesMut,
    codec: Codec,
    pulse: Interval,
}

/// What came.
#[allow(clippy::large_enum_variant, reason = "it lives for one call; a box would cost more")]
enum Received {
    /// A frame, and its bytes on the wire.
    Frame(ClientFrame, usize),
    /// For a heartbeat's time bytes came that are no whole frame yet: a long one on a slow wire.
    Part,
    End,
}

impl<R: Incoming> Reader<R> {
    fn new(read: R, heartbeat: Duration) -> Self {
        let mut pulse = interval(heartbeat);
        pulse.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { read, buffer: BytesMut::new(), codec: Codec::new(FRAME_BYTES_MAX_BEFORE_HELLO), pulse }
    }

    async fn next(&mut self) -> Result<Received, FrameError> {
        let mut came = false;
        loop {
            let before = self.buffer.len();
            if let Some(frame) = self.codec.decode(&mut self.buffer)? {
                return Ok(Received::Frame(frame, before - self.buffer.len()));
            }
            tokio::select! {
                count = self.read.read_buf(&mut self.buffer) => match count? {
                    0 => return Ok(Received::End),
                    _ => came = true,
                },
                _ = self.pulse.tick(), if came => return Ok(Received::Part),
            }
        }
    }

    /// Turns frames into commands until there are no more. Says why, and what to tell the client.
    async fn run(
        &mut self,
        connection: ConnectionKey,
        shared: &Shared,
        in_flight: &Semaphore,
    ) -> (&'static str, Option<Refusal>) {
        let bounds = Bounds::of(&shared.config);
        loop {
            let input = match self.next().await {
                Ok(Received::Frame(frame, bytes)) => {
                    let command = command(frame, connection, &bounds);
                    in_flight.acquire().await.expect("the semaphore is never closed").forget();
                    let bytes = bytes.min(INPUT_BYTES_MAX) as u32;
                    let room = shared.input_room.clone().acquire_many_owned(bytes).await;
                    Input::Request { command, _room: room.expect("the semaphore is never closed") }
                }
                Ok(Received::Part) => Input::Command(Command::Heard(connection)),
                Ok(Received::End) => return ("closed by the client", None),
                Err(FrameError::Io(_)) => return ("lost", None),
                Err(error) => return ("broken framing", Some(framing_refusal(&error))),
            };
            if shared.inputs.send(input).await.is_err() {
                return ("the broker has stopped", None);
            }
        }
    }
}

pub(crate) fn command(frame: ClientFrame, connection: ConnectionKey, bounds: &Bounds) -> Command {
    let request = frame.request_id;
    let ask = match frame.body {
        Some(client_frame::Body::Hello(_)) => Err(Refusal::new(Code::Handshake, "Hello comes once")),
        _ if request == 0 => Err(Refusal::new(Code::InvalidArgument, "request ids are above 0")),
        body => decode::ask(body, frame.timeout_ms, bounds),
    };
    Command::Request { connection, request, ask: ask.unwrap_or_else(Ask::Refuse) }
}

/// The writing half: many messages in one write.
struct Writer<W> {
    write: W,
    in_flight: Arc<Semaphore>,
    limits: encode::Limits,
    gauge: Gauge,
    /// Of what is encoded and not written.
    weights: Vec<Weight>,
}

impl<W: Outgoing> Writer<W> {
    /// Until the outbox is closed and empty, or the client is gone.
    async fn run(mut self, mut outbox: mpsc::Receiver<Letter>) {
        let mut letters = Vec::with_capacity(MESSAGES_PER_WRITE);
        let mut buffer = BytesMut::new();
        while outbox.recv_many(&mut letters, MESSAGES_PER_WRITE).await > 0 {
            for Letter { message, weight } in letters.drain(..) {
                // A long frame is not to be moved from buffer to buffer while it grows.
                if weight.bytes() > BYTES_PER_WRITE {
                    buffer.reserve(weight.bytes());
                }
                self.weights.push(weight);
                let frame = encode::frame(message, &self.limits);
                let is_answer = frame.request_id != 0;
                encode_frame(frame, &mut buffer);
                if buffer.len() > BYTES_PER_WRITE && self.flush(&mut buffer).await.is_err() {
                    return;
                }
                self.in_flight.add_permits(usize::from(is_answer));
            }
            if self.flush(&mut buffer).await.is_err() {
                return;
            }
        }
        // The client may be gone already.
        let _ = self.write.shutdown().await;
    }

    /// However long it takes, as long as the client takes something now and then.
    async fn flush(&mut self, buffer: &mut BytesMut) -> std::io::Result<()> {
        let is_large = buffer.capacity() > BYTES_PER_WRITE;
        while !buffer.is_empty() {
            if tokio::time::timeout(WRITE, self.write.write_buf(buffer)).await?? == 0 {
                return Err(std::io::ErrorKind::WriteZero.into());
            }
            self.gauge.note_write();
        }
        if is_large {
            *buffer = BytesMut::new();
        }
        self.weights.clear();
        Ok(())
    }
}

fn encode_frame(frame: ServerFrame, buffer: &mut BytesMut) {
    Codec::new(0).encode(frame, buffer).expect("answers are bounded far below 4 GiB");
}

/// The last words to a connection that never got a session.
#[derive(Debug)]
enum Farewell {
    Refusal(u64, Refusal),
    /// To a client of another protocol, in its own.
    Http,
    Tls,
    Silence,
}

impl Farewell {
    fn refuse(code: Code, message: &str) -> Self {
        Farewell::Refusal(0, Refusal::new(code, message))
    }

    async fn say(self, write: &mut impl Outgoing) {
        let mut buffer = BytesMut::new();
        match self {
            Farewell::Refusal(request_id, refusal) => {
                let body = Some(server_frame::Body::Error(encode::error(refusal)));
                encode_frame(ServerFrame { request_id, body }, &mut buffer);
            }
            Farewell::Http => {
                let text = "This is the port of a Celeriac broker, which does not speak HTTP.\n";
                let head = "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nConnection: close\r\n";
                buffer.extend_from_slice(format!("{head}Content-Length: {}\r\n\r\n{text}", text.len()).as_bytes());
            }
            // A fatal alert: protocol_version.
            Farewell::Tls => buffer.extend_from_slice(&[21, 3, 1, 0, 2, 2, 70]),
            Farewell::Silence => return,
        }
        // Whoever it is may be gone already.
        let _ = tokio::time::timeout(HANDSHAKE, write.write_all(&buffer)).await;
        let _ = write.shutdown().await;
    }
}

fn framing_refusal(error: &FrameError) -> Refusal {
    let code = match error {
        FrameError::TooLarge { .. } => Code::FrameTooLarge,
        _ => Code::Malformed,
    };
    Refusal::new(code, error.to_string())
}

/// Reads and checks the first frame.
async fn handshake(
    reader: &mut Reader<impl Incoming>,
    connection: ConnectionKey,
    config: &Config,
) -> Result<Connect, Farewell> {
    let received = loop {
        match reader.next().await {
            Ok(Received::Part) => {}
            other => break other,
        }
    };
    let frame = match received {
        Ok(Received::Frame(frame, _)) => frame,
        Ok(Received::Part | Received::End) | Err(FrameError::Io(_)) => return Err(Farewell::Silence),
        Err(FrameError::OtherProtocol("HTTP")) => return Err(Farewell::Http),
        Err(FrameError::OtherProtocol("TLS")) => return Err(Farewell::Tls),
        // It could not read our answer.
        Err(FrameError::OtherProtocol(_)) => return Err(Farewell::Silence),
        Err(error) => return Err(Farewell::Refusal(0, framing_refusal(&error))),
    };
    let request = frame.request_id;
    let refuse = |code, message: &str| Err(Farewell::Refusal(request, Refusal::new(code, message)));
    let Some(client_frame::Body::Hello(hello)) = frame.body else {
        return refuse(Code::Handshake, "the first frame has to be Hello");
    };
    if !(hello.protocol_min..=hello.protocol_max).contains(&PROTOCOL_VERSION) {
        return refuse(Code::VersionMismatch, &format!("this broker speaks version {PROTOCOL_VERSION}"));
    }
    if config.token.as_ref().is_some_and(|token| !same(token.as_bytes(), hello.token.as_bytes())) {
        return refuse(Code::Unauthenticated, "the token is missing or wrong");
    }
    decode::hello(hello, connection, request).map_err(|refusal| Farewell::Refusal(request, refusal))
}

/// Compares secrets in a time that does not depend on where they differ.
fn same(secret: &[u8], given: &[u8]) -> bool {
    let differences = secret.iter().zip(given).fold(0, |differences, (a, b)| differences | (a ^ b));
    differences == 0 && secret.len() == given.len()
}
