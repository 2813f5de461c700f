//! Errors as `application/problem+json` (RFC 9457), with the code of the protocol.

use std::time::Duration;

use axum::http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use celeriac_client::{Error, ErrorCode};
use celeriac_proto::code_name;
use serde::Serialize;
use utoipa::ToSchema;

use crate::time::whole_ms;

/// A sentence may repeat what a request has said, and that may be long.
const DETAIL_CHARACTERS_MAX: usize = 500;

/// Why a request was refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct Problem {
    /// The name of the status.
    title: &'static str,
    /// The status of the answer.
    status: u16,
    /// The code of the protocol, such as `not_found`.
    code: String,
    /// What went wrong, in one sentence.
    detail: String,
    /// Whether the same request may succeed later.
    retryable: bool,
    /// How long to wait before that, where it is known.
    retry_after_ms: Option<u64>,
}

impl Problem {
    pub(crate) fn new(code: ErrorCode, detail: impl Into<String>) -> Self {
        Self::with_status(status_of(code), code_name(code), detail)
    }

    fn with_status(status: StatusCode, code: impl Into<String>, detail: impl Into<String>) -> Self {
        let detail = detail.into();
        let detail = match detail.char_indices().nth(DETAIL_CHARACTERS_MAX) {
            Some((end, _)) => format!("{}…", &detail[..end]),
            None => detail,
        };
        Self {
            title: status.canonical_reason().unwrap_or("Error"),
            status: status.as_u16(),
            code: code.into(),
            detail,
            retryable: false,
            retry_after_ms: None,
        }
    }

    fn retryable(mut self, retryable: bool, after: Option<Duration>) -> Self {
        self.retryable = retryable;
        self.retry_after_ms = after.map(whole_ms);
        self
    }

    /// The request itself is wrong.
    pub(crate) fn invalid(detail: impl Into<String>) -> Self {
        Self::new(ErrorCode::InvalidArgument, detail)
    }

    /// The body or the request line cannot be read at all.
    pub(crate) fn malformed(detail: impl Into<String>) -> Self {
        Self::new(ErrorCode::Malformed, detail)
    }

    pub(crate) fn not_found(detail: impl Into<String>) -> Self {
        Self::new(ErrorCode::NotFound, detail)
    }

    pub(crate) fn unauthenticated(detail: impl Into<String>) -> Self {
        Self::new(ErrorCode::Unauthenticated, detail)
    }

    pub(crate) fn overloaded(detail: impl Into<String>) -> Self {
        Self::new(ErrorCode::Overloaded, detail).retryable(true, Some(Duration::from_secs(1)))
    }

    pub(crate) fn too_large(detail: impl Into<String>) -> Self {
        Self::new(ErrorCode::PayloadTooLarge, detail)
    }

    /// The path does not exist, or has no such method, or the like.
    pub(crate) fn of_http(status: StatusCode, detail: impl Into<String>) -> Self {
        let code = match status {
            StatusCode::NOT_FOUND => code_name(ErrorCode::NotFound),
            StatusCode::METHOD_NOT_ALLOWED => "method_not_allowed".to_owned(),
            StatusCode::UNSUPPORTED_MEDIA_TYPE => "unsupported_media_type".to_owned(),
            StatusCode::PAYLOAD_TOO_LARGE => code_name(ErrorCode::PayloadTooLarge),
            StatusCode::MISDIRECTED_REQUEST => "misdirected_request".to_owned(),
            StatusCode::REQUEST_TIMEOUT => code_name(ErrorCode::DeadlineExceeded),
            _ => code_name(ErrorCode::Malformed),
        };
        Self::with_status(status, code, detail)
    }

    pub(crate) fn status(&self) -> StatusCode {
        StatusCode::from_u16(self.status).unwrap_or(StatusCode::BAD_REQUEST)
    }

    /// What went wrong, in one sentence.
    pub(crate) fn detail(&self) -> &str {
        &self.detail
    }
}

