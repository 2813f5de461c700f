//! The store: an ordered sequence of records. The records are durable after each commit, and can be
//! read again by their location.
//!
//! The store is passive and synchronous: one thread owns it, calls [`append`](Store::append) for
//! each record of a batch, then [`commit`](Store::commit), and only then sends the answers of the
//! batch. The store knows the record type, not the machine; it does not look at the times at which
//! tasks end, retry or expire. After the first error the store accepts nothing.
//!
//! This file has the store's interface and its reads. `append` and `clean` write, `room` watches
//! how full the disk is, `open` starts, `backup` copies. They use `codec` (record to bytes),
//! `chunk` (bytes to checked chunks), `index` (the live records), `cache`, and `survey` (reads the
//! log from end to end). The log lies on a [`Medium`]; for every broker that is a journal
//! (`journal`) in front of sled in a data folder (`sled`). [`mod@format`] makes and reads records
//! and chunks without a medium.

mod append;
mod backup;
mod cache;
mod chunk;
mod clean;
mod codec;
mod direct;
mod error;
pub mod format;
mod index;
mod journal;
mod medium;
mod open;
mod room;
mod sled;
mod survey;
#[cfg(test)]
mod tests;
mod varint;

use bytes::{Bytes, BytesMut};
use celeriac_record::{Changed, Lease, Named, Record, Slot, Submitted, TaskSpec};

use self::append::Tail;
pub use self::backup::BackupError;
use self::cache::Cache;
use self::chunk::HEADER_BYTES;
pub use self::direct::Direct;
pub use self::error::Error;
use self::index::Index;
pub use self::index::{Located, Location};
pub use self::journal::{Journal, Mover, Segments};
pub use self::medium::{Archive, Chunks, Copier, Copy, Medium, ReadChunk, ReadError, Room};
use self::room::Outlook;
#[cfg(feature = "failing-reads")]
pub use self::sled::reads::FAIL_READS;
pub use self::sled::{
    FolderConfig, JournalConfig, Report, check, check_telling, disk_failure, restore,
};

/// The bounds of a store.
#[derive(Debug, Clone)]
pub struct StoreConfig {
    /// The disk is low when less space than this is free, or less than 5 % of the disk; of a large
    /// disk never more than 8 times this value is required. To empty a full disk again, cleaning
    /// and sled need up to 80 MiB for a while.
    pub disk_reserve_bytes: u64,
    /// Bytes of chunks kept in memory, so that chunks written or read a moment ago need no read
    /// from the disk.
    pub cache_bytes: u64,
    /// The bytes that the log may hold beyond twice the live bytes before the store cleans it.
    pub slack_bytes: u64,
}

impl Default for StoreConfig {
    fn default() -> Self {
        Self { disk_reserve_bytes: 128 << 20, cache_bytes: 24 << 20, slack_bytes: 64 << 20 }
    }
}

/// The highest numbers ever used in this folder, including the numbers of forgotten tasks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Marks {
    /// The highest serial of a task.
    pub serial: u64,
    /// The highest lease.
    pub lease: Lease,
}

impl Marks {
    fn raise(&mut self, other: Self) {
        self.serial = self.serial.max(other.serial);
        self.lease = self.lease.max(other.lease);
    }

    /// Whether the numbers of a record are within these marks.
    fn cover(self, record: &Record) -> bool {
        match record {
            Record::Submitted(task) => task.key.serial <= self.serial,
            Record::Changed(change) => {
                change.key.serial <= self.serial && change.lease <= self.lease
            }
            Record::Forgotten(key) => key.serial <= self.serial,
            Record::Named(Named::Chord(chord)) => chord.lease <= self.lease,
            Record::Named(_) | Record::Removed(_) => true,
        }
    }
}

/// How full the store is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// Bytes of live records.
    pub live_bytes: u64,
    /// Bytes of the log: at most about twice the live bytes plus the slack.
    pub log_bytes: u64,
    /// Chunks of the log.
    pub chunks: u64,
    /// Bytes of the medium's files.
    pub file_bytes: u64,
    /// Free bytes on the disk.
    pub disk_free_bytes: u64,
    /// Unused bytes inside the medium's files. The medium writes to them before the files grow.
    pub reusable_bytes: u64,
    /// The size of the disk.
    pub disk_bytes: u64,
    /// The room that is left: the free and the reusable bytes, less those that a journal still has
    /// to write to its archive.
    pub usable_bytes: u64,
    /// The disk is low when fewer bytes than this are usable.
    pub disk_low_bytes: u64,
    /// Whether the disk is low.
    pub disk_is_low: bool,
}

