//! A queue as programs read it, and the parts of its row for people that `queues` and `top` share.
//!
//! The names in [`QueueDocument`] are a contract with scripts: `cli/README.md` lists them, and a
//! test compares the two.

use celeriac_client::{QueueInfo, QueueSettings};
use serde::Serialize;

use crate::time::{rough, whole_ms};

/// A queue for programs.
#[derive(Serialize)]
pub(crate) struct QueueDocument<'a> {
    queue: &'a str,
    ready: u64,
    scheduled: u64,
    leased: u64,
    dead: u64,
    oldest_ready_ms: u64,
    paused: bool,
    workers: u32,
    submitted_total: u64,
    ended_total: u64,
    bytes: u64,
    submitted_per_second: f64,
    ended_per_second: f64,
    #[serde(flatten)]
    settings: QueueSettingsDocument,
}

/// The settings of a queue for programs.
#[derive(Serialize)]
pub(crate) struct QueueSettingsDocument {
    tasks_max: Option<u64>,
    bytes_max: Option<u64>,
    expires_in_ms: Option<u64>,
    result_ttl_ms: Option<u64>,
}

impl<'a> QueueDocument<'a> {
    pub(crate) fn new(queue: &'a QueueInfo) -> Self {
        Self {
            queue: &queue.name,
            ready: queue.ready,
            scheduled: queue.scheduled,
            leased: queue.leased,
            dead: queue.dead,
            oldest_ready_ms: whole_ms(queue.oldest_ready),
            paused: queue.paused,
            workers: queue.workers,
            submitted_total: queue.submitted_total,
            ended_total: queue.ended_total,
            bytes: queue.bytes,
            submitted_per_second: queue.submitted_per_second,
            ended_per_second: queue.ended_per_second,
            settings: QueueSettingsDocument::new(&queue.settings),
        }
    }

    /// The same queue with rates that the caller measured.
    pub(crate) fn with_rates(self, submitted_per_second: f64, ended_per_second: f64) -> Self {
        Self { submitted_per_second, ended_per_second, ..self }
    }
}

impl QueueSettingsDocument {
    pub(crate) fn new(settings: &QueueSettings) -> Self {
        Self {
            tasks_max: settings.tasks_max,
            bytes_max: settings.bytes_max,
            expires_in_ms: settings.expires_in.map(whole_ms),
            result_ttl_ms: settings.result_ttl.map(whole_ms),
        }
    }
}

/// How long the oldest ready task has waited.
pub(crate) fn oldest_ready(queue: &QueueInfo) -> String {
    if queue.ready > 0 { rough(whole_ms(queue.oldest_ready)) } else { "-".to_owned() }
}

/// Why the queue delivers no tasks, or takes no new ones; empty if it does both.
pub(crate) fn note(queue: &QueueInfo) -> &'static str {
    let unfinished = queue.ready + queue.scheduled + queue.leased;
    let reached = |bound: Option<u64>, present: u64| bound.is_some_and(|bound| present >= bound);
    match (queue.paused, queue.workers) {
        (true, _) => "paused",
        (false, 0) if queue.ready > 0 => "no worker",
        _ if reached(queue.settings.tasks_max, unfinished) => "full",
        _ if reached(queue.settings.bytes_max, queue.bytes) => "full",
        _ => "",
    }
}