/// The status of a code of the protocol.
fn status_of(code: ErrorCode) -> StatusCode {
    match code {
        ErrorCode::Malformed | ErrorCode::VersionMismatch => StatusCode::BAD_REQUEST,
        ErrorCode::Unauthenticated => StatusCode::UNAUTHORIZED,
        ErrorCode::Forbidden => StatusCode::FORBIDDEN,
        ErrorCode::NotFound => StatusCode::NOT_FOUND,
        ErrorCode::TaskExists | ErrorCode::NotFinished | ErrorCode::StaleLease => {
            StatusCode::CONFLICT
        }
        ErrorCode::FrameTooLarge | ErrorCode::PayloadTooLarge | ErrorCode::ResultTooLarge => {
            StatusCode::PAYLOAD_TOO_LARGE
        }
        ErrorCode::InvalidArgument => StatusCode::UNPROCESSABLE_ENTITY,
        ErrorCode::QueueFull | ErrorCode::Overloaded | ErrorCode::SlowConsumer => {
            StatusCode::TOO_MANY_REQUESTS
        }
        ErrorCode::DiskFull | ErrorCode::ShuttingDown | ErrorCode::SessionLost => {
            StatusCode::SERVICE_UNAVAILABLE
        }
        ErrorCode::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
        ErrorCode::Unsupported => StatusCode::NOT_IMPLEMENTED,
        ErrorCode::Handshake | ErrorCode::Internal | ErrorCode::Unspecified => {
            StatusCode::INTERNAL_SERVER_ERROR
        }
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        let (retryable, detail) = (error.is_retryable(), error.to_string());
        match error {
            Error::Refused { code, message, retry_after, .. } => {
                // Each answer that says "later" says when.
                let second = retryable.then_some(Duration::from_secs(1));
                Self::new(code, message).retryable(retryable, retry_after.or(second))
            }
            Error::Handshake { code, message, .. } => {
                Self::new(code, message).retryable(retryable, None)
            }
            Error::Connect { .. } | Error::Tls { .. } => {
                let status = StatusCode::SERVICE_UNAVAILABLE;
                Self::with_status(status, "unavailable", "the broker does not answer")
                    .retryable(true, Some(Duration::from_secs(1)))
            }
            Error::Timeout { .. } => {
                Self::new(ErrorCode::DeadlineExceeded, detail).retryable(true, None)
            }
            Error::NotFound { .. } => Self::not_found(detail),
            Error::NotFinished { .. } => Self::new(ErrorCode::NotFinished, detail),
            Error::Encode(_) => Self::invalid(detail),
            Error::Interrupted | Error::Closed => {
                Self::with_status(StatusCode::SERVICE_UNAVAILABLE, "interrupted", detail)
            }
            Error::Protocol(_) => Self::with_status(StatusCode::BAD_GATEWAY, "protocol", detail),
            _ => Self::new(ErrorCode::Internal, detail),
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = self.status();
        let body = serde_json::to_vec(&self).expect("a problem is JSON");
        let mut answer = (status, body).into_response();
        let headers = answer.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(after) = self.retry_after_ms {
            headers.insert(RETRY_AFTER, HeaderValue::from(after.div_ceil(1_000)));
        }
        answer
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn o28_each_code_has_the_status_of_its_kind() {
        use ErrorCode::*;
        for (code, status) in [
            (Unauthenticated, 401),
            (Forbidden, 403),
            (NotFound, 404),
            (TaskExists, 409),
            (PayloadTooLarge, 413),
            (InvalidArgument, 422),
            (QueueFull, 429),
            (Overloaded, 429),
            (DiskFull, 503),
            (ShuttingDown, 503),
        ] {
            assert_eq!(Problem::new(code, "").status().as_u16(), status, "{code:?}");
        }
    }

    #[test]
    fn a_sentence_repeats_no_long_text() {
        let detail = |text: &str| Problem::invalid(text).detail;
        assert_eq!(detail(&"ü".repeat(500)), "ü".repeat(500));
        assert_eq!(detail(&"ü".repeat(1_000_000)), "ü".repeat(500) + "…");
    }

    #[test]
    fn o28_an_answer_that_says_later_says_when() {
        let error = Error::Refused {
            code: ErrorCode::QueueFull,
            message: "full".to_owned(),
            retryable: true,
            retry_after: Some(Duration::from_millis(1_200)),
        };
        let answer = Problem::from(error).into_response();
        assert_eq!(answer.status(), 429);
        assert_eq!(answer.headers()[RETRY_AFTER], "2");
    }
}
