//! What waits for the writer of a connection: bounded in messages and in bytes, since one answer may be a few bytes or
//! many megabytes. Who fills it and who empties it is not known here.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::machine::command::Message;

/// Where a connection's messages go.
#[derive(Debug)]
pub(crate) struct Outbox {
    messages: mpsc::Sender<Letter>,
    /// Ends the connection at once, with whatever it has not read.
    pub kill: CancellationToken,
    waiting: Arc<AtomicUsize>,
}

/// A message, and the room that it takes until it is dropped.
#[derive(Debug)]
pub(crate) struct Letter {
    pub message: Message,
    /// Held until the message is written.
    pub _weight: Weight,
}

/// Bytes that count for one outbox and for all of them together.
#[derive(Debug)]
pub(crate) struct Weight {
    bytes: usize,
    of: [Arc<AtomicUsize>; 2],
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
        (Self { messages, kill: CancellationToken::new(), waiting: Arc::default() }, receiver)
    }

    /// Bytes that were promised to it and are not written.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Takes room for so many bytes, from now on until the weight is dropped.
    pub(crate) fn weigh(&self, bytes: usize, all: &AllWaiting) -> Weight {
        let of = [self.waiting.clone(), all.0.clone()];
        for count in &of {
            count.fetch_add(bytes, Ordering::Relaxed);
        }
        Weight { bytes, of }
    }

    /// False when there is no room: its client does not read.
    pub(crate) fn put(&self, message: Message, weight: Weight) -> bool {
        let letter = Letter { message, _weight: weight };
        !matches!(self.messages.try_send(letter), Err(mpsc::error::TrySendError::Full(_)))
    }

    /// Does not keep the connection open.
    pub(crate) fn downgrade(&self) -> LateSender {
        self.messages.downgrade()
    }
}

impl Letter {
    /// A message that takes next to no room.
    pub(crate) fn small(message: Message) -> Self {
        Self { message, _weight: Weight { bytes: 0, of: Default::default() } }
    }
}

impl Drop for Weight {
    fn drop(&mut self) {
        for count in &self.of {
            count.fetch_sub(self.bytes, Ordering::Relaxed);
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
        let (first, second) = (outbox.weigh(10, &all), outbox.weigh(5, &all));
        assert_eq!((outbox.waiting(), all.bytes()), (15, 15));
        assert!(outbox.put(Message::Done { request: 1 }, first));
        assert!(!outbox.put(Message::Done { request: 2 }, second), "there was room for one");
        assert_eq!((outbox.waiting(), all.bytes()), (10, 10));
        let letter = letters.try_recv().expect("it is there");
        assert_eq!(outbox.waiting(), 10);
        drop(letter);
        assert_eq!((outbox.waiting(), all.bytes()), (0, 0));
    }
}
