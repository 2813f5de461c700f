//! Writing: the store appends records to the open chunk, sets full chunks aside, and writes all of
//! them to the medium with the commit.

use bytes::Bytes;
use celeriac_record::{Record, Slot, State};

use super::chunk::{
    self, CHUNK_BYTES_MAX, FRAME_BYTES_MAX, FRAME_PREFIX_BYTES, HEADER_BYTES, Header, Kind,
    PIECE_BYTES_MAX,
};
use super::codec;
use super::error::Error;
use super::index::Location;
use super::{Marks, Store};

/// The part of the log that is not on the disk yet.
#[derive(Debug)]
pub(super) struct Tail {
    /// The open chunk. Its header is still blank.
    open: Vec<u8>,
    records: u32,
    number: u64,
    /// Sealed chunks of this batch. The cache shares their bytes.
    sealed: Vec<(u64, Bytes)>,
    sealed_bytes: usize,
    /// Holds a record that may be too long for a chunk.
    long: Vec<u8>,
}

impl Tail {
    pub(super) fn new() -> Self {
        Self {
            open: open_chunk(),
            records: 0,
            number: 0,
            sealed: Vec::new(),
            sealed_bytes: 0,
            long: Vec::new(),
        }
    }

    pub(super) fn is_dirty(&self) -> bool {
        self.records > 0 || !self.sealed.is_empty()
    }

    /// The bytes of the open chunk, if it has this number.
    pub(super) fn open_chunk(&self, number: u64) -> Option<&[u8]> {
        (self.records > 0 && self.number == number).then_some(&self.open)
    }

    /// Bytes that the next commit writes.
    pub(super) fn bytes(&self) -> usize {
        self.sealed_bytes + if self.records > 0 { self.open.len() } else { 0 }
    }

    /// The lowest chunk number of this batch.
    pub(super) fn first(&self) -> Option<u64> {
        self.sealed.first().map(|(number, _)| *number).or((self.records > 0).then_some(self.number))
    }
}

impl Store {
    /// Adds a record to the open batch. The record can be located and read at once, and is durable
    /// after the next [`commit`](Self::commit).
    ///
    /// For each slot, the caller must append records in the order of the events: a submit first,
    /// then its changes.
    pub fn append(&mut self, record: &Record) {
        if self.failed.is_some() {
            // The next commit returns the error.
            return;
        }
        match record {
            Record::Submitted(task) => self.marks.serial = self.marks.serial.max(task.key.serial),
            Record::Changed(change) => {
                if matches!(change.state, State::Success | State::Revoked) {
                    self.shed_payload(change.key.slot);
                }
                self.marks.raise(Marks { serial: change.key.serial, lease: change.lease });
            }
            Record::Forgotten(key) => self.marks.serial = self.marks.serial.max(key.serial),
            Record::Named(_) | Record::Removed(_) => {}
        }
        let glance = glance_of(record);
        let at = if codec::bulk(record) + codec::OVERHEAD_BYTES_MAX <= FRAME_BYTES_MAX {
            self.append_short(|buffer| codec::encode(record, buffer))
        } else {
            let mut long = std::mem::take(&mut self.tail.long);
            codec::encode(record, &mut long);
            let at = self.append_bytes(&long);
            long.clear();
            long.shrink_to(1 << 20);
            self.tail.long = long;
            at
        };
        self.index.record(glance, at);
    }

    /// Removes the payload of a task that has succeeded or was revoked, if the payload is large. No
    /// worker needs it again, because only a failed task can be run again. A large payload has
    /// chunks of its own, which leave the log sooner than the task does. So a finished queue frees
    /// room although its results are kept.
    fn shed_payload(&mut self, slot: Slot) {
        let Some(at) =
            self.index.locate(slot).map(|located| located.submitted).filter(|at| at.is_run())
        else {
            return;
        };
        // If the read fails, the next commit returns the error.
        let Ok(mut task) = self.submitted(at) else { return };
        if !task.spec.payload.is_empty() {
            task.spec.payload = Bytes::new();
            self.append(&Record::Submitted(Box::new(task)));
        }
    }

    /// Makes all appended records durable, in one batch: after a crash either the whole batch is
    /// present, or nothing of it.
    ///
    /// # Errors
    /// Any error. The store cannot be used after an error, and the records of the batch are not
    /// confirmed.
    pub fn commit(&mut self) -> Result<(), Error> {
        self.check()?;
        if !self.is_dirty() {
            return Ok(());
        }
        self.clean()?;
        self.write_batch().map_err(|error| self.fail(error))
    }

    /// Appends an encoded record to the open chunk, or as a run if it is longer than a chunk.
    pub(super) fn append_bytes(&mut self, body: &[u8]) -> Location {
        if body.len() <= FRAME_BYTES_MAX {
            self.append_short(|buffer| buffer.extend_from_slice(body))
        } else {
            self.append_run(body)
        }
    }

