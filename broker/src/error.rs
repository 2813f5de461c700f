//! Why a broker ends other than by being asked, and the exit code of each reason.

use std::time::Duration;

use crate::config::ConfigError;

/// Why a broker ended other than by being asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// The configuration has a value that it may not have.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The data folder cannot be used, or no longer.
    #[error(transparent)]
    Store(#[from] celeriac_store::Error),
    /// The store's thread panicked; what it had confirmed is safe.
    #[error("the store's thread panicked")]
    StorePanicked,
    /// The disk did not take a commit in time.
    #[error("a commit took longer than {} s: the disk does not answer", .0.as_secs())]
    CommitTimeout(Duration),
    /// The operating system gave no thread.
    #[error("no thread for the store: {0}")]
    Thread(#[source] std::io::Error),
}

impl RunError {
    /// The end of a thread that panicked with the store in its hands. Where the disk is the cause,
    /// that is said.
    pub(crate) fn panicked() -> Self {
        celeriac_store::disk_failure().map_or(Self::StorePanicked, Self::Store)
    }

    /// A commit that does not end: the disk is slow, or failed inside the engine, whose threads
    /// then wait for each other.
    pub(crate) fn overdue(timeout: Duration) -> Self {
        celeriac_store::disk_failure().map_or(Self::CommitTimeout(timeout), Self::Store)
    }

    /// The exit code of a process that ends with this error. The store's own codes are in
    /// `celeriac_store::Error`.
    pub fn exit_code(&self) -> u8 {
        match self {
            RunError::Config(_) => 2,
            RunError::Store(error) => error.exit_code(),
            RunError::StorePanicked => 20,
            RunError::CommitTimeout(_) => 21,
            RunError::Thread(_) => 1,
        }
    }
}
