//! Queues, workers, cursors and the broker itself in the answers to operators.

use bytes::{BufMut, Bytes, BytesMut};
use celeriac_machine::command::{Cursor, List, ListPlace};
use celeriac_proto::limits::PROTOCOL_VERSION;
use celeriac_proto::wire::{self, server_frame::Body};
use celeriac_store::Usage;

use super::{Limits, infos};
use crate::cursors::{Cursors, Listing};
use crate::outgoing::{BrokerView, QueueView, WorkerView};

pub(super) fn queue_info(view: QueueView) -> wire::QueueInfo {
    let QueueView { outline: info, oldest_ms } = view;
    let record = info.record;
    wire::QueueInfo {
        name: record.name.into(),
        ready: info.ready,
        scheduled: info.scheduled,
        leased: info.leased,
        dead: info.dead,
        oldest_ready_ms: oldest_ms,
        paused: record.paused,
        workers: info.workers,
        submitted_total: info.submitted_total,
        ended_total: info.ended_total,
        settings: Some(wire::QueueSettings {
            tasks_max: record.tasks_max,
            bytes_max: record.bytes_max,
            expires_in_ms: record.expires_in_ms,
            result_ttl_ms: record.result_ttl_ms,
        }),
        bytes: info.bytes,
        submitted_per_second: info.submitted_per_second,
        ended_per_second: info.ended_per_second,
    }
}

/// The length of a cursor tells its kind.
pub(super) fn page_cursor(cursor: Cursor) -> Bytes {
    match cursor {
        Cursor::Slot(slot) => Bytes::copy_from_slice(&slot.to_be_bytes()),
        Cursor::Serial(serial) => Bytes::copy_from_slice(&serial.to_be_bytes()),
        Cursor::In(place) => list_cursor(place),
    }
}

/// `session/decode/operate.rs` reads it.
fn list_cursor(place: ListPlace) -> Bytes {
    let mut bytes = BytesMut::with_capacity(29);
    bytes.put_u8(match place.list {
        List::Dead => 1,
        List::Leases => 2,
        List::Line => 3,
        List::Ended => 4,
    });
    bytes.put_u64(place.group);
    bytes.put_u64(place.order);
    bytes.put_u32(place.slot);
    bytes.put_u64(place.looked);
    bytes.freeze()
}

/// Encrypts the cursor of a client with a scope.
pub(super) fn seal_cursor(answer: &mut Body, cursors: &Cursors) {
    match answer {
        Body::TaskPage(page) => page.cursor = cursors.seal(Listing::Tasks, &page.cursor),
        Body::WorkerList(list) => list.cursor = cursors.seal(Listing::Workers, &list.cursor),
        _ => {}
    }
}

pub(super) fn worker_status(view: WorkerView) -> wire::WorkerStatus {
    let WorkerView { status, running, running_left_out } = view;
    wire::WorkerStatus {
        instance_id: status.instance.to_string(),
        hostname: status.hostname.into(),
        pid: status.pid,
        queues: status.queues.into_iter().map(String::from).collect(),
        task_names: status.task_names.into_iter().map(String::from).collect(),
        concurrency: status.concurrency,
        credit: status.credit,
        running: infos(running),
        running_left_out,
        memory_bytes: status.memory_bytes,
        connected_at_ms: status.connected_at,
        seen_at_ms: status.seen_at,
        quiet: status.quiet,
        lost: status.lost,
    }
}

pub(super) fn broker_info(view: BrokerView, limits: &Limits) -> wire::BrokerInfo {
    let BrokerView { outline, memory_bytes, usage } = view;
    wire::BrokerInfo {
        server_version: env!("CARGO_PKG_VERSION").into(),
        protocol: PROTOCOL_VERSION,
        started_at_ms: outline.started_at,
        uptime_ms: outline.uptime_ms,
        memory_bytes,
        connections: outline.connections,
        connections_max: limits.connections_max,
        workers: outline.workers,
        workers_lost: outline.workers_lost,
        queues: outline.queues,
        mailboxes: outline.mailboxes,
        tasks: Some(wire::TaskCounts {
            ready: outline.ready,
            scheduled: outline.scheduled,
            leased: outline.leased,
            dead: outline.dead,
            ended: outline.ended,
        }),
        data: usage.map(data_usage),
        limits: Some(limits.limits),
        heartbeat_ms: limits.heartbeat_ms,
        lease_ms: limits.lease_ms,
        result_ttl_ms: limits.result_ttl_ms,
        draining: outline.draining,
    }
}

pub(super) fn data_usage(usage: Usage) -> wire::DataUsage {
    wire::DataUsage {
        live_bytes: usage.live_bytes,
        log_bytes: usage.log_bytes,
        file_bytes: usage.file_bytes,
        reusable_bytes: usage.reusable_bytes,
        disk_free_bytes: usage.disk_free_bytes,
        disk_bytes: usage.disk_bytes,
        disk_low_bytes: usage.disk_low_bytes,
        disk_is_low: usage.disk_is_low,
        usable_bytes: Some(usage.usable_bytes),
    }
}
