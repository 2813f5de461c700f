//! An online backup: a copy of the committed log in a folder of its own, from which a broker can
//! start.
//!
//! The log is append-only but for cleaning. So cleaning is held, and a thread copies the chunks
//! that are there, oldest to newest, while the store goes on. The copy gets its file `format` last,
//! without which no broker takes it for a data folder: a backup that fails or is killed leaves
//! nothing that could be served. A new folder grows under the name `FOLDER.partial`.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;

use sled::IVec;

use super::Store;
use super::chunk;
use super::error::Error;
use super::files::{self, PRIVATE_FOLDER, sync_folder};
use super::folder::{Folder, room_in};
use super::log::{Log, SEGMENT_BYTES};

/// Chunks written to the copy in one batch.
const BATCH_BYTES: usize = 1024 * 1024;
/// A folder that some file systems have in their root.
const LOST_AND_FOUND: &str = "lost+found";
/// What sled adds to the log, while it writes it and afterwards.
const ROOM_FACTOR: u64 = 2;
const ROOM_BYTES: u64 = 8 * SEGMENT_BYTES as u64;

/// Why there is no backup. The store goes on.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// One at a time.
    #[error("another backup is under way")]
    Busy,
    /// The folder cannot be the place of a backup.
    #[error("cannot back up to {}: {reason}", folder.display())]
    Place {
        /// The folder that was asked for.
        folder: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The store is being closed, or its disk is nearly full and has to be cleaned.
    #[error("the backup was given up: the broker closes down, or its disk is nearly full")]
    GivenUp,
    /// Reading the log or writing the copy failed.
    #[error("the backup failed: {0}")]
    Failed(#[from] Error),
}

/// A backup under way. Dropping it gives it up and waits for its end.
#[derive(Debug)]
pub(super) struct Running {
    give_up: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.give_up.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            // A panic was caught in it and told to whoever asked.
            let _ended = thread.join();
        }
    }
}

impl Store {
    /// Copies everything that is committed into a new folder, which must not exist or be empty, in
    /// a thread of its own. `done` is called once, from there, with the bytes that were copied;
    /// or at once, if nothing can be begun.
    pub fn start_backup<D>(&mut self, target: PathBuf, done: D)
    where
        D: FnOnce(Result<u64, BackupError>) + Send + 'static,
    {
        assert!(!self.is_dirty(), "a backup begins between commits");
        if self.backup_is_running() {
            return done(Err(BackupError::Busy));
        }
        let Some(log) = self.medium.log_for_backup() else {
            return done(Err(BackupError::GivenUp));
        };
        let give_up = Arc::new(AtomicBool::new(false));
        let copy = Copy {
            log,
            chunks: self.index.base()..self.index.end(),
            log_bytes: self.index.log_bytes(),
            reserve_bytes: self.settings.disk_reserve_bytes,
            source: self.medium.path().to_owned(),
            target,
            give_up: give_up.clone(),
        };
        // It gets `done` only once it runs, so that a thread that cannot be started is told too.
        let (sender, receiver) = mpsc::sync_channel::<D>(1);
        let run = move || {
            let outcome = copy.run();
            if let Ok(done) = receiver.recv() {
                done(outcome);
            }
        };
        match std::thread::Builder::new().name("backup".into()).spawn(run) {
            Ok(thread) => {
                self.backup = Some(Running { give_up, thread: Some(thread) });
                assert!(sender.send(done).is_ok(), "the thread waits for it");
            }
            Err(error) => done(Err(Error::io("start a thread for the backup")(error).into())),
        }
    }

    fn backup_is_running(&mut self) -> bool {
        let ended = |running: &Running| running.thread.as_ref().is_none_or(JoinHandle::is_finished);
        self.backup.take_if(|running| ended(running));
        self.backup.is_some()
    }

    /// Whether a backup needs the chunks that are there. When the disk gets low it is given up:
    /// serving comes first. Should it be in the middle of its work, it misses a chunk and ends.
    pub(super) fn holds_cleaning(&mut self) -> bool {
        if !self.backup_is_running() {
            return false;
        }
        let low = self.disk_is_low();
        let Some(running) = &self.backup else { return false };
        if low && !running.give_up.swap(true, Ordering::SeqCst) {
            tracing::warn!("the disk is nearly full; giving up the backup");
        }
        !running.give_up.load(Ordering::SeqCst)
    }
}

/// Where a backup goes.
enum Place {
    /// A folder that is not there yet, and the one it lies in.
    New { target: PathBuf, parent: PathBuf },
    /// An empty folder.
    Empty(PathBuf),
}

