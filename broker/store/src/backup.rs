//! An online backup: a copy of the committed log, from which a broker can start.
//!
//! Only cleaning removes chunks from the log. So the store stops cleaning, and a thread copies the
//! present chunks, oldest to newest, while the store continues to work. The medium decides how it
//! writes the copy.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;

use super::Store;
use super::error::Error;
use super::medium::{Copier, Copy};

/// Why a backup failed. The store continues.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// Only one backup may run at a time.
    #[error("another backup is under way")]
    Busy,
    /// The folder cannot be used for a backup.
    #[error("cannot back up to {}: {reason}", folder.display())]
    Place {
        /// The requested folder.
        folder: PathBuf,
        /// The problem of the folder.
        reason: String,
    },
    /// The store is being closed, or its disk is nearly full and has to be cleaned.
    #[error("the backup was given up: the broker closes down, or its disk is nearly full")]
    GivenUp,
    /// Reading the log or writing the copy failed.
    #[error("the backup failed: {0}")]
    Failed(#[from] Error),
}

/// A running backup. Dropping this value cancels the backup and waits for its end.
#[derive(Debug)]
pub(super) struct Running {
    give_up: Arc<AtomicBool>,
    /// Set when the copy is complete or has failed, before anybody is told. Who was told may begin
    /// the next backup at once, although this thread still ends.
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Running {
    fn is_over(&self) -> bool {
        self.is_over.load(Ordering::SeqCst)
            || self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.give_up.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            // The thread has caught its own panic and reported it to the caller.
            let _ended = thread.join();
        }
    }
}

impl Store {
    /// Copies all committed records into the folder `target`, in a thread of its own. The folder
    /// must not exist, or must be empty. The thread calls `done` once, with the number of copied
    /// bytes; if the backup cannot begin, this call calls `done` at once.
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
        // The thread gets `done` only once it runs, so that this call still has `done` if the
        // thread cannot be started.
        let (sender, receiver) = mpsc::sync_channel::<D>(1);
        let is_over = Arc::new(AtomicBool::new(false));
        let over = is_over.clone();
        let run = move || {
            let outcome = run(copier, &target, log_bytes);
            over.store(true, Ordering::SeqCst);
            if let Ok(done) = receiver.recv() {
                done(outcome);
            }
        };
        match std::thread::Builder::new().name("backup".into()).spawn(run) {
            Ok(thread) => {
                self.backup = Some(Running { give_up, is_over, thread: Some(thread) });
                assert!(sender.send(done).is_ok(), "the thread waits for `done`");
            }
            Err(error) => done(Err(Error::io("start a thread for the backup")(error).into())),
        }
    }

    fn backup_is_running(&mut self) -> bool {
        if let Some(mut over) = self.backup.take_if(|running| running.is_over()) {
            // It only tells the outcome, for which the store has not to wait.
            drop(over.thread.take());
        }
        self.backup.is_some()
    }

    /// Whether a backup needs the present chunks. When the disk becomes low, the store cancels the
    /// backup, because serving comes first. A backup that is in the middle of its work then misses
    /// a chunk and ends.
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

/// Runs the copier, and logs the outcome.
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
