//! The words for the figures of monitors. Numbers that are 0 are left out.

use crate::command::{Histogram, QueueCounters, QueueStats, SPAN_BOUNDS_MS, Stats};

pub(super) fn words_of(stats: &Stats) -> String {
    let mut parts: Vec<String> = stats.queues.iter().map(queue).collect();
    if let Some(broker) = &stats.broker {
        let draining = if broker.draining { " draining" } else { "" };
        parts.push(format!(
            "broker: up {}ms connections {} workers {} lost {} tasks {}{draining}{}",
            broker.uptime_ms,
            broker.connections,
            broker.workers,
            broker.workers_lost,
            broker.tasks,
            counters("; gone", &broker.removed),
        ));
    }
    parts.extend(stats.next.as_ref().map(|next| format!("more after {next}")));
    parts.join(" | ")
}

fn queue(queue: &QueueStats) -> String {
    let present = [
        ("scheduled", queue.scheduled),
        ("ready", queue.ready),
        ("leased", queue.leased),
        ("started", queue.started),
        ("dead", queue.dead),
        ("bytes", queue.bytes),
        ("workers", queue.workers.into()),
        ("busy", queue.slots_busy),
        ("free", queue.slots_free),
        ("paused", queue.waiting_paused),
        ("unserved", queue.waiting_no_worker),
    ];
    let oldest = queue.oldest_ready_at.map_or(String::new(), |at| format!(" oldest {at}"));
    format!("{}:{}{oldest}{}", queue.name, numbers(&present), counters(";", &queue.counters))
}

fn counters(before: &str, counters: &QueueCounters) -> String {
    let counts = [
        ("submitted", counters.submitted),
        ("succeeded", counters.succeeded),
        ("failed", counters.failed),
        ("revoked", counters.revoked),
        ("retried", counters.retried),
        ("delivered", counters.deliveries),
        ("worker lost", counters.worker_lost),
        ("released", counters.released),
        ("taken back", counters.taken_back),
    ];
    let spans = counters.spans.as_deref().map_or(String::new(), |spans| {
        format!("{}{}", histogram("waits", &spans.wait), histogram("runs", &spans.run))
    });
    match numbers(&counts) + &spans {
        none if none.is_empty() => none,
        some => format!("{before}{some}"),
    }
}

fn numbers(named: &[(&str, u64)]) -> String {
    let some = named.iter().filter(|(_, number)| *number > 0);
    some.map(|(name, number)| format!(" {name} {number}")).collect()
}

fn histogram(name: &str, histogram: &Histogram) -> String {
    let bounds = SPAN_BOUNDS_MS.iter().map(|bound| format!("up to {bound}"));
    let buckets = bounds.chain(["above".to_owned()]).zip(histogram.counts);
    let filled = buckets.filter(|(_, count)| *count > 0);
    let filled: Vec<String> = filled.map(|(bound, count)| format!("{count} {bound}")).collect();
    match filled.is_empty() {
        true => String::new(),
        false => format!(" {name} [{}] {}ms", filled.join(", "), histogram.sum),
    }
}
