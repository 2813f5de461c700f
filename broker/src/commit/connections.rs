//! Back-pressure: the connections that are open, and the memory that waits for all of them
//! together. When that memory is used up, the broker closes the connections that hold the most and
//! do not read. A connection that reads is never closed because other connections do not read.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::BytesMut;
use celeriac_machine::command::{ConnectionKey, Forbidden, RequestId};
use tracing::warn;

use super::kept::{AllKept, Kept};
use crate::cursors::Cursors;
use crate::send_queue::{AllWaiting, Frames, Gauge, LateSender, SendQueue};

/// Bytes that may wait for one connection: the tasks leased to a worker, its answers, and the
/// events of its watches. A client with more than that does not read.
const BYTES_WAITING_MAX: usize = 128 * MIB;

/// Bytes that may wait for all connections together. Beyond this bound the broker closes
/// connections that do not read. Beyond twice this bound it closes the connection that holds the
/// most.
const ALL_BYTES_WAITING_MAX: usize = 256 * MIB;

/// When this many bytes wait for all connections, answers get little room.
const TIGHT_BYTES: usize = ALL_BYTES_WAITING_MAX / 2;

/// Once this many bytes wait for a connection, the broker refuses further answers to that
/// connection without reading them from the store; the client may ask again when it has read. So a
/// client that asks for much at once neither fills the memory nor keeps the store busy in vain.
const ANSWER_BYTES_WAITING_MAX: usize = 32 * MIB;
const ANSWER_BYTES_WHEN_TIGHT: usize = MIB;

/// A connection counts as not reading when it takes none of its bytes while this many bytes are
/// promised to all connections.
const PATIENCE_BYTES: u64 = 64 * MIB as u64;

/// Each time this many bytes were promised, the broker checks which connections have taken bytes.
const LOOK_BYTES: u64 = 16 * MIB as u64;

/// Frames share a buffer of up to this size. A longer frame has a buffer of its own.
const TOGETHER_BYTES: usize = 64 * 1024;

/// A buffer that frames share begins with at most this size.
const FIRST_BYTES: usize = 8 * 1024;

const MIB: usize = 1024 * 1024;

/// All open connections.
#[derive(Debug, Default)]
pub(super) struct Connections {
    all: HashMap<ConnectionKey, Peer>,
    waiting: AllWaiting,
    kept: AllKept,
    /// Bytes promised since the start.
    promised: u64,
    looked_at: u64,
    /// Closed connections whose messages are not dropped yet.
    leaving: Vec<Gauge>,
}

#[derive(Debug)]
struct Peer {
    queue: SendQueue,
    /// The frames that go into the queue once the batch is durable.
    held: Vec<Frames>,
    kept: Kept,
    /// The connection's count of writes when the broker last saw it take bytes.
    writes: usize,
    /// The bytes that had been promised to all connections by then. `None` while no sent message
    /// waits for the connection.
    since: Option<u64>,
}

/// What became of a frame for a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "the first frame must be sent"]
pub(super) enum Held {
    /// It is held, and it is the first since the last [`Connections::send`].
    First,
    /// It is held behind others.
    More,
    /// The connection is closed. Perhaps this call closed it, to free room.
    Closed,
}

/// The room that a connection has for further messages.
#[derive(Debug, Clone, Copy)]
pub(super) struct Room {
    /// The most bytes of one more answer. 0: the broker refuses further answers.
    pub answer_bytes: usize,
}

impl Connections {
    pub(super) fn add(&mut self, opened: Vec<(ConnectionKey, SendQueue)>) {
        let kept = || Kept::new(self.kept.clone());
        let peer = |queue| Peer { queue, held: Vec::new(), kept: kept(), writes: 0, since: None };
        self.all.extend(opened.into_iter().map(|(key, queue)| (key, peer(queue))));
    }

    /// Returns `None` when the connection is closed. Closes a connection for which too many bytes
    /// wait.
    pub(super) fn room(&mut self, connection: ConnectionKey) -> Option<Room> {
        let waiting = self.all.get(&connection)?.queue.gauge().waiting();
        if waiting > BYTES_WAITING_MAX {
            self.close(connection);
            return None;
        }
        let (may_wait, answer_bytes) = match self.waiting.bytes() < TIGHT_BYTES {
            true => (ANSWER_BYTES_WAITING_MAX, usize::MAX),
            false => (ANSWER_BYTES_WHEN_TIGHT, ANSWER_BYTES_WHEN_TIGHT),
        };
        let answer_bytes = if waiting < may_wait { answer_bytes } else { 0 };
        Some(Room { answer_bytes })
    }

