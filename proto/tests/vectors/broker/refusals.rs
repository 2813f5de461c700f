//! How the broker refuses: as the answer to a request, as the outcome of one item, and to a
//! connection. The sentences are those of this broker; programs look at the code and at
//! `retryable`.

use celeriac_proto::wire::server_frame::Body;
use celeriac_proto::wire::{
    ErrorCode, ReportOutcome, ReportReply, ServerFrame, SubmitOutcome, SubmitReply, TaskState,
    submit_outcome,
};

use super::{error, vector};
use crate::Vector;

fn refused(
    name: &'static str,
    about: &'static str,
    request_id: u64,
    code: ErrorCode,
    message: &str,
) -> Vector<ServerFrame> {
    vector(name, about, request_id, Body::Error(error(code, message, None)))
}

fn retryable(
    name: &'static str,
    about: &'static str,
    request_id: u64,
    code: ErrorCode,
    message: &str,
) -> Vector<ServerFrame> {
    vector(name, about, request_id, Body::Error(error(code, message, Some(0))))
}

pub(super) fn refusals() -> Vec<Vector<ServerFrame>> {
    [handshakes(), framing(), requests(), items()].into_iter().flatten().collect()
}

/// In place of Welcome; the broker closes after each.
fn handshakes() -> Vec<Vector<ServerFrame>> {
    vec![
        refused(
            "error/version-mismatch",
            "No version is spoken by both sides; the broker closes.",
            1,
            ErrorCode::VersionMismatch,
            "this broker speaks version 1",
        ),
        refused(
            "error/handshake",
            "The first frame was not Hello; the broker closes.",
            1,
            ErrorCode::Handshake,
            "the first frame has to be Hello",
        ),
        refused(
            "error/handshake-late",
            "Hello did not come in time; the broker closes.",
            0,
            ErrorCode::Handshake,
            "no Hello came in time",
        ),
        retryable(
            "error/overloaded-connections",
            "There is no room for one more connection; the broker closes.",
            1,
            ErrorCode::Overloaded,
            "there are as many connections as allowed",
        ),
    ]
}

fn framing() -> Vec<Vector<ServerFrame>> {
    vec![
        refused(
            "error/frame-too-large",
            "A client announced a frame over the limit; the broker closes.",
            0,
            ErrorCode::FrameTooLarge,
            "a frame of 16777217 bytes, and 16777216 are allowed",
        ),
        retryable(
            "error/overloaded-slow-frame",
            "A long frame came too slowly while others waited; the broker closes.",
            0,
            ErrorCode::Overloaded,
            "a long frame came too slowly while others waited for its room",
        ),
    ]
}

fn requests() -> Vec<Vector<ServerFrame>> {
    vec![
        refused(
            "error/second-hello",
            "Hello came twice; the connection stays open.",
            2,
            ErrorCode::Handshake,
            "Hello comes once",
        ),
        refused(
            "error/not-found",
            "The answer to an Unwatch of a watch that is not there.",
            5,
            ErrorCode::NotFound,
            "there is no such watch",
        ),
        retryable(
            "error/not-finished",
            "The answer to a DeleteQueue while a task of the queue runs.",
            6,
            ErrorCode::NotFinished,
            "tasks of the queue `songs` are running",
        ),
        retryable(
            "error/overloaded",
            "The answer to a Get while earlier answers are not read; the connection stays open.",
            4,
            ErrorCode::Overloaded,
            "earlier answers to this connection were not read yet: read them, and ask again",
        ),
        retryable(
            "error/internal",
            "The answer to a Backup that met a failing disk; the connection stays open.",
            12,
            ErrorCode::Internal,
            "the backup failed: Input/output error (os error 5)",
        ),
    ]
}

fn items() -> Vec<Vector<ServerFrame>> {
    let refused = |code, message, retry_after_ms| SubmitOutcome {
        kind: submit_outcome::Kind::Refused.into(),
        error: Some(error(code, message, retry_after_ms)),
        ..SubmitOutcome::default()
    };
    let exists = refused(ErrorCode::TaskExists, "a task of this id exists", None);
    let payload = refused(
        ErrorCode::PayloadTooLarge,
        "the payload has 8388609 bytes, and 8388608 are allowed",
        None,
    );
    let queue = refused(ErrorCode::QueueFull, "the queue `songs` is full", Some(1_000));
    let disk = refused(ErrorCode::DiskFull, "the broker's disk is nearly full", Some(1_000));
    let result =
        ReportOutcome { code: ErrorCode::ResultTooLarge.into(), state: TaskState::Failure.into() };
    vec![
        vector(
            "submit-reply/refused",
            "An id that exists, a payload over the limit, a full queue; the first two will be refused again.",
            5,
            Body::SubmitReply(SubmitReply { outcomes: vec![exists, payload, queue] }),
        ),
        vector(
            "submit-reply/disk-full",
            "The broker takes no new tasks for now; the same submit may be tried after a second.",
            2,
            Body::SubmitReply(SubmitReply { outcomes: vec![disk] }),
        ),
        vector(
            "report-reply/result-too-large",
            "The task has ended as FAILURE, and the report is settled.",
            5,
            Body::ReportReply(ReportReply { outcomes: vec![result] }),
        ),
    ]
}
