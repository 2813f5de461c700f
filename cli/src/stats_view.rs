//! The counters of queues and of the broker, for `stats`: as programs read them, and for people.
//!
//! The names in the documents are a contract with scripts: `cli/README.md` lists them, and a test
//! compares the two.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::time::{Duration, SystemTime};

use celeriac_client::{BrokerStats, Histogram, QueueStats};
use celeriac_proto::code_name;
use serde::Serialize;

use crate::byte_size::rough_bytes;
use crate::line::{Text, Tone};
use crate::table::{ALWAYS, Column, Table};
use crate::time::{absolute, ms, rough, whole_ms};

/// The counters of a queue for programs.
#[derive(Serialize)]
pub(crate) struct QueueStatsDocument<'a> {
    queue: &'a str,
    paused: bool,
    scheduled: u64,
    ready: u64,
    leased: u64,
    started: u64,
    dead: u64,
    oldest_ready_ms: u64,
    bytes: u64,
    workers: u32,
    slots_busy: u64,
    slots_free: u64,
    waiting_paused: u64,
    waiting_no_worker: u64,
    submitted_total: u64,
    succeeded_total: u64,
    failed_total: u64,
    revoked_total: u64,
    retried_total: u64,
    deliveries_total: u64,
    requeued_worker_lost_total: u64,
    requeued_released_total: u64,
    requeued_taken_back_total: u64,
    wait: HistogramDocument,
    run: HistogramDocument,
}

/// Spans in buckets, for programs.
#[derive(Serialize)]
struct HistogramDocument {
    bounds_us: Vec<u64>,
    counts: Vec<u64>,
    sum_us: u64,
}

/// The counters of the broker for programs.
#[derive(Serialize)]
pub(crate) struct BrokerStatsDocument {
    version: String,
    uptime_ms: u64,
    restore_ms: u64,
    connections: u32,
    connections_before_hello: u32,
    tasks: u64,
    not_let_in_total: BTreeMap<&'static str, u64>,
    refused_total: BTreeMap<String, u64>,
    commit: HistogramDocument,
    certificate_expires_at_ms: Option<i64>,
    reloaded_at_ms: i64,
    reload_failed: bool,
    memory_bytes: Option<u64>,
    cpu_us: Option<u64>,
    open_files: Option<u64>,
    open_files_max: Option<u64>,
}

fn whole_us(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}

impl HistogramDocument {
    fn new(histogram: &Histogram) -> Self {
        Self {
            bounds_us: histogram.bounds().iter().copied().map(whole_us).collect(),
            counts: histogram.counts().to_vec(),
            sum_us: whole_us(histogram.sum()),
        }
    }
}

impl<'a> QueueStatsDocument<'a> {
    pub(crate) fn new(queue: &'a QueueStats, at: SystemTime) -> Self {
        let counters = &queue.counters;
        Self {
            queue: &queue.name,
            paused: queue.paused,
            scheduled: queue.scheduled,
            ready: queue.ready,
            leased: queue.leased,
            started: queue.started,
            dead: queue.dead,
            oldest_ready_ms: oldest_ready_ms(queue, at).unwrap_or(0),
            bytes: queue.bytes,
            workers: queue.workers,
            slots_busy: queue.slots_busy,
            slots_free: queue.slots_free,
            waiting_paused: queue.waiting_paused,
            waiting_no_worker: queue.waiting_no_worker,
            submitted_total: counters.submitted,
            succeeded_total: counters.succeeded,
            failed_total: counters.failed,
            revoked_total: counters.revoked,
            retried_total: counters.retried,
            deliveries_total: counters.deliveries,
            requeued_worker_lost_total: counters.requeued_worker_lost,
            requeued_released_total: counters.requeued_released,
            requeued_taken_back_total: counters.requeued_taken_back,
            wait: HistogramDocument::new(&counters.wait),
            run: HistogramDocument::new(&counters.run),
        }
    }
}

impl BrokerStatsDocument {
    pub(crate) fn new(broker: &BrokerStats) -> Self {
        let process = &broker.process;
        Self {
            version: broker.version.clone(),
            uptime_ms: whole_ms(broker.uptime),
            restore_ms: whole_ms(broker.restore),
            connections: broker.connections,
            connections_before_hello: broker.connections_before_hello,
            tasks: broker.tasks,
            not_let_in_total: not_let_in(broker).into_iter().collect(),
            refused_total: refused(broker).into_iter().collect(),
            commit: HistogramDocument::new(&broker.commit),
            certificate_expires_at_ms: broker.certificate_expires_at.map(ms),
            reloaded_at_ms: ms(broker.reloaded_at),
            reload_failed: broker.reload_failed,
            memory_bytes: process.memory_bytes,
            cpu_us: process.cpu.map(whole_us),
            open_files: process.open_files,
            open_files_max: process.open_files_max,
        }
    }
}

