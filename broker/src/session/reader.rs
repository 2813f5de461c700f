//! The reading half of a connection, which reads whole frames. The bytes of frames that are not
//! whole are bounded, over all connections. A connection that waits for the broker counts as alive.
//! This file neither measures nor decodes frames.

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use celeriac_machine::command::ConnectionKey;
use celeriac_proto::limits::{FRAME_BYTES_MAX_BEFORE_HELLO, HELLO_PREFIX_BYTES};
use celeriac_proto::{FrameError, LENGTH_BYTES, Opening};
use tokio::io::AsyncReadExt;
use tokio::sync::mpsc;
use tokio::time::{Interval, MissedTickBehavior, interval};

use super::{Codec, Incoming};
use crate::room::{Place, Room};

/// A frame of at most this length needs no shared room: each connection may hold this many bytes.
const FREE_BYTES: usize = 8 * 1024;

/// A read has room for so many bytes at least, so that one read takes several small frames, and
/// mostly finds that there is no more.
const READ_BYTES_MIN: usize = 256;

/// The memory for small frames is taken in pieces of this size.
const PIECE_BYTES: usize = 1024;

/// A frame of at most this length takes room among the small frames.
pub(super) const SMALL_BYTES: usize = 64 * 1024;

/// Room for small frames of all connections that are not whole.
const SMALL_ROOM_BYTES: usize = 64 * 1024 * 1024;

/// Room for large frames of all connections that are not whole. The room is larger where one frame
/// may be larger.
const LARGE_ROOM_BYTES: usize = 192 * 1024 * 1024;

/// The most bytes of one read from a busy socket. After it other connections have their turn.
const READ_BYTES_MAX: usize = 256 * 1024;

/// While other frames wait for its room, a frame must bring `PACE_BYTES` in each period of this
/// length.
const PACE: Duration = Duration::from_secs(5);
const PACE_BYTES: usize = 1024 * 1024;

/// Why there is no next frame.
#[derive(Debug)]
pub(super) enum EndOfFrames {
    /// The client closed between frames.
    Closed,
    Broken(FrameError),
    /// The frame came too slowly while other frames waited for its room.
    TooSlow,
}

impl From<FrameError> for EndOfFrames {
    fn from(error: FrameError) -> Self {
        EndOfFrames::Broken(error)
    }
}

/// A whole frame.
#[derive(Debug)]
pub(super) struct Arrived {
    pub frame: Bytes,
    /// The room of the frame, until its bytes are no longer needed.
    pub place: Option<Place>,
}

/// Reports a connection as alive while it has to wait for the broker.
#[derive(Debug)]
pub(super) struct Pulse {
    every: Interval,
    /// The receiver of the signs of life, after the handshake.
    pub signs: Option<(ConnectionKey, mpsc::UnboundedSender<ConnectionKey>)>,
}

impl Pulse {
    fn new(every: Duration) -> Self {
        let mut every = interval(every);
        every.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { every, signs: None }
    }

    fn heard(&self) {
        if let Some((connection, signs)) = &self.signs {
            // A failed send means that the driver has ended.
            let _ = signs.send(*connection);
        }
    }

    /// Waits for work of the broker, and reports the connection as alive meanwhile: the client is
    /// not the silent one.
    pub(super) async fn during<T>(&mut self, waiting: impl Future<Output = T>) -> T {
        let mut waiting = std::pin::pin!(waiting);
        loop {
            tokio::select! {
                biased;
                done = &mut waiting => return done,
                _ = self.every.tick() => self.heard(),
            }
        }
    }
}

/// The reading half.
pub(super) struct Reader<R> {
    read: R,
    buffer: BytesMut,
    pub(super) codec: Codec,
    pub(super) pulse: Pulse,
    /// Whether the client announced the end of its session.
    pub(super) said_goodbye: bool,
    rooms: FrameRooms,
    /// The room of the frame under way, and the check of its pace.
    under_way: Option<UnderWay>,
}

struct UnderWay {
    place: Place,
    pace: Interval,
    /// The bytes that were there at the last check of the pace.
    had: usize,
}

/// The shared room for frames that are not whole.
#[derive(Debug, Clone)]
pub(crate) struct FrameRooms {
    pub small: Room,
    pub large: Room,
}

impl FrameRooms {
    pub(crate) fn new(frame_bytes_max: usize) -> Self {
        Self {
            small: Room::new(SMALL_ROOM_BYTES),
            large: Room::new(LARGE_ROOM_BYTES.max(2 * frame_bytes_max)),
        }
    }
}

impl<R: Incoming> Reader<R> {
    pub(super) fn new(read: R, heartbeat: Duration, rooms: FrameRooms) -> Self {
        let codec = Codec::new(FRAME_BYTES_MAX_BEFORE_HELLO);
        Self {
            read,
            buffer: BytesMut::new(),
            codec,
            pulse: Pulse::new(heartbeat),
            said_goodbye: false,
            rooms,
            under_way: None,
        }
    }

