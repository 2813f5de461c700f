//! From whole frames to requests in the hands of the driver. Small ones are decoded where they arrive; large ones one at a
//! time, and where that takes long, where it delays nobody. Nobody's session ends because somebody else's frame was large.

use celeriac_proto::FrameError;
use celeriac_proto::measure::Measure;
use celeriac_proto::wire::ClientFrame;
use prost::Message;
use tokio::sync::{Semaphore, oneshot};

use super::reader::{Arrived, End, Reader};
use super::{Bounds, Incoming, Shared, command, framing_refusal, too_slow};
use crate::driver::{Held, Input};
use crate::machine::command::{Command, ConnectionKey, Refusal};

/// What a field costs beside its bytes: the most of a field's memory and of the time that it takes.
const BYTES_PER_FIELD: usize = 32;

/// A request that weighs more is a large one: a few hundred tasks, or a payload of some size.
const SMALL_WEIGHT_MAX: usize = 128 * 1024;

/// Small requests that may wait for the driver, of all connections together, by their weight: a few milliseconds of its
/// work, so that nobody waits for long behind those who send as fast as they can.
pub(crate) const REQUESTS_WEIGHT_MAX: usize = 4 * 1024 * 1024;

/// With more fields a frame takes a millisecond or more to decode.
const FIELDS_INLINE_MAX: u32 = 4_096;

/// Where large frames are decoded.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Decoding {
    /// On a thread beside those that serve connections.
    Apart,
    /// Where they arrive: a simulation has one thread.
    #[cfg(feature = "internals")]
    Here,
}

impl Decoding {
    pub(super) async fn run<T: Send + 'static>(self, work: impl FnOnce() -> T + Send + 'static) -> T {
        match self {
            #[cfg(feature = "internals")]
            Decoding::Here => work(),
            Decoding::Apart => match tokio::task::spawn_blocking(work).await {
                Ok(done) => done,
                Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
                // The runtime ends, and this connection with it.
                Err(_) => std::future::pending().await,
            },
        }
    }
}

fn weight(arrived: &Arrived) -> usize {
    arrived.frame.len() + BYTES_PER_FIELD * arrived.measure.fields as usize
}

impl Shared {
    pub(super) fn is_large(&self, arrived: &Arrived) -> bool {
        weight(arrived) > SMALL_WEIGHT_MAX
    }

    pub(super) fn is_slow(&self, measure: &Measure) -> bool {
        measure.fields > FIELDS_INLINE_MAX
    }
}

/// Why a connection ends, and what its client is told.
type Ended = (&'static str, Option<Refusal>);

/// Turns frames into commands until there are no more. Says why, and what to tell the client.
pub(super) async fn run(
    reader: &mut Reader<impl Incoming>,
    connection: ConnectionKey,
    shared: &Shared,
    in_flight: &Semaphore,
) -> Ended {
    let bounds = Bounds::of(&shared.config);
    loop {
        let arrived = match reader.next().await {
            Ok(arrived) => arrived,
            Err(End::Closed) => return ("closed by the client", None),
            Err(End::Broken(FrameError::Io(_))) => return ("lost", None),
            Err(End::Broken(error)) => return ("broken framing", Some(framing_refusal(&error))),
            Err(End::TooSlow) => return ("too slow", Some(too_slow())),
        };
        // Its answers are not read: that is the client's own affair.
        in_flight.acquire().await.expect("the semaphore is never closed").forget();
        let handed_over = match shared.is_large(&arrived) {
            true => large(reader, arrived, connection, shared, bounds).await,
            false => small(reader, arrived, connection, shared, &bounds).await,
        };
        if let Err(ended) = handed_over {
            return ended;
        }
    }
}

async fn small(
    reader: &mut Reader<impl Incoming>,
    arrived: Arrived,
    connection: ConnectionKey,
    shared: &Shared,
    bounds: &Bounds,
) -> Result<(), Ended> {
    let weight = weight(&arrived);
    let command = decoded(arrived.frame, connection, bounds)?;
    let room = reader.pulse.during(shared.requests.take(weight, weight)).await;
    let held = Held { frame: arrived.place, room, taken: None };
    hand_over(reader, Input::Request { command, _held: held }, shared).await
}

/// The next frame of this connection is looked at when the driver has this one: requests are carried out in their order.
async fn large(
    reader: &mut Reader<impl Incoming>,
    arrived: Arrived,
    connection: ConnectionKey,
    shared: &Shared,
    bounds: Bounds,
) -> Result<(), Ended> {
    let room = reader.pulse.during(shared.turn.take(1, weight(&arrived))).await;
    let Arrived { frame, measure, place } = arrived;
    let decode = move || decoded(frame, connection, &bounds);
    let command = match shared.is_slow(&measure) {
        true => reader.pulse.during(shared.decoding.run(decode)).await,
        false => decode(),
    }?;
    let (taken, when_taken) = oneshot::channel();
    let held = Held { frame: place, room, taken: Some(taken) };
    hand_over(reader, Input::Request { command, _held: held }, shared).await?;
    // It is dropped, not sent.
    let _ = reader.pulse.during(when_taken).await;
    Ok(())
}

async fn hand_over(reader: &mut Reader<impl Incoming>, input: Input, shared: &Shared) -> Result<(), Ended> {
    let sent = reader.pulse.during(shared.inputs.send(input)).await;
    sent.map_err(|_| ("the broker has stopped", None))
}

fn decoded(frame: bytes::Bytes, connection: ConnectionKey, bounds: &Bounds) -> Result<Command, Ended> {
    match ClientFrame::decode(frame) {
        Ok(frame) => Ok(command(frame, connection, bounds)),
        Err(error) => Err(("broken framing", Some(framing_refusal(&FrameError::Malformed(error))))),
    }
}
