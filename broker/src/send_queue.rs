//! The frames that wait for the writer of a connection. The queue is bounded in entries and in
//! bytes, since one answer may have a few bytes or many megabytes.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::BytesMut;
use celeriac_machine::command::{Forbidden, RequestId};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::cursors::Cursors;

/// The queue of a connection's frames.
#[derive(Debug)]
pub(crate) struct SendQueue {
    frames: mpsc::Sender<Frames>,
    /// Ends the connection at once, and drops the frames that its client has not read.
    pub kill: CancellationToken,
    gauge: Gauge,
    /// The cursors of a client with a scope.
    pub cursors: Option<Arc<Cursors>>,
    auditor: Option<Auditor>,
}

/// Writes down what the machine refused to a client.
pub(crate) struct Auditor(pub Box<dyn Fn(&Forbidden) + Send + Sync>);

impl fmt::Debug for Auditor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Auditor(..)")
    }
}

/// The bytes that wait for one connection, and whether the connection takes any of them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Gauge(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    waiting: AtomicUsize,
    writes: AtomicUsize,
}

/// One or more whole frames, and the room that they take until they are written.
#[derive(Debug)]
pub(crate) struct Frames {
    pub bytes: BytesMut,
    /// The requests that the frames answer.
    pub answered: Vec<RequestId>,
    _weight: Weight,
}

/// Bytes that count for one send queue and for all send queues together, until this value is
/// dropped.
#[derive(Debug)]
struct Weight {
    bytes: usize,
    of: Option<(Gauge, AllWaiting)>,
}

/// The bytes that the send queues of all connections hold.
#[derive(Debug, Clone, Default)]
pub(crate) struct AllWaiting(Arc<AtomicUsize>);

/// A sender for a message that may come much later. The sender does not keep the connection open.
pub(crate) type LateSender = mpsc::WeakSender<Frames>;

impl SendQueue {
    /// A send queue for so many entries, and the receiver for its writer.
    pub(crate) fn new(entries_max: usize) -> (Self, mpsc::Receiver<Frames>) {
        let (frames, receiver) = mpsc::channel(entries_max);
        let (kill, gauge) = (CancellationToken::new(), Gauge::default());
        (Self { frames, kill, gauge, cursors: None, auditor: None }, receiver)
    }

    /// The same queue for a client that the access file knows.
    pub(crate) fn with(self, cursors: Option<Arc<Cursors>>, auditor: Option<Auditor>) -> Self {
        Self { cursors, auditor, ..self }
    }

    /// Writes down what the machine refused to the client, if somebody wants to know.
    pub(crate) fn note_forbidden(&self, forbidden: &Forbidden) {
        if let Some(Auditor(note)) = &self.auditor {
            note(forbidden);
        }
    }

    pub(crate) fn gauge(&self) -> &Gauge {
        &self.gauge
    }

    /// No frames yet. Their bytes will count for this queue and for all.
    pub(crate) fn begin(&self, all: &AllWaiting) -> Frames {
        Frames::new(Weight { bytes: 0, of: Some((self.gauge.clone(), all.clone())) })
    }

    /// Returns false when there is no room: the client does not read.
    pub(crate) fn put(&self, frames: Frames) -> bool {
        !matches!(self.frames.try_send(frames), Err(mpsc::error::TrySendError::Full(_)))
    }

    /// A sender that does not keep the connection open.
    pub(crate) fn downgrade(&self) -> LateSender {
        self.frames.downgrade()
    }
}

impl Gauge {
    /// Bytes that were promised to the connection and are not written yet.
    pub(crate) fn waiting(&self) -> usize {
        self.0.waiting.load(Ordering::Relaxed)
    }

    /// The number of writes from which the connection has taken bytes.
    pub(crate) fn writes(&self) -> usize {
        self.0.writes.load(Ordering::Relaxed)
    }

    /// Notes that the connection has taken bytes.
    pub(crate) fn note_write(&self) {
        self.0.writes.fetch_add(1, Ordering::Relaxed);
    }
}

impl Frames {
    /// No frames yet. Few bytes will follow, which count nowhere.
    pub(crate) fn of_few_bytes() -> Self {
        Self::new(Weight { bytes: 0, of: None })
    }

    fn new(weight: Weight) -> Self {
        Self { bytes: BytesMut::new(), answered: Vec::new(), _weight: weight }
    }

    /// Lets `append` add a frame. It returns the request that the frame answers; 0 if it answers
    /// none.
    pub(crate) fn add(&mut self, append: impl FnOnce(&mut BytesMut) -> RequestId) {
        let request = append(&mut self.bytes);
        if request != 0 {
            self.answered.push(request);
        }
        self._weight.becomes(self.bytes.capacity());
    }
}

impl Weight {
    /// Takes room for so many bytes in place of the bytes before.
    fn becomes(&mut self, bytes: usize) {
        let Some((gauge, all)) = &self.of else { return };
        for count in [&gauge.0.waiting, &*all.0] {
            // The counts wrap around when the room becomes less, and come out right.
            count.fetch_add(bytes.wrapping_sub(self.bytes), Ordering::Relaxed);
        }
        self.bytes = bytes;
    }
}

impl Drop for Weight {
    fn drop(&mut self) {
        if let Some((gauge, all)) = &self.of {
            gauge.0.waiting.fetch_sub(self.bytes, Ordering::Relaxed);
            all.0.fetch_sub(self.bytes, Ordering::Relaxed);
        }
    }
}

impl AllWaiting {
    pub(crate) fn bytes(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Frames that answer this request, and that take so many bytes.
    fn frames(queue: &SendQueue, all: &AllWaiting, request: RequestId, bytes: usize) -> Frames {
        let mut frames = queue.begin(all);
        frames.bytes = BytesMut::with_capacity(bytes);
        frames.add(|_| request);
        frames
    }

    #[test]
    fn bytes_count_from_the_first_frame_until_the_frames_are_dropped() {
        let all = AllWaiting::default();
        let (queue, mut messages) = SendQueue::new(1);
        let waiting = || queue.gauge().waiting();
        let (first, second) = (frames(&queue, &all, 1, 10), frames(&queue, &all, 0, 5));
        assert_eq!((waiting(), all.bytes()), (15, 15));
        assert_eq!((&*first.answered, &*second.answered), (&[1][..], &[][..]));
        assert!(queue.put(first));
        assert!(!queue.put(second), "the queue has room for one");
        assert_eq!((waiting(), all.bytes()), (10, 10));
        let mut frames = messages.try_recv().expect("the frames are in the queue");
        frames.bytes = BytesMut::with_capacity(4);
        frames.add(|_| 0);
        assert_eq!((waiting(), all.bytes()), (4, 4));
        drop(frames);
        assert_eq!((waiting(), all.bytes()), (0, 0));
    }
}
