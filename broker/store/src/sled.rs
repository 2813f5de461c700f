//! sled in a data folder: the archive of every broker. All code of the store that knows sled or
//! files is in this folder.
//!
//! `log` calls sled while the broker runs; `sync` and `reads` make sled's system calls do what they
//! promise; `quiet` keeps sled's panics off the terminal; `folder`, `watch`, `note` and `files` are
//! the files beside sled's, and `segments` those of the journal; `guard` and `scan` check a folder
//! before sled may touch it; `open` starts on a folder; `copy` writes a backup; `check` checks a
//! folder that no broker uses, and `restore` copies a backup into an empty folder.

mod check;
mod copy;
mod files;
mod folder;
mod guard;
mod log;
mod note;
mod open;
mod quiet;
pub(crate) mod reads;
mod restore;
mod scan;
mod segments;
pub(crate) mod sync;
mod watch;

use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard};

use bytes::Bytes;

pub use self::check::{Report, check, check_telling};
use self::folder::Folder;
use self::log::{Log, SEGMENT_BYTES};
pub use self::restore::restore;
use self::watch::Watch;
use super::error::Error;
use super::medium::{Archive, Chunks, Copier, Copy, ReadChunk, ReadError, Room};

/// The place of the files of a store on sled.
#[derive(Debug, Clone)]
pub struct FolderConfig {
    /// The data folder. A start makes the folder if it does not exist.
    pub path: PathBuf,
    /// The size of the file that a start on a full disk may delete.
    pub ballast_bytes: u64,
    /// The journal in front of sled. `None`: commits go straight to sled, unless the folder has a
    /// journal already.
    pub journal: Option<JournalConfig>,
}

impl FolderConfig {
    /// The defaults, for a folder.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        let journal = Some(JournalConfig::default());
        Self { path: path.into(), ballast_bytes: 32 << 20, journal }
    }
}

/// The bounds of a journal in a data folder. They may change from one start to the next.
#[derive(Debug, Clone, Copy)]
pub struct JournalConfig {
    /// The length of a full segment.
    pub segment_bytes: u32,
    /// The number of segments.
    pub segments: u32,
}

impl Default for JournalConfig {
    /// All segments together hold twice what the log of a broker with little live data holds. So
    /// the chunks of such a broker leave the log before they would leave the journal.
    fn default() -> Self {
        Self { segment_bytes: 16 << 20, segments: 8 }
    }
}

impl JournalConfig {
    /// On a small disk the journal takes no more than a sixteenth of it.
    fn on_a_disk_of(self, disk_bytes: u64) -> Self {
        let segment_bytes = disk_bytes / 16 / u64::from(self.segments.max(1));
        let whole_pages = segment_bytes.max(SEGMENT_BYTES_MIN).next_multiple_of(4096);
        Self { segment_bytes: whole_pages.min(self.segment_bytes.into()) as u32, ..self }
    }
}

/// A segment has room for some full chunks.
const SEGMENT_BYTES_MIN: u64 = 256 * 1024;

/// The system's error of a disk call that failed inside sled, which then panicked. This error is
/// the cause of the errors that follow.
pub fn disk_failure() -> Option<Error> {
    let source = quiet::disk_failure()?;
    Some(Error::Engine { doing: "read or write the data folder", reason: source.to_string() })
}

/// A sled database in a data folder that this process has locked: the archive of every broker.
struct SledArchive {
    /// Closed before the lock of the folder is released.
    log: QuietlyClosed,
    /// The newest chunk that was durable when the folder was opened.
    confirmed: Option<u64>,
    progress: Mutex<Progress>,
    watch: Mutex<Watch>,
    ballast_bytes: u64,
    folder: Folder,
}

/// What was written to sled.
#[derive(Debug, Default)]
struct Progress {
    /// The newest chunk up to which sled has all chunks, durable.
    newest: Option<u64>,
    /// The number of syncs before the first write that is not flushed. `None`: all is flushed.
    unsynced_since: Option<u64>,
}

