//! What can go wrong for a caller, by stage: reaching the broker, being let in, asking, waiting,
//! and what the task itself said. Each error says in [`Error::is_retryable`] whether the same call
//! may succeed later. No recovery is done here.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use celeriac_proto::wire;

use crate::info::State;
use crate::url::InvalidUrl;

pub use celeriac_proto::wire::ErrorCode;

/// Why a call failed.
///
/// Cloneable, because one lost connection or one refused handshake is the answer to many callers at
/// once.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The address of the broker cannot be read.
    #[error("the broker's address cannot be used: {0}")]
    Url(#[from] InvalidUrl),

    /// Nobody answers at the broker's address. Only the first connect says so; later the client
    /// tries again on its own.
    #[error("no connection to a broker at {address}: {source}")]
    Connect {
        /// The host and port that were tried. A host that cannot be found is not named: it may be
        /// a token whose host was forgotten.
        address: String,
        /// What the operating system said.
        source: Arc<io::Error>,
    },

    /// Somebody answers and does not let this client in, or is no broker at all.
    #[error("the broker did not accept this client: {message}")]
    Handshake {
        /// The broker's reason; `Unspecified` when the other side does not speak the protocol.
        code: ErrorCode,
        /// One sentence.
        message: String,
        /// Another attempt may succeed without anything being changed.
        retryable: bool,
    },

    /// The broker, or a check of its limits in this client, says no to one request.
    #[error("refused ({}): {message}", code_name(*.code))]
    Refused {
        /// The reason, as the protocol names it.
        code: ErrorCode,
        /// One sentence.
        message: String,
        /// The same request may succeed later.
        retryable: bool,
        /// Not sooner than this, where the broker can tell.
        retry_after: Option<Duration>,
    },

    /// No answer came in time. A submit may nevertheless have been accepted: submit it again under
    /// the same id.
    #[error("no answer within {}{}", rounded(*.after), because(.trouble))]
    Timeout {
        /// The time that was given.
        after: Duration,
        /// What kept the connection from working at the end of it, if anything did.
        trouble: Option<String>,
    },

    /// The broker answered: the task has not ended in the time that was given to wait for it.
    #[error("task {id} has not ended within {}: it is {state}", rounded(*.after))]
    NotFinished {
        /// The task.
        id: String,
        /// How it stands.
        state: State,
        /// The time that was given.
        after: Duration,
    },

    /// The connection broke before the answer to a request that must not be sent twice. It may have
    /// been carried out.
    #[error("the connection broke before the answer came; the request may have been carried out")]
    Interrupted,

    /// This client was closed.
    #[error("the client is closed")]
    Closed,

    /// An argument of the task cannot be written as the payload's format wants it.
    #[error("the task's arguments cannot be encoded: {0}")]
    Encode(String),

    /// A result is there, and is not of the type that was asked for.
    #[error("the result of {id} is not what was expected: {message}")]
    Decode {
        /// The task.
        id: String,
        /// What the decoder said.
        message: String,
    },

    /// The task ended as FAILURE: this is its last error.
    #[error("task {id} failed: {kind}: {message}")]
    TaskFailed {
        /// The task.
        id: String,
        /// The kind of error, e.g. `ValueError`, `panic`, `time_limit`, `worker_lost`.
        kind: String,
        /// The handler's message.
        message: String,
        /// Where it happened, as text; may be empty.
        traceback: String,
        /// How often the handler ran.
        attempts: u32,
    },

    /// The task was cancelled, replaced, or expired before it ended.
    #[error("task {id} was revoked: {reason}")]
    TaskRevoked {
        /// The task.
        id: String,
        /// E.g. `expired` or `cancelled`.
        reason: String,
    },

    /// The broker knows no task of this id: never submitted, or dropped after its time.
    #[error("no task {id}")]
    NotFound {
        /// The id that was asked for.
        id: String,
    },

    /// The broker answered with something that does not answer the request. A fault of one of the
    /// two programs.
    #[error("the broker broke the protocol: {0}")]
    Protocol(String),
}