/// The records of a broker on disk. See the head of this module.
pub struct Store {
    config: StoreConfig,
    /// This field stands before the medium, so that the backup's thread has ended when sled is
    /// closed.
    backup: Option<backup::Running>,
    medium: Box<dyn Medium>,
    index: Index,
    cache: Cache,
    tail: Tail,
    marks: Marks,
    /// Chunks that left the log since the last commit.
    removed: Vec<u64>,
    failed: Option<String>,
    outlook: Outlook,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store")
            .field("place", &self.medium.place())
            .field("marks", &self.marks)
            .finish_non_exhaustive()
    }
}

impl Store {
    /// The format of what the log lies on: of the data folder.
    pub fn format(&self) -> u32 {
        self.medium.format()
    }

    /// The locations of a task's live records, including records of the open batch.
    pub fn locate(&self, slot: Slot) -> Option<Located> {
        self.index.locate(slot)
    }

    /// Reads a submit. The payload is a slice of the chunk, and the chunk stays in memory as long
    /// as the slice: copy a payload that you keep for long.
    ///
    /// # Errors
    /// [`Error::Engine`] or [`Error::Damaged`] if the chunk cannot be read back.
    pub fn submitted(&mut self, at: Location) -> Result<Submitted, Error> {
        let body = self.body(at)?;
        codec::decode_submitted(body).map_err(|malformed| self.damaged(malformed.to_string()))
    }

    /// Reads a change of state. The result is a slice, as with [`submitted`](Self::submitted).
    ///
    /// # Errors
    /// As [`submitted`](Self::submitted).
    pub fn changed(&mut self, at: Location) -> Result<Changed, Error> {
        let body = self.body(at)?;
        codec::decode_changed(body).map_err(|malformed| self.damaged(malformed.to_string()))
    }

    /// Reads a submit without its payload. Of a large submit the store reads only the bytes before
    /// the payload.
    ///
    /// # Errors
    /// As [`submitted`](Self::submitted).
    pub fn submitted_head(&mut self, at: Location) -> Result<Submitted, Error> {
        if let Some(head) = self.head(at, codec::decode_submitted_head)? {
            return Ok(head);
        }
        let whole = self.submitted(at)?;
        Ok(Submitted { spec: TaskSpec { payload: Bytes::new(), ..whole.spec }, ..whole })
    }

    /// Reads a change of state without its result, as [`submitted_head`](Self::submitted_head).
    ///
    /// # Errors
    /// As [`submitted`](Self::submitted).
    pub fn changed_head(&mut self, at: Location) -> Result<Changed, Error> {
        if let Some(head) = self.head(at, codec::decode_changed_head)? {
            return Ok(head);
        }
        let whole = self.changed(at)?;
        Ok(Changed { result: None, ..whole })
    }

    /// Reads a run up to the end of its head. Returns `None` for a record that is not a run,
    /// because such a record is short.
    fn head<T>(
        &mut self,
        at: Location,
        decode: fn(Bytes) -> Option<T>,
    ) -> Result<Option<T>, Error> {
        self.check()?;
        if !at.is_run() {
            return Ok(None);
        }
        let number = self.index.number(at);
        let mut bytes = BytesMut::new();
        for count in 1..=self.index.run_of(number) {
            bytes.extend_from_slice(&self.chunk(number + count - 1)?[HEADER_BYTES..]);
            // Decoding is tried each time the number of pieces has doubled, so that a long head is
            // not decoded for each of its pieces.
            if count.is_power_of_two()
                && let Some(head) = decode(bytes.clone().freeze())
            {
                return Ok(Some(head));
            }
        }
        Ok(None)
    }

    /// Drops a task without writing a record. The task no longer counts as live, and its bytes will
    /// be cleaned. Until then a restart loads the task again, whole, and the caller has to drop it
    /// again.
    pub fn drop_task(&mut self, slot: Slot) {
        self.index.drop_task(slot);
    }

    /// Whether a commit would write anything.
    pub fn is_dirty(&self) -> bool {
        self.tail.is_dirty()
    }

