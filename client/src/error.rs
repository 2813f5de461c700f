//! The errors of a caller, by stage: connecting, handshake, request, wait, and the failure of the
//! task itself. [`Error::is_retryable`] says of each error whether the same call may succeed later.
//! Nothing is retried here.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use celeriac_proto::{code_name, wire};

use crate::info::State;
use crate::token_file::shown;
use crate::url::InvalidUrl;

pub use celeriac_proto::wire::ErrorCode;

/// Why a call failed.
///
/// An error can be cloned, because one lost connection or one refused handshake ends the calls of
/// many callers.
///
/// ```no_run
/// use std::time::Duration;
///
/// use celeriac_client::{Error, TaskHandle};
///
/// # async fn example(handle: TaskHandle<u64>) -> Result<(), Error> {
/// match handle.get(Duration::from_secs(1)).await {
///     Ok(value) => println!("{value}"),
///     Err(Error::NotFinished { state, .. }) => println!("it is still {state}"),
///     Err(Error::TaskFailed { kind, message, .. }) => println!("{kind}: {message}"),
///     Err(error) => return Err(error),
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The address of the broker cannot be read.
    #[error("the broker's address cannot be used: {0}")]
    Url(#[from] InvalidUrl),

    /// No broker answers at the address. Only the first connect reports this; later the client
    /// tries again by itself.
    #[error("no connection to a broker at {address}: {source}")]
    Connect {
        /// The host and port that were tried. The error does not name a host that cannot be found:
        /// it may be a token whose host was forgotten.
        address: String,
        /// The error of the operating system.
        source: Arc<io::Error>,
    },

    /// The token file cannot be read, or holds no token. Only the first connect reports this; later
    /// the client uses the token that it read last.
    #[error("the token file{shown} cannot be used: {source}", shown = shown(.path))]
    TokenFile {
        /// The path of the file. The sentence does not show what may be the token itself.
        path: PathBuf,
        /// What is wrong with it.
        source: Arc<io::Error>,
    },

    /// There is no connection with TLS, or the broker wants one and the address says
    /// `celeriac://`. An open connection that breaks is opened again in spite of this error.
    #[error("{}{message}", at(.address))]
    Tls {
        /// The host and port that were tried; `None` when nothing was tried.
        address: Option<String>,
        /// What has to be changed.
        reason: TlsReason,
        /// The reason in one sentence.
        message: String,
    },

    /// The broker does not accept this client, or the program that answers is no broker.
    #[error("{}{message}", who_refused(*.code))]
    Handshake {
        /// The broker's reason; `Unspecified` when the other program does not speak the protocol.
        code: ErrorCode,
        /// The reason in one sentence.
        message: String,
        /// Whether another attempt may succeed without any change.
        retryable: bool,
    },

    /// The broker, or a check of its limits in this client, refuses one request.
    #[error("refused ({}): {message}", code_name(*.code))]
    Refused {
        /// The reason, as the protocol names it.
        code: ErrorCode,
        /// The reason in one sentence.
        message: String,
        /// Whether the same request may succeed later.
        retryable: bool,
        /// How long to wait before that, where the broker knows it.
        retry_after: Option<Duration>,
    },

    /// No answer came in time. The broker may have accepted a submit nevertheless: submit a clone
    /// of the submission again, under the same id.
    #[error("no answer within {}{}", rounded(*.after), because(.trouble))]
    Timeout {
        /// The time limit of the request.
        after: Duration,
        /// Why there was no connection at the end of that time, if there was none.
        trouble: Option<String>,
    },

    /// The broker answered that the task has not ended within the time limit of the wait.
    #[error("task {id} has not ended within {}: it is {state}", rounded(*.after))]
    NotFinished {
        /// The id of the task.
        id: String,
        /// The state of the task.
        state: State,
        /// The time limit of the wait.
        after: Duration,
    },

    /// The connection broke before the answer to a request that must not be sent twice. The broker
    /// may have carried it out: look before you repeat it.
    #[error("the connection broke before the answer came; the request may have been carried out")]
    Interrupted,

    /// This client was closed.
    #[error("the client is closed")]
    Closed,

    /// The arguments of the task cannot be written in the format of the payload.
    #[error("the task's arguments cannot be encoded: {0}")]
    Encode(String),

    /// The task has a result, and it is not of the expected type.
    #[error("the result of {id} is not what was expected: {message}")]
    Decode {
        /// The id of the task.
        id: String,
        /// The message of the decoder.
        message: String,
    },

    /// The task ended as FAILURE. This is its last error.
    #[error("task {id} failed: {kind}: {message}")]
    TaskFailed {
        /// The id of the task.
        id: String,
        /// The kind of error, for example `ValueError`, `panic`, `time_limit` or `worker_lost`.
        kind: String,
        /// The handler's message.
        message: String,
        /// The traceback, as text; may be empty.
        traceback: String,
        /// The number of runs of the handler.
        attempts: u32,
    },

    /// The task was cancelled, replaced, or expired before it ended.
    #[error("task {id} was revoked: {reason}")]
    TaskRevoked {
        /// The id of the task.
        id: String,
        /// The reason, for example `expired` or `cancelled`.
        reason: String,
    },

    /// The broker knows no task of this id: it was never submitted, or was dropped after its time.
    #[error("no task {id}")]
    NotFound {
        /// The id of the request.
        id: String,
    },

    /// The broker's answer does not fit the request. One of the two programs has a bug.
    #[error("the broker broke the protocol: {0}")]
    Protocol(String),
}

