//! Queues and workers in the answers to operators.

use celeriac_proto::wire;

use super::infos;
use crate::outgoing::{QueueView, WorkerView};

pub(super) fn queue_info(view: QueueView) -> wire::QueueInfo {
    let QueueView { outline: info, oldest_ms } = view;
    let record = info.record;
    wire::QueueInfo {
        name: record.name.into(),
        ready: info.ready,
        scheduled: info.scheduled,
        leased: info.leased,
        dead: info.dead,
        oldest_ready_ms: oldest_ms,
        paused: record.paused,
        workers: info.workers,
        submitted_total: info.submitted_total,
        ended_total: info.ended_total,
        settings: Some(wire::QueueSettings {
            tasks_max: record.tasks_max,
            bytes_max: record.bytes_max,
            expires_in_ms: record.expires_in_ms,
            result_ttl_ms: record.result_ttl_ms,
        }),
        bytes: info.bytes,
        submitted_per_second: info.submitted_per_second,
        ended_per_second: info.ended_per_second,
    }
}

pub(super) fn worker_status(view: WorkerView) -> wire::WorkerStatus {
    let WorkerView { status, running, running_left_out } = view;
    wire::WorkerStatus {
        instance_id: status.instance.to_string(),
        hostname: status.hostname.into(),
        pid: status.pid,
        queues: status.queues.into_iter().map(String::from).collect(),
        task_names: status.task_names.into_iter().map(String::from).collect(),
        concurrency: status.concurrency,
        credit: status.credit,
        running: infos(running),
        running_left_out,
        memory_bytes: status.memory_bytes,
        connected_at_ms: status.connected_at,
        seen_at_ms: status.seen_at,
        quiet: status.quiet,
        lost: status.lost,
    }
}
