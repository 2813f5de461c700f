//! Those who are connected, and the memory that waits for all of them together. When it is used up,
//! those go who hold the most and do not read: one that reads is not closed for what others leave
//! lying.

use std::collections::HashMap;

use celeriac_machine::command::{ConnectionKey, Message};
use tracing::warn;

use super::kept::{AllKept, Kept};
use crate::outbox::{AllWaiting, Gauge, LateSender, Outbox, Weight};

/// What may wait for one connection in all: what is leased to a worker, its answers, and what it
/// watches. A client that lets it come to more does not read.
const BYTES_WAITING_MAX: usize = 128 * MIB;

/// What may wait for all connections together. Beyond it those are closed who do not read; beyond
/// twice as much, whoever holds the most.
const ALL_BYTES_WAITING_MAX: usize = 256 * MIB;

/// When so much waits for all, answers get little room.
const TIGHT_BYTES: usize = ALL_BYTES_WAITING_MAX / 2;

/// Once so many bytes wait for a connection, further answers to it are refused unread, and may be
/// asked for again when the client has read: nobody who asks for much at once is to fill the
/// memory, or to keep the store busy in vain.
const ANSWER_BYTES_WAITING_MAX: usize = 32 * MIB;
const ANSWER_BYTES_WHEN_TIGHT: usize = MIB;

/// Who takes nothing of what waits for it while so much is promised to all does not read.
const PATIENCE_BYTES: u64 = 64 * MIB as u64;

/// Who takes something is looked for each time so much was promised.
const LOOK_BYTES: u64 = 16 * MIB as u64;

/// When so much waits for a connection, few bytes are not to keep a whole chunk in memory.
const BACKLOG_BYTES: usize = MIB / 4;

const MIB: usize = 1024 * 1024;

/// See the head of this module.
#[derive(Debug, Default)]
pub(super) struct Readers {
    all: HashMap<ConnectionKey, Reader>,
    waiting: AllWaiting,
    kept: AllKept,
    /// Bytes promised since the start.
    promised: u64,
    looked_at: u64,
    /// Closed, and what waited for them is not dropped yet.
    leaving: Vec<Gauge>,
}

#[derive(Debug)]
struct Reader {
    outbox: Outbox,
    kept: Kept,
    /// The writes that it had taken when it was last seen to take some.
    writes: usize,
    /// What had been promised to all by then. `None` while what waits for it has not been sent.
    since: Option<u64>,
}

/// What a connection may be sent now.
#[derive(Debug, Clone, Copy)]
pub(super) struct Room {
    /// Of one more answer; 0: none.
    pub answer_bytes: usize,
    /// What waits for it is more than a moment's.
    pub is_behind: bool,
}

impl Readers {
    pub(super) fn add(&mut self, opened: Vec<(ConnectionKey, Outbox)>) {
        let kept = || Kept::new(self.kept.clone());
        let reader = |(key, outbox)| (key, Reader { outbox, kept: kept(), writes: 0, since: None });
        self.all.extend(opened.into_iter().map(reader));
    }

    /// `None`: there is nobody to send to, or no more. Who lets too much come together is closed.
    pub(super) fn room(&mut self, connection: ConnectionKey) -> Option<Room> {
        let waiting = self.all.get(&connection)?.outbox.gauge().waiting();
        if waiting > BYTES_WAITING_MAX {
            self.close(connection);
            return None;
        }
        let (may_wait, answer_bytes) = match self.waiting.bytes() < TIGHT_BYTES {
            true => (ANSWER_BYTES_WAITING_MAX, usize::MAX),
            false => (ANSWER_BYTES_WHEN_TIGHT, ANSWER_BYTES_WHEN_TIGHT),
        };
        let answer_bytes = if waiting < may_wait { answer_bytes } else { 0 };
        Some(Room { answer_bytes, is_behind: waiting > BACKLOG_BYTES })
    }

    /// What the waits of a connection that is there have seen end.
    pub(super) fn kept(&mut self, connection: ConnectionKey) -> Option<&mut Kept> {
        self.all.get_mut(&connection).map(|reader| &mut reader.kept)
    }

    /// Takes room for a message. `None` when its reader is gone, or had to go for it.
    pub(super) fn promise(&mut self, connection: ConnectionKey, bytes: usize) -> Option<Weight> {
        self.promised += bytes as u64;
        let reader = self.all.get_mut(&connection)?;
        if reader.outbox.gauge().waiting() == 0 {
            reader.since = None;
        }
        let weight = reader.outbox.weigh(bytes, &self.waiting);
        if self.waiting.bytes() < TIGHT_BYTES {
            return Some(weight);
        }
        self.make_room();
        self.all.contains_key(&connection).then_some(weight)
    }