    /// The ended tasks that are kept for the waits of an open connection.
    pub(super) fn kept(&mut self, connection: ConnectionKey) -> Option<&mut Kept> {
        self.all.get_mut(&connection).map(|peer| &mut peer.kept)
    }

    /// Lets `append` add a frame of at most so many bytes to those that are held until the batch is
    /// durable. It returns the request that the frame answers; 0 if it answers none.
    pub(super) fn hold(
        &mut self,
        connection: ConnectionKey,
        bytes_max: usize,
        append: impl FnOnce(&mut BytesMut) -> RequestId,
    ) -> Held {
        let Some(peer) = self.all.get_mut(&connection) else { return Held::Closed };
        if peer.queue.gauge().waiting() == 0 {
            peer.since = None;
        }
        let is_first = peer.held.is_empty();
        let has_room = |frames: &Frames| frames.bytes.len() + bytes_max <= TOGETHER_BYTES;
        if !peer.held.last().is_some_and(has_room) {
            peer.held.push(peer.queue.begin(&self.waiting));
        }
        let frames = peer.held.last_mut().expect("one was pushed if there was none");
        let before = frames.bytes.capacity();
        frames.add(|buffer| {
            // A long frame is not moved from buffer to buffer while it grows, and its buffer grows
            // to no more than it may need. One short frame fits into the first buffer, mostly.
            if bytes_max > TOGETHER_BYTES {
                *buffer = BytesMut::with_capacity(bytes_max);
            } else if buffer.capacity() == 0 {
                *buffer = BytesMut::with_capacity(bytes_max.min(FIRST_BYTES));
            }
            append(buffer)
        });
        self.promised += frames.bytes.capacity().saturating_sub(before) as u64;
        if self.waiting.bytes() >= TIGHT_BYTES {
            self.make_room();
            if !self.all.contains_key(&connection) {
                return Held::Closed;
            }
        }
        if is_first { Held::First } else { Held::More }
    }

    /// Writes down what the machine refused to a connection.
    pub(super) fn note_forbidden(&self, connection: ConnectionKey, forbidden: &Forbidden) {
        if let Some(peer) = self.all.get(&connection) {
            peer.queue.note_forbidden(forbidden);
        }
    }

    /// The cursors of a connection whose client has a scope.
    pub(super) fn cursors(&self, connection: ConnectionKey) -> Option<Arc<Cursors>> {
        self.all.get(&connection).and_then(|peer| peer.queue.cursors.clone())
    }

    /// Sends the frames that are held for a connection. Returns false when the connection is
    /// closed.
    pub(super) fn send(&mut self, connection: ConnectionKey) -> bool {
        let Some(peer) = self.all.get_mut(&connection) else { return false };
        if peer.since.is_none() {
            (peer.writes, peer.since) = (peer.queue.gauge().writes(), Some(self.promised));
        }
        if !peer.held.drain(..).all(|frames| peer.queue.put(frames)) {
            self.close(connection);
        }
        true
    }

    /// Ends the send queue: the connection's writer sends the remaining messages and closes.
    pub(super) fn end(&mut self, connection: ConnectionKey) {
        self.all.remove(&connection);
    }

    pub(super) fn late_sender(&self, connection: ConnectionKey) -> Option<LateSender> {
        self.all.get(&connection).map(|peer| peer.queue.downgrade())
    }

    fn close(&mut self, connection: ConnectionKey) {
        if let Some(peer) = self.all.remove(&connection) {
            let waiting = peer.queue.gauge().waiting();
            warn!(connection, waiting, "a connection is closed: its client does not read");
            peer.queue.kill.cancel();
            self.leaving.push(peer.queue.gauge().clone());
        }
    }

    /// The bytes that wait, without the bytes that are about to be dropped.
    fn held(&mut self) -> usize {
        self.leaving.retain(|gauge| gauge.waiting() > 0);
        self.waiting.bytes().saturating_sub(self.leaving.iter().map(Gauge::waiting).sum())
    }

    fn make_room(&mut self) {
        if self.promised - self.looked_at >= LOOK_BYTES {
            self.looked_at = self.promised;
            self.look();
        }
        loop {
            let held = self.held();
            if held <= ALL_BYTES_WAITING_MAX {
                return;
            }
            let promised = self.promised;
            let may_go = |peer: &Peer| held > 2 * ALL_BYTES_WAITING_MAX || peer.is_deaf(promised);
            let holders = self.all.iter().filter(|(_, peer)| may_go(peer));
            let most = holders.max_by_key(|(key, peer)| (peer.queue.gauge().waiting(), **key));
            let Some((key, _)) = most else { return };
            self.close(*key);
        }
    }

