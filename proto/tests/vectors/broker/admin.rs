//! Answers of the broker to operators.

use bytes::Bytes;
use celeriac_proto::wire::server_frame::Body;
use celeriac_proto::wire::{
    BackupReply, BrokerInfo, CountReply, DataUsage, DeclareQueueReply, LogFilterReply, QueueInfo,
    QueueList, QueueSettings, ServerFrame, TaskCounts, TaskPage, WorkerList, WorkerStatus,
};

use super::tasks::{failure, started};
use super::{usual_limits, vector};
use crate::{NOW_MS, Vector};

pub(super) fn worker_status() -> WorkerStatus {
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

fn queue_info() -> QueueInfo {
    QueueInfo {
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
    }
}

fn broker_info() -> BrokerInfo {
    BrokerInfo {
        server_version: "0.1.0".into(),
        protocol: 1,
        started_at_ms: NOW_MS,
        uptime_ms: 86_400_000,
        memory_bytes: Some(64 << 20),
        connections: 12,
        connections_max: 10_000,
        workers: 4,
        workers_lost: 1,
        queues: 3,
        mailboxes: 2,
        tasks: Some(TaskCounts { ready: 12, scheduled: 3, leased: 4, dead: 1, ended: 980 }),
        data: Some(data_usage()),
        limits: Some(usual_limits()),
        heartbeat_ms: 5_000,
        lease_ms: 15_000,
        result_ttl_ms: 86_400_000,
        draining: false,
    }
}

pub(super) fn data_usage() -> DataUsage {
    DataUsage {
        live_bytes: 1 << 20,
        log_bytes: 2 << 20,
        file_bytes: 24 << 20,
        reusable_bytes: 8 << 20,
        disk_free_bytes: 512 << 20,
        disk_bytes: 20 << 30,
        disk_low_bytes: 1 << 30,
        disk_is_low: true,
        usable_bytes: Some(500 << 20),
    }
}

pub(super) fn admin() -> Vec<Vector<ServerFrame>> {
    [queues(), listings(), figures()].into_iter().flatten().collect()
}

fn queues() -> Vec<Vector<ServerFrame>> {
    let queue = queue_info();
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
            Body::QueueList(QueueList {
                queues: vec![queue],
                cursor: Bytes::from_static(b"songs"),
            }),
        ),
        vector(
            "count-reply",
            "Twelve tasks were revoked.",
            5,
            Body::CountReply(CountReply { count: 12 }),
        ),
        vector(
            "declare-queue-reply",
            "The queue is new.",
            9,
            Body::DeclareQueueReply(DeclareQueueReply { created: true, ready: 0, workers: 0 }),
        ),
        vector(
            "declare-queue-reply/known",
            "Three tasks are ready, and one worker serves the queue.",
            10,
            Body::DeclareQueueReply(DeclareQueueReply { created: false, ready: 3, workers: 1 }),
        ),
    ]
}

fn listings() -> Vec<Vector<ServerFrame>> {
    vec![
        vector(
            "task-page",
            "One task, and there are more.",
            7,
            Body::TaskPage(TaskPage {
                tasks: vec![failure()],
                cursor: Bytes::from_static(&[0, 0, 0, 199]),
                newest_first: false,
                just_ended: false,
                looked: 0,
                total: 0,
            }),
        ),
        vector(
            "task-page/newest-first",
            "The newest task, and there are older ones.",
            20,
            Body::TaskPage(TaskPage {
                tasks: vec![failure()],
                cursor: Bytes::from_static(&[0, 0, 0, 0, 0, 0, 3, 232]),
                newest_first: true,
                just_ended: false,
                looked: 0,
                total: 0,
            }),
        ),
        vector(
            "task-page/just-ended",
            "The task that ended last, and there are more.",
            21,
            Body::TaskPage(TaskPage {
                tasks: vec![failure()],
                cursor: Bytes::from_static(&[4; 29]),
                newest_first: false,
                just_ended: true,
                looked: 1,
                total: 10_000,
            }),
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
    ]
}

fn figures() -> Vec<Vector<ServerFrame>> {
    vec![
        vector(
            "backup-reply",
            "It is complete.",
            12,
            Body::BackupReply(BackupReply { tasks: 1_000, bytes: 262_144 }),
        ),
        vector("broker-info", "A broker whose disk is low.", 18, Body::BrokerInfo(broker_info())),
        vector(
            "broker-info/without-disk",
            "A new broker on a system that tells of neither memory nor disk.",
            19,
            Body::BrokerInfo(BrokerInfo {
                uptime_ms: 0,
                memory_bytes: None,
                workers: 0,
                workers_lost: 0,
                mailboxes: 0,
                tasks: Some(TaskCounts::default()),
                data: None,
                ..broker_info()
            }),
        ),
        vector(
            "broker-info/draining",
            "It delivers no task.",
            20,
            Body::BrokerInfo(BrokerInfo { draining: true, ..broker_info() }),
        ),
        vector(
            "log-filter-reply",
            "The filter that counts now.",
            21,
            Body::LogFilterReply(LogFilterReply { filter: "info,celeriac_broker=debug".into() }),
        ),
    ]
}

pub(super) fn settings() -> Vec<Vector<ServerFrame>> {
    let quiet = QueueInfo {
        name: "night".into(),
        settings: Some(QueueSettings {
            tasks_max: Some(1_000_000),
            bytes_max: Some(1 << 30),
            expires_in_ms: Some(86_400_000),
            result_ttl_ms: Some(3_600_000),
        }),
        ..QueueInfo::default()
    };
    vec![vector(
        "queue-list/every-setting",
        "An empty queue that has settings.",
        2,
        Body::QueueList(QueueList { queues: vec![quiet], cursor: Bytes::new() }),
    )]
}
