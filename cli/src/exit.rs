//! How a command ends: the exit codes, and the failures that carry one with a sentence.
//!
//! The codes are a contract with scripts: `deploy/README.md` and `celeriac --help` list them, tests
//! compare.

use std::io;
use std::process::ExitCode;

/// The outcome of a command, as the shell sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Done.
    Success,
    /// Something else went wrong; the sentence says what.
    Error,
    /// The command line, the environment or the configuration file is wrong.
    Usage,
    /// The broker cannot be reached or does not answer in time.
    Unreachable,
    /// There is no such task.
    NotFound,
    /// The task ended as FAILURE.
    Failed,
    /// The task was revoked.
    Revoked,
    /// The task has not ended, or not within the time given.
    Unfinished,
    /// `serve` could not take its address.
    Address,
    /// `serve` ended with the broker's own code.
    Broker(u8),
    /// There is no memory, or too little to begin with.
    Memory,
}

impl Exit {
    /// The number the shell sees.
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Success => 0,
            Self::Error => 1,
            Self::Usage => 2,
            Self::Unreachable => 3,
            Self::NotFound => 4,
            Self::Failed => 5,
            Self::Revoked => 6,
            Self::Unfinished => 7,
            Self::Address => 10,
            Self::Broker(code) => code,
            Self::Memory => 22,
        }
    }

    /// The more telling of two outcomes, for commands that handle several tasks: the first that is
    /// not a success.
    pub(crate) fn and(self, next: Self) -> Self {
        if self == Self::Success { next } else { self }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// Why a command stopped before its end.
#[derive(Debug)]
pub(crate) enum Failure {
    /// To be told on stderr in one sentence.
    Sentence { exit: Exit, sentence: String },
    /// Whoever read our output closed it. Not an error.
    ReaderGone,
}

impl Failure {
    /// A failure with the given exit code.
    pub(crate) fn new(exit: Exit, sentence: impl Into<String>) -> Self {
        Self::Sentence { exit, sentence: sentence.into() }
    }

    /// What has no code of its own.
    pub(crate) fn error(sentence: impl Into<String>) -> Self {
        Self::new(Exit::Error, sentence)
    }

    /// A mistake in flags, environment or file.
    pub(crate) fn usage(sentence: impl Into<String>) -> Self {
        Self::new(Exit::Usage, sentence)
    }
}

/// Only output is written with `?`; every other I/O has its own sentence.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::ReaderGone,
            _ => Self::error(format!("cannot write the output: {error}")),
        }
    }
}
