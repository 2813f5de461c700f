//! Frames of clients: at least one frame for each kind of body. The names follow the transcripts of
//! PROTOCOL.md.

mod admin;
mod chords;
mod mail;
mod outcomes;
mod work;

use bytes::Bytes;
use celeriac_proto::wire::client_frame::Body;
use celeriac_proto::wire::{
    Backoff, Cancel, ClientFrame, Forget, Get, Goodbye, Heartbeat, Hello, Jitter, OnConflict,
    QueueSubscription, RetryPolicy, Submit, Task, TaskState, Unwait, Unwatch, Wait, Watch,
    WorkerInfo, cancel, wait,
};

use crate::{HOUR_MS, NOW_MS, SESSION, Vector};

/// The token that a producer and its readers agreed on.
pub(crate) const ID: &str = "user-7f3a";

fn vector(
    name: &'static str,
    about: &'static str,
    request_id: u64,
    body: Body,
) -> Vector<ClientFrame> {
    Vector { name, about, frame: ClientFrame { request_id, timeout_ms: 0, body: Some(body) } }
}

fn ids(ids: &[&str]) -> Vec<String> {
    ids.iter().map(ToString::to_string).collect()
}

pub(crate) fn vectors() -> Vec<Vector<ClientFrame>> {
    let tasks = [connection(), tasks(), choices(), looking(), waiting()];
    let others = [
        work::work(),
        work::serving(),
        work::more(),
        admin::admin(),
        admin::broker(),
        admin::declared(),
        admin::pages(),
        admin::choices(),
        outcomes::outcomes(),
        chords::chords(),
    ];
    let mail = [mail::mailboxes(), mail::exchanges(), mail::routes()];
    tasks.into_iter().chain(others).chain(mail).flatten().collect()
}

fn hello(name: &str) -> Hello {
    Hello {
        protocol_min: 1,
        protocol_max: 1,
        client_name: "example".into(),
        client_version: "1.0".into(),
        instance_id: name.into(),
        ..Hello::default()
    }
}

fn worker_info() -> WorkerInfo {
    WorkerInfo {
        queues: vec![
            QueueSubscription { queue: "songs".into(), weight: 3 },
            QueueSubscription { queue: "default".into(), weight: 0 },
        ],
        task_names: ids(&["songs.preprocess", "songs.cluster"]),
        hostname: "worker-1".into(),
        pid: 4711,
        concurrency: 4,
        ..WorkerInfo::default()
    }
}

fn connection() -> Vec<Vector<ClientFrame>> {
    let worker =
        Hello { token: "secret".into(), worker: Some(worker_info()), ..hello("worker-1-4711") };
    let resume = Hello { session_id: SESSION.into(), ..worker.clone() };
    let keeper =
        WorkerInfo { task_names: Vec::new(), any_name: true, keeps_leases: true, ..worker_info() };
    let keeper = Hello { worker: Some(keeper), ..hello("worker-2-4712") };
    let later =
        Hello { heartbeat_ms: 10_000, features: vec!["example.later".into()], ..hello("web-1") };
    vec![
        vector("hello/producer", "A producer without a token.", 1, Body::Hello(hello("web-1"))),
        vector(
            "hello/worker",
            "A worker with a token, two queues and two task names.",
            1,
            Body::Hello(worker),
        ),
        vector("hello/resume", "The same worker after a lost connection.", 1, Body::Hello(resume)),
        vector(
            "hello/any-name",
            "A worker of any task name, which cannot give back what it was handed.",
            1,
            Body::Hello(keeper),
        ),
        vector(
            "hello/wishes",
            "A client of a later protocol: it would like to send fewer heartbeats, and names a feature that nobody knows yet.",
            1,
            Body::Hello(later),
        ),
        vector("goodbye", "The client closes on purpose.", 9, Body::Goodbye(Goodbye {})),
        vector(
            "heartbeat",
            "Three handlers run, the process takes 128 MiB.",
            7,
            Body::Heartbeat(Heartbeat { running: 3, memory_bytes: 128 << 20 }),
        ),
    ]
}

