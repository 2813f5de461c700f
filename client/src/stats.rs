//! The counters of the broker and of its queues, for monitors that ask every few seconds.

use std::ops::{AddAssign, SubAssign};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use celeriac_proto::wire::{self, client_frame, server_frame};

use crate::broker::DataUsage;
use crate::client::{Client, owned};
use crate::error::{Error, ErrorCode};
use crate::info::time;

/// The counters of queues and of the broker itself. Made by [`Client::stats`].
///
/// ```no_run
/// # async fn example(client: celeriac_client::Client) -> Result<(), celeriac_client::Error> {
/// for queue in client.stats().await?.queues {
///     let counters = &queue.counters;
///     println!("{}: {} delivered, {} failed", queue.name, counters.deliveries, counters.failed);
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Stats {
    /// When the broker took the figures, by its wall clock. The figures of further pages are a
    /// little later.
    pub at: SystemTime,
    /// The broker itself. `None` for a client whose access has a scope.
    pub broker: Option<BrokerStats>,
    /// The queues, in order of name.
    pub queues: Vec<QueueStats>,
}

/// The figures of one queue.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct QueueStats {
    /// The name of the queue.
    pub name: String,
    /// Whether the queue is paused.
    pub paused: bool,
    /// The number of tasks that wait for their ETA or their next attempt.
    pub scheduled: u64,
    /// The number of tasks that a worker could start now.
    pub ready: u64,
    /// The number of tasks that workers hold and have not begun.
    pub leased: u64,
    /// The number of tasks that run.
    pub started: u64,
    /// The number of dead tasks: tasks that ended as Failure and are kept.
    pub dead: u64,
    /// Since when the oldest ready task is ready. `None` without a ready task, and while very many
    /// tasks that left the line stand in front of it.
    pub oldest_ready_at: Option<SystemTime>,
    /// The payload bytes of the tasks that have not ended.
    pub bytes: u64,
    /// The number of connected workers that serve the queue.
    pub workers: u32,
    /// The handlers that these workers run at once, together, as far as they are not free.
    pub slots_busy: u64,
    /// The handlers of these workers that are free. A worker of several queues counts in each of
    /// them.
    pub slots_free: u64,
    /// The number of ready tasks that wait because the queue is paused.
    pub waiting_paused: u64,
    /// The number of ready tasks that wait because no worker that serves the queue and takes tasks
    /// knows their name. 0 for a paused queue.
    pub waiting_no_worker: u64,
    /// What has happened in the queue.
    pub counters: QueueCounters,
}

/// What has happened in a queue since the broker's start, or since the queue was made anew. These
/// numbers never fall.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct QueueCounters {
    /// The number of tasks that were submitted or replayed.
    pub submitted: u64,
    /// The number of tasks that ended as Success.
    pub succeeded: u64,
    /// The number of tasks that ended as Failure.
    pub failed: u64,
    /// The number of tasks that ended as Revoked.
    pub revoked: u64,
    /// The number of runs that failed and whose tasks waited for another attempt.
    pub retried: u64,
    /// The number of leases that workers got.
    pub deliveries: u64,
    /// How often a task went back to the queue because its worker was lost.
    pub requeued_worker_lost: u64,
    /// How often a task went back to the queue because its worker handed it back.
    pub requeued_released: u64,
    /// How often the broker took a task back from a worker that had not begun it: for a pause, or
    /// for an idle worker.
    pub requeued_taken_back: u64,
    /// How long tasks were ready before a worker got them. The time before an ETA is not in it.
    pub wait: Histogram,
    /// How long handlers ran, up to an outcome.
    pub run: Histogram,
}

impl AddAssign<&QueueCounters> for QueueCounters {
    /// The counters of two queues together.
    fn add_assign(&mut self, other: &Self) {
        self.combine(other, u64::saturating_add);
        self.wait.combine(&other.wait, u64::saturating_add, Duration::saturating_add);
        self.run.combine(&other.run, u64::saturating_add, Duration::saturating_add);
    }
}

impl SubAssign<&QueueCounters> for QueueCounters {
    /// What has happened since other, earlier counters of the same queue. No number falls below 0.
    fn sub_assign(&mut self, other: &Self) {
        self.combine(other, u64::saturating_sub);
        self.wait.combine(&other.wait, u64::saturating_sub, Duration::saturating_sub);
        self.run.combine(&other.run, u64::saturating_sub, Duration::saturating_sub);
    }
}

impl QueueCounters {
    /// Combines all numbers but the histograms.
    fn combine(&mut self, other: &Self, by: fn(u64, u64) -> u64) {
        for (number, other) in [
            (&mut self.submitted, other.submitted),
            (&mut self.succeeded, other.succeeded),
            (&mut self.failed, other.failed),
            (&mut self.revoked, other.revoked),
            (&mut self.retried, other.retried),
            (&mut self.deliveries, other.deliveries),
            (&mut self.requeued_worker_lost, other.requeued_worker_lost),
            (&mut self.requeued_released, other.requeued_released),
            (&mut self.requeued_taken_back, other.requeued_taken_back),
        ] {
            *number = by(*number, other);
        }
    }
}

