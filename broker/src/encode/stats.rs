//! The figures for monitors.

use celeriac_machine::command::{
    BrokerStats, Histogram, QueueCounters, QueueStats, SPAN_BOUNDS_MS, Spans, Stats,
};
use celeriac_proto::wire;

use super::listings::data_usage;
use super::{Limits, code};
use crate::outgoing::{AuthFailures, COMMIT_BOUNDS_US, Outside, Process, Reload, StatsView};

pub(super) fn stats_reply(view: StatsView, limits: &Limits) -> wire::StatsReply {
    let StatsView { stats: Stats { wall, broker, queues, next }, outside } = view;
    let broker = broker.zip(outside);
    wire::StatsReply {
        at_ms: wall,
        broker: broker.map(|(broker, outside)| broker_stats(broker, outside, limits)),
        queues: queues.into_iter().map(queue_stats).collect(),
        cursor: next.map(|next| String::from(next).into()).unwrap_or_default(),
        bounds_ms: SPAN_BOUNDS_MS.to_vec(),
    }
}

fn queue_stats(queue: QueueStats) -> wire::QueueStats {
    wire::QueueStats {
        name: queue.name.into(),
        paused: queue.paused,
        scheduled: queue.scheduled,
        ready: queue.ready,
        leased: queue.leased,
        started: queue.started,
        dead: queue.dead,
        oldest_ready_at_ms: queue.oldest_ready_at,
        bytes: queue.bytes,
        workers: queue.workers,
        slots_busy: queue.slots_busy,
        slots_free: queue.slots_free,
        waiting_paused: queue.waiting_paused,
        waiting_no_worker: queue.waiting_no_worker,
        counters: Some(queue_counters(queue.counters)),
    }
}

fn queue_counters(counters: QueueCounters) -> wire::QueueCounters {
    let Spans { wait, run } = counters.spans.map(|spans| *spans).unwrap_or_default();
    wire::QueueCounters {
        submitted_total: counters.submitted,
        succeeded_total: counters.succeeded,
        failed_total: counters.failed,
        revoked_total: counters.revoked,
        retried_total: counters.retried,
        deliveries_total: counters.deliveries,
        requeued_worker_lost_total: counters.worker_lost,
        requeued_released_total: counters.released,
        requeued_taken_back_total: counters.taken_back,
        wait: histogram(wait),
        run: histogram(run),
    }
}

/// A histogram without spans is absent.
fn histogram(histogram: Histogram) -> Option<wire::Histogram> {
    let Histogram { counts, sum } = histogram;
    let has_some = counts.iter().any(|count| *count > 0);
    has_some.then(|| wire::Histogram { counts: counts.to_vec(), sum })
}

fn broker_stats(broker: BrokerStats, outside: Outside, limits: &Limits) -> wire::BrokerStats {
    let Outside { restore_ms, guests, auth_failures, refused, commit, usage, .. } = outside;
    let Reload { at, failed } = outside.reload;
    wire::BrokerStats {
        server_version: env!("CARGO_PKG_VERSION").into(),
        started_at_ms: broker.started_at,
        uptime_ms: broker.uptime_ms,
        restore_ms,
        connections: broker.connections,
        connections_before_hello: guests,
        connections_max: limits.connections_max,
        workers: broker.workers,
        workers_lost: broker.workers_lost,
        mailboxes: broker.mailboxes,
        tasks: broker.tasks,
        draining: broker.draining,
        removed_queues: Some(queue_counters(broker.removed)),
        auth_failures: Some(auth(auth_failures)),
        refused: refused
            .into_iter()
            .map(|(refused, total)| wire::RefusedCount { code: code(refused) as i32, total })
            .collect(),
        commit: histogram(commit),
        commit_bounds_us: COMMIT_BOUNDS_US.to_vec(),
        data: usage.map(data_usage),
        certificate_expires_at_ms: outside.certificate_expires_at,
        reloaded_at_ms: at,
        reload_failed: failed,
        process: Some(process(outside.process)),
    }
}

fn auth(failures: AuthFailures) -> wire::AuthFailures {
    wire::AuthFailures {
        token_missing_total: failures.token_missing,
        token_wrong_total: failures.token_wrong,
        certificate_total: failures.certificate,
        handshake_total: failures.handshake,
    }
}

fn process(process: Process) -> wire::ProcessStats {
    let Process { memory_bytes, cpu_us, open_files, open_files_max } = process;
    wire::ProcessStats { memory_bytes, cpu_us, open_files, open_files_max }
}
