//! Requests of operators.

use bytes::Bytes;
use celeriac_proto::wire::client_frame::Body;
use celeriac_proto::wire::{
    Backup, ClientFrame, ConfigureQueue, DeclareQueue, DeleteQueue, DiscardDead, Drain, Info,
    ListQueues, ListTasks, ListWorkers, LogFilter, OrderWorkers, PauseQueues, PurgeQueue,
    QueueSettings, ReplayDead, Stats, TaskFilter, TaskState, order,
};

use super::{ID, ids, vector};
use crate::{HOUR_MS, NOW_MS, Vector};

/// A filter with every field set.
fn every_filter() -> TaskFilter {
    TaskFilter {
        queue: "songs".into(),
        states: vec![TaskState::Failure.into()],
        name: "songs.preprocess".into(),
        tag: "album:1".into(),
        id_prefix: "user-".into(),
        submitted_before_ms: Some(NOW_MS),
        submitted_after_ms: Some(NOW_MS - HOUR_MS),
        root_id: "album-1".into(),
    }
}

pub(super) fn admin() -> Vec<Vector<ClientFrame>> {
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
            Body::ConfigureQueue(ConfigureQueue {
                queue: "songs".into(),
                settings: Some(settings),
            }),
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
                filter: Some(every_filter()),
                limit: 100,
                cursor: Bytes::from_static(&[0, 0, 0, 99]),
                with_tracebacks: false,
                newest_first: false,
                just_ended: false,
            }),
        ),
        vector(
            "replay-dead",
            "By id.",
            8,
            Body::ReplayDead(ReplayDead { ids: ids(&[ID]), filter: None }),
        ),
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
        vector("info", "", 18, Body::Info(Info {})),
    ]
}

/// Requests about the broker itself.
pub(super) fn broker() -> Vec<Vector<ClientFrame>> {
    vec![
        vector("drain", "Nothing more is delivered.", 19, Body::Drain(Drain { draining: true })),
        vector("log-filter", "It is shown.", 20, Body::LogFilter(LogFilter { filter: None })),
        vector(
            "log-filter/changed",
            "More lines of one part.",
            21,
            Body::LogFilter(LogFilter { filter: Some("info,celeriac_broker=debug".into()) }),
        ),
        vector("stats", "The counters of all queues.", 22, Body::Stats(Stats::default())),
        vector(
            "stats/page",
            "Two queues, from behind the first on.",
            23,
            Body::Stats(Stats {
                queues: ids(&["night", "songs"]),
                cursor: Bytes::from_static(b"night"),
            }),
        ),
    ]
}

/// Queues that clients declare.
pub(super) fn declared() -> Vec<Vector<ClientFrame>> {
    vec![
        vector(
            "declare-queue",
            "A queue that stays, and goes after an hour without use.",
            9,
            Body::DeclareQueue(DeclareQueue {
                queue: "night".into(),
                passive: false,
                settings: Some(QueueSettings {
                    bytes_max: Some(1 << 30),
                    ..QueueSettings::default()
                }),
                idle_ms: Some(HOUR_MS.unsigned_abs()),
            }),
        ),
        vector(
            "declare-queue/passive",
            "Whether there is such a queue, and what is in it.",
            10,
            Body::DeclareQueue(DeclareQueue {
                queue: "songs".into(),
                passive: true,
                ..DeclareQueue::default()
            }),
        ),
    ]
}

/// Pages of listings, and fields that the broker shows only on request.
pub(super) fn pages() -> Vec<Vector<ClientFrame>> {
    vec![
        vector(
            "list-queues/page",
            "The page after the queue of that name.",
            13,
            Body::ListQueues(ListQueues {
                cursor: Bytes::from_static(b"songs"),
                ..ListQueues::default()
            }),
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
        vector(
            "list-tasks/newest-first",
            "The hundred tasks that were submitted before the one of the cursor.",
            16,
            Body::ListTasks(ListTasks {
                cursor: Bytes::from_static(&[0, 0, 0, 0, 0, 0, 3, 232]),
                newest_first: true,
                ..ListTasks::default()
            }),
        ),
        vector(
            "list-tasks/just-ended",
            "The tasks that ended last.",
            17,
            Body::ListTasks(ListTasks { just_ended: true, ..ListTasks::default() }),
        ),
    ]
}

/// The same requests with other fields set.
pub(super) fn choices() -> Vec<Vector<ClientFrame>> {
    let settings = QueueSettings {
        tasks_max: Some(1_000_000),
        bytes_max: Some(1 << 30),
        expires_in_ms: Some(86_400_000),
        result_ttl_ms: Some(HOUR_MS.unsigned_abs()),
    };
    let songs = TaskFilter { queue: "songs".into(), ..TaskFilter::default() };
    vec![
        vector(
            "list-queues/some",
            "Two queues by name.",
            2,
            Body::ListQueues(ListQueues {
                queues: ids(&["songs", "night"]),
                ..ListQueues::default()
            }),
        ),
        vector(
            "configure-queue/every-setting",
            "At most a million tasks and 1 GiB of payloads, defaults for expiry and results.",
            3,
            Body::ConfigureQueue(ConfigureQueue {
                queue: "night".into(),
                settings: Some(settings),
            }),
        ),
        vector(
            "replay-dead/filter",
            "All dead tasks of one queue run again.",
            8,
            Body::ReplayDead(ReplayDead { filter: Some(songs), ..ReplayDead::default() }),
        ),
        vector(
            "discard-dead/ids",
            "One dead task is dropped.",
            9,
            Body::DiscardDead(DiscardDead { ids: ids(&[ID]), ..DiscardDead::default() }),
        ),
        vector(
            "discard-dead/all",
            "All dead tasks are dropped.",
            9,
            Body::DiscardDead(DiscardDead { all: true, ..DiscardDead::default() }),
        ),
        vector(
            "order-workers/all",
            "Every worker takes tasks again.",
            11,
            Body::OrderWorkers(OrderWorkers {
                instance_ids: Vec::new(),
                order: order::Kind::Resume.into(),
            }),
        ),
    ]
}
