//! The broker itself as an operator sees it: what it holds, how full its disk is, and its limits.

use std::time::{Duration, SystemTime};

use celeriac_proto::wire;

use crate::info::time;

/// The broker and its present figures. Made by [`Client::broker_info`](crate::Client::broker_info).
///
/// ```no_run
/// # async fn example(client: celeriac_client::Client) -> Result<(), celeriac_client::Error> {
/// let broker = client.broker_info().await?;
/// println!("{} has served for {:?}", broker.version, broker.uptime);
/// if broker.data.is_some_and(|data| data.disk_is_low) {
///     println!("its disk is low: it takes no new tasks");
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct BrokerInfo {
    /// The broker's version.
    pub version: String,
    /// The version of the protocol that the connection uses.
    pub protocol: u32,
    /// When the broker began to serve, by its wall clock.
    pub started_at: SystemTime,
    /// How long the broker has served.
    pub uptime: Duration,
    /// The memory of the broker's process that is in use, in bytes. `None` where the system does
    /// not tell.
    pub memory_bytes: Option<u64>,
    /// The number of connections, this one included.
    pub connections: u32,
    /// The most connections that the broker accepts.
    pub connections_max: u32,
    /// The number of connected workers.
    pub workers: u32,
    /// The number of workers whose connection is lost. The broker keeps their leases for the lease
    /// time.
    pub workers_lost: u32,
    /// The number of queues, as [`Client::queues`](crate::Client::queues) lists them.
    pub queues: u32,
    /// The number of mailboxes.
    pub mailboxes: u32,
    /// The number of tasks that a worker could start now.
    pub ready: u64,
    /// The number of tasks that wait for their ETA or their next attempt.
    pub scheduled: u64,
    /// The number of tasks that workers hold, started or not.
    pub leased: u64,
    /// The number of dead tasks: tasks that ended as Failure and are kept.
    pub dead: u64,
    /// The number of tasks that ended as Success or Revoked and are kept.
    pub ended: u64,
    /// Whether an operator drains the broker: it delivers no task.
    pub draining: bool,
    /// How full the data folder and its disk are. `None` where the system does not tell.
    pub data: Option<DataUsage>,
    /// The bounds that the broker enforces.
    pub limits: BrokerLimits,
}

/// How full the data folder and its disk are, as [`BrokerInfo`] tells it. The figures are at most a
/// second old.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct DataUsage {
    /// The bytes of records that still matter.
    pub live_bytes: u64,
    /// The bytes of all records: at most about twice the live bytes, and 64 MiB.
    pub log_bytes: u64,
    /// The bytes of the files that hold the log: the file `db` in the data folder, and those of the
    /// journal.
    pub file_bytes: u64,
    /// The bytes within the file `db` to which the broker writes again before it grows.
    pub reusable_bytes: u64,
    /// The free bytes on the disk.
    pub disk_free_bytes: u64,
    /// The size of the disk in bytes.
    pub disk_bytes: u64,
    /// The room that is left: the free and the reusable bytes, less those that the broker's journal
    /// still has to move to the file `db`.
    pub usable_bytes: u64,
    /// The disk is low when the usable bytes are below this.
    pub disk_low_bytes: u64,
    /// Whether the disk is low. Then the broker refuses new tasks as `disk_full`.
    pub disk_is_low: bool,
}

/// The bounds that the broker enforces, as [`BrokerInfo`] tells them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct BrokerLimits {
    /// The longest frame in bytes.
    pub frame_bytes_max: u64,
    /// The largest payload of a task in bytes.
    pub payload_bytes_max: u64,
    /// The largest result of a task in bytes.
    pub result_bytes_max: u64,
    /// The most items in one request.
    pub batch_items_max: u32,
    /// The most unanswered requests of a connection.
    pub requests_in_flight_max: u32,
    /// The most tasks that one worker may hold.
    pub credit_max: u32,
    /// How often an idle client sends a sign of life.
    pub heartbeat: Duration,
    /// A worker that is silent for this long loses its tasks.
    pub lease: Duration,
    /// How long the broker keeps an ended task when neither the task nor its queue sets a time.
    pub result_ttl: Duration,
}

impl From<wire::BrokerInfo> for BrokerInfo {
    fn from(info: wire::BrokerInfo) -> Self {
        let tasks = info.tasks.unwrap_or_default();
        let limits = info.limits.unwrap_or_default();
        Self {
            version: info.server_version,
            protocol: info.protocol,
            started_at: time(info.started_at_ms),
            uptime: Duration::from_millis(info.uptime_ms),
            memory_bytes: info.memory_bytes,
            connections: info.connections,
            connections_max: info.connections_max,
            workers: info.workers,
            workers_lost: info.workers_lost,
            queues: info.queues,
            mailboxes: info.mailboxes,
            ready: tasks.ready,
            scheduled: tasks.scheduled,
            leased: tasks.leased,
            dead: tasks.dead,
            ended: tasks.ended,
            draining: info.draining,
            data: info.data.map(DataUsage::from),
            limits: BrokerLimits {
                frame_bytes_max: limits.frame_bytes_max,
                payload_bytes_max: limits.payload_bytes_max,
                result_bytes_max: limits.result_bytes_max,
                batch_items_max: limits.batch_items_max,
                requests_in_flight_max: limits.requests_in_flight_max,
                credit_max: limits.credit_max,
                heartbeat: Duration::from_millis(info.heartbeat_ms),
                lease: Duration::from_millis(info.lease_ms),
                result_ttl: Duration::from_millis(info.result_ttl_ms),
            },
        }
    }
}

impl From<wire::DataUsage> for DataUsage {
    fn from(data: wire::DataUsage) -> Self {
        Self {
            live_bytes: data.live_bytes,
            log_bytes: data.log_bytes,
            file_bytes: data.file_bytes,
            reusable_bytes: data.reusable_bytes,
            disk_free_bytes: data.disk_free_bytes,
            disk_bytes: data.disk_bytes,
            // A broker that does not tell the room has no journal.
            usable_bytes: data
                .usable_bytes
                .unwrap_or(data.disk_free_bytes.saturating_add(data.reusable_bytes)),
            disk_low_bytes: data.disk_low_bytes,
            disk_is_low: data.disk_is_low,
        }
    }
}
