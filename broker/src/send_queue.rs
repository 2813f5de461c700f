//! The messages that wait for the writer of a connection. The queue is bounded in messages and in
//! bytes, since one answer may have a few bytes or many megabytes.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::outgoing::Outgoing;

/// The queue of a connection's messages.
#[derive(Debug)]
pub(crate) struct SendQueue {
    messages: mpsc::Sender<QueuedMessage>,
    /// Ends the connection at once, and drops the messages that its client has not read.
    pub kill: CancellationToken,
    gauge: Gauge,
}

/// The bytes that wait for one connection, and whether the connection takes any of them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Gauge(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    waiting: AtomicUsize,
    writes: AtomicUsize,
}

/// A message, and the room that the message takes until it is written.
#[derive(Debug)]
pub(crate) struct QueuedMessage {
    pub message: Outgoing,
    pub weight: Weight,
}

/// Bytes that count for one send queue and for all send queues together, until this value is
/// dropped.
#[derive(Debug)]
pub(crate) struct Weight {
    bytes: usize,
    of: Option<(Gauge, AllWaiting)>,
}

/// The bytes that the send queues of all connections hold.
#[derive(Debug, Clone, Default)]
pub(crate) struct AllWaiting(Arc<AtomicUsize>);

/// A sender for a message that may come much later. The sender does not keep the connection open.
pub(crate) type LateSender = mpsc::WeakSender<QueuedMessage>;

impl SendQueue {
    /// A send queue for so many messages, and the receiver for its writer.
    pub(crate) fn new(messages_max: usize) -> (Self, mpsc::Receiver<QueuedMessage>) {
        let (messages, receiver) = mpsc::channel(messages_max);
        (Self { messages, kill: CancellationToken::new(), gauge: Gauge::default() }, receiver)
    }

    pub(crate) fn gauge(&self) -> &Gauge {
        &self.gauge
    }

    /// Takes room for this many bytes until the weight is dropped.
    pub(crate) fn weigh(&self, bytes: usize, all: &AllWaiting) -> Weight {
        self.gauge.0.waiting.fetch_add(bytes, Ordering::Relaxed);
        all.0.fetch_add(bytes, Ordering::Relaxed);
        Weight { bytes, of: Some((self.gauge.clone(), all.clone())) }
    }

    /// Returns false when there is no room: the client does not read.
    pub(crate) fn put(&self, message: Outgoing, weight: Weight) -> bool {
        !matches!(
            self.messages.try_send(QueuedMessage { message, weight }),
            Err(mpsc::error::TrySendError::Full(_))
        )
    }

    /// A sender that does not keep the connection open.
    pub(crate) fn downgrade(&self) -> LateSender {
        self.messages.downgrade()
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

impl QueuedMessage {
    /// A message so small that its room is not counted.
    pub(crate) fn small(message: Outgoing) -> Self {
        Self { message, weight: Weight { bytes: 0, of: None } }
    }
}

impl Weight {
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
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

    fn done(request: u64) -> Outgoing {
        Outgoing::Answer(request, celeriac_machine::command::Answer::Done)
    }

    #[test]
    fn bytes_count_from_the_promise_until_the_message_is_dropped() {
        let all = AllWaiting::default();
        let (queue, mut messages) = SendQueue::new(1);
        let waiting = || queue.gauge().waiting();
        let (first, second) = (queue.weigh(10, &all), queue.weigh(5, &all));
        assert_eq!((waiting(), all.bytes()), (15, 15));
        assert!(queue.put(done(1), first));
        assert!(!queue.put(done(2), second), "the queue has room for one");
        assert_eq!((waiting(), all.bytes()), (10, 10));
        let message = messages.try_recv().expect("the message is in the queue");
        assert_eq!(waiting(), 10);
        drop(message);
        assert_eq!((waiting(), all.bytes()), (0, 0));
    }
}
