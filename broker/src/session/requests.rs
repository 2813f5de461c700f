//! Turns whole frames into requests for the driver. A session decodes a small frame where it
//! arrives. Large frames are decoded one at a time, on a thread where the work delays no other
//! connection. So no session ends because another client's frame was large.

use std::sync::Arc;

use bytes::Bytes;
use celeriac_machine::command::{Ask, Code, Command, ConnectionKey, Mail, Refusal};
use celeriac_proto::FrameError;
use celeriac_proto::measure::{Measure, measure};
use celeriac_proto::wire::{ClientFrame, client_frame};
use tokio::sync::oneshot;

use super::in_flight::InFlight;
use super::reader::{Arrived, EndOfFrames, Reader, SMALL_BYTES};
use super::{Bounds, Incoming, Shared, client_command, framing_refusal, panics, too_slow};
use crate::access::Visitor;
use crate::cursors::{Cursors, Listing};
use crate::driver::{Held, Input};
use crate::log_filter;
use crate::room::Place;

/// The cost of a field beside its bytes: most of the field's memory and of its decoding time.
const BYTES_PER_FIELD: usize = 32;

/// A request of more weight is large, and so is a longer frame: a few hundred tasks, or a larger
/// payload.
const SMALL_WEIGHT_MAX: usize = 128 * 1024;

/// After this much weight other connections have their turn.
const WEIGHT_PER_TURN: usize = 32 * 1024;

/// The weight of the small requests of all connections that may wait for the driver together: a few
/// milliseconds of the driver's work, so that no client waits long behind clients that send as fast
/// as they can.
pub(crate) const REQUESTS_WEIGHT_MAX: usize = 4 * 1024 * 1024;

/// Where large frames are measured and decoded.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Decoding {
    /// On a thread that serves no connections.
    Apart,
    /// On the session's own thread: a simulation has one thread.
    #[cfg(feature = "internals")]
    Here,
    /// Nowhere: a test looks at what becomes of the connection.
    #[cfg(test)]
    Panics,
}

impl Decoding {
    pub(super) async fn run<T: Send + 'static>(
        self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> T {
        match self {
            #[cfg(feature = "internals")]
            Decoding::Here => work(),
            #[cfg(test)]
            Decoding::Panics => panic!("a fault of the broker, for a test"),
            Decoding::Apart => match tokio::task::spawn_blocking(work).await {
                Ok(done) => done,
                Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
                // The runtime ends, and this connection ends too.
                Err(_) => std::future::pending().await,
            },
        }
    }
}

/// The measure and the weight of a small frame, or `None` for a large one.
pub(super) fn measure_small(frame: &[u8]) -> Result<Option<(Measure, usize)>, FrameError> {
    if frame.len() > SMALL_BYTES {
        return Ok(None);
    }
    let measure = measure::<ClientFrame>(frame)?;
    let weight = frame.len() + BYTES_PER_FIELD * measure.fields as usize;
    Ok((weight <= SMALL_WEIGHT_MAX).then_some((measure, weight)))
}

/// Why a connection ends.
pub(super) struct EndOfRequests {
    /// The reason, for the log.
    pub(super) reason: &'static str,
    /// What the client is told, if anything.
    pub(super) refusal: Option<Refusal>,
    /// Whether the client has done nothing wrong, and the broker closes the connection all the
    /// same.
    pub(super) is_expelled: bool,
}

impl EndOfRequests {
    pub(super) fn without_a_word(reason: &'static str) -> Self {
        Self { reason, refusal: None, is_expelled: false }
    }

    /// The session has panicked.
    pub(super) fn fault() -> Self {
        Self::refused("a fault of the broker", panics::refusal())
    }

    fn refused(reason: &'static str, refusal: Refusal) -> Self {
        Self { reason, refusal: Some(refusal), is_expelled: false }
    }

    /// The access of the client has ended.
    pub(super) fn expelled(refusal: Refusal) -> Self {
        Self { reason: "its access ended", refusal: Some(refusal), is_expelled: true }
    }

    /// What the machine is told.
    pub(super) fn command(self, connection: ConnectionKey) -> Command {
        match self.refusal {
            Some(reason) if self.is_expelled => Command::Expel { connection, reason },
            reason => Command::Disconnect { connection, reason },
        }
    }
}

/// Turns frames into commands until no more come.
pub(super) async fn run(
    reader: &mut Reader<impl Incoming>,
    connection: ConnectionKey,
    shared: &Shared,
    visitor: Option<&Visitor>,
    cursors: Option<Arc<Cursors>>,
    in_flight: &InFlight,
) -> EndOfRequests {
    let reading = Reading { connection, bounds: Bounds::of(&shared.config), cursors };
    let mut weighed = 0;
    loop {
        let arrived = match reader.next().await {
            Ok(arrived) => arrived,
            Err(EndOfFrames::Closed) => {
                return EndOfRequests::without_a_word("it closed the connection without a goodbye");
            }
            Err(EndOfFrames::Broken(error)) => return broken(&error),
            Err(EndOfFrames::TooSlow) => {
                return EndOfRequests::refused("it sends too slowly", too_slow());
            }
        };
        // A client that does not read its answers delays only its own requests, so this wait sends
        // no signs of life.
        in_flight.begin().await;
        let handed_over = match measure_small(&arrived.frame) {
            Ok(Some((measure, weight))) => {
                weighed += weight;
                let decoded = reading.decoded(measure, arrived.frame);
                match decoded.map(|command| judged(command, visitor)) {
                    Ok(command) => {
                        small(reader, command, arrived.place, weight, shared, in_flight).await
                    }
                    Err(error) => Err(broken(&error)),
                }
            }
            Ok(None) => {
                let asking = Asking { visitor, reading: reading.clone() };
                large(reader, arrived, asking, shared, in_flight).await
            }
            Err(error) => Err(broken(&error)),
        };
        if let Err(ended) = handed_over {
            return ended;
        }
        if weighed > WEIGHT_PER_TURN {
            weighed = 0;
            tokio::task::yield_now().await;
        }
    }
}