/// Why there is no connection with TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum TlsReason {
    /// A file of this client cannot be used: its CA, its certificate, or its key.
    Files,
    /// This client does not trust the broker's certificate: its CA is unknown, it has another name
    /// than the address, or it has expired.
    BrokerCertificate,
    /// The broker does not accept the certificate of this client, or needs one.
    ClientCertificate,
    /// One of the two sides speaks TLS and the other one does not, or another version of it.
    Protocol,
}

impl Error {
    /// True when the same call may succeed later without any change.
    ///
    /// A call that failed with a retryable error may be repeated as it is. For a submit, repeat a
    /// clone of the same submission, so that the task keeps its id.
    pub fn is_retryable(&self) -> bool {
        match self {
            Error::Connect { .. } | Error::Timeout { .. } | Error::NotFinished { .. } => true,
            Error::Handshake { retryable, .. } | Error::Refused { retryable, .. } => *retryable,
            _ => false,
        }
    }

    /// A refusal by this client. Nothing was sent.
    pub(crate) fn refused(code: ErrorCode, message: impl Into<String>) -> Self {
        Error::Refused { code, message: message.into(), retryable: false, retry_after: None }
    }

    /// The broker sent an answer of another kind than `wanted`.
    pub(crate) fn unexpected(wanted: &str) -> Self {
        Error::Protocol(format!("an answer that is not {wanted}"))
    }
}

impl From<wire::Error> for Error {
    fn from(error: wire::Error) -> Self {
        Refusal::from(error).into()
    }
}

/// Why one item of a batch was not accepted. The other items of the batch are not affected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("refused ({}): {message}", code_name(*.code))]
#[non_exhaustive]
pub struct Refusal {
    /// The reason, as the protocol names it.
    pub code: ErrorCode,
    /// The reason in one sentence.
    pub message: String,
    /// Whether the same item may be accepted later.
    pub retryable: bool,
    /// How long to wait before that, where the broker knows it.
    pub retry_after: Option<Duration>,
}

impl Refusal {
    /// A refusal by this client. Nothing was sent.
    pub(crate) fn local(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), retryable: false, retry_after: None }
    }

    /// The refusal of one item, made of the error that ended the whole request.
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

/// The beginning of the sentence about a connection with TLS.
fn at(address: &Option<String>) -> String {
    match address {
        Some(address) => format!("no connection to a broker at {address}: "),
        None => String::new(),
    }
}

/// The beginning of the sentence about a handshake that failed. Of a program that is no broker the
/// message says everything.
fn who_refused(code: ErrorCode) -> &'static str {
    match code {
        ErrorCode::Unspecified => "",
        _ => "the broker did not accept this client: ",
    }
}

/// Rounds to the millisecond: the rest of a time limit would show all digits of the clock.
pub(crate) fn rounded(after: Duration) -> String {
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

/// The trouble in brackets, for the end of a sentence.
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