    /// Reads the beginning of the first frame, just far enough to tell what the frame is.
    pub(super) async fn opening(&mut self) -> Result<Opening<'_>, EndOfFrames> {
        loop {
            let length = self.codec.announced(&self.buffer)?;
            let prefix = LENGTH_BYTES + length.map_or(0, |length| length.min(HELLO_PREFIX_BYTES));
            if let Some(length) = length
                && Opening::read(&self.buffer[LENGTH_BYTES..], length) != Opening::More
            {
                return Ok(Opening::read(&self.buffer[LENGTH_BYTES..], length));
            }
            let missing = prefix.saturating_sub(self.buffer.len()).max(1);
            self.buffer.reserve(missing);
            if self
                .read
                .read_buf(&mut (&mut self.buffer).limit(missing))
                .await
                .map_err(FrameError::Io)?
                == 0
            {
                return Err(self.closed());
            }
        }
    }

    /// The next frame, once it is whole.
    pub(super) async fn next(&mut self) -> Result<Arrived, EndOfFrames> {
        loop {
            if let Some(frame) = self.codec.split(&mut self.buffer)? {
                let place = self.under_way.take().map(|under_way| under_way.place);
                if place.is_some() && self.buffer.is_empty() {
                    // The frame takes this memory with it; the next frame gets its own.
                    self.buffer = BytesMut::new();
                }
                return Ok(Arrived { frame: frame.freeze(), place });
            }
            let read_max = self.make_room().await?;
            self.read(read_max).await?;
        }
    }

    /// Makes room for more bytes of the frame. Returns how many bytes may be read.
    async fn make_room(&mut self) -> Result<usize, EndOfFrames> {
        let Some(length) = self.codec.announced(&self.buffer)? else {
            self.make_small_room(0);
            return Ok(FREE_BYTES);
        };
        let whole = LENGTH_BYTES + length;
        let missing = whole - self.buffer.len();
        if length <= FREE_BYTES {
            self.make_small_room(missing);
            return Ok(FREE_BYTES);
        }
        if self.under_way.is_none() {
            let room = if length <= SMALL_BYTES { &self.rooms.small } else { &self.rooms.large };
            let place = self.pulse.during(room.take(length, length)).await;
            let mut pace = interval(PACE);
            pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
            pace.reset();
            self.under_way = Some(UnderWay { place, pace, had: self.buffer.len() });
        }
        if length <= SMALL_BYTES {
            self.buffer.reserve(missing);
        } else if self.buffer.len() == self.buffer.capacity() {
            // The buffer grows as the frame comes, and never beyond the frame.
            let mut larger =
                BytesMut::with_capacity((2 * self.buffer.len()).max(SMALL_BYTES).min(whole));
            larger.put_slice(&self.buffer);
            self.buffer = larger;
        }
        Ok(missing.min(READ_BYTES_MAX))
    }

    /// Makes room for the rest of a small frame, and for a little more.
    fn make_small_room(&mut self, missing: usize) {
        let needed = missing + READ_BYTES_MIN;
        if self.buffer.capacity() - self.buffer.len() < needed {
            self.buffer.reserve(needed.max(PIECE_BYTES));
        }
    }

    /// Reads once. While only parts of a frame come, each heartbeat period with some bytes is a
    /// sign of life.
    async fn read(&mut self, read_max: usize) -> Result<(), EndOfFrames> {
        let Self { read, buffer, pulse, under_way, .. } = self;
        let before = buffer.len();
        let mut came = before > 0;
        let count = loop {
            let mut rest = (&mut *buffer).limit(read_max);
            tokio::select! {
                count = read.read_buf(&mut rest) => break count.map_err(FrameError::Io)?,
                _ = pulse.every.tick(), if came => {
                    pulse.heard();
                    came = false;
                }
                () = too_slow(under_way, before) => return Err(EndOfFrames::TooSlow),
            }
        };
        if count == 0 {
            return Err(self.closed());
        }
        if self.buffer.len() > SMALL_BYTES {
            tokio::task::yield_now().await;
        }
        Ok(())
    }

    fn closed(&self) -> EndOfFrames {
        if self.buffer.is_empty() {
            return EndOfFrames::Closed;
        }
        EndOfFrames::Broken(std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into())
    }
}

/// Returns when a frame comes too slowly while other frames wait for its room.
async fn too_slow(under_way: &mut Option<UnderWay>, has: usize) {
    let Some(under_way) = under_way else { return std::future::pending().await };
    loop {
        under_way.pace.tick().await;
        if has - under_way.had < PACE_BYTES && under_way.place.is_wanted() {
            return;
        }
        under_way.had = has;
    }
}
