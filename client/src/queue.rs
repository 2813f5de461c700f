//! A queue as an operator sees it, and the settings of a queue.

use std::time::Duration;

use celeriac_proto::wire;

use crate::info::span_ms;

/// A queue and its present contents. Made by [`Client::queues`](crate::Client::queues).
///
/// ```no_run
/// # async fn example(client: celeriac_client::Client) -> Result<(), celeriac_client::Error> {
/// for queue in client.queues().await? {
///     println!("{}: {} ready, oldest {:?}", queue.name, queue.ready, queue.oldest_ready);
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct QueueInfo {
    /// The name of the queue.
    pub name: String,
    /// The number of tasks that a worker could start now.
    pub ready: u64,
    /// The number of tasks that wait for their ETA or their next attempt.
    pub scheduled: u64,
    /// The number of tasks that workers hold, started or not.
    pub leased: u64,
    /// The number of dead tasks: tasks that ended as Failure and are kept.
    pub dead: u64,
    /// How long the oldest ready task has waited.
    pub oldest_ready: Duration,
    /// Whether the queue is paused: the broker delivers nothing from it until it is resumed.
    pub paused: bool,
    /// The number of connected workers that serve the queue.
    pub workers: u32,
    /// The number of tasks submitted since the broker started.
    pub submitted_total: u64,
    /// The number of tasks ended since the broker started.
    pub ended_total: u64,
    /// Submits per second, over the last ten seconds.
    pub submitted_per_second: f64,
    /// Ended tasks per second, over the last ten seconds.
    pub ended_per_second: f64,
    /// The payload bytes of the tasks that have not ended.
    pub bytes: u64,
    /// The queue's bounds and defaults.
    pub settings: QueueSettings,
}

/// The bounds of a queue, and the options of those of its tasks that set none themselves. `None`
/// means no bound, or the broker's default.
/// [`Client::configure_queue`](crate::Client::configure_queue) replaces all settings of a queue at
/// once.
///
/// ```
/// use std::time::Duration;
///
/// use celeriac_client::QueueSettings;
///
/// let settings = QueueSettings {
///     tasks_max: Some(100_000),
///     result_ttl: Some(Duration::from_secs(3_600)),
///     ..QueueSettings::default()
/// };
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct QueueSettings {
    /// The most tasks in the queue. The broker refuses further submits as `queue_full`.
    pub tasks_max: Option<u64>,
    /// The most payload bytes in the queue. The broker refuses further submits as `queue_full`.
    pub bytes_max: Option<u64>,
    /// No attempt of a task begins after this span, counted from its submit or its ETA.
    pub expires_in: Option<Duration>,
    /// How long the broker keeps an ended task.
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
