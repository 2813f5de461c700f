//! Frames of the broker: at least one frame for each kind of body. The names follow the transcripts
//! of PROTOCOL.md.

mod admin;
mod chords;
mod mail;
mod outcomes;
mod pushed;
mod refusals;
mod stats;
mod tasks;

use celeriac_proto::limits;
use celeriac_proto::wire::server_frame::Body;
use celeriac_proto::wire::{
    CancelOutcome, CancelReply, Done, Error, ErrorCode, ForgetReply, HeartbeatReply, Limits,
    ReportOutcome, ReportReply, ServerFrame, SubmitOutcome, SubmitReply, TaskState, Welcome,
    cancel_outcome, submit_outcome,
};

use crate::client::ID;
use crate::{NOW_MS, SESSION, Vector};

fn vector(
    name: &'static str,
    about: &'static str,
    request_id: u64,
    body: Body,
) -> Vector<ServerFrame> {
    Vector { name, about, frame: ServerFrame { request_id, body: Some(body) } }
}

pub(crate) fn vectors() -> Vec<Vector<ServerFrame>> {
    let tasks = [tasks::looking(), tasks::waiting(), tasks::transitions(), tasks::changes()];
    let workers = [pushed::pushed(), pushed::told(), outcomes::outcomes(), chords::chords()];
    let parts = [connection(), refusals::refusals(), answers()].into_iter().chain(tasks);
    let others =
        [admin::admin(), admin::settings(), stats::stats(), mail::mailboxes(), mail::bindings()];
    parts.chain(others).chain(workers).flatten().collect()
}

fn error(code: ErrorCode, message: &str, retry_after_ms: Option<u64>) -> Error {
    Error {
        code: code.into(),
        message: message.into(),
        retryable: retry_after_ms.is_some(),
        retry_after_ms: retry_after_ms.unwrap_or(0),
    }
}

fn welcome() -> Welcome {
    Welcome {
        protocol: 1,
        server_name: "celeriac".into(),
        server_version: "0.1.0".into(),
        session_id: SESSION.into(),
        resumed: false,
        heartbeat_ms: 5_000,
        lease_ms: 15_000,
        server_time_ms: NOW_MS,
        limits: Some(usual_limits()),
        features: Vec::new(),
        leases: Vec::new(),
    }
}

fn usual_limits() -> Limits {
    Limits {
        frame_bytes_max: limits::FRAME_BYTES_MAX as u64,
        payload_bytes_max: limits::PAYLOAD_BYTES_MAX as u64,
        result_bytes_max: limits::RESULT_BYTES_MAX as u64,
        batch_items_max: 10_000,
        requests_in_flight_max: 1_024,
        credit_max: limits::CREDIT_MAX,
    }
}

fn connection() -> Vec<Vector<ServerFrame>> {
    let resumed = Welcome { resumed: true, leases: vec![42], ..welcome() };
    let wrong_token = error(ErrorCode::Unauthenticated, "the token is wrong", None);
    let malformed = error(ErrorCode::Malformed, "a frame of length 0", None);
    let headers = "this broker has no exchanges that compare headers: use direct, topic or fanout";
    let unsupported = error(ErrorCode::Unsupported, headers, None);
    let full =
        error(ErrorCode::QueueFull, "queue \"songs\" holds 1000000 tasks, its limit", Some(1_000));
    vec![
        vector("welcome/new", "A session begins.", 1, Body::Welcome(welcome())),
        vector(
            "welcome/resumed",
            "The session was still there, with one lease.",
            1,
            Body::Welcome(resumed),
        ),
        vector(
            "error/unauthenticated",
            "In place of Welcome; the broker closes.",
            1,
            Body::Error(wrong_token),
        ),
        vector(
            "error/malformed",
            "The broker could not read a frame and closes.",
            0,
            Body::Error(malformed),
        ),
        vector("error/unsupported", "The connection stays open.", 2, Body::Error(unsupported)),
        vector("error/queue-full", "Worth another try after a second.", 3, Body::Error(full)),
        vector("done", "It was carried out.", 2, Body::Done(Done {})),
        vector("done/goodbye", "The leases went back; the broker closes.", 9, Body::Done(Done {})),
        vector(
            "heartbeat-reply",
            "The answer to a heartbeat.",
            7,
            Body::HeartbeatReply(HeartbeatReply { server_time_ms: NOW_MS }),
        ),
        vector(
            "heartbeat-reply/unasked",
            "A long frame of the client is coming in; its heartbeats wait behind that.",
            0,
            Body::HeartbeatReply(HeartbeatReply { server_time_ms: NOW_MS + 5_000 }),
        ),
    ]
}

