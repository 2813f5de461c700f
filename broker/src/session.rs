//! Sessions: one per connection. A session turns frames into commands, and writes the frames that
//! the committer has made. Only this module sees credentials. The machine decides about leases,
//! credit and resume.

pub(crate) mod decode;
mod handshake;
mod in_flight;
mod panics;
mod reader;
mod requests;

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::BytesMut;
use celeriac_machine::command::{Ask, Code, Command, Connect, ConnectionKey, Refusal};
use celeriac_proto::limits::{REQUESTS_IN_FLIGHT_MAX, WAITED_IDS_MAX, WATCHED_IDS_MAX};
use celeriac_proto::wire::{ClientFrame, ServerFrame, client_frame};
use celeriac_proto::{FrameCodec, FrameError};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::access::{Access, Visitor};
use crate::clock::Clock;
use crate::config::Config;
use crate::driver::Input;
use crate::encode;
use crate::lobby::{Guest, Lobby, Peer};
use crate::log_filter::LogFilter;
use crate::refused::Refused;
use crate::room::Room;
use crate::send_queue::{Auditor, Frames, Gauge, SendQueue};
use crate::tally::Tally;
use decode::Bounds;
use handshake::{Admitted, HANDSHAKE, handshake};
use in_flight::InFlight;
pub(crate) use reader::FrameRooms;
use reader::Reader;
use requests::EndOfRequests;
pub(crate) use requests::{Decoding, REQUESTS_WEIGHT_MAX};

/// A write that makes no progress for this long ends the connection.
const WRITE: Duration = Duration::from_secs(30);

/// A client whose access has ended has this long to read why.
const EXPELLED: Duration = Duration::from_secs(1);

/// The most messages that wait for the writer: the ends of all tasks that a connection waits for or
/// watches may come at one moment, besides answers and deliveries. A client whose queue is full
/// does not read. An entry has the messages of one batch, so there are at most as many entries.
const SEND_QUEUE_ENTRIES: usize = WAITED_IDS_MAX + WATCHED_IDS_MAX + 2 * REQUESTS_IN_FLIGHT_MAX;

/// The most entries of the send queue in one write.
const ENTRIES_PER_WRITE: usize = 64;

/// Entries of small batches are copied into one write while they have at most this many bytes. More
/// bytes have a write of their own.
const WRITE_BYTES_COPIED: usize = 16 * 1024;

/// The state that all sessions share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub config: Config,
    pub clock: Clock,
    /// Who may do what. `None`: everybody who is let in may do everything.
    pub access: Option<Access>,
    /// The connections whose token was missing or wrong.
    pub wrong_tokens: Refused,
    /// The connections whose handshake of TLS failed.
    pub failed_handshakes: Refused,
    pub inputs: mpsc::Sender<Input>,
    /// Signs of life from connections of which the driver has no request.
    pub signs: mpsc::UnboundedSender<ConnectionKey>,
    pub lobby: Lobby,
    /// What monitors are told of refusals and reloads.
    pub tally: Arc<Tally>,
    /// Room for frames that are not whole.
    pub frames: FrameRooms,
    /// Room for small requests that wait for the driver.
    pub requests: Room,
    /// Room for the one large request that is being decoded or waits for the driver.
    pub turn: Room,
    pub decoding: Decoding,
    /// The log of the program around the broker, if clients may change its filter.
    pub log: Option<LogFilter>,
    /// Cancelled when sessions must read no more requests.
    pub stop: CancellationToken,
}

type Codec = FrameCodec<ClientFrame, ServerFrame>;

/// Bytes from a client.
pub(crate) trait Incoming: AsyncRead + Unpin + Send + 'static {}

impl<T: AsyncRead + Unpin + Send + 'static> Incoming for T {}

/// Bytes to a client. Each half has its own type, so that the halves of a socket need no lock.
pub(crate) trait Outgoing: AsyncWrite + Unpin + Send + 'static {}

