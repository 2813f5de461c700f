//! Answers of the broker to monitors.

use bytes::Bytes;
use celeriac_proto::wire::server_frame::Body;
use celeriac_proto::wire::{
    AuthFailures, BrokerStats, ErrorCode, Histogram, ProcessStats, QueueCounters, QueueStats,
    RefusedCount, ServerFrame, StatsReply,
};

use super::admin::data_usage;
use super::vector;
use crate::{NOW_MS, Vector};

const BOUNDS_MS: [u64; 4] = [5, 100, 1_000, 60_000];

fn queue_stats() -> QueueStats {
    QueueStats {
        name: "songs".into(),
        paused: true,
        scheduled: 3,
        ready: 12,
        leased: 1,
        started: 4,
        dead: 1,
        oldest_ready_at_ms: Some(NOW_MS - 1_500),
        bytes: 4_096,
        workers: 2,
        slots_busy: 5,
        slots_free: 3,
        waiting_paused: 12,
        waiting_no_worker: 0,
        counters: Some(QueueCounters {
            submitted_total: 1_000,
            succeeded_total: 970,
            failed_total: 8,
            revoked_total: 2,
            retried_total: 30,
            deliveries_total: 1_020,
            requeued_worker_lost_total: 3,
            requeued_released_total: 4,
            requeued_taken_back_total: 5,
            wait: Some(Histogram { counts: vec![900, 80, 20, 8, 0], sum: 120_000 }),
            run: Some(Histogram { counts: vec![0, 10, 900, 98, 2], sum: 2_400_000 }),
        }),
    }
}

fn broker_stats() -> BrokerStats {
    BrokerStats {
        server_version: "0.1.0".into(),
        started_at_ms: NOW_MS,
        uptime_ms: 86_400_000,
        restore_ms: 1_250,
        connections: 12,
        connections_before_hello: 1,
        connections_max: 10_000,
        workers: 4,
        workers_lost: 1,
        mailboxes: 2,
        tasks: 1_000,
        draining: true,
        removed_queues: Some(QueueCounters { submitted_total: 7, ..QueueCounters::default() }),
        auth_failures: Some(AuthFailures {
            token_missing_total: 1,
            token_wrong_total: 2,
            certificate_total: 3,
            handshake_total: 4,
        }),
        refused: vec![RefusedCount { code: ErrorCode::QueueFull.into(), total: 9 }],
        commit: Some(Histogram { counts: vec![700, 20, 1], sum: 410_000 }),
        commit_bounds_us: vec![1_000, 50_000],
        data: Some(data_usage()),
        certificate_expires_at_ms: Some(NOW_MS + 86_400_000),
        reloaded_at_ms: NOW_MS + 60_000,
        reload_failed: true,
        process: Some(ProcessStats {
            memory_bytes: Some(64 << 20),
            cpu_us: Some(12_500_000),
            open_files: Some(40),
            open_files_max: Some(20_000),
        }),
    }
}

pub(super) fn stats() -> Vec<Vector<ServerFrame>> {
    let unserved = QueueStats {
        name: "night".into(),
        ready: 2,
        waiting_no_worker: 2,
        counters: Some(QueueCounters { submitted_total: 2, ..QueueCounters::default() }),
        ..QueueStats::default()
    };
    vec![
        vector(
            "stats-reply",
            "The first page: the broker itself, and a queue.",
            22,
            Body::StatsReply(StatsReply {
                at_ms: NOW_MS,
                broker: Some(broker_stats()),
                queues: vec![queue_stats()],
                cursor: Bytes::from_static(b"songs"),
                bounds_ms: BOUNDS_MS.to_vec(),
            }),
        ),
        vector(
            "stats-reply/page",
            "A page after the first: a queue that no worker serves, and no task of which has run.",
            23,
            Body::StatsReply(StatsReply {
                at_ms: NOW_MS,
                broker: None,
                queues: vec![unserved],
                cursor: Bytes::new(),
                bounds_ms: BOUNDS_MS.to_vec(),
            }),
        ),
    ]
}