    /// False when there is nobody to send to.
    pub(super) fn send(
        &mut self,
        connection: ConnectionKey,
        message: Message,
        weight: Weight,
    ) -> bool {
        let Some(reader) = self.all.get_mut(&connection) else { return false };
        if reader.since.is_none() {
            (reader.writes, reader.since) = (reader.outbox.gauge().writes(), Some(self.promised));
        }
        if !reader.outbox.put(message, weight) {
            self.close(connection);
        }
        true
    }

    /// Its writer sends what is left and closes.
    pub(super) fn end(&mut self, connection: ConnectionKey) {
        self.all.remove(&connection);
    }

    pub(super) fn late_sender(&self, connection: ConnectionKey) -> Option<LateSender> {
        self.all.get(&connection).map(|reader| reader.outbox.downgrade())
    }

    fn close(&mut self, connection: ConnectionKey) {
        if let Some(reader) = self.all.remove(&connection) {
            let waiting = reader.outbox.gauge().waiting();
            warn!(connection, waiting, "closed: it does not read what it is sent");
            reader.outbox.kill.cancel();
            self.leaving.push(reader.outbox.gauge().clone());
        }
    }

    /// What waits, without what is about to be dropped.
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
            let may_go =
                |reader: &Reader| held > 2 * ALL_BYTES_WAITING_MAX || reader.is_deaf(promised);
            let holders = self.all.iter().filter(|(_, reader)| may_go(reader));
            let most = holders.max_by_key(|(key, reader)| (reader.outbox.gauge().waiting(), **key));
            let Some((key, _)) = most else { return };
            self.close(*key);
        }
    }

    /// Finds out who has taken something since the last look.
    fn look(&mut self) {
        for reader in self.all.values_mut() {
            let writes = reader.outbox.gauge().writes();
            if writes != reader.writes && reader.since.is_some() {
                (reader.writes, reader.since) = (writes, Some(self.promised));
            }
        }
    }
}

impl Reader {
    fn is_deaf(&self, promised: u64) -> bool {
        let gauge = self.outbox.gauge();
        let long = self.since.is_some_and(|since| promised - since >= PATIENCE_BYTES);
        long && gauge.waiting() > 0 && gauge.writes() == self.writes
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc::Receiver;

    use super::*;
    use crate::outbox::Letter;

    const PART: usize = 8 * MIB;

    /// So many readers, and the ends that their writers would hold.
    fn readers(count: u64) -> (Readers, Vec<(End, Receiver<Letter>)>) {
        let mut readers = Readers::default();
        let ends = (0..count).map(|key| {
            let (outbox, letters) = Outbox::new(1_000);
            let end = End { gauge: outbox.gauge().clone(), kill: outbox.kill.clone() };
            readers.add(vec![(key, outbox)]);
            (end, letters)
        });
        let ends = ends.collect();
        (readers, ends)
    }

    struct End {
        gauge: Gauge,
        kill: tokio_util::sync::CancellationToken,
    }

    fn give(readers: &mut Readers, connection: ConnectionKey) {
        if let Some(weight) = readers.promise(connection, PART) {
            readers.send(connection, Message::Done { request: 1 }, weight);
        }
    }

    #[test]
    fn those_who_hold_the_most_and_do_not_read_go_first() {
        let (mut readers, mut ends) = readers(30);
        for round in 0..200 {
            // Nine tenths are deaf; the others take what they are given, and are given as much.
            for key in 0..30 {
                give(&mut readers, key);
                if key % 10 == 0 {
                    ends[key as usize].0.gauge.note_write();
                    while ends[key as usize].1.try_recv().is_ok() {}
                }
            }
            for (end, letters) in &mut ends {
                // A killed writer is dropped, with what it holds.
                if end.kill.is_cancelled() {
                    letters.close();
                    while letters.try_recv().is_ok() {}
                }
            }
            assert!(
                readers.held() <= 2 * ALL_BYTES_WAITING_MAX,
                "round {round}: {}",
                readers.held()
            );
        }
        for (key, (end, _)) in ends.iter().enumerate() {
            assert_eq!(end.kill.is_cancelled(), key % 10 != 0, "reader {key}");
        }
    }

    #[test]
    fn one_that_was_never_sent_its_first_message_is_not_called_deaf() {
        let (mut readers, _ends) = readers(2);
        // All of it in one batch: nothing is sent before that is durable.
        let weights: Vec<_> = (0..40).filter_map(|part| readers.promise(part % 2, PART)).collect();
        assert_eq!(weights.len(), 40);
    }
}