impl<T: AsyncWrite + Unpin + Send + 'static> Outgoing for T {}

/// Serves one connection until it ends.
pub(crate) async fn run(
    read: impl Incoming,
    mut write: impl Outgoing,
    peer: Peer,
    guest: Guest,
    shared: Arc<Shared>,
) {
    let connection = guest.connection;
    let heartbeat = Duration::from_millis(shared.config.heartbeat_ms);
    let mut reader = Reader::new(read, heartbeat, shared.frames.clone());
    let handshake = async {
        tokio::select! {
            connect = handshake(&mut reader, &peer, &guest, &shared) => connect,
            () = shared.stop.cancelled() => {
                Err(Farewell::refuse(Code::ShuttingDown, "the broker is shutting down"))
            }
        }
    };
    let admitted = panics::caught(handshake).await;
    let Peer { remote: peer, certificate, .. } = peer;
    let Admitted { connect, visitor, seat: _seat } =
        match admitted.unwrap_or_else(|_| Err(Farewell::fault())) {
            Ok(admitted) => admitted,
            Err(farewell) => {
                if let Farewell::Refusal(_, refusal) = &farewell {
                    shared.tally.note_refused(refusal.code);
                }
                if farewell.is_about_the_token()
                    && let Some(access) = &shared.access
                {
                    access.note_failed_login(peer);
                }
                if farewell.is_about_the_token()
                    && let Some(refused) =
                        shared.wrong_tokens.note(peer.address, shared.clock.now().mono)
                {
                    warn!(%peer, refused, "a client was refused: its token is missing or wrong");
                }
                debug!(%peer, reason = farewell.reason(), "a connection ends before its session");
                return farewell.say(&mut write).await;
            }
        };
    drop(guest);
    let access = visitor.as_ref().map(|visitor| &**visitor.name());
    if let Some(worker) = &connect.worker {
        let (worker_name, task_names) = (&*connect.instance, worker.task_names.len());
        info!(%peer, connection, worker = worker_name, access, certificate, task_names, "a worker connects");
    } else {
        debug!(%peer, connection, instance = &*connect.instance, access, certificate, "a client connects");
    }
    reader.codec.set_frame_bytes_max(shared.config.frame_bytes_max);
    reader.pulse.signs = Some((connection, shared.signs.clone()));
    let (is_worker, instance) = (connect.worker.is_some(), connect.instance.clone());
    let reason = serve(reader, write, connect, visitor, &shared).await;
    if is_worker {
        info!(%peer, connection, worker = &*instance, reason, "a worker disconnects");
    } else {
        debug!(%peer, connection, reason, "a client disconnects");
    }
}