/// What the thread knows. It shares nothing with the store but sled, which is made for that.
struct Copy {
    log: Log,
    chunks: std::ops::Range<u64>,
    log_bytes: u64,
    reserve_bytes: u64,
    source: PathBuf,
    target: PathBuf,
    give_up: Arc<AtomicBool>,
}

impl Copy {
    fn run(self) -> Result<u64, BackupError> {
        tracing::info!(folder = %self.target.display(), bytes = self.log_bytes, "a backup begins");
        let outcome = catch_unwind(AssertUnwindSafe(|| self.copy())).unwrap_or_else(|_panic| {
            let reason = "the storage engine panicked while it wrote the copy".to_owned();
            Err(Error::Failed { reason }.into())
        });
        match &outcome {
            Ok(bytes) => {
                tracing::info!(folder = %self.target.display(), bytes, "the backup is complete")
            }
            Err(error) => tracing::warn!(folder = %self.target.display(), %error, "no backup"),
        }
        outcome
    }

    fn copy(&self) -> Result<u64, BackupError> {
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

    /// A folder that is there keeps its place and its permissions: it may be where another disk is
    /// mounted.
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

    /// Removes what a backup that failed has made.
    fn clear_unless(
        &self,
        made: Result<u64, BackupError>,
        clear: impl FnOnce() -> io::Result<()>,
    ) -> Result<u64, BackupError> {
        if made.is_err() {
            if let Err(error) = clear() {
                tracing::warn!(%error, folder = %self.target.display(), "the failed backup is left over");
            }
            if self.give_up.load(Ordering::SeqCst) {
                return Err(BackupError::GivenUp);
            }
        }
        made
    }

    fn need_room(&self, place: &Path) -> Result<(), BackupError> {
        let free_bytes = room_in(place)?.free_bytes;
        let needed_bytes = ROOM_FACTOR * self.log_bytes + ROOM_BYTES + self.reserve_bytes;
        if free_bytes < needed_bytes {
            return Err(Error::NoRoom { place: place.to_owned(), free_bytes, needed_bytes }.into());
        }
        Ok(())
    }

    /// Where the copy goes, links resolved.
    fn place(&self) -> Result<Place, BackupError> {
        let (true, Some(parent), Some(name)) =
            (self.target.is_absolute(), self.target.parent(), self.target.file_name())
        else {
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
            // A file system that was made just now has it.
            if entry.file_name() != LOST_AND_FOUND || !entry.file_type().map_err(refused)?.is_dir()
            {
                return Err(taken());
            }
        }
        if target.starts_with(&self.source) { Err(inside()) } else { Ok(Place::Empty(target)) }
    }

    /// Makes the new folder a data folder with these chunks.
    fn fill(&self, partial: &Path) -> Result<u64, BackupError> {
        let mut folder = Folder::lock(partial)?;
        files::warn_of_others(&folder);
        let before = folder.names(folder.path())?;
        let log = Log::open(folder.path(), true)
            .map_err(|failure| Error::Failed { reason: failure.to_string() })?;
        let written = self.write_chunks(&folder, &log).and_then(|bytes| {
            log.flush()?;
            folder.note(self.chunks.end - 1, log.stable_position())?;
            Ok(bytes)
        });
        log.abandon();
        let bytes = written?;
        files::close_new(&folder, &before)?;
        folder.sync_creation()?;
        folder.write_format()?;
        Ok(bytes)
    }

    fn write_chunks(&self, folder: &Folder, log: &Log) -> Result<u64, BackupError> {
        let (mut copied, mut batch, mut batch_bytes) = (0, Vec::new(), 0);
        for number in self.chunks.clone() {
            if self.give_up.load(Ordering::SeqCst) {
                return Err(BackupError::GivenUp);
            }
            let damaged = |reason| match self.log.read_failure() {
                Some(error) => {
                    Error::io(format!("read {}", self.source.join("db").display()))(error)
                }
                None => Error::Damaged { folder: self.source.clone(), reason },
            };
            let bytes = self.log.read_next(number).map_err(damaged)?;
            chunk::open(number, &bytes).map_err(|fault| damaged(fault.to_string()))?;
            batch_bytes += bytes.len();
            batch.push((number, IVec::from(&bytes[..])));
            if batch_bytes >= BATCH_BYTES || number + 1 == self.chunks.end {
                self.keep_reserve(folder)?;
                log.write(&batch, &[])?;
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
        let needed_bytes = self.reserve_bytes + 2 * SEGMENT_BYTES as u64;
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
        BackupError::Place { folder: self.target.clone(), reason: reason.into() }
    }
}
