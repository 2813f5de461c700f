//! The errors that end a broker, and the exit code of each.

use std::time::Duration;

use crate::access::AccessError;
use crate::config::ConfigError;
use crate::tls::TlsError;

/// The error that ended a broker. A broker that was asked to end has no error.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// The configuration has a value that is not allowed.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A file of TLS cannot be used: a certificate, a key, or the CA of the clients.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The access file cannot be used, or the audit file.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// The data folder cannot be used, or can no longer be used.
    #[error(transparent)]
    Store(#[from] celeriac_store::Error),
    /// The store's thread panicked. Everything that the broker confirmed is safe.
    #[error("the store's thread panicked")]
    StorePanicked,
    /// A commit took longer than the configuration allows.
    #[error("a commit took longer than {} s: the disk does not answer", .0.as_secs())]
    CommitTimeout(Duration),
    /// The operating system could not start a thread.
    #[error("no thread for the store: {0}")]
    Thread(#[source] std::io::Error),
}

impl RunError {
    /// The error for a store's thread that panicked. Where the disk is the cause, the error says
    /// so.
    pub(crate) fn panicked() -> Self {
        celeriac_store::disk_failure().map_or(Self::StorePanicked, Self::Store)
    }

    /// The error for a commit that does not end: the disk is slow, or the disk failed inside the
    /// engine, whose threads then wait for each other.
    pub(crate) fn overdue(timeout: Duration) -> Self {
        celeriac_store::disk_failure().map_or(Self::CommitTimeout(timeout), Self::Store)
    }

    /// The exit code of a process that ends with this error. The store's own codes are in
    /// `celeriac_store::Error`.
    pub fn exit_code(&self) -> u8 {
        match self {
            RunError::Config(_) | RunError::Tls(_) | RunError::Access(_) => 2,
            RunError::Store(error) => error.exit_code(),
            RunError::StorePanicked => 20,
            RunError::CommitTimeout(_) => 21,
            RunError::Thread(_) => 1,
        }
    }
}