/// Serves the connection from the handshake to its end. Returns why the connection ended.
async fn serve(
    mut reader: Reader<impl Incoming>,
    write: impl Outgoing,
    connect: Connect,
    visitor: Option<Visitor>,
    shared: &Shared,
) -> &'static str {
    let connection = connect.connection;
    let cursors = visitor.as_ref().and_then(Visitor::cursors).map(Arc::new);
    let (queue, frames) = SendQueue::new(SEND_QUEUE_ENTRIES);
    let queue = queue.with(cursors.clone(), visitor.clone().map(auditor));
    let kill = queue.kill.clone();
    let in_flight = Arc::new(InFlight::default());
    let writer = Writer { write, in_flight: in_flight.clone(), gauge: queue.gauge().clone() };
    let mut writer = tokio::spawn(writer.run(frames));
    let opened = Input::Open(connection, queue);
    for input in [opened, Input::Command(Command::Connect(Box::new(connect)))] {
        if shared.inputs.send(input).await.is_err() {
            return "the broker has stopped";
        }
    }
    let requests = panics::caught(requests::run(
        &mut reader,
        connection,
        shared,
        visitor.as_ref(),
        cursors,
        &in_flight,
    ));
    let access_ended = async {
        match &visitor {
            Some(visitor) => visitor.ended().await,
            None => std::future::pending().await,
        }
    };
    let ended = tokio::select! {
        ended = requests => ended.unwrap_or_else(|_| EndOfRequests::fault()),
        _ = &mut writer => EndOfRequests::without_a_word("the broker closed it"),
        () = kill.cancelled() => EndOfRequests::without_a_word("it does not read"),
        refusal = access_ended => EndOfRequests::expelled(refusal),
        // The driver still sends the last answers and then ends the send queue.
        () = shared.stop.cancelled() => EndOfRequests::without_a_word("the broker is shutting down"),
    };
    // After a goodbye the broker closes the connection; the client ended it all the same.
    let reason = if reader.said_goodbye { "it said goodbye" } else { ended.reason };
    let farewell = if ended.is_expelled { EXPELLED } else { WRITE };
    let disconnect = ended.command(connection);
    // A failed send means that the driver has ended.
    let _ = shared.inputs.send(Input::Command(disconnect)).await;
    let farewell = if kill.is_cancelled() { Duration::ZERO } else { farewell };
    if !writer.is_finished() && tokio::time::timeout(farewell, &mut writer).await.is_err() {
        writer.abort();
    }
    reason
}

/// Writes down what the machine refuses to this client.
fn auditor(visitor: Visitor) -> Auditor {
    Auditor(Box::new(move |forbidden| visitor.note_forbidden(forbidden)))
}

/// The command in a frame of a client that has a session.
pub fn client_command(frame: ClientFrame, connection: ConnectionKey, bounds: &Bounds) -> Command {
    let request = frame.request_id;
    let ask = match frame.body {
        Some(client_frame::Body::Hello(_)) => {
            Err(Refusal::new(Code::Handshake, "Hello comes once"))
        }
        body if request == 0 && !decode::needs_no_answer(&body) => {
            Err(Refusal::new(Code::InvalidArgument, "request ids are above 0"))
        }
        body => decode::ask(body, frame.timeout_ms, bounds),
    };
    Command::Request { connection, request, ask: ask.unwrap_or_else(Ask::Refuse) }
}

/// The writing half.
struct Writer<W> {
    write: W,
    in_flight: Arc<InFlight>,
    gauge: Gauge,
}

impl<W: Outgoing> Writer<W> {
    /// Writes until the send queue is closed and empty, or the client has disconnected.
    async fn run(mut self, mut queue: mpsc::Receiver<Frames>) {
        let mut entries = Vec::with_capacity(ENTRIES_PER_WRITE);
        while queue.recv_many(&mut entries, ENTRIES_PER_WRITE).await > 0 {
            let mut together: Option<Frames> = None;
            for frames in entries.drain(..) {
                for request in &frames.answered {
                    self.in_flight.answered(*request);
                }
                match &mut together {
                    Some(first) if first.bytes.len() + frames.bytes.len() <= WRITE_BYTES_COPIED => {
                        first.add(|bytes| {
                            bytes.extend_from_slice(&frames.bytes);
                            0
                        });
                    }
                    _ => {
                        let before = together.replace(frames);
                        if self.write_all(before).await.is_err() {
                            return;
                        }
                    }
                }
            }
            if self.write_all(together).await.is_err() {
                return;
            }
        }
        // The client may have disconnected already.
        let _ = self.write.shutdown().await;
    }