fn broken(error: &FrameError) -> EndOfRequests {
    match error {
        FrameError::Io(_) => EndOfRequests::without_a_word("the connection is lost"),
        error => EndOfRequests::refused("it sent broken frames", framing_refusal(error)),
    }
}

async fn small(
    reader: &mut Reader<impl Incoming>,
    mut command: Command,
    place: Option<Place>,
    weight: usize,
    shared: &Shared,
    in_flight: &InFlight,
) -> Result<(), EndOfRequests> {
    let room = reader.pulse.during(shared.requests.take(weight, weight)).await;
    let held = Held { frame: place, room, taken: None };
    log_filter::carry_out(&mut command, shared.log.as_ref());
    in_flight.let_wait(&command);
    reader.said_goodbye |= matches!(command, Command::Request { ask: Ask::Goodbye, .. });
    hand_over(reader, Input::Request { command, _held: held }, shared).await
}

/// Who asks, and how its frames become commands.
struct Asking<'a> {
    visitor: Option<&'a Visitor>,
    reading: Reading,
}

/// How the frames of a connection become commands.
#[derive(Clone)]
struct Reading {
    connection: ConnectionKey,
    bounds: Bounds,
    /// Those of a client with a scope.
    cursors: Option<Arc<Cursors>>,
}

impl Reading {
    fn decoded(&self, measure: Measure, frame: Bytes) -> Result<Command, FrameError> {
        let connection = self.connection;
        let mut frame: ClientFrame = measure.decode(frame)?;
        if let (Some(cursors), Some(body)) = (&self.cursors, &mut frame.body)
            && open_cursor(body, cursors).is_none()
        {
            let ask = Ask::Refuse(Refusal::new(Code::InvalidArgument, NOT_OURS));
            return Ok(Command::Request { connection, request: frame.request_id, ask });
        }
        Ok(client_command(frame, connection, &self.bounds))
    }
}

/// Decrypts the cursor of a client with a scope. `None`: it is not of this scope.
fn open_cursor(request: &mut client_frame::Body, cursors: &Cursors) -> Option<()> {
    match request {
        client_frame::Body::ListTasks(list) => {
            list.cursor = cursors.open(Listing::Tasks, &list.cursor)?;
        }
        client_frame::Body::ListWorkers(list) => {
            list.cursor = cursors.open(Listing::Workers, &list.cursor)?;
        }
        _ => {}
    }
    Some(())
}

/// A listing within a scope goes on with the cursors of this scope alone.
const NOT_OURS: &str = "the cursor is not one of ours, or it is that of another access, or from before \
                        a restart of the broker: begin the listing again";

/// Hands over a large request. The session reads the next frame only after the driver has taken
/// this one, so that requests are carried out in their order.
async fn large(
    reader: &mut Reader<impl Incoming>,
    arrived: Arrived,
    asking: Asking<'_>,
    shared: &Shared,
    in_flight: &InFlight,
) -> Result<(), EndOfRequests> {
    let Arrived { frame, place } = arrived;
    let Asking { visitor, reading } = asking;
    let room = reader.pulse.during(shared.turn.take(1, frame.len())).await;
    let decode = move || reading.decoded(measure::<ClientFrame>(&frame)?, frame);
    let decoded = reader.pulse.during(shared.decoding.run(decode)).await;
    let mut command = judged(decoded.map_err(|error| broken(&error))?, visitor);
    log_filter::carry_out(&mut command, shared.log.as_ref());
    let (taken, when_taken) = oneshot::channel();
    let held = Held { frame: place, room, taken: Some(taken) };
    in_flight.let_wait(&command);
    hand_over(reader, Input::Request { command, _held: held }, shared).await?;
    // The driver drops the sender; it sends nothing.
    let _ = reader.pulse.during(when_taken).await;
    Ok(())
}

async fn hand_over(
    reader: &mut Reader<impl Incoming>,
    input: Input,
    shared: &Shared,
) -> Result<(), EndOfRequests> {
    let sent = reader.pulse.during(shared.inputs.send(input)).await;
    sent.map_err(|_| EndOfRequests::without_a_word("the broker has stopped"))
}

/// The command as the access of the client allows it.
fn judged(command: Command, visitor: Option<&Visitor>) -> Command {
    match (visitor, command) {
        // What could not be decoded is answered as without an access file.
        (Some(_), command @ Command::Request { ask: Ask::Refuse(_), .. }) => command,
        (Some(visitor), Command::Request { connection, request, ask }) => {
            let ask = match visitor.judge(ask) {
                // Nobody waits for an answer: the request becomes one that does nothing.
                Ask::Refuse(_) if request == 0 => Ask::Mail(Mail::Ack(Vec::new())),
                ask => ask,
            };
            Command::Request { connection, request, ask }
        }
        (_, command) => command,
    }
}
