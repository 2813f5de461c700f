//! What the broker says: at least one frame for each kind of body. The names follow the transcripts of PROTOCOL.md.

use bytes::Bytes;
use celeriac_proto::limits;
use celeriac_proto::wire::server_frame::Body;
use celeriac_proto::wire::{
    BackupReply, CancelOutcome, CancelReply, CancelSignal, Closing, CountReply, Deliver, Delivery, Done, Error,
    ErrorCode, ForgetReply, GetReply, HeartbeatReply, Limits, Order, Progress, QueueInfo, QueueList, QueueSettings,
    ReportOutcome, ReportReply, ServerFrame, SubmitOutcome, SubmitReply, TaskError, TaskInfo, TaskPage, TaskState,
    TopicMessage, Transition, WaitReply, WaitingFor, WatchReply, Welcome, WorkerList, WorkerStatus, cancel_outcome,
    cancel_signal, order, submit_outcome,
};

use crate::client::ID;
use crate::{HOUR_MS, NOW_MS, SESSION, Vector};

fn vector(name: &'static str, about: &'static str, request_id: u64, body: Body) -> Vector<ServerFrame> {
    Vector { name, about, frame: ServerFrame { request_id, body: Some(body) } }
}

pub(crate) fn vectors() -> Vec<Vector<ServerFrame>> {
    [connection(), answers(), looking(), transitions(), admin(), pushed()].into_iter().flatten().collect()
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
        limits: Some(Limits {
            frame_bytes_max: limits::FRAME_BYTES_MAX as u64,
            payload_bytes_max: limits::PAYLOAD_BYTES_MAX as u64,
            result_bytes_max: limits::RESULT_BYTES_MAX as u64,
            batch_items_max: 10_000,
            requests_in_flight_max: 1_024,
            credit_max: limits::CREDIT_MAX,
        }),
        features: Vec::new(),
        leases: Vec::new(),
    }
}