fn one_task() -> Task {
    Task {
        id: ID.into(),
        name: "songs.preprocess".into(),
        queue: "songs".into(),
        payload: Bytes::from_static(br#"[["Dynamite"],{}]"#),
        shadow: "preprocess: Dynamite".into(),
        ..Task::default()
    }
}

fn every_field() -> Task {
    Task {
        content_type: "application/json".into(),
        headers: [("traceparent".to_owned(), Bytes::from_static(b"00-0af7651916cd43dd-01"))].into(),
        priority: Some(9),
        eta_at_ms: Some(NOW_MS + HOUR_MS),
        countdown_ms: None,
        expires_at_ms: None,
        expires_in_ms: Some(86_400_000),
        result_ttl_ms: Some(0),
        retry: Some(RetryPolicy {
            max_attempts: Some(3),
            backoff: Backoff::Polynomial.into(),
            delay_ms: Some(500),
            factor: Some(1.5),
            delay_max_ms: Some(60_000),
            jitter: Jitter::Equal.into(),
        }),
        soft_time_limit_ms: Some(540_000),
        time_limit_ms: Some(600_000),
        max_deliveries: Some(5),
        on_conflict: OnConflict::Replace.into(),
        root_id: "album-1".into(),
        parent_id: "album-1".into(),
        tags: ids(&["album:1", "night"]),
        early_ack: true,
        submit_key: "0d3c1f".into(),
        lead_ms: Some(10_000),
        forget_at_end: true,
        announce_end: true,
        ..one_task()
    }
}

fn tasks() -> Vec<Vector<ClientFrame>> {
    let spans = Task { countdown_ms: Some(0), expires_at_ms: Some(NOW_MS + HOUR_MS), ..one_task() };
    let nameless = Task { id: "user-0000".into(), ..Task::default() };
    vec![
        vector(
            "submit/one-task",
            "One task under an id of the producer's choice.",
            2,
            Body::Submit(Submit { tasks: vec![one_task()] }),
        ),
        vector(
            "submit/every-field",
            "A task with an eta, a span until it expires, and everything else set.",
            3,
            Body::Submit(Submit { tasks: vec![every_field()] }),
        ),
        vector(
            "submit/zero-is-not-absent",
            "A countdown of 0 is written, though it is the default of its type: optional fields show whether they are set.",
            4,
            Body::Submit(Submit { tasks: vec![spans] }),
        ),
        vector(
            "submit/batch-with-a-bad-item",
            "The second task has no name: it is refused and the first is not.",
            5,
            Body::Submit(Submit { tasks: vec![one_task(), nameless] }),
        ),
        vector(
            "cancel/ids",
            "Two tasks; a running handler is asked to stop.",
            6,
            Body::Cancel(Cancel {
                ids: ids(&[ID, "user-0000"]),
                reason: "not needed".into(),
                ..Cancel::default()
            }),
        ),
        vector(
            "cancel/tree",
            "Every task below one root, by force after two seconds.",
            7,
            Body::Cancel(Cancel {
                root_id: "album-1".into(),
                mode: cancel::Mode::Force.into(),
                grace_ms: Some(2_000),
                ..Cancel::default()
            }),
        ),
        vector(
            "forget",
            "Drops an ended task before its time.",
            8,
            Body::Forget(Forget { ids: ids(&[ID]) }),
        ),
    ]
}

/// The policies for an id that exists, and for the retries of a failed task.
fn choices() -> Vec<Vector<ClientFrame>> {
    let patient = Task {
        on_conflict: OnConflict::Reject.into(),
        retry: Some(RetryPolicy {
            backoff: Backoff::Fixed.into(),
            delay_ms: Some(5_000),
            jitter: Jitter::Full.into(),
            ..RetryPolicy::default()
        }),
        ..one_task()
    };
    let again = Task { on_conflict: OnConflict::RunAgainAfter.into(), ..one_task() };
    let beside =
        Task { on_conflict: OnConflict::Beside.into(), submit_key: "b7a91e".into(), ..one_task() };
    let supersede =
        Task { on_conflict: OnConflict::Supersede.into(), supersedes_lease: 7, ..one_task() };
    vec![
        vector(
            "submit/reject",
            "A task that must be new; it runs again within five seconds after each failure.",
            2,
            Body::Submit(Submit { tasks: vec![patient] }),
        ),
        vector(
            "submit/run-again-after",
            "Where the task has not ended it runs once more after its end.",
            3,
            Body::Submit(Submit { tasks: vec![again] }),
        ),
        vector(
            "submit/beside",
            "Where the task has not ended this one runs beside it, under an id of its own.",
            9,
            Body::Submit(Submit { tasks: vec![beside] }),
        ),
        vector(
            "submit/supersede",
            "The handler with lease 7 submits its own id again: the new run takes its place.",
            10,
            Body::Submit(Submit { tasks: vec![supersede] }),
        ),
        vector(
            "cancel/tag",
            "Every task with this tag; a running handler is asked to stop.",
            8,
            Body::Cancel(Cancel { tag: "album:1".into(), ..Cancel::default() }),
        ),
    ]
}

fn looking() -> Vec<Vector<ClientFrame>> {
    let mut wait = vector(
        "wait",
        "Until the task has ended, for 60 seconds at most, with the result.",
        3,
        Body::Wait(Wait {
            ids: ids(&[ID]),
            mode: wait::Mode::All.into(),
            until: TaskState::Unknown.into(),
            with_results: true,
        }),
    );
    wait.frame.timeout_ms = 60_000;
    vec![
        vector(
            "get",
            "Three tasks, with their results.",
            4,
            Body::Get(Get {
                ids: ids(&[ID, "user-0000", "user-9999"]),
                with_results: true,
                with_payloads: false,
            }),
        ),
        wait,
        vector(
            "watch",
            "From another container.",
            2,
            Body::Watch(Watch { ids: ids(&[ID]), with_results: false }),
        ),
        vector("unwatch", "No more of watch 1.", 5, Body::Unwatch(Unwatch { watch_id: 1 })),
        vector(
            "unwait",
            "Requests 3 and 4 wait no longer.",
            6,
            Body::Unwait(Unwait { request_ids: vec![3, 4] }),
        ),
    ]
}

fn waiting() -> Vec<Vector<ClientFrame>> {
    let first = Wait {
        ids: ids(&[ID, "user-0000"]),
        mode: wait::Mode::Any.into(),
        until: TaskState::Started.into(),
        with_results: false,
    };
    vec![
        vector(
            "get/payload",
            "One task, with its payload and without its result.",
            4,
            Body::Get(Get { ids: ids(&[ID]), with_results: false, with_payloads: true }),
        ),
        vector(
            "cancel/waiting",
            "What runs goes on, and does not run again.",
            6,
            Body::Cancel(Cancel {
                ids: ids(&[ID]),
                mode: cancel::Mode::Waiting.into(),
                ..Cancel::default()
            }),
        ),
        vector(
            "wait/any-started",
            "Until one of two tasks has begun, for 30 seconds at most.",
            3,
            Body::Wait(first),
        ),
        vector(
            "watch/with-results",
            "Transitions to SUCCESS show the result.",
            2,
            Body::Watch(Watch { ids: ids(&[ID, "user-0000"]), with_results: true }),
        ),
    ]
}