/// Spans in buckets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Histogram {
    bounds: Arc<[Duration]>,
    counts: Vec<u64>,
    sum: Duration,
}

impl Histogram {
    /// The upper bounds of the buckets, rising. A span that is as long as a bound is in the bucket
    /// of that bound.
    pub fn bounds(&self) -> &[Duration] {
        &self.bounds
    }

    /// The number of spans in each bucket, not those of the buckets before it. There is one number
    /// more than bounds: the last is of the spans above all bounds.
    pub fn counts(&self) -> &[u64] {
        &self.counts
    }

    /// The number of spans.
    pub fn count(&self) -> u64 {
        self.counts.iter().fold(0, |sum, count| sum.saturating_add(*count))
    }

    /// All spans together.
    pub fn sum(&self) -> Duration {
        self.sum
    }

    /// Combines two histograms with the same bounds.
    fn combine(
        &mut self,
        other: &Self,
        counts: fn(u64, u64) -> u64,
        sums: fn(Duration, Duration) -> Duration,
    ) {
        for (count, other) in self.counts.iter_mut().zip(&other.counts) {
            *count = counts(*count, *other);
        }
        self.sum = sums(self.sum, other.sum);
    }

    /// `to_span` gives the unit. An absent or short list of counts is one of buckets without spans.
    fn new(
        wire: Option<wire::Histogram>,
        bounds: &Arc<[Duration]>,
        to_span: fn(u64) -> Duration,
    ) -> Self {
        let wire::Histogram { mut counts, sum } = wire.unwrap_or_default();
        counts.resize(bounds.len() + 1, 0);
        Self { bounds: bounds.clone(), counts, sum: to_span(sum) }
    }
}

/// The figures of the broker itself.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct BrokerStats {
    /// The broker's version.
    pub version: String,
    /// When the broker began to serve, by its wall clock.
    pub started_at: SystemTime,
    /// How long the broker has served.
    pub uptime: Duration,
    /// How long the broker took to read its data folder before that.
    pub restore: Duration,
    /// The number of connections, this one and those of workers included.
    pub connections: u32,
    /// The number of connections whose handshake is not over.
    pub connections_before_hello: u32,
    /// The most connections that the broker accepts.
    pub connections_max: u32,
    /// The number of connected workers.
    pub workers: u32,
    /// The number of workers whose connection is lost and whose tasks the broker still keeps for
    /// them.
    pub workers_lost: u32,
    /// The number of mailboxes.
    pub mailboxes: u32,
    /// The number of tasks that the broker knows, ended tasks included.
    pub tasks: u64,
    /// Whether an operator drains the broker: it delivers no task.
    pub draining: bool,
    /// The counters of queues that are gone: the sums over all queues and this never fall.
    pub removed_queues: QueueCounters,
    /// The connections that were not let in.
    pub auth_failures: AuthFailures,
    /// How often a request, a task of a submit, an outcome, a report or a connection was refused,
    /// by code. A code that this crate does not know is [`ErrorCode::Unspecified`].
    pub refused: Vec<(ErrorCode, u64)>,
    /// How long the commits took that wrote something.
    pub commit: Histogram,
    /// How full the data folder and its disk are. `None` where the system does not tell.
    pub data: Option<DataUsage>,
    /// When the broker's certificate expires. `None` without TLS.
    pub certificate_expires_at: Option<SystemTime>,
    /// When somebody last had the settings read again; the broker's start before the first time.
    pub reloaded_at: SystemTime,
    /// Whether nothing of those settings was taken, because one of them cannot be used.
    pub reload_failed: bool,
    /// The broker's process.
    pub process: ProcessStats,
}

/// How many connections were not let in, by reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct AuthFailures {
    /// They sent no token.
    pub token_missing: u64,
    /// They sent a token that is wrong or has expired.
    pub token_wrong: u64,
    /// No entry of the access file names their certificate.
    pub certificate: u64,
    /// Their handshake of TLS failed.
    pub handshake: u64,
}

/// The broker's process. `None` where the system does not tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct ProcessStats {
    /// The memory that is in use, in bytes.
    pub memory_bytes: Option<u64>,
    /// The processor time of all threads.
    pub cpu: Option<Duration>,
    /// The number of open file descriptors.
    pub open_files: Option<u64>,
    /// The most file descriptors that the process may have.
    pub open_files_max: Option<u64>,
}

impl Client {
    /// The counters of all queues and of the broker itself. The broker copies them, and looks at no
    /// task for them, so a monitor may ask every few seconds.
    ///
    /// # Errors
    /// As [`Client::broker_info`].
    pub async fn stats(&self) -> Result<Stats, Error> {
        self.request_stats(Vec::new()).await
    }

