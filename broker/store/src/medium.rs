//! The medium: the storage of the log. A medium keeps numbered chunks of bytes, writes them in
//! atomic batches (after a crash either a whole batch is present, or nothing of it), and reports
//! how full it is. It knows nothing of records.
//!
//! A broker uses a journal (`journal.rs`) in front of an archive, which is sled (`sled.rs`), both
//! in one data folder. The simulation of the tests has its own segments and archive, which lose
//! bytes that were not synced. If you write another medium, keep the promises of [`Medium`], and
//! pass the medium to [`Store::over`](crate::Store::over).

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use bytes::Bytes;

use super::backup::BackupError;
use super::error::Error;

/// Why a log cannot be read.
#[derive(Debug)]
pub enum ReadError {
    /// Something is missing or is not what was written. The text says what.
    Damaged(String),
    /// The system refused a read. The log itself may be whole.
    Refused(Error),
}

impl ReadError {
    pub(crate) fn into_error(self, folder: &Path) -> Error {
        match self {
            Self::Damaged(reason) => Error::Damaged { folder: folder.to_owned(), reason },
            Self::Refused(error) => error,
        }
    }
}

impl From<String> for ReadError {
    fn from(reason: String) -> Self {
        Self::Damaged(reason)
    }
}

impl From<Error> for ReadError {
    fn from(error: Error) -> Self {
        Self::Refused(error)
    }
}

/// The part of a medium or an archive that reading the log from end to end needs.
pub trait Chunks {
    /// The newest chunk, with its number. `None`: the log is empty.
    ///
    /// # Errors
    /// When the medium cannot be read.
    fn newest(&self) -> Result<Option<(u64, Bytes)>, ReadError>;

    /// One chunk, when all chunks are read in order.
    ///
    /// # Errors
    /// When the chunk is missing or cannot be read.
    fn read_next(&self, number: u64) -> Result<Bytes, ReadError>;

    /// The numbers of chunks that are present although they are older than the log.
    ///
    /// # Errors
    /// When the medium cannot be read.
    fn numbers_below(&self, base: u64) -> Result<Vec<u64>, ReadError>;
}

/// The format of a folder with a journal: the newest that this program knows.
pub(crate) const FORMAT: u32 = 2;
/// The format of a folder without a journal.
pub(crate) const FORMAT_WITHOUT_JOURNAL: u32 = 1;

/// The storage that a store needs for its log. The store makes one call for each chunk or batch,
/// never one for each record.
pub trait Medium: Chunks + Send {
    /// The place that errors name.
    fn place(&self) -> &Path;

    /// The newest chunk that the medium knows to have been durable before this start.
    fn confirmed(&self) -> Option<u64>;

    /// One chunk from anywhere in the log. `None`: the chunk is missing.
    ///
    /// # Errors
    /// When the medium cannot be read.
    fn read(&self, number: u64) -> Result<Option<Bytes>, Error>;

    /// Appends and removes chunks in one batch: after a crash either the whole batch is present, or
    /// nothing of it. The batch is durable when the call returns.
    ///
    /// # Errors
    /// Any error. The store cannot be used after an error.
    fn write(&mut self, chunks: &[(u64, Bytes)], removed: &[u64]) -> Result<(), Error>;

    /// The store calls this after it has read the log and written a first batch.
    ///
    /// # Errors
    /// When the medium cannot be used for further batches.
    fn opened(&mut self) -> Result<(), Error>;

    /// The format of what the log lies on.
    fn format(&self) -> u32;

    /// Releases a log that the store refuses to serve.
    fn abandon(self: Box<Self>);

    /// How full the medium is.
    ///
    /// # Errors
    /// When the system does not answer.
    fn room(&self) -> Result<Room, Error>;

    /// Waits until the removals of all batches are carried out everywhere, where that happens later
    /// than [`write`](Self::write).
    ///
    /// # Errors
    /// As [`write`](Self::write).
    fn carry_out_removals(&mut self) -> Result<(), Error> {
        Ok(())
    }

    /// Turns removed chunks into free room where that needs work: after many chunks were removed
    /// and little was written since.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    fn reclaim(&mut self) -> Result<(), Error>;

    /// Bytes that [`reclaim`](Self::reclaim) may write before it frees room.
    fn reclaim_bytes(&self) -> u64;

    /// A function that copies chunks to another place, to be run in a thread of its own while the
    /// store continues to work. `None`: the medium makes no copies.
    fn copier(&self, copy: Copy) -> Option<Copier>;

    /// Closes the log in good order.
    ///
    /// # Errors
    /// When the medium cannot be flushed; every batch that was written is safe even then.
    fn close(&mut self) -> Result<(), Error>;
}

/// The storage for the chunks that have left a journal. It may lack chunks that the journal has.
/// The journal writes from one thread at a time, and reads from several.
pub trait Archive: Chunks + Send + Sync {
    /// The place that errors name.
    fn place(&self) -> &Path;

