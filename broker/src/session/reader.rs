//! The reading half of a connection up to whole frames: what it holds of a frame that is not whole
//! is bounded, over all connections, and whoever waits for the broker is known to be alive. Frames
//! are neither measured nor decoded here.

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

/// A frame so long needs no room that others might want: each connection may hold that much.
const FREE_BYTES: usize = 8 * 1024;

/// A frame so long finds room among the small ones.
pub(super) const SMALL_BYTES: usize = 64 * 1024;

/// Room for small frames that are not whole, of all connections.
const SMALL_ROOM_BYTES: usize = 64 * 1024 * 1024;

/// The same for large ones; more where one frame may be so large.
const LARGE_ROOM_BYTES: usize = 192 * 1024 * 1024;

/// One read of a busy socket. After it others have their turn.
const READ_BYTES_MAX: usize = 256 * 1024;

/// While others wait for its room, a frame must come at this pace.
const PACE: Duration = Duration::from_secs(5);
const PACE_BYTES: usize = 1024 * 1024;

/// Why there is no next frame.
#[derive(Debug)]
pub(super) enum End {
    /// The client closed between frames.
    Closed,
    Broken(FrameError),
    /// Others waited for its room.
    TooSlow,
}

impl From<FrameError> for End {
    fn from(error: FrameError) -> Self {
        End::Broken(error)
    }
}

/// A whole frame.
#[derive(Debug)]
pub(super) struct Arrived {
    pub frame: Bytes,
    /// The room it takes until nobody needs its bytes.
    pub place: Option<Place>,
}

/// Says that a connection lives while it has to wait for the broker.
#[derive(Debug)]
pub(super) struct Pulse {
    every: Interval,
    /// After the handshake: who hears it.
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
            // A driver that is gone needs no telling.
            let _ = signs.send(*connection);
        }
    }

    /// Waits for what others have to do first. It is not the client that is silent meanwhile.
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
    rooms: FrameRooms,
    /// What the frame under way takes, and how its pace is watched.
    under_way: Option<UnderWay>,
}

struct UnderWay {
    place: Place,
    pace: Interval,
    /// Bytes that were there when the pace was looked at.
    had: usize,
}

/// Where frames that are not whole find room.
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
            rooms,
            under_way: None,
        }
    }

    /// What the first frame begins with, once that says something. No more is read than that.
    pub(super) async fn opening(&mut self) -> Result<Opening<'_>, End> {
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
    pub(super) async fn next(&mut self) -> Result<Arrived, End> {
        loop {
            if let Some(frame) = self.codec.split(&mut self.buffer)? {
                let place = self.under_way.take().map(|under_way| under_way.place);
                if place.is_some() && self.buffer.is_empty() {
                    // Its memory goes with the frame, not with the next one.
                    self.buffer = BytesMut::new();
                }
                return Ok(Arrived { frame: frame.freeze(), place });
            }
            let read_max = self.make_room().await?;
            self.read(read_max).await?;
        }
    }

    /// Sees to it that there is room for more of the frame; says how much may be read.
    async fn make_room(&mut self) -> Result<usize, End> {
        let Some(length) = self.codec.announced(&self.buffer)? else { return Ok(FREE_BYTES) };
        let whole = LENGTH_BYTES + length;
        let missing = whole - self.buffer.len();
        if length <= FREE_BYTES {
            self.buffer.reserve(missing);
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
            // It grows as the frame comes, and never beyond it.
            let mut larger =
                BytesMut::with_capacity((2 * self.buffer.len()).max(SMALL_BYTES).min(whole));
            larger.put_slice(&self.buffer);
            self.buffer = larger;
        }
        Ok(missing.min(READ_BYTES_MAX))
    }

    /// Reads once. While nothing but parts of a frame come, each heartbeat's time with some is a
    /// sign of life.
    async fn read(&mut self, read_max: usize) -> Result<(), End> {
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
                () = too_slow(under_way, before) => return Err(End::TooSlow),
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

    fn closed(&self) -> End {
        if self.buffer.is_empty() {
            return End::Closed;
        }
        End::Broken(std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into())
    }
}

/// Ends when a frame comes too slowly for those who wait for its room.
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