    /// The counters of these queues and of the broker itself. A queue that does not exist is left
    /// out.
    ///
    /// # Errors
    /// As [`Client::broker_info`].
    pub async fn stats_of(&self, queues: &[impl AsRef<str>]) -> Result<Stats, Error> {
        self.request_stats(owned(queues)).await
    }

    async fn request_stats(&self, queues: Vec<String>) -> Result<Stats, Error> {
        let (mut pages, mut cursor) = (None::<Stats>, Bytes::new());
        loop {
            let request = wire::Stats { queues: queues.clone(), cursor };
            let server_frame::Body::StatsReply(page) =
                self.request(client_frame::Body::Stats(request)).await?
            else {
                return Err(Error::unexpected("a StatsReply"));
            };
            cursor = page.cursor.clone();
            let page = Stats::from(page);
            let stats = match pages.take() {
                None => page,
                Some(mut stats) => {
                    stats.queues.extend(page.queues);
                    stats
                }
            };
            if cursor.is_empty() {
                return Ok(stats);
            }
            pages = Some(stats);
        }
    }
}

fn spans(bounds: &[u64], to_span: fn(u64) -> Duration) -> Arc<[Duration]> {
    bounds.iter().map(|bound| to_span(*bound)).collect()
}

impl From<wire::StatsReply> for Stats {
    fn from(page: wire::StatsReply) -> Self {
        let bounds = spans(&page.bounds_ms, Duration::from_millis);
        let queues = page.queues.into_iter().map(|queue| QueueStats::new(queue, &bounds));
        Self {
            at: time(page.at_ms),
            broker: page.broker.map(|broker| BrokerStats::new(broker, &bounds)),
            queues: queues.collect(),
        }
    }
}

impl QueueStats {
    fn new(queue: wire::QueueStats, bounds: &Arc<[Duration]>) -> Self {
        Self {
            name: queue.name,
            paused: queue.paused,
            scheduled: queue.scheduled,
            ready: queue.ready,
            leased: queue.leased,
            started: queue.started,
            dead: queue.dead,
            oldest_ready_at: queue.oldest_ready_at_ms.map(time),
            bytes: queue.bytes,
            workers: queue.workers,
            slots_busy: queue.slots_busy,
            slots_free: queue.slots_free,
            waiting_paused: queue.waiting_paused,
            waiting_no_worker: queue.waiting_no_worker,
            counters: QueueCounters::new(queue.counters, bounds),
        }
    }
}

impl QueueCounters {
    fn new(counters: Option<wire::QueueCounters>, bounds: &Arc<[Duration]>) -> Self {
        let counters = counters.unwrap_or_default();
        Self {
            submitted: counters.submitted_total,
            succeeded: counters.succeeded_total,
            failed: counters.failed_total,
            revoked: counters.revoked_total,
            retried: counters.retried_total,
            deliveries: counters.deliveries_total,
            requeued_worker_lost: counters.requeued_worker_lost_total,
            requeued_released: counters.requeued_released_total,
            requeued_taken_back: counters.requeued_taken_back_total,
            wait: Histogram::new(counters.wait, bounds, Duration::from_millis),
            run: Histogram::new(counters.run, bounds, Duration::from_millis),
        }
    }
}

impl BrokerStats {
    fn new(broker: wire::BrokerStats, bounds: &Arc<[Duration]>) -> Self {
        let commit_bounds = spans(&broker.commit_bounds_us, Duration::from_micros);
        let auth = broker.auth_failures.unwrap_or_default();
        let process = broker.process.unwrap_or_default();
        Self {
            version: broker.server_version,
            started_at: time(broker.started_at_ms),
            uptime: Duration::from_millis(broker.uptime_ms),
            restore: Duration::from_millis(broker.restore_ms),
            connections: broker.connections,
            connections_before_hello: broker.connections_before_hello,
            connections_max: broker.connections_max,
            workers: broker.workers,
            workers_lost: broker.workers_lost,
            mailboxes: broker.mailboxes,
            tasks: broker.tasks,
            draining: broker.draining,
            removed_queues: QueueCounters::new(broker.removed_queues, bounds),
            auth_failures: AuthFailures {
                token_missing: auth.token_missing_total,
                token_wrong: auth.token_wrong_total,
                certificate: auth.certificate_total,
                handshake: auth.handshake_total,
            },
            refused: broker.refused.iter().map(|each| (each.code(), each.total)).collect(),
            commit: Histogram::new(broker.commit, &commit_bounds, Duration::from_micros),
            data: broker.data.map(DataUsage::from),
            certificate_expires_at: broker.certificate_expires_at_ms.map(time),
            reloaded_at: time(broker.reloaded_at_ms),
            reload_failed: broker.reload_failed,
            process: ProcessStats {
                memory_bytes: process.memory_bytes,
                cpu: process.cpu_us.map(Duration::from_micros),
                open_files: process.open_files,
                open_files_max: process.open_files_max,
            },
        }
    }
}