/// A log whose end must not panic: sled panics in its own threads on some errors of the disk.
struct QuietlyClosed(Option<Log>);

impl Deref for QuietlyClosed {
    type Target = Log;

    fn deref(&self) -> &Log {
        self.0.as_ref().expect("the log is taken only when this is dropped")
    }
}

impl Drop for QuietlyClosed {
    fn drop(&mut self) {
        if let Some(log) = self.0.take() {
            log.abandon();
        }
    }
}

impl Chunks for Log {
    fn newest(&self) -> Result<Option<(u64, Bytes)>, ReadError> {
        Ok(self.newest()?)
    }

    fn read_next(&self, number: u64) -> Result<Bytes, ReadError> {
        Ok(self.read_next(number)?)
    }

    fn numbers_below(&self, base: u64) -> Result<Vec<u64>, ReadError> {
        Ok(self.numbers_below(base)?)
    }
}

impl Chunks for SledArchive {
    fn newest(&self) -> Result<Option<(u64, Bytes)>, ReadError> {
        Ok(self.log.newest()?)
    }

    fn read_next(&self, number: u64) -> Result<Bytes, ReadError> {
        Ok(self.log.read_next(number)?)
    }

    fn numbers_below(&self, base: u64) -> Result<Vec<u64>, ReadError> {
        Ok(self.log.numbers_below(base)?)
    }
}

impl Archive for SledArchive {
    fn place(&self) -> &Path {
        self.folder.path()
    }

    fn confirmed(&self) -> Option<u64> {
        self.confirmed
    }

    fn read(&self, number: u64) -> Result<Option<Bytes>, Error> {
        self.log.read(number)
    }

    fn write(&self, chunks: &[(u64, Bytes)], removed: &[u64]) -> Result<(), Error> {
        self.progress().unsynced_since.get_or_insert_with(sync::syncs);
        self.log.write(chunks, removed)
    }

    fn flush(&self, newest: Option<u64>) -> Result<(), Error> {
        let before = self.progress().unsynced_since.take();
        self.log.sync(before)?;
        let newest = {
            let mut progress = self.progress();
            progress.newest = progress.newest.max(newest);
            progress.newest
        };
        match newest {
            Some(newest) => self.watch().note(&self.folder, newest, self.log.stable_position()),
            None => Ok(()),
        }
    }

    fn inspect(&self) -> Result<(), Error> {
        self.watch().inspect(&self.folder, || self.log.needed_bytes())
    }

    fn opened(&self) -> Result<(), Error> {
        if self.folder.stray_files()? > 0 {
            return Err(self.folder.damaged("its folder `blobs` is not empty"));
        }
        if self.confirmed.is_none() {
            self.folder.sync_creation()?;
        }
        // On a nearly full disk the ballast would take room that the broker needs.
        if !self.folder.has_ballast() && self.folder.room()?.free_bytes >= 2 * self.ballast_bytes {
            self.folder.make_ballast(self.ballast_bytes);
        }
        Ok(())
    }

    fn room(&self) -> Result<Room, Error> {
        let file_bytes = self.folder.database_bytes()?;
        let reusable_bytes = self.log.reusable_bytes(file_bytes);
        Ok(Room { reusable_bytes, file_bytes, ..self.folder.room()? })
    }

    fn reclaim(&self) -> Result<(), Error> {
        self.log.turn_over()
    }

    /// The segment that a turn fills, and another segment for the pages that sled moves meanwhile.
    fn reclaim_bytes(&self) -> u64 {
        2 * SEGMENT_BYTES as u64
    }

    fn copier(&self, copy: Copy, read: ReadChunk) -> Option<Copier> {
        Some(copy::copier(self.log.clone(), read, self.folder.path(), copy))
    }

    fn close(&self) -> Result<(), Error> {
        self.log.flush()?;
        self.flush(None)
    }
}

impl SledArchive {
    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().expect("nothing panics with this lock")
    }

    fn watch(&self) -> MutexGuard<'_, Watch> {
        self.watch.lock().expect("nothing panics with this lock")
    }
}
