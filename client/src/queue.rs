//! What an operator sees of a queue and can set on it.

use std::time::Duration;

use celeriac_proto::wire;

use crate::info::span_ms;

/// A queue and what is in it now.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct QueueInfo {
    /// Its name.
    pub name: String,
    /// Tasks that could be started.
    pub ready: u64,
    /// Tasks that wait for their time.
    pub scheduled: u64,
    /// Tasks that workers hold, started or not.
    pub leased: u64,
    /// Tasks that ended as Failure and are kept.
    pub dead: u64,
    /// How long the oldest ready task has waited.
    pub oldest_ready: Duration,
    /// Nothing is delivered until it is resumed.
    pub paused: bool,
    /// Connected workers that serve it.
    pub workers: u32,
    /// Tasks submitted since the broker started.
    pub submitted_total: u64,
    /// Tasks ended since the broker started.
    pub ended_total: u64,
    /// Over the last ten seconds.
    pub submitted_per_second: f64,
    /// Over the last ten seconds.
    pub ended_per_second: f64,
    /// Payload bytes of tasks that have not ended.
    pub bytes: u64,
    /// Its bounds and defaults.
    pub settings: QueueSettings,
}

/// The bounds of a queue, and the defaults of tasks that name none. `None`: no bound, or the
/// broker's default.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct QueueSettings {
    /// Submits over so many tasks are refused as `queue_full`.
    pub tasks_max: Option<u64>,
    /// Submits over so many payload bytes are refused as `queue_full`.
    pub bytes_max: Option<u64>,
    /// No attempt of a task begins after this span, from its submit or its eta.
    pub expires_in: Option<Duration>,
    /// How long an ended task is kept.
    pub result_ttl: Option<Duration>,
}

impl QueueSettings {
    pub(crate) fn to_wire(self) -> wire::QueueSettings {
        wire::QueueSettings {
            tasks_max: self.tasks_max,
            bytes_max: self.bytes_max,
            expires_in_ms: self.expires_in.map(span_ms),
            result_ttl_ms: self.result_ttl.map(span_ms),
        }
    }
}

impl From<wire::QueueSettings> for QueueSettings {
    fn from(settings: wire::QueueSettings) -> Self {
        Self {
            tasks_max: settings.tasks_max,
            bytes_max: settings.bytes_max,
            expires_in: settings.expires_in_ms.map(Duration::from_millis),
            result_ttl: settings.result_ttl_ms.map(Duration::from_millis),
        }
    }
}

impl From<wire::QueueInfo> for QueueInfo {
    fn from(queue: wire::QueueInfo) -> Self {
        Self {
            name: queue.name,
            ready: queue.ready,
            scheduled: queue.scheduled,
            leased: queue.leased,
            dead: queue.dead,
            oldest_ready: Duration::from_millis(queue.oldest_ready_ms),
            paused: queue.paused,
            workers: queue.workers,
            submitted_total: queue.submitted_total,
            ended_total: queue.ended_total,
            submitted_per_second: queue.submitted_per_second,
            ended_per_second: queue.ended_per_second,
            bytes: queue.bytes,
            settings: queue.settings.unwrap_or_default().into(),
        }
    }
}
