//! A queue as programs read it.
//!
//! The names in [`QueueDocument`] are a contract with scripts: `cli/README.md` lists them, and a
//! test compares the two.

use celeriac_client::{QueueInfo, QueueSettings};
use serde::Serialize;
use utoipa::ToSchema;

use super::json::Count;
use crate::time::whole_ms;

/// A queue for programs.
#[derive(Serialize, ToSchema)]
pub struct QueueDocument<'a> {
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
#[derive(Serialize, ToSchema)]
pub struct QueueSettingsDocument {
    tasks_max: Option<Count>,
    bytes_max: Option<Count>,
    expires_in_ms: Option<Count>,
    result_ttl_ms: Option<Count>,
}

impl<'a> QueueDocument<'a> {
    /// The document of what the client has read.
    pub fn new(queue: &'a QueueInfo) -> Self {
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
    pub fn with_rates(self, submitted_per_second: f64, ended_per_second: f64) -> Self {
        Self { submitted_per_second, ended_per_second, ..self }
    }
}

impl QueueSettingsDocument {
    /// The document of these settings.
    pub fn new(settings: &QueueSettings) -> Self {
        Self {
            tasks_max: settings.tasks_max.map(Count),
            bytes_max: settings.bytes_max.map(Count),
            expires_in_ms: settings.expires_in.map(whole_ms).map(Count),
            result_ttl_ms: settings.result_ttl.map(whole_ms).map(Count),
        }
    }
}
