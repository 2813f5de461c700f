//! What clients say: at least one frame for each kind of body. The names follow the transcripts of PROTOCOL.md.

use bytes::Bytes;
use celeriac_proto::wire::client_frame::Body;
use celeriac_proto::wire::task_report::Report as Outcome;
use celeriac_proto::wire::{
    Backoff, Backup, Cancel, ClientFrame, Complete, ConfigureQueue, Credit, DeleteQueue, DiscardDead, Fail, Forget,
    Get, Goodbye, Heartbeat, Hello, Jitter, ListQueues, ListTasks, ListWorkers, OnConflict, OrderWorkers, PauseQueues,
    ProgressReport, Publish, PurgeQueue, QueueSettings, QueueSubscription, Reject, Release, ReplayDead, Report,
    RetryLater, RetryPolicy, Started, Submit, Subscribe, Task, TaskError, TaskFilter, TaskReport, TaskState,
    Unsubscribe, Unwait, Unwatch, Wait, Watch, WorkerInfo, cancel, order, wait,
};

use crate::{HOUR_MS, NOW_MS, SESSION, Vector};

/// The token that a producer and its readers agreed on.
pub(crate) const ID: &str = "user-7f3a";

fn vector(name: &'static str, about: &'static str, request_id: u64, body: Body) -> Vector<ClientFrame> {
    Vector { name, about, frame: ClientFrame { request_id, timeout_ms: 0, body: Some(body) } }
}

fn ids(ids: &[&str]) -> Vec<String> {
    ids.iter().map(ToString::to_string).collect()
}

pub(crate) fn vectors() -> Vec<Vector<ClientFrame>> {
    [connection(), tasks(), looking(), work(), admin(), pages(), topics()].into_iter().flatten().collect()
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
    }
}

fn connection() -> Vec<Vector<ClientFrame>> {
    let worker = Hello { token: "secret".into(), worker: Some(worker_info()), ..hello("worker-1-4711") };
    let resume = Hello { session_id: SESSION.into(), ..worker.clone() };
    vec![
        vector("hello/producer", "A producer without a token.", 1, Body::Hello(hello("web-1"))),
        vector("hello/worker", "A worker with a token, two queues and two task names.", 1, Body::Hello(worker)),
        vector("hello/resume", "The same worker after a lost connection.", 1, Body::Hello(resume)),
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
            Body::Cancel(Cancel { ids: ids(&[ID, "user-0000"]), reason: "not needed".into(), ..Cancel::default() }),
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
        vector("forget", "Drops an ended task before its time.", 8, Body::Forget(Forget { ids: ids(&[ID]) })),
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
            Body::Get(Get { ids: ids(&[ID, "user-0000", "user-9999"]), with_results: true }),
        ),
        wait,
        vector("watch", "From another container.", 2, Body::Watch(Watch { ids: ids(&[ID]), with_results: false })),
        vector("unwatch", "No more of watch 1.", 5, Body::Unwatch(Unwatch { watch_id: 1 })),
        vector("unwait", "Requests 3 and 4 wait no longer.", 6, Body::Unwait(Unwait { request_ids: vec![3, 4] })),
    ]
}

fn report(name: &'static str, about: &'static str, request_id: u64, report: Outcome) -> Vector<ClientFrame> {
    let report = TaskReport { id: ID.into(), lease: 42, report: Some(report) };
    vector(name, about, request_id, Body::Report(Report { reports: vec![report] }))
}

fn broken_file() -> Option<TaskError> {
    Some(TaskError {
        kind: "DecodeError".into(),
        message: "no audio track".into(),
        traceback: "decode.py:12".into(),
        ..TaskError::default()
    })
}

