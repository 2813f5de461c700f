//! What the log lies on: numbered chunks, written in batches of which a crash leaves all or
//! nothing. For a broker that is sled in a data folder; in the simulation it is memory that loses
//! what was not synced, and fails when told to.

use std::path::Path;

use bytes::Bytes;
use sled::IVec;

use super::Settings;
use super::error::Error;
use super::folder::{Folder, Room};
use super::log::Log;

/// What reading the log from end to end needs. An error is a sentence.
pub(super) trait Chunks {
    /// The newest chunk.
    fn newest(&self) -> Result<Option<(u64, Bytes)>, String>;

    /// A chunk, when all are read in order.
    fn read_next(&self, number: u64) -> Result<Bytes, String>;

    /// The chunks that are there although they are older than the log.
    fn numbers_below(&self, base: u64) -> Result<Vec<u64>, String>;
}

/// What a store that works needs. A call is made for a chunk or a batch, never for a record.
pub(super) trait Medium: Chunks + Send {
    /// The place to name in errors.
    fn path(&self) -> &Path;

    /// A chunk from anywhere in the log.
    fn read(&self, number: u64) -> Result<Option<Bytes>, Error>;

    /// Writes and removes in one batch: after a crash all of it is there, or nothing. Durable on
    /// return.
    fn write(&mut self, chunks: &[(u64, IVec)], removed: &[u64]) -> Result<(), Error>;

    /// Writes down that everything up to this chunk is durable.
    fn confirm(&mut self, newest: u64) -> Result<(), Error>;

    /// The last thing before the end.
    fn flush(&self) -> Result<(), Error>;

    /// The log was read, and a first batch written to it. `is_new`: nothing was in it before.
    fn opened(&mut self, is_new: bool, settings: &Settings) -> Result<(), Error>;

    /// Lets go of a log that is refused.
    fn abandon(self: Box<Self>);

    /// How full the disk is, and what of the file with the chunks will be written to again.
    fn room(&self) -> Result<Room, Error>;

    /// Does what is needed to have what was removed count as room, after many chunks were removed
    /// and little written since.
    fn turn_over(&mut self) -> Result<(), Error>;

    /// Bytes of the file with the chunks.
    fn file_bytes(&self) -> Result<u64, Error>;

    /// Chunks that went into files of their own, which are not synced.
    fn stray_files(&self) -> Result<u64, Error>;

    /// A second hand on the log for the thread of a backup; `None` where there is no backup.
    fn log_for_backup(&self) -> Option<Log>;
}

/// sled in a data folder.
pub(super) struct OnDisk {
    pub(super) log: Log,
    /// Last, so that the lock is given back after sled is closed.
    pub(super) folder: Folder,
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

impl Chunks for OnDisk {
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

impl Medium for OnDisk {
    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn read(&self, number: u64) -> Result<Option<Bytes>, Error> {
        self.log.read(number)
    }

    fn write(&mut self, chunks: &[(u64, IVec)], removed: &[u64]) -> Result<(), Error> {
        // Looked at before anything is written: afterwards a hole would be all that is left of the
        // cut.
        if let Some(file_bytes) = self.folder.has_shrunk()?
            && file_bytes < self.log.needed_bytes()
        {
            return Err(self.folder.damaged("its file `db` was cut short while the broker ran"));
        }
        self.log.write(chunks, removed)
    }

    fn confirm(&mut self, newest: u64) -> Result<(), Error> {
        self.folder.note(newest, self.log.stable_position())
    }

    fn flush(&self) -> Result<(), Error> {
        self.log.flush()
    }

    fn opened(&mut self, is_new: bool, settings: &Settings) -> Result<(), Error> {
        if is_new {
            self.folder.sync_creation()?;
        }
        // On a disk that is nearly full it would only make things worse.
        if !self.folder.has_ballast()
            && self.folder.room()?.free_bytes >= 2 * settings.ballast_bytes
        {
            self.folder.make_ballast(settings.ballast_bytes);
        }
        Ok(())
    }

    fn abandon(self: Box<Self>) {
        // The lock is held until sled has let go.
        let Self { log, folder: _folder } = *self;
        log.abandon();
    }

    fn room(&self) -> Result<Room, Error> {
        let reusable_bytes = self.log.reusable_bytes(self.folder.database_bytes()?);
        Ok(Room { reusable_bytes, ..self.folder.room()? })
    }

    fn turn_over(&mut self) -> Result<(), Error> {
        self.log.turn_over()
    }

    fn file_bytes(&self) -> Result<u64, Error> {
        self.folder.database_bytes()
    }

    fn stray_files(&self) -> Result<u64, Error> {
        self.folder.stray_files()
    }

    fn log_for_backup(&self) -> Option<Log> {
        Some(self.log.clone())
    }
}
