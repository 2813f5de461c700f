//! What waits for the writer of a connection: bounded in messages and in bytes, since one answer
//! may be a few bytes or many megabytes. Who fills it and who empties it is not known here.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use celeriac_machine::command::Message;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Where a connection's messages go.
#[derive(Debug)]
pub(crate) struct Outbox {
    messages: mpsc::Sender<Letter>,
    /// Ends the connection at once, with whatever it has not read.
    pub kill: CancellationToken,
    gauge: Gauge,
}

/// What one connection holds, and whether it takes any of it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Gauge(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    waiting: AtomicUsize,
    writes: AtomicUsize,
}

/// A message, and the room that it takes until it is written.
#[derive(Debug)]
pub(crate) struct Letter {
    pub message: Message,
    pub weight: Weight,
}

/// Bytes that count for one outbox and for all of them together, until this is dropped.
#[derive(Debug)]
pub(crate) struct Weight {
    bytes: usize,
    of: Option<(Gauge, AllWaiting)>,
}

/// What the outboxes of all connections hold, in bytes.
#[derive(Debug, Clone, Default)]
pub(crate) struct AllWaiting(Arc<AtomicUsize>);

/// Where a message for one connection goes that may come much later.
pub(crate) type LateSender = mpsc::WeakSender<Letter>;

impl Outbox {
    /// An outbox for so many messages, and what its writer reads.
    pub(crate) fn new(messages_max: usize) -> (Self, mpsc::Receiver<Letter>) {
        let (messages, receiver) = mpsc::channel(messages_max);
        (Self { messages, kill: CancellationToken::new(), gauge: Gauge::default() }, receiver)
    }

    pub(crate) fn gauge(&self) -> &Gauge {
        &self.gauge
    }

    /// Takes room for so many bytes, from now on until the weight is dropped.
    pub(crate) fn weigh(&self, bytes: usize, all: &AllWaiting) -> Weight {
        self.gauge.0.waiting.fetch_add(bytes, Ordering::Relaxed);
        all.0.fetch_add(bytes, Ordering::Relaxed);
        Weight { bytes, of: Some((self.gauge.clone(), all.clone())) }
    }

    /// False when there is no room: its client does not read.
    pub(crate) fn put(&self, message: Message, weight: Weight) -> bool {
        !matches!(
            self.messages.try_send(Letter { message, weight }),
            Err(mpsc::error::TrySendError::Full(_))
        )
    }

    /// Does not keep the connection open.
    pub(crate) fn downgrade(&self) -> LateSender {
        self.messages.downgrade()
    }
}

impl Gauge {
    /// Bytes that were promised to the connection and are not written.
    pub(crate) fn waiting(&self) -> usize {
        self.0.waiting.load(Ordering::Relaxed)
    }

    /// How often the connection has taken bytes.
    pub(crate) fn writes(&self) -> usize {
        self.0.writes.load(Ordering::Relaxed)
    }

    /// The connection has taken some bytes.
    pub(crate) fn note_write(&self) {
        self.0.writes.fetch_add(1, Ordering::Relaxed);
    }
}

impl Letter {
    /// A message that takes next to no room.
    pub(crate) fn small(message: Message) -> Self {
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

    #[test]
    fn bytes_count_from_the_promise_until_the_letter_is_dropped() {
        let all = AllWaiting::default();
        let (outbox, mut letters) = Outbox::new(1);
        let waiting = || outbox.gauge().waiting();
        let (first, second) = (outbox.weigh(10, &all), outbox.weigh(5, &all));
        assert_eq!((waiting(), all.bytes()), (15, 15));
        assert!(outbox.put(Message::Done { request: 1 }, first));
        assert!(!outbox.put(Message::Done { request: 2 }, second), "there was room for one");
        assert_eq!((waiting(), all.bytes()), (10, 10));
        let letter = letters.try_recv().expect("it is there");
        assert_eq!(waiting(), 10);
        drop(letter);
        assert_eq!((waiting(), all.bytes()), (0, 0));
    }
}