    /// Asks the operating system about the disk. This is too slow to call for every request.
    ///
    /// # Errors
    /// [`Error::Io`] if the system does not answer.
    pub fn usage(&self) -> Result<Usage, Error> {
        Ok(self.usage_in(self.medium.room()?))
    }

    /// Like [`usage`](Self::usage), with an answer of the system that may be a second old, so that
    /// it may be called for every request. `None`: the system has not answered yet.
    pub fn recent_usage(&mut self) -> Option<Usage> {
        self.look_at_the_disk();
        self.outlook.room.map(|(_, room)| self.usage_in(room))
    }

    /// Changes [`StoreConfig::disk_reserve_bytes`]. The next look at the disk counts with the new
    /// value.
    pub fn set_disk_reserve(&mut self, bytes: u64) {
        self.config.disk_reserve_bytes = bytes;
    }

    fn usage_in(&self, room: Room) -> Usage {
        Usage {
            live_bytes: self.index.live_bytes(),
            log_bytes: self.index.log_bytes(),
            chunks: self.index.end() - self.index.base(),
            file_bytes: room.file_bytes,
            disk_free_bytes: room.free_bytes,
            reusable_bytes: room.reusable_bytes,
            disk_bytes: room.disk_bytes,
            usable_bytes: room.usable_bytes(),
            disk_low_bytes: room.low_bytes(self.config.disk_reserve_bytes),
            disk_is_low: room.is_low(self.config.disk_reserve_bytes),
        }
    }

    /// Closes the store. Records appended since the last commit are not written.
    ///
    /// # Errors
    /// [`Error::Engine`] if the medium cannot flush; everything confirmed is safe even then.
    pub fn close(mut self) -> Result<(), Error> {
        self.backup = None;
        self.check()?;
        self.medium.close()
    }

    /// The bytes of one record.
    fn body(&mut self, at: Location) -> Result<Bytes, Error> {
        self.check()?;
        let number = self.index.number(at);
        if at.is_run() {
            let pieces = self.index.run_of(number);
            let mut body = BytesMut::new();
            for piece in number..number + pieces {
                // Pieces of a run are not kept in the cache: one large payload would displace a
                // thousand small ones.
                let chunk = match self.cache.find(piece) {
                    Some(chunk) => chunk.clone(),
                    None => self.chunk_on_disk(piece)?,
                };
                body.extend_from_slice(&chunk[HEADER_BYTES..]);
            }
            return Ok(body.freeze());
        }
        let range =
            usize::from(at.offset.get())..usize::from(at.offset.get()) + usize::from(at.length);
        if let Some(open) = self.tail.open_chunk(number) {
            return Ok(Bytes::copy_from_slice(&open[range]));
        }
        Ok(self.chunk(number)?.slice(range))
    }

    /// A sealed chunk, from memory or the disk.
    fn chunk(&mut self, number: u64) -> Result<Bytes, Error> {
        if let Some(chunk) = self.cache.find(number) {
            return Ok(chunk.clone());
        }
        let chunk = self.chunk_on_disk(number)?;
        self.cache.read(number, chunk.clone());
        Ok(chunk)
    }

    fn chunk_on_disk(&mut self, number: u64) -> Result<Bytes, Error> {
        let chunk = self.medium.read(number).map_err(|error| self.fail(error))?;
        let checked = match &chunk {
            None => Err(format!("chunk {number} is missing from its log")),
            Some(chunk) => chunk::open(number, chunk).map_err(|fault| fault.to_string()),
        };
        match (chunk, checked) {
            (Some(chunk), Ok(_)) => Ok(chunk),
            (_, checked) => {
                let reason = checked.err().unwrap_or_default();
                Err(self.damaged(reason))
            }
        }
    }

    fn check(&self) -> Result<(), Error> {
        match &self.failed {
            None => Ok(()),
            Some(reason) => Err(Error::Failed { reason: reason.clone() }),
        }
    }

    fn damaged(&mut self, reason: String) -> Error {
        let error = Error::Damaged { folder: self.medium.place().to_owned(), reason };
        self.fail(error)
    }

    /// Remembers the first error. From now on the store refuses every call.
    fn fail(&mut self, error: Error) -> Error {
        self.failed.get_or_insert_with(|| error.to_string());
        error
    }
}