    /// Writes these frames. This may take any time, provided that the client takes some bytes
    /// within each period of `WRITE`.
    ///
    /// TLS keeps a bounded number of bytes that the socket did not take, so they are flushed. A
    /// plain socket keeps none, and answers at once.
    async fn write_all(&mut self, frames: Option<Frames>) -> std::io::Result<()> {
        let Some(mut frames) = frames else { return Ok(()) };
        while !frames.bytes.is_empty() {
            let written = self.write.write_buf(&mut frames.bytes);
            if tokio::time::timeout(WRITE, written).await?? == 0 {
                return Err(std::io::ErrorKind::WriteZero.into());
            }
            self.gauge.note_write();
        }
        let flushed = poll_fn(|cx| Poll::Ready(Pin::new(&mut self.write).poll_flush(cx))).await;
        match flushed {
            Poll::Ready(flushed) => flushed?,
            Poll::Pending => {
                tokio::time::timeout(WRITE, self.write.flush()).await??;
                self.gauge.note_write();
            }
        }
        Ok(())
    }
}

/// The last bytes to a connection that never got a session.
#[derive(Debug)]
enum Farewell {
    Refusal(u64, Refusal),
    /// For a client of another protocol, in that protocol.
    Http,
    Tls,
    Silence,
}

impl Farewell {
    fn refuse(code: Code, message: &str) -> Self {
        Farewell::Refusal(0, Refusal::new(code, message))
    }

    fn fault() -> Self {
        Farewell::Refusal(0, panics::refusal())
    }

    fn is_about_the_token(&self) -> bool {
        matches!(self, Farewell::Refusal(_, Refusal { code: Code::Unauthenticated, .. }))
    }

    /// The reason, for the log.
    fn reason(&self) -> &str {
        match self {
            Farewell::Refusal(_, refusal) => &refusal.message,
            Farewell::Http => "the client speaks HTTP",
            Farewell::Tls => "the client speaks TLS",
            Farewell::Silence => "the client closed the connection, or speaks another protocol",
        }
    }

    async fn say(self, write: &mut impl Outgoing) {
        let mut buffer = BytesMut::new();
        match self {
            Farewell::Refusal(request_id, refusal) => {
                encode::append_refusal(request_id, refusal, &mut buffer);
            }
            Farewell::Http => {
                let text = "This is the port of a Celeriac broker, which does not speak HTTP.\n";
                let head =
                    "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nConnection: close\r\n";
                buffer.extend_from_slice(
                    format!("{head}Content-Length: {}\r\n\r\n{text}", text.len()).as_bytes(),
                );
            }
            // A fatal alert: protocol_version.
            Farewell::Tls => buffer.extend_from_slice(&[21, 3, 1, 0, 2, 2, 70]),
            Farewell::Silence => return,
        }
        // The peer may have disconnected already.
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

fn too_slow() -> Refusal {
    Refusal::new(Code::Overloaded, "a long frame came too slowly while others waited for its room")
}

#[cfg(test)]
mod tests {
    use celeriac_machine::command::Answer;
    use tokio::io::{AsyncReadExt, BufWriter};

    use super::*;
    use crate::outgoing::Outgoing as Message;

    #[tokio::test(start_paused = true)]
    async fn what_a_stream_keeps_is_flushed_after_the_last_message() {
        let (here, mut there) = tokio::io::duplex(1024);
        let (queue, messages) = SendQueue::new(4);
        let writer = Writer {
            // Like TLS, it may keep what was written until it is flushed.
            write: BufWriter::new(here),
            in_flight: Arc::new(InFlight::default()),
            gauge: queue.gauge().clone(),
        };
        let writing = tokio::spawn(writer.run(messages));
        for request in 1..3 {
            let mut frames = Frames::of_few_bytes();
            frames.add(|buffer| {
                let limits = encode::limits(&Config::default());
                let answer = Message::Answer(request, Answer::Done);
                encode::append(answer, &limits, None, buffer)
            });
            assert!(queue.put(frames));
            let mut length = [0; 4];
            let read = tokio::time::timeout(WRITE, there.read_exact(&mut length)).await;
            read.expect("the answer comes, and not with the next one").expect("it is sent");
            let mut frame = vec![0; u32::from_be_bytes(length) as usize];
            there.read_exact(&mut frame).await.expect("the frame is whole");
        }
        drop(queue);
        writing.await.expect("the writer ends with its queue");
    }
}
