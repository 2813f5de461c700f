//! Writes a backup: a separate data folder with the chunks of a log that is in use.
//!
//! The copy has no journal: it has the format of the versions before the journal, which every
//! version reads. The copy gets its file `format` last. A broker accepts no data folder without
//! this file, so a backup that fails or is killed leaves nothing that a broker would serve. A new
//! folder has the name `FOLDER.partial` until it is complete.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use super::files::{self, LOST_AND_FOUND, PRIVATE_FOLDER, sync_folder};
use super::folder::{Folder, room_in};
use super::log::{Log, SEGMENT_BYTES};
use super::open::unreadable;
use super::sync::syncs;
use super::watch::Watch;
use crate::backup::BackupError;
use crate::chunk;
use crate::error::Error;
use crate::medium::{Copier, Copy, FORMAT_WITHOUT_JOURNAL, ReadChunk, ReadError};

/// Chunks written to the copy in one batch.
const BATCH_BYTES: usize = 1024 * 1024;
/// The factor for the room that sled needs beside the log, while it writes and afterwards.
const ROOM_FACTOR: u64 = 2;
const ROOM_BYTES: u64 = 8 * SEGMENT_BYTES as u64;

/// A function that copies the chunks that `read` reads. They lie in the folder `source`, partly in
/// `log`.
pub(super) fn copier(log: Log, read: ReadChunk, source: &Path, copy: Copy) -> Copier {
    let source = source.to_owned();
    Box::new(move || FolderCopy { log, read, source, copy }.write())
}

/// The target of a backup.
enum Place {
    /// A folder that does not exist yet, and its parent folder.
    New { target: PathBuf, parent: PathBuf },
    /// An empty folder.
    Empty(PathBuf),
}

/// The state of the backup's thread. The thread shares only sled and the journal with the store,
/// and both allow that.
struct FolderCopy {
    log: Log,
    read: ReadChunk,
    source: PathBuf,
    copy: Copy,
}

impl FolderCopy {
    fn write(&self) -> Result<u64, BackupError> {
        match self.place()? {
            Place::New { target, parent } => self.copy_to_new(&target, &parent),
            Place::Empty(target) => self.copy_into(&target),
        }
    }