    /// The newest chunk that the archive knows to have been durable before this start, together
    /// with all older chunks of the log.
    fn confirmed(&self) -> Option<u64>;

    /// One chunk from anywhere in the log. `None`: the chunk is missing.
    ///
    /// # Errors
    /// When the archive cannot be read.
    fn read(&self, number: u64) -> Result<Option<Bytes>, Error>;

    /// Adds and removes chunks. They are durable after the next [`flush`](Self::flush).
    ///
    /// # Errors
    /// Any error. The archive cannot be used after an error.
    fn write(&self, chunks: &[(u64, Bytes)], removed: &[u64]) -> Result<(), Error>;

    /// Makes everything durable that was written. The archive then has all chunks of the log up to
    /// `newest`, and may take note of that.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    fn flush(&self, newest: Option<u64>) -> Result<(), Error>;

    /// Checks that the archive is still in its place. The journal asks before it confirms anything.
    ///
    /// # Errors
    /// When someone has removed or cut files.
    fn inspect(&self) -> Result<(), Error>;

    /// Called once, after a first batch was written and flushed.
    ///
    /// # Errors
    /// When the archive cannot be used.
    fn opened(&self) -> Result<(), Error>;

    /// As [`Medium::room`].
    ///
    /// # Errors
    /// When the system does not answer.
    fn room(&self) -> Result<Room, Error>;

    /// As [`Medium::reclaim`].
    ///
    /// # Errors
    /// As [`write`](Self::write).
    fn reclaim(&self) -> Result<(), Error>;

    /// As [`Medium::reclaim_bytes`].
    fn reclaim_bytes(&self) -> u64;

    /// As [`Medium::copier`]. `read` reads a chunk from the journal or the archive.
    fn copier(&self, copy: Copy, read: ReadChunk) -> Option<Copier>;

    /// As [`Medium::close`].
    ///
    /// # Errors
    /// As [`write`](Self::write).
    fn close(&self) -> Result<(), Error>;
}

/// A function that reads a chunk of a log that is in use.
pub type ReadChunk = Box<dyn Fn(u64) -> Result<Bytes, ReadError> + Send>;

/// A function that copies chunks and returns the number of copied bytes.
pub type Copier = Box<dyn FnOnce() -> Result<u64, BackupError> + Send>;

/// The chunks to copy, and the target.
#[derive(Debug)]
pub struct Copy {
    /// The chunks, oldest first.
    pub chunks: Range<u64>,
    /// Bytes of these chunks.
    pub log_bytes: u64,
    /// Bytes that have to stay free at the target.
    pub reserve_bytes: u64,
    /// The place of the copy.
    pub target: PathBuf,
    /// True once the copy must stop.
    pub give_up: Arc<AtomicBool>,
}

/// How full a medium is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Room {
    /// Free bytes outside the medium's own files.
    pub free_bytes: u64,
    /// Unused bytes inside the medium's own files. The medium writes to them before the files
    /// grow.
    pub reusable_bytes: u64,
    /// Bytes of the medium's own files.
    pub file_bytes: u64,
    /// Bytes that a journal still has to write to its archive.
    pub to_move_bytes: u64,
    /// Bytes of the files of a journal, which are part of `file_bytes`. They do not follow the
    /// size of the log.
    pub ring_bytes: u64,
    /// The size of the disk.
    pub disk_bytes: u64,
}

impl Room {
    /// Bytes that can still be written.
    pub(crate) fn usable_bytes(self) -> u64 {
        (self.free_bytes + self.reusable_bytes).saturating_sub(self.to_move_bytes)
    }

    /// Whether fewer bytes are usable than [`low_bytes`](Self::low_bytes).
    pub(crate) fn is_low(self, reserve_bytes: u64) -> bool {
        self.usable_bytes() < self.low_bytes(reserve_bytes)
    }

    /// The reserve, or 5 % of the disk if that is more; of a large disk no more than 8 reserves
    /// are required.
    pub(crate) fn low_bytes(self, reserve_bytes: u64) -> u64 {
        let share = (self.disk_bytes / 20).min(reserve_bytes.saturating_mul(8));
        reserve_bytes.max(share)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn low_disk_is_below_the_reserve_or_below_five_percent() {
        let room = |free_bytes, disk_bytes| Room { free_bytes, disk_bytes, ..Room::default() };
        assert!(room(63, 100).is_low(64));
        assert!(!room(64, 100).is_low(64));
        assert!(room(99, 2_000).is_low(64));
        assert!(!room(100, 2_000).is_low(64));
        assert!(!room(8 * 64, 1_000_000).is_low(64));
        assert!(!Room { reusable_bytes: 1, ..room(63, 100) }.is_low(64));
        assert!(Room { to_move_bytes: 1, ..room(64, 100) }.is_low(64));
    }
}