    /// Finds the connections that have taken bytes since the last check.
    fn look(&mut self) {
        for peer in self.all.values_mut() {
            let writes = peer.queue.gauge().writes();
            if writes != peer.writes && peer.since.is_some() {
                (peer.writes, peer.since) = (writes, Some(self.promised));
            }
        }
    }
}

impl Peer {
    fn is_deaf(&self, promised: u64) -> bool {
        let gauge = self.queue.gauge();
        let long = self.since.is_some_and(|since| promised - since >= PATIENCE_BYTES);
        long && gauge.waiting() > 0 && gauge.writes() == self.writes
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc::Receiver;

    use super::*;

    const PART: usize = 8 * MIB;

    /// This many connections, with the ends that their writers would hold.
    fn connections(count: u64) -> (Connections, Vec<(End, Receiver<Frames>)>) {
        let mut connections = Connections::default();
        let ends = (0..count).map(|key| {
            let (queue, messages) = SendQueue::new(1_000);
            let end = End { gauge: queue.gauge().clone(), kill: queue.kill.clone() };
            connections.add(vec![(key, queue)]);
            (end, messages)
        });
        let ends = ends.collect();
        (connections, ends)
    }

    struct End {
        gauge: Gauge,
        kill: tokio_util::sync::CancellationToken,
    }

    fn give(connections: &mut Connections, connection: ConnectionKey) {
        if hold(connections, connection) != Held::Closed {
            connections.send(connection);
        }
    }

    /// Holds one part more. Memory that nobody writes to costs nothing.
    fn hold(connections: &mut Connections, connection: ConnectionKey) -> Held {
        connections.hold(connection, PART, |_| 1)
    }

    #[test]
    fn short_frames_share_a_buffer_and_a_long_one_takes_no_more_than_it_may_need() {
        let (mut connections, ends) = connections(1);
        let mut add = |bytes: usize| {
            let append = |buffer: &mut BytesMut| {
                buffer.extend_from_slice(&vec![7; bytes]);
                1
            };
            assert_ne!(connections.hold(0, bytes, append), Held::Closed);
        };
        for bytes in [10, 20, TOGETHER_BYTES, PART + 1, 30, 40] {
            add(bytes);
        }
        assert_eq!(ends[0].0.gauge.waiting(), connections.held());
        assert!(connections.held() < PART + 3 * TOGETHER_BYTES);
        assert!(connections.send(0));
        let (_, mut frames) = ends.into_iter().next().expect("there is one connection");
        let sizes: Vec<usize> =
            std::iter::from_fn(|| frames.try_recv().ok()).map(|sent| sent.bytes.len()).collect();
        assert_eq!(sizes, [30, TOGETHER_BYTES, PART + 1, 70]);
    }

    #[test]
    fn those_who_hold_the_most_and_do_not_read_go_first() {
        let (mut connections, mut ends) = connections(30);
        for round in 0..200 {
            // Nine tenths of the connections do not read. The others read everything, and are sent
            // as much.
            for key in 0..30 {
                give(&mut connections, key);
                if key % 10 == 0 {
                    ends[key as usize].0.gauge.note_write();
                    while ends[key as usize].1.try_recv().is_ok() {}
                }
            }
            for (end, messages) in &mut ends {
                // A killed writer is dropped, with the messages that it holds.
                if end.kill.is_cancelled() {
                    messages.close();
                    while messages.try_recv().is_ok() {}
                }
            }
            assert!(
                connections.held() <= 2 * ALL_BYTES_WAITING_MAX,
                "round {round}: {}",
                connections.held()
            );
        }
        for (key, (end, _)) in ends.iter().enumerate() {
            assert_eq!(end.kill.is_cancelled(), key % 10 != 0, "peer {key}");
        }
    }

    #[test]
    fn one_that_was_never_sent_its_first_message_is_not_called_deaf() {
        let (mut connections, _ends) = connections(2);
        // All messages are in one batch: none is sent before the batch is durable.
        for part in 0..40 {
            let held = hold(&mut connections, part % 2);
            assert_eq!(held, if part < 2 { Held::First } else { Held::More });
        }
        assert!(connections.held() > ALL_BYTES_WAITING_MAX);
    }
}