fn connection() -> Vec<Vector<ServerFrame>> {
    let resumed = Welcome { resumed: true, leases: vec![42], ..welcome() };
    let wrong_token = error(ErrorCode::Unauthenticated, "the token is wrong", None);
    let malformed = error(ErrorCode::Malformed, "a frame of length 0", None);
    let topics = error(ErrorCode::Unsupported, "topics are not offered by this broker", None);
    let full = error(ErrorCode::QueueFull, "queue \"songs\" holds 1000000 tasks, its limit", Some(1_000));
    vec![
        vector("welcome/new", "A session begins.", 1, Body::Welcome(welcome())),
        vector("welcome/resumed", "The session was still there, with one lease.", 1, Body::Welcome(resumed)),
        vector("error/unauthenticated", "In place of Welcome; the broker closes.", 1, Body::Error(wrong_token)),
        vector("error/malformed", "The broker could not read a frame and closes.", 0, Body::Error(malformed)),
        vector("error/unsupported", "The connection stays open.", 2, Body::Error(topics)),
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
    SubmitOutcome { kind: kind.into(), generation, state: TaskState::Queued.into(), error: None }
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
    vec![
        vector(
            "submit-reply/created",
            "It is on disk and waits for a worker.",
            2,
            Body::SubmitReply(SubmitReply { outcomes: vec![submitted(submit_outcome::Kind::Created, 1)] }),
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
    ]
}

fn answers() -> Vec<Vector<ServerFrame>> {
    let cancelled = |id: &str, kind: cancel_outcome::Kind| CancelOutcome { id: id.into(), kind: kind.into() };
    let outcomes =
        vec![cancelled(ID, cancel_outcome::Kind::Signalled), cancelled("user-0000", cancel_outcome::Kind::NotFound)];
    let reported = |code: ErrorCode, state: TaskState| ReportOutcome { code: code.into(), state: state.into() };
    let accepted = |state| vec![reported(ErrorCode::Unspecified, state)];
    let stale =
        vec![reported(ErrorCode::Unspecified, TaskState::Success), reported(ErrorCode::StaleLease, TaskState::Queued)];
    let mut all = submits();
    all.extend([
        vector("cancel-reply", "One runs, one is not there.", 6, Body::CancelReply(CancelReply { outcomes })),
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

fn queued() -> TaskInfo {
    TaskInfo {
        id: ID.into(),
        state: TaskState::Queued.into(),
        generation: 1,
        version: 1,
        name: "songs.preprocess".into(),
        queue: "songs".into(),
        shadow: "preprocess: Dynamite".into(),
        priority: 4,
        waiting_for: WaitingFor::Worker.into(),
        submitted_at_ms: NOW_MS,
        attempts_max: 4,
        ..TaskInfo::default()
    }
}

fn started() -> TaskInfo {
    TaskInfo {
        state: TaskState::Started.into(),
        version: 3,
        waiting_for: WaitingFor::Nothing.into(),
        leased_at_ms: Some(NOW_MS + 100),
        started_at_ms: Some(NOW_MS + 101),
        worker: "worker-1-4711".into(),
        attempts: 1,
        deliveries: 1,
        ..queued()
    }
}

fn success() -> TaskInfo {
    TaskInfo {
        state: TaskState::Success.into(),
        version: 4,
        finished_at_ms: Some(NOW_MS + 2_000),
        forget_at_ms: Some(NOW_MS + 2_000 + 24 * HOUR_MS),
        result: Bytes::from_static(br#"{"tempo":114.0}"#),
        ..started()
    }
}

fn failure() -> TaskInfo {
    TaskInfo {
        id: "user-0000".into(),
        state: TaskState::Failure.into(),
        version: 9,
        headers: [("traceparent".to_owned(), Bytes::from_static(b"00-0af7651916cd43dd-01"))].into(),
        tags: vec!["album:1".into()],
        root_id: "album-1".into(),
        parent_id: "album-1".into(),
        eta_at_ms: Some(NOW_MS + 50),
        expires_at_ms: Some(NOW_MS + HOUR_MS),
        finished_at_ms: Some(NOW_MS + 2_000),
        attempts: 1,
        attempts_max: 1,
        progress: Some(Progress {
            state: "DECODING".into(),
            meta: Bytes::from_static(br#"{"percent":50}"#),
            at_ms: NOW_MS + 900,
        }),
        errors: vec![TaskError {
            kind: "DecodeError".into(),
            message: "no audio track".into(),
            traceback: "decode.py:12".into(),
            at_ms: NOW_MS + 2_000,
            attempt: 1,
        }],
        ..started()
    }
}

fn looking() -> Vec<Vector<ServerFrame>> {
    let unknown = TaskInfo { id: "user-9999".into(), ..TaskInfo::default() };
    vec![
        vector(
            "get-reply",
            "Ended with a result, dead after its attempts, never heard of.",
            4,
            Body::GetReply(GetReply { tasks: vec![success(), failure(), unknown], left_out: vec![] }),
        ),
        vector(
            "get-reply/full",
            "The frame had room for the first task and the third; ask for the second and the fourth.",
            13,
            Body::GetReply(GetReply { tasks: vec![success(), failure()], left_out: vec![1, 3] }),
        ),
        vector(
            "wait-reply/full",
            "Both tasks have ended; the frame had room for the second.",
            14,
            Body::WaitReply(WaitReply { satisfied: true, tasks: vec![success()], left_out: vec![0] }),
        ),
        vector(
            "watch-reply/full",
            "Watch 2 begins for 131 tasks; the frame had room for all but the last.",
            15,
            Body::WatchReply(WatchReply { watch_id: 2, tasks: vec![queued(); 130], left_out: vec![130] }),
        ),
        vector(
            "wait-reply/satisfied",
            "The task has ended.",
            3,
            Body::WaitReply(WaitReply { satisfied: true, tasks: vec![success()], left_out: vec![] }),
        ),
        vector(
            "wait-reply/time-over",
            "The time was over first; this is what is there.",
            3,
            Body::WaitReply(WaitReply { satisfied: false, tasks: vec![started()], left_out: vec![] }),
        ),
        vector(
            "watch-reply",
            "Watch 1 begins; the task waits.",
            2,
            Body::WatchReply(WatchReply { watch_id: 1, tasks: vec![queued()], left_out: vec![] }),
        ),
    ]
}

fn transitions() -> Vec<Vector<ServerFrame>> {
    let revoked = TaskInfo {
        state: TaskState::Revoked.into(),
        version: 2,
        waiting_for: WaitingFor::Nothing.into(),
        finished_at_ms: Some(NOW_MS + 60),
        revoked_reason: "expired".into(),
        cancel_requested: false,
        ..queued()
    };
    vec![
        vector(
            "transition/started",
            "Pushed for watch 1.",
            0,
            Body::Transition(Transition { watch_id: 1, task: Some(started()) }),
        ),
        vector(
            "transition/success",
            "The last one of this generation; the watch did not ask for results.",
            0,
            Body::Transition(Transition { watch_id: 1, task: Some(TaskInfo { result: Bytes::new(), ..success() }) }),
        ),
        vector(
            "transition/revoked",
            "It expired before it started.",
            0,
            Body::Transition(Transition { watch_id: 1, task: Some(revoked) }),
        ),
    ]
}

fn worker_status() -> WorkerStatus {
    WorkerStatus {
        instance_id: "worker-1-4711".into(),
        hostname: "worker-1".into(),
        pid: 4711,
        queues: vec!["songs".into(), "default".into()],
        task_names: vec!["songs.preprocess".into(), "songs.cluster".into()],
        concurrency: 4,
        credit: 4,
        running: vec![started()],
        memory_bytes: 128 << 20,
        connected_at_ms: NOW_MS,
        seen_at_ms: NOW_MS + 5_000,
        quiet: true,
        lost: true,
        running_left_out: 0,
    }
}

fn admin() -> Vec<Vector<ServerFrame>> {
    let queue = QueueInfo {
        name: "songs".into(),
        ready: 12,
        scheduled: 3,
        leased: 4,
        dead: 1,
        oldest_ready_ms: 1_500,
        paused: true,
        workers: 2,
        submitted_total: 1_000,
        ended_total: 980,
        settings: Some(QueueSettings { tasks_max: Some(1_000_000), ..QueueSettings::default() }),
        bytes: 4_096,
        submitted_per_second: 10.5,
        ended_per_second: 9.0,
    };
    vec![
        vector(
            "queue-list",
            "One queue.",
            2,
            Body::QueueList(QueueList { queues: vec![queue.clone()], cursor: Bytes::new() }),
        ),
        vector(
            "queue-list/page",
            "One queue, and there are more.",
            16,
            Body::QueueList(QueueList { queues: vec![queue], cursor: Bytes::from_static(b"songs") }),
        ),
        vector("count-reply", "Twelve tasks were revoked.", 5, Body::CountReply(CountReply { count: 12 })),
        vector(
            "task-page",
            "One task, and there are more.",
            7,
            Body::TaskPage(TaskPage { tasks: vec![failure()], cursor: Bytes::from_static(&[0, 0, 0, 199]) }),
        ),
        vector(
            "worker-list",
            "One worker.",
            10,
            Body::WorkerList(WorkerList { workers: vec![worker_status()], cursor: Bytes::new() }),
        ),
        vector(
            "worker-list/page",
            "One worker that holds twelve more tasks, and there are more workers.",
            17,
            Body::WorkerList(WorkerList {
                workers: vec![WorkerStatus { running_left_out: 12, ..worker_status() }],
                cursor: Bytes::from_static(&[0, 0, 0, 0, 0, 0, 0, 7]),
            }),
        ),
        vector("backup-reply", "It is complete.", 12, Body::BackupReply(BackupReply { tasks: 1_000, bytes: 262_144 })),
    ]
}

fn delivery() -> Delivery {
    Delivery {
        id: ID.into(),
        lease: 42,
        name: "songs.preprocess".into(),
        queue: "songs".into(),
        payload: Bytes::from_static(br#"[["Dynamite"],{}]"#),
        shadow: "preprocess: Dynamite".into(),
        priority: 4,
        attempt: 1,
        attempts_max: 4,
        deliveries: 1,
        generation: 1,
        submitted_at_ms: NOW_MS,
        ..Delivery::default()
    }
}

fn pushed() -> Vec<Vector<ServerFrame>> {
    let second = Delivery {
        id: "user-0000".into(),
        lease: 43,
        headers: [("traceparent".to_owned(), Bytes::from_static(b"00-0af7651916cd43dd-01"))].into(),
        attempt: 2,
        deliveries: 3,
        generation: 2,
        eta_at_ms: Some(NOW_MS + 50),
        expires_at_ms: Some(NOW_MS + HOUR_MS),
        soft_time_limit_ms: Some(540_000),
        time_limit_ms: Some(600_000),
        root_id: "album-1".into(),
        parent_id: "album-1".into(),
        tags: vec!["album:1".into()],
        ..delivery()
    };
    let stop =
        CancelSignal { leases: vec![42], kind: cancel_signal::Kind::Cooperative.into(), reason: "not needed".into() };
    let bye = error(ErrorCode::ShuttingDown, "the broker is closing down", Some(1_000));
    vec![
        vector(
            "deliver",
            "The first task of the transcripts.",
            0,
            Body::Deliver(Deliver { deliveries: vec![delivery()] }),
        ),
        vector(
            "deliver/batch",
            "Two tasks, the second with everything set.",
            0,
            Body::Deliver(Deliver { deliveries: vec![delivery(), second] }),
        ),
        vector("cancel-signal", "The handler of lease 42 should stop when it can.", 0, Body::CancelSignal(stop)),
        vector("order", "Take no new tasks.", 0, Body::Order(Order { kind: order::Kind::Quiet.into() })),
        vector(
            "topic-message",
            "",
            0,
            Body::TopicMessage(TopicMessage { topic: "events".into(), body: Bytes::from_static(b"hello") }),
        ),
        vector("closing", "Reconnect in a second.", 0, Body::Closing(Closing { error: Some(bye) })),
    ]
}