    /// Seals the open chunk and writes the batch. The last chunk of a batch carries the base of the
    /// log after the batch.
    pub(super) fn write_batch(&mut self) -> Result<(), Error> {
        if self.tail.records > 0 || !self.removed.is_empty() {
            self.seal_open(true);
        }
        self.medium.write(&self.tail.sealed, &self.removed)?;
        self.outlook.written_bytes +=
            self.tail.sealed.iter().map(|(_, chunk)| chunk.len() as u64).sum::<u64>();
        self.tail.sealed.clear();
        self.tail.sealed_bytes = 0;
        self.removed.clear();
        self.cache.trim();
        Ok(())
    }

    /// Lets `encode` append to the open chunk. If the chunk becomes too long, the record moves to
    /// the next chunk.
    fn append_short(&mut self, encode: impl FnOnce(&mut Vec<u8>)) -> Location {
        let start = self.tail.open.len();
        self.tail.open.extend_from_slice(&[0; FRAME_PREFIX_BYTES]);
        encode(&mut self.tail.open);
        let length = self.tail.open.len() - start - FRAME_PREFIX_BYTES;
        assert!(
            length <= FRAME_BYTES_MAX,
            "the caller makes sure that the record fits into a chunk"
        );
        self.tail.open[start..start + FRAME_PREFIX_BYTES]
            .copy_from_slice(&(length as u16).to_le_bytes());
        let mut start = start;
        if self.tail.open.len() > CHUNK_BYTES_MAX {
            let frame = self.tail.open.split_off(start);
            self.seal_open(false);
            start = self.tail.open.len();
            self.tail.open.extend_from_slice(&frame);
        }
        if self.tail.records == 0 {
            self.tail.number = self.index.push_chunk(HEADER_BYTES, false);
        }
        self.tail.records += 1;
        self.index.grow(self.tail.number, length + FRAME_PREFIX_BYTES);
        Location::frame(self.tail.number, (start + FRAME_PREFIX_BYTES) as u16, length as u16)
    }

    /// Gives a record that is longer than a chunk a run of chunks of its own.
    fn append_run(&mut self, body: &[u8]) -> Location {
        if self.tail.records > 0 {
            self.seal_open(false);
        }
        let pieces = body.chunks(PIECE_BYTES_MAX);
        let total = pieces.len() as u32;
        let first = self.index.end();
        for (place, piece) in pieces.enumerate() {
            let (kind, count) =
                if place == 0 { (Kind::RunStart, total) } else { (Kind::RunPiece, place as u32) };
            let number = self.index.push_chunk(HEADER_BYTES + piece.len(), place > 0);
            let mut chunk = Vec::with_capacity(HEADER_BYTES + piece.len());
            chunk.resize(HEADER_BYTES, 0);
            chunk.extend_from_slice(piece);
            let header = Header { kind, number, base: self.index.base(), marks: self.marks, count };
            chunk::seal(&mut chunk, header);
            self.set_aside(number, chunk.into());
        }
        Location::run(first)
    }

    /// Seals the open chunk. An empty chunk is sealed only on request, when a batch must write a
    /// header without records.
    pub(super) fn seal_open(&mut self, even_empty: bool) {
        if self.tail.records == 0 {
            if !even_empty {
                return;
            }
            self.tail.number = self.index.push_chunk(HEADER_BYTES, false);
        }
        let header = Header {
            kind: Kind::Records,
            number: self.tail.number,
            base: self.index.base(),
            marks: self.marks,
            count: self.tail.records,
        };
        let mut open = std::mem::take(&mut self.tail.open);
        chunk::seal(&mut open, header);
        self.tail.records = 0;
        if open.len() < CHUNK_BYTES_MAX / 2 {
            self.set_aside(header.number, Bytes::copy_from_slice(&open));
            open.truncate(HEADER_BYTES);
            self.tail.open = open;
        } else {
            // The bytes of a fuller chunk are not copied.
            open.shrink_to_fit();
            self.set_aside(header.number, open.into());
            self.tail.open = open_chunk();
        }
    }

    fn set_aside(&mut self, number: u64, chunk: Bytes) {
        self.cache.wrote(number, chunk.clone());
        self.tail.sealed_bytes += chunk.len();
        self.tail.sealed.push((number, chunk));
    }
}

/// A chunk without records and with a blank header.
fn open_chunk() -> Vec<u8> {
    let mut open = Vec::with_capacity(CHUNK_BYTES_MAX + FRAME_BYTES_MAX);
    open.resize(HEADER_BYTES, 0);
    open
}

fn glance_of(record: &Record) -> codec::Glance {
    match record {
        Record::Submitted(task) => codec::Glance::Submitted(task.key.slot),
        Record::Changed(change) => codec::Glance::Changed(change.key.slot),
        Record::Forgotten(key) => codec::Glance::Forgotten(key.slot),
        Record::Named(named) => codec::Glance::Named(named.name()),
        Record::Removed(name) => codec::Glance::Removed(name.clone()),
    }
}
