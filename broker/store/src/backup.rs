//! An online backup: a copy of the committed log, from which a broker can start.
//!
//! The log is append-only but for cleaning. So cleaning is held, and a thread copies the chunks
//! that are there, oldest to newest, while the store goes on. How a copy is written is up to the
//! medium.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;

use super::Store;
use super::error::Error;
use super::medium::{Copier, Copy};

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
        let give_up = Arc::new(AtomicBool::new(false));
        let log_bytes = self.index.log_bytes();
        let copier = self.medium.copier(Copy {
            chunks: self.index.base()..self.index.end(),
            log_bytes,
            reserve_bytes: self.config.disk_reserve_bytes,
            target: target.clone(),
            give_up: give_up.clone(),
        });
        let Some(copier) = copier else {
            return done(Err(BackupError::GivenUp));
        };
        // It gets `done` only once it runs, so that a thread that cannot be started is told too.
        let (sender, receiver) = mpsc::sync_channel::<D>(1);
        let run = move || {
            let outcome = run(copier, &target, log_bytes);
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

/// Runs the copier, and tells the log how it ended.
fn run(copier: Copier, target: &std::path::Path, bytes: u64) -> Result<u64, BackupError> {
    tracing::info!(folder = %target.display(), bytes, "a backup begins");
    let outcome = catch_unwind(AssertUnwindSafe(copier)).unwrap_or_else(|_panic| {
        let reason = "the storage engine panicked while it wrote the copy".to_owned();
        Err(Error::Failed { reason }.into())
    });
    match &outcome {
        Ok(bytes) => tracing::info!(folder = %target.display(), bytes, "the backup is complete"),
        Err(error) => tracing::warn!(folder = %target.display(), %error, "no backup"),
    }
    outcome
}