fn work() -> Vec<Vector<ClientFrame>> {
    let complete = || Complete { result: Bytes::from_static(br#"{"tempo":114.0}"#), content_type: String::new() };
    let batch = vec![
        TaskReport { id: ID.into(), lease: 42, report: Some(Outcome::Complete(complete())) },
        TaskReport { id: "user-0000".into(), lease: 41, report: Some(Outcome::Release(Release::default())) },
    ];
    vec![
        vector("credit", "At most four leases at once.", 2, Body::Credit(Credit { credit: 4 })),
        vector("credit/none", "No more deliveries.", 8, Body::Credit(Credit { credit: 0 })),
        report("report/started", "The handler has begun.", 3, Outcome::Started(Started {})),
        report(
            "report/progress",
            "Half of it is done.",
            4,
            Outcome::Progress(ProgressReport {
                state: "DECODING".into(),
                meta: Bytes::from_static(br#"{"percent":50}"#),
            }),
        ),
        report("report/complete", "The handler returned a value.", 5, Outcome::Complete(complete())),
        report(
            "report/fail",
            "The handler failed and may run again.",
            6,
            Outcome::Fail(Fail { error: broken_file(), r#final: false }),
        ),
        report(
            "report/fail-final",
            "The handler failed and must not run again.",
            6,
            Outcome::Fail(Fail { error: broken_file(), r#final: true }),
        ),
        report(
            "report/retry",
            "The handler asks for another attempt in 30 seconds.",
            6,
            Outcome::Retry(RetryLater { after_ms: Some(30_000), error: None }),
        ),
        report("report/release", "Handed back.", 6, Outcome::Release(Release::default())),
        report("report/reject", "Dead at once.", 6, Outcome::Reject(Reject { error: broken_file() })),
        vector("report/batch", "Two leases in one frame.", 7, Body::Report(Report { reports: batch })),
    ]
}

fn admin() -> Vec<Vector<ClientFrame>> {
    let dead = TaskFilter {
        queue: "songs".into(),
        states: vec![TaskState::Failure.into()],
        name: "songs.preprocess".into(),
        tag: "album:1".into(),
        id_prefix: "user-".into(),
        submitted_before_ms: Some(NOW_MS),
        submitted_after_ms: Some(NOW_MS - HOUR_MS),
        root_id: "album-1".into(),
    };
    let settings = QueueSettings {
        tasks_max: Some(1_000_000),
        bytes_max: None,
        expires_in_ms: None,
        result_ttl_ms: Some(HOUR_MS.unsigned_abs()),
    };
    vec![
        vector("list-queues", "All of them.", 2, Body::ListQueues(ListQueues::default())),
        vector(
            "configure-queue",
            "At most a million tasks, results kept for an hour.",
            3,
            Body::ConfigureQueue(ConfigureQueue { queue: "songs".into(), settings: Some(settings) }),
        ),
        vector(
            "pause-queues",
            "Nothing more is delivered from it.",
            4,
            Body::PauseQueues(PauseQueues { queues: ids(&["songs"]), paused: true }),
        ),
        vector("purge-queue", "", 5, Body::PurgeQueue(PurgeQueue { queue: "songs".into() })),
        vector("delete-queue", "", 6, Body::DeleteQueue(DeleteQueue { queue: "songs".into() })),
        vector(
            "list-tasks",
            "The second page of dead tasks, with every filter set.",
            7,
            Body::ListTasks(ListTasks {
                filter: Some(dead),
                limit: 100,
                cursor: Bytes::from_static(&[0, 0, 0, 99]),
                with_tracebacks: false,
            }),
        ),
        vector("replay-dead", "By id.", 8, Body::ReplayDead(ReplayDead { ids: ids(&[ID]), filter: None })),
        vector(
            "discard-dead",
            "By filter.",
            9,
            Body::DiscardDead(DiscardDead {
                filter: Some(TaskFilter { queue: "songs".into(), ..TaskFilter::default() }),
                ..DiscardDead::default()
            }),
        ),
        vector("list-workers", "", 10, Body::ListWorkers(ListWorkers::default())),
        vector(
            "order-workers",
            "One worker takes no more tasks.",
            11,
            Body::OrderWorkers(OrderWorkers {
                instance_ids: ids(&["worker-1-4711"]),
                order: order::Kind::Quiet.into(),
            }),
        ),
        vector("backup", "", 12, Body::Backup(Backup { folder: "/var/backups/celeriac-1".into() })),
    ]
}

/// Pages of listings, and what is shown only when asked for.
fn pages() -> Vec<Vector<ClientFrame>> {
    vec![
        vector(
            "list-queues/page",
            "The page after the queue of that name.",
            13,
            Body::ListQueues(ListQueues { cursor: Bytes::from_static(b"songs"), ..ListQueues::default() }),
        ),
        vector(
            "list-workers/page",
            "The page after a worker, with the tracebacks of what its tasks failed with before.",
            14,
            Body::ListWorkers(ListWorkers {
                cursor: Bytes::from_static(&[0, 0, 0, 0, 0, 0, 0, 7]),
                with_tracebacks: true,
            }),
        ),
        vector(
            "list-tasks/with-tracebacks",
            "The first page of all tasks, with the tracebacks of their errors.",
            15,
            Body::ListTasks(ListTasks { with_tracebacks: true, ..ListTasks::default() }),
        ),
    ]
}

fn topics() -> Vec<Vector<ClientFrame>> {
    vec![
        vector("publish", "", 2, Body::Publish(Publish { topic: "events".into(), body: Bytes::from_static(b"hello") })),
        vector("subscribe", "", 3, Body::Subscribe(Subscribe { topics: ids(&["events"]) })),
        vector("unsubscribe", "", 4, Body::Unsubscribe(Unsubscribe { topics: ids(&["events"]) })),
    ]
}