fn not_let_in(broker: &BrokerStats) -> [(&'static str, u64); 4] {
    let failures = &broker.auth_failures;
    [
        ("token_missing", failures.token_missing),
        ("token_wrong", failures.token_wrong),
        ("certificate", failures.certificate),
        ("handshake", failures.handshake),
    ]
}

fn refused(broker: &BrokerStats) -> Vec<(String, u64)> {
    broker.refused.iter().map(|(code, total)| (code_name(*code), *total)).collect()
}

fn oldest_ready_ms(queue: &QueueStats, at: SystemTime) -> Option<u64> {
    Some(whole_ms(at.duration_since(queue.oldest_ready_at?).unwrap_or_default()))
}

/// The span within which 95 of 100 spans lie: the bound of their bucket.
fn most(histogram: &Histogram) -> String {
    let needed = histogram.count().saturating_mul(95).div_ceil(100);
    if needed == 0 {
        return "-".to_owned();
    }
    let mut within = 0;
    let bucket = histogram.counts().iter().position(|count| {
        within += count;
        within >= needed
    });
    match (bucket.and_then(|bucket| histogram.bounds().get(bucket)), histogram.bounds().last()) {
        (Some(bound), _) => rough(whole_ms(*bound)),
        (None, Some(last)) => format!(">{}", rough(whole_ms(*last))),
        (None, None) => "-".to_owned(),
    }
}

/// The queues for people.
pub(crate) fn table(queues: &[QueueStats]) -> Table {
    let mut table = Table::new(&[
        Column::name("QUEUE", 16),
        Column::number("READY", ALWAYS),
        Column::number("STARTED", 2),
        Column::number("FREE", 5),
        Column::number("SUBMITTED", 6),
        Column::number("DELIVERED", 8),
        Column::number("SUCCEEDED", 7),
        Column::number("FAILED", 1),
        Column::number("RETRIED", 9),
        Column::number("LOST", 10),
        Column::number("WAIT95", 3),
        Column::number("RUN95", 4),
    ]);
    for queue in queues {
        let counters = &queue.counters;
        let number = |number: u64| Text::from(number.to_string());
        table.push(vec![
            queue.name.as_str().into(),
            number(queue.ready),
            number(queue.started),
            number(queue.slots_free),
            number(counters.submitted),
            number(counters.deliveries),
            number(counters.succeeded),
            bad(counters.failed),
            number(counters.retried),
            bad(counters.requeued_worker_lost),
            most(&counters.wait).into(),
            most(&counters.run).into(),
        ]);
    }
    table
}

/// A number that is bad unless it is 0.
fn bad(number: u64) -> Text {
    Text::new(&number.to_string(), if number > 0 { Tone::Bad } else { Tone::Plain })
}

/// One queue with all its numbers.
pub(crate) fn details(queue: &QueueStats, at: SystemTime) -> Vec<(&'static str, Text)> {
    let counters = &queue.counters;
    let number = |number: u64| Text::from(number.to_string());
    let oldest = oldest_ready_ms(queue, at).map_or("-".to_owned(), rough);
    let slots = format!("{} busy, {} free", queue.slots_busy, queue.slots_free);
    vec![
        ("queue", queue.name.as_str().into()),
        ("paused", if queue.paused { "yes" } else { "no" }.into()),
        ("scheduled", number(queue.scheduled)),
        ("ready", number(queue.ready)),
        ("leased", number(queue.leased)),
        ("started", number(queue.started)),
        ("dead", bad(queue.dead)),
        ("oldest", oldest.into()),
        ("bytes", number(queue.bytes)),
        ("workers", number(queue.workers.into())),
        ("slots", slots.into()),
        ("unserved", bad(queue.waiting_no_worker)),
        ("submitted", number(counters.submitted)),
        ("succeeded", number(counters.succeeded)),
        ("failed", bad(counters.failed)),
        ("revoked", number(counters.revoked)),
        ("retried", number(counters.retried)),
        ("delivered", number(counters.deliveries)),
        ("lost", bad(counters.requeued_worker_lost)),
        ("released", number(counters.requeued_released)),
        ("taken back", number(counters.requeued_taken_back)),
        ("wait 95 %", most(&counters.wait).into()),
        ("run 95 %", most(&counters.run).into()),
    ]
}

/// Names with their numbers, without those that are 0.
fn list(named: impl IntoIterator<Item = (impl Display, u64)>) -> String {
    let some = named.into_iter().filter(|(_, total)| *total > 0);
    let some: Vec<String> = some.map(|(name, total)| format!("{name} {total}")).collect();
    if some.is_empty() { "none".to_owned() } else { some.join(", ") }
}

/// The broker's own numbers for people.
pub(crate) fn broker_details(broker: &BrokerStats) -> Vec<(&'static str, Text)> {
    let process = &broker.process;
    let unknown = || "-".to_owned();
    let files = process.open_files.map_or_else(unknown, |open| match process.open_files_max {
        Some(most) => format!("{open} of {most}"),
        None => open.to_string(),
    });
    let reload = match broker.reload_failed {
        true => Text::new("failed: the settings of before count", Tone::Bad),
        false => "taken".into(),
    };
    let expires = broker.certificate_expires_at.map(|at| absolute(ms(at)));
    vec![
        ("version", broker.version.as_str().into()),
        ("uptime", rough(whole_ms(broker.uptime)).into()),
        ("restore", rough(whole_ms(broker.restore)).into()),
        ("tasks", broker.tasks.to_string().into()),
        ("connections", broker.connections.to_string().into()),
        ("before Hello", broker.connections_before_hello.to_string().into()),
        ("not let in", list(not_let_in(broker)).into()),
        ("refused", list(refused(broker)).into()),
        ("commits", broker.commit.count().to_string().into()),
        ("commit 95 %", most(&broker.commit).into()),
        ("settings", reload),
        ("reloaded", absolute(ms(broker.reloaded_at)).into()),
        ("certificate", expires.unwrap_or_else(unknown).into()),
        ("memory", process.memory_bytes.map_or_else(unknown, rough_bytes).into()),
        ("processor", process.cpu.map_or_else(unknown, |cpu| rough(whole_ms(cpu))).into()),
        ("open files", files.into()),
    ]
}