impl Error {
    /// True when the same call may succeed later without anything being changed.
    pub fn is_retryable(&self) -> bool {
        match self {
            Error::Connect { .. } | Error::Timeout { .. } | Error::NotFinished { .. } => true,
            Error::Handshake { retryable, .. } | Error::Refused { retryable, .. } => *retryable,
            _ => false,
        }
    }

    /// A refusal made by this client, before anything is sent.
    pub(crate) fn refused(code: ErrorCode, message: impl Into<String>) -> Self {
        Error::Refused { code, message: message.into(), retryable: false, retry_after: None }
    }

    /// An answer of a kind that the request does not have.
    pub(crate) fn unexpected(wanted: &str) -> Self {
        Error::Protocol(format!("an answer that is not {wanted}"))
    }
}

impl From<wire::Error> for Error {
    fn from(error: wire::Error) -> Self {
        Refusal::from(error).into()
    }
}

/// Why one item of a batch was not accepted. The rest of the batch is not touched by it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("refused ({}): {message}", code_name(*.code))]
#[non_exhaustive]
pub struct Refusal {
    /// The reason, as the protocol names it.
    pub code: ErrorCode,
    /// One sentence.
    pub message: String,
    /// The same item may be accepted later.
    pub retryable: bool,
    /// Not sooner than this, where the broker can tell.
    pub retry_after: Option<Duration>,
}

impl Refusal {
    /// A refusal made by this client, before anything is sent.
    pub(crate) fn local(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), retryable: false, retry_after: None }
    }

    /// How an error that ended a whole request looks to one item of it.
    pub(crate) fn from_error(error: &Error) -> Self {
        match error {
            Error::Refused { code, message, retryable, retry_after } => Self {
                code: *code,
                message: message.clone(),
                retryable: *retryable,
                retry_after: *retry_after,
            },
            Error::Timeout { .. } => Self {
                retryable: true,
                ..Self::local(ErrorCode::DeadlineExceeded, error.to_string())
            },
            Error::Encode(_) => Self::local(ErrorCode::InvalidArgument, error.to_string()),
            _ => Self {
                retryable: error.is_retryable(),
                ..Self::local(ErrorCode::Unspecified, error.to_string())
            },
        }
    }
}

impl From<wire::Error> for Refusal {
    fn from(error: wire::Error) -> Self {
        let code = error.code();
        let retry_after =
            (error.retry_after_ms > 0).then(|| Duration::from_millis(error.retry_after_ms));
        Self { code, message: error.message, retryable: error.retryable, retry_after }
    }
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        let Refusal { code, message, retryable, retry_after } = refusal;
        Error::Refused { code, message, retryable, retry_after }
    }
}

/// The code as PROTOCOL.md's prose writes it: `queue_full`.
fn code_name(code: ErrorCode) -> String {
    code.as_str_name().trim_start_matches("ERROR_CODE_").to_ascii_lowercase()
}

/// To the millisecond: what was left of a time limit has all digits of the clock.
fn rounded(after: Duration) -> String {
    match u64::try_from(after.as_millis()) {
        Ok(millis) if millis > 0 => format!(
            "{:?}",
            Duration::from_millis(
                millis.saturating_add(u64::from(after.subsec_micros() % 1000 >= 500))
            )
        ),
        _ => format!("{after:?}"),
    }
}

fn because(trouble: &Option<String>) -> String {
    trouble.as_ref().map(|trouble| format!(" ({trouble})")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_names_its_code_as_the_protocol_does() {
        let error = Error::refused(ErrorCode::QueueFull, "the queue songs is full");
        assert_eq!(error.to_string(), "refused (queue_full): the queue songs is full");
    }

    #[test]
    fn a_timeout_says_what_was_wrong_with_the_connection() {
        let error = Error::Timeout {
            after: Duration::from_nanos(999_999_372),
            trouble: Some("connection refused".into()),
        };
        assert_eq!(error.to_string(), "no answer within 1s (connection refused)");
        assert!(error.is_retryable());
    }
}