fn submitted(kind: submit_outcome::Kind, generation: u32) -> SubmitOutcome {
    SubmitOutcome {
        kind: kind.into(),
        generation,
        state: TaskState::Queued.into(),
        ..SubmitOutcome::default()
    }
}

fn submits() -> Vec<Vector<ServerFrame>> {
    let refused = SubmitOutcome {
        kind: submit_outcome::Kind::Refused.into(),
        error: Some(error(ErrorCode::InvalidArgument, "a task name must not be empty", None)),
        ..SubmitOutcome::default()
    };
    let joined = submitted(submit_outcome::Kind::Joined, 1);
    let outcomes = vec![joined, refused];
    let again = vec![submitted(submit_outcome::Kind::NewGeneration, 2)];
    let beside = vec![SubmitOutcome {
        id: format!("{ID}~b7a91e"),
        ..submitted(submit_outcome::Kind::Created, 1)
    }];
    vec![
        vector(
            "submit-reply/created",
            "It is on disk and waits for a worker.",
            2,
            Body::SubmitReply(SubmitReply {
                outcomes: vec![submitted(submit_outcome::Kind::Created, 1)],
            }),
        ),
        vector(
            "submit-reply/joined-and-refused",
            "The first task was there already and goes on, the second is refused.",
            5,
            Body::SubmitReply(SubmitReply { outcomes }),
        ),
        vector(
            "submit-reply/new-generation",
            "The id had ended before and runs again.",
            3,
            Body::SubmitReply(SubmitReply { outcomes: again }),
        ),
        vector(
            "submit-reply/beside",
            "The id has an unfinished task; this one runs beside it.",
            9,
            Body::SubmitReply(SubmitReply { outcomes: beside }),
        ),
    ]
}

fn answers() -> Vec<Vector<ServerFrame>> {
    let cancelled =
        |id: &str, kind: cancel_outcome::Kind| CancelOutcome { id: id.into(), kind: kind.into() };
    let outcomes = vec![
        cancelled(ID, cancel_outcome::Kind::Signalled),
        cancelled("user-0000", cancel_outcome::Kind::NotFound),
    ];
    let over = vec![
        cancelled(ID, cancel_outcome::Kind::Revoked),
        cancelled("user-0000", cancel_outcome::Kind::AlreadyEnded),
        cancelled("user-0001", cancel_outcome::Kind::LeftRunning),
    ];
    let reported = |code: ErrorCode, state: TaskState| ReportOutcome {
        code: code.into(),
        state: state.into(),
    };
    let accepted = |state| vec![reported(ErrorCode::Unspecified, state)];
    let stale = vec![
        reported(ErrorCode::Unspecified, TaskState::Success),
        reported(ErrorCode::StaleLease, TaskState::Queued),
    ];
    let mut all = submits();
    all.extend([
        vector(
            "cancel-reply",
            "One runs, one is not there.",
            6,
            Body::CancelReply(CancelReply { outcomes }),
        ),
        vector(
            "cancel-reply/nothing-runs",
            "One waited and is REVOKED, one had ended.",
            6,
            Body::CancelReply(CancelReply { outcomes: over }),
        ),
        vector(
            "forget-reply",
            "Dropped, not ended yet, not there.",
            8,
            Body::ForgetReply(ForgetReply {
                outcomes: vec![
                    ErrorCode::Unspecified.into(),
                    ErrorCode::NotFinished.into(),
                    ErrorCode::NotFound.into(),
                ],
            }),
        ),
        vector(
            "report-reply/started",
            "The report counts.",
            3,
            Body::ReportReply(ReportReply { outcomes: accepted(TaskState::Started) }),
        ),
        vector(
            "report-reply/success",
            "The result is on disk.",
            5,
            Body::ReportReply(ReportReply { outcomes: accepted(TaskState::Success) }),
        ),
        vector(
            "report-reply/stale",
            "The second lease was no longer the task's.",
            7,
            Body::ReportReply(ReportReply { outcomes: stale }),
        ),
    ]);
    all
}
