//! How a command ends: the exit codes, and the failures, each with an exit code and a sentence.
//!
//! Scripts rely on the codes. `deploy/README.md` and `celeriac --help` list them, and tests compare
//! these lists with the code.

use std::io;
use std::process::ExitCode;

/// The end of the help of every client command.
pub(crate) const EXIT_CODES: &str = "\
Exit codes:
  0  success
  1  any other error; stderr has the sentence
  2  wrong usage or configuration
  3  the broker cannot be reached, or it did not answer in time
  4  there is no such task, queue or worker
  5  the task ended as FAILURE
  6  the task was REVOKED
  7  the task has not ended, or not within the given time; or tasks of the
     queue, or of a drained broker, are running
  8  the broker does not accept the token, or needs one, or the token does
     not allow the request
  9  the broker refused for now, as for a full queue: the same command may
     succeed later
 22  the process gets no more memory
 23  a task with this id exists, and --on-conflict reject refuses the submit";

/// The outcome of a command, as the shell sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// The command did its work.
    Success,
    /// Any error without its own code. The sentence describes it.
    Error,
    /// The command line, the environment or the configuration file is wrong.
    Usage,
    /// The broker cannot be reached, or it did not answer in time.
    Unreachable,
    /// There is no such task, queue or worker.
    NotFound,
    /// The task ended as FAILURE.
    Failed,
    /// The task was revoked.
    Revoked,
    /// The task has not ended, or not within the given time.
    Unfinished,
    /// The token is missing or wrong, or does not allow the request.
    Token,
    /// The broker refused, and may not refuse later.
    Later,
    /// A task with the id exists, and the submit asked to be refused then.
    Exists,
    /// `serve` could not listen on its address.
    Address,
    /// The broker ended with this code.
    Broker(u8),
    /// The process got no more memory, or its limit is too low to start.
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
            Self::Token => 8,
            Self::Later => 9,
            Self::Address => 10,
            Self::Broker(code) => code,
            Self::Memory => 22,
            Self::Exists => 23,
        }
    }

    /// The outcome of two tasks together: the first outcome that is not a success.
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
    /// An error. Stderr gets the sentence.
    Sentence { exit: Exit, sentence: String },
    /// The reader of the output closed it. This is not an error.
    ReaderGone,
}

impl Failure {
    /// A failure with the given exit code.
    pub(crate) fn new(exit: Exit, sentence: impl Into<String>) -> Self {
        Self::Sentence { exit, sentence: sentence.into() }
    }

    /// A failure without its own exit code.
    pub(crate) fn error(sentence: impl Into<String>) -> Self {
        Self::new(Exit::Error, sentence)
    }

    /// A mistake in a flag, the environment or the configuration file.
    pub(crate) fn usage(sentence: impl Into<String>) -> Self {
        Self::new(Exit::Usage, sentence)
    }
}

/// Commands use `?` on an I/O error only where they write their output. All other I/O errors have
/// their own sentence.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::ReaderGone,
            _ => Self::error(format!("cannot write the output: {error}")),
        }
    }
}
