//! The broker itself as programs read it.
//!
//! The names in [`BrokerDocument`] are a contract with scripts: `cli/README.md` lists them, and a
//! test compares the two.

use celeriac_client::{BrokerInfo, BrokerLimits};
use serde::Serialize;
use utoipa::ToSchema;

use super::json::Rfc3339;
use crate::time::{ms, whole_ms};

/// The broker for programs.
#[derive(Serialize, ToSchema)]
pub struct BrokerDocument<'a> {
    version: &'a str,
    protocol: u32,
    started_at: Rfc3339,
    started_at_ms: i64,
    uptime_ms: u64,
    memory_bytes: Option<u64>,
    connections: u32,
    connections_max: u32,
    workers: u32,
    workers_lost: u32,
    queues: u32,
    mailboxes: u32,
    ready: u64,
    scheduled: u64,
    leased: u64,
    dead: u64,
    ended: u64,
    draining: bool,
    live_bytes: Option<u64>,
    log_bytes: Option<u64>,
    file_bytes: Option<u64>,
    reusable_bytes: Option<u64>,
    disk_free_bytes: Option<u64>,
    disk_bytes: Option<u64>,
    usable_bytes: Option<u64>,
    disk_low_bytes: Option<u64>,
    disk_is_low: Option<bool>,
    #[serde(flatten)]
    limits: LimitsDocument,
}

/// The limits of the broker for programs.
#[derive(Serialize, ToSchema)]
struct LimitsDocument {
    frame_bytes_max: u64,
    payload_bytes_max: u64,
    result_bytes_max: u64,
    batch_items_max: u32,
    requests_in_flight_max: u32,
    credit_max: u32,
    heartbeat_ms: u64,
    lease_ms: u64,
    result_ttl_ms: u64,
}

impl<'a> BrokerDocument<'a> {
    /// The document of what the client has read.
    pub fn new(broker: &'a BrokerInfo) -> Self {
        let data = broker.data.as_ref();
        Self {
            version: &broker.version,
            protocol: broker.protocol,
            started_at: Rfc3339(broker.started_at),
            started_at_ms: ms(broker.started_at),
            uptime_ms: whole_ms(broker.uptime),
            memory_bytes: broker.memory_bytes,
            connections: broker.connections,
            connections_max: broker.connections_max,
            workers: broker.workers,
            workers_lost: broker.workers_lost,
            queues: broker.queues,
            mailboxes: broker.mailboxes,
            ready: broker.ready,
            scheduled: broker.scheduled,
            leased: broker.leased,
            dead: broker.dead,
            ended: broker.ended,
            draining: broker.draining,
            live_bytes: data.map(|data| data.live_bytes),
            log_bytes: data.map(|data| data.log_bytes),
            file_bytes: data.map(|data| data.file_bytes),
            reusable_bytes: data.map(|data| data.reusable_bytes),
            disk_free_bytes: data.map(|data| data.disk_free_bytes),
            disk_bytes: data.map(|data| data.disk_bytes),
            usable_bytes: data.map(|data| data.usable_bytes),
            disk_low_bytes: data.map(|data| data.disk_low_bytes),
            disk_is_low: data.map(|data| data.disk_is_low),
            limits: LimitsDocument::new(&broker.limits),
        }
    }
}

impl LimitsDocument {
    fn new(limits: &BrokerLimits) -> Self {
        Self {
            frame_bytes_max: limits.frame_bytes_max,
            payload_bytes_max: limits.payload_bytes_max,
            result_bytes_max: limits.result_bytes_max,
            batch_items_max: limits.batch_items_max,
            requests_in_flight_max: limits.requests_in_flight_max,
            credit_max: limits.credit_max,
            heartbeat_ms: whole_ms(limits.heartbeat),
            lease_ms: whole_ms(limits.lease),
            result_ttl_ms: whole_ms(limits.result_ttl),
        }
    }
}