    fn copy_to_new(&self, target: &Path, parent: &Path) -> Result<u64, BackupError> {
        let mut partial = target.to_owned().into_os_string();
        partial.push(".partial");
        let partial = PathBuf::from(partial);
        self.need_room(parent)?;
        let made = fs::create_dir(&partial)
            .and_then(|()| fs::set_permissions(&partial, Permissions::from_mode(PRIVATE_FOLDER)));
        made.map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => self.refused(format!(
                "{} is left over from a backup that was interrupted; remove it",
                partial.display()
            )),
            _ => self.refused(format!("cannot make {}: {error}", partial.display())),
        })?;
        let made = self.fill(&partial).and_then(|bytes| {
            fs::rename(&partial, target)
                .map_err(|error| self.refused(format!("cannot name it: {error}")))?;
            sync_folder(parent)?;
            Ok(bytes)
        });
        self.clear_unless(made, || fs::remove_dir_all(&partial))
    }

    /// Copies into the target. An existing folder keeps its place and its permissions: it may be a
    /// mount point of another disk.
    fn copy_into(&self, target: &Path) -> Result<u64, BackupError> {
        self.need_room(target)?;
        let made = self.fill(target);
        self.clear_unless(made, || {
            for entry in fs::read_dir(target)? {
                let entry = entry?;
                match entry.file_type()?.is_dir() {
                    true if entry.file_name() == LOST_AND_FOUND => {}
                    true => fs::remove_dir_all(entry.path())?,
                    false => fs::remove_file(entry.path())?,
                }
            }
            Ok(())
        })
    }

    /// Removes the files of a failed backup.
    fn clear_unless(
        &self,
        made: Result<u64, BackupError>,
        clear: impl FnOnce() -> io::Result<()>,
    ) -> Result<u64, BackupError> {
        if made.is_err() {
            if let Err(error) = clear() {
                tracing::warn!(%error, folder = %self.copy.target.display(), "the failed backup is left over");
            }
            if self.copy.give_up.load(Ordering::SeqCst) {
                return Err(BackupError::GivenUp);
            }
        }
        made
    }

    fn need_room(&self, place: &Path) -> Result<(), BackupError> {
        let free_bytes = room_in(place)?.free_bytes;
        let needed_bytes = ROOM_FACTOR * self.copy.log_bytes + ROOM_BYTES + self.copy.reserve_bytes;
        if free_bytes < needed_bytes {
            return Err(Error::NoRoom { place: place.to_owned(), free_bytes, needed_bytes }.into());
        }
        Ok(())
    }

    /// The target of the copy, with links resolved.
    fn place(&self) -> Result<Place, BackupError> {
        let (true, Some(parent), Some(name)) = (
            self.copy.target.is_absolute(),
            self.copy.target.parent(),
            self.copy.target.file_name(),
        ) else {
            return Err(self.refused("it is not the absolute path of a new folder"));
        };
        let parent = parent
            .canonicalize()
            .map_err(|error| self.refused(format!("the folder it lies in: {error}")))?;
        let inside = || self.refused("it lies inside the data folder");
        if parent.starts_with(&self.source) {
            return Err(inside());
        }
        let target = parent.join(name);
        if let Err(error) = fs::symlink_metadata(&target) {
            return match error.kind() {
                io::ErrorKind::NotFound => Ok(Place::New { target, parent }),
                _ => Err(self.refused(error.to_string())),
            };
        }
        // A link may lead to an empty folder.
        let refused = |error: io::Error| self.refused(error.to_string());
        let target = target.canonicalize().map_err(refused)?;
        let taken = || self.refused("it exists and is not an empty folder");
        if !target.is_dir() {
            return Err(taken());
        }
        for entry in fs::read_dir(&target).map_err(refused)? {
            let entry = entry.map_err(refused)?;
            // A new file system has this folder.
            if entry.file_name() != LOST_AND_FOUND || !entry.file_type().map_err(refused)?.is_dir()
            {
                return Err(taken());
            }
        }
        if target.starts_with(&self.source) { Err(inside()) } else { Ok(Place::Empty(target)) }
    }

    /// Fills the new folder with these chunks and makes it a data folder.
    fn fill(&self, partial: &Path) -> Result<u64, BackupError> {
        let folder = Folder::lock(partial)?;
        files::warn_of_others(&folder, files::Purpose::Backup);
        let before = folder.names(folder.path())?;
        let log = Log::open(folder.path(), true)
            .map_err(|failure| Error::Failed { reason: failure.to_string() })?;
        let written = self.write_chunks(&folder, &log).and_then(|bytes| {
            log.flush()?;
            let newest = self.copy.chunks.end - 1;
            Watch::default().note(&folder, newest, log.stable_position())?;
            Ok(bytes)
        });
        log.abandon();
        let bytes = written?;
        files::close_new(&folder, &before)?;
        folder.sync_creation()?;
        folder.write_format(FORMAT_WITHOUT_JOURNAL)?;
        Ok(bytes)
    }

    fn write_chunks(&self, folder: &Folder, log: &Log) -> Result<u64, BackupError> {
        let (mut copied, mut batch, mut batch_bytes) = (0, Vec::new(), 0);
        for number in self.copy.chunks.clone() {
            if self.copy.give_up.load(Ordering::SeqCst) {
                return Err(BackupError::GivenUp);
            }
            let refused = |error: ReadError| match self.log.read_failure() {
                Some(error) => unreadable(&self.source)(error),
                None => error.into_error(&self.source),
            };
            let bytes = (self.read)(number).map_err(refused)?;
            chunk::open(number, &bytes).map_err(|fault| refused(fault.to_string().into()))?;
            batch_bytes += bytes.len();
            batch.push((number, bytes));
            if batch_bytes >= BATCH_BYTES || number + 1 == self.copy.chunks.end {
                self.keep_reserve(folder)?;
                let before = syncs();
                log.write(&batch, &[])?;
                log.sync(Some(before))?;
                copied += batch_bytes as u64;
                batch.clear();
                batch_bytes = 0;
            }
        }
        Ok(copied)
    }

    /// The copy may share its disk with the broker.
    fn keep_reserve(&self, folder: &Folder) -> Result<(), BackupError> {
        let free_bytes = folder.room()?.free_bytes;
        let needed_bytes = self.copy.reserve_bytes + 2 * SEGMENT_BYTES as u64;
        if free_bytes < needed_bytes {
            return Err(Error::NoRoom {
                place: folder.path().to_owned(),
                free_bytes,
                needed_bytes,
            }
            .into());
        }
        Ok(())
    }

    fn refused(&self, reason: impl Into<String>) -> BackupError {
        BackupError::Place { folder: self.copy.target.clone(), reason: reason.into() }
    }
}
