//! sled in a data folder: the medium of every broker. All code of the store that knows sled or
//! files is in this folder.
//!
//! `log` calls sled while the broker runs; `sync` and `reads` make sled's system calls do what they
//! promise; `quiet` keeps sled's panics off the terminal; `folder`, `note` and `files` are the
//! files beside sled's; `guard` and `scan` check a folder before sled may touch it; `open` starts
//! on a folder; `copy` writes a backup; `check` checks a folder that no broker uses.

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
mod scan;
pub(crate) mod sync;

use std::path::{Path, PathBuf};

use bytes::Bytes;

pub use self::check::{Report, check, check_telling};
use self::folder::Folder;
use self::log::{Log, SEGMENT_BYTES};
use super::error::Error;
use super::medium::{Chunks, Copier, Copy, Medium, Room};

/// The place of the files of a store on sled.
#[derive(Debug, Clone)]
pub struct FolderConfig {
    /// The data folder. A start makes the folder if it does not exist.
    pub path: PathBuf,
    /// The size of the file that a start on a full disk may delete.
    pub ballast_bytes: u64,
}

impl FolderConfig {
    /// The defaults, for a folder.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), ballast_bytes: 32 << 20 }
    }
}

/// The system's error of a disk call that failed inside sled, which then panicked. This error is
/// the cause of the errors that follow.
pub fn disk_failure() -> Option<Error> {
    let source = quiet::disk_failure()?;
    Some(Error::Engine { doing: "read or write the data folder", reason: source.to_string() })
}

/// A sled database in a data folder that this process has locked.
struct SledMedium {
    log: Log,
    /// The newest chunk that was durable when the folder was opened.
    confirmed: Option<u64>,
    /// The newest chunk that this process wrote.
    newest: Option<u64>,
    ballast_bytes: u64,
    /// The last field, so that the lock is released after sled is closed.
    folder: Folder,
}

impl Chunks for Log {
    fn newest(&self) -> Result<Option<(u64, Bytes)>, String> {
        self.newest()
    }

    fn read_next(&self, number: u64) -> Result<Bytes, String> {
        self.read_next(number)
    }

    fn numbers_below(&self, base: u64) -> Result<Vec<u64>, String> {
        self.numbers_below(base)
    }
}

impl Chunks for SledMedium {
    fn newest(&self) -> Result<Option<(u64, Bytes)>, String> {
        self.log.newest()
    }

    fn read_next(&self, number: u64) -> Result<Bytes, String> {
        self.log.read_next(number)
    }

    fn numbers_below(&self, base: u64) -> Result<Vec<u64>, String> {
        self.log.numbers_below(base)
    }
}

impl Medium for SledMedium {
    fn place(&self) -> &Path {
        self.folder.path()
    }

    fn confirmed(&self) -> Option<u64> {
        self.confirmed
    }

    fn read(&self, number: u64) -> Result<Option<Bytes>, Error> {
        self.log.read(number)
    }

    fn write(&mut self, chunks: &[(u64, Bytes)], removed: &[u64]) -> Result<(), Error> {
        // The length must be compared before any write: after the write, only a hole would show
        // that the file was cut.
        if let Some(file_bytes) = self.folder.has_shrunk()?
            && file_bytes < self.log.needed_bytes()
        {
            return Err(self.folder.damaged("its file `db` was cut short while the broker ran"));
        }
        self.log.write(chunks, removed)?;
        self.newest = chunks.last().map(|(number, _)| *number).or(self.newest);
        self.confirm()
    }

    fn opened(&mut self) -> Result<(), Error> {
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

    fn abandon(self: Box<Self>) {
        // The lock is held until sled has closed its files.
        let Self { log, folder: _folder, .. } = *self;
        log.abandon();
    }

    fn room(&self) -> Result<Room, Error> {
        let file_bytes = self.folder.database_bytes()?;
        let reusable_bytes = self.log.reusable_bytes(file_bytes);
        Ok(Room { reusable_bytes, file_bytes, ..self.folder.room()? })
    }

    fn reclaim(&mut self) -> Result<(), Error> {
        self.log.turn_over()
    }

    /// The segment that a turn fills, and another segment for the pages that sled moves meanwhile.
    fn reclaim_bytes(&self) -> u64 {
        2 * SEGMENT_BYTES as u64
    }

    fn copier(&self, copy: Copy) -> Option<Copier> {
        Some(copy::copier(self.log.clone(), self.folder.path(), copy))
    }

    fn close(&mut self) -> Result<(), Error> {
        self.log.flush()?;
        self.confirm()
    }
}

impl SledMedium {
    /// Notes that everything up to the newest chunk is durable.
    fn confirm(&mut self) -> Result<(), Error> {
        match self.newest {
            Some(newest) => self.folder.note(newest, self.log.stable_position()),
            None => Ok(()),
        }
    }
}
