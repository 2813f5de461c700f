//! The record of a queue as bytes: its name, then tagged fields.

use celeriac_proto::QueueName;
use celeriac_record::QueueRecord;

use crate::varint::{Field, Malformed, Put, Take, peek_text};

pub(super) const KIND: u8 = 4;
pub(super) const REMOVED: u8 = 5;

const PAUSED: u8 = 1;
const TASKS_MAX: u8 = 2;
const BYTES_MAX: u8 = 3;
const EXPIRES_IN_MS: u8 = 4;
const RESULT_TTL_MS: u8 = 5;
const DECLARED: u8 = 6;
const IDLE_MS: u8 = 7;

pub(super) fn put(queue: &QueueRecord, put: &mut Put<'_>) {
    put_name(&queue.name, put);
    put.unsigned_field(PAUSED, u64::from(queue.paused));
    put.unsigned_field(DECLARED, u64::from(queue.declared));
    for (field, value) in [
        (TASKS_MAX, queue.tasks_max),
        (BYTES_MAX, queue.bytes_max),
        (EXPIRES_IN_MS, queue.expires_in_ms),
        (RESULT_TTL_MS, queue.result_ttl_ms),
        (IDLE_MS, queue.idle_ms),
    ] {
        if let Some(value) = value {
            put.present_field(field, value);
        }
    }
}

pub(super) fn take(mut take: Take) -> Result<QueueRecord, Malformed> {
    let mut queue = QueueRecord {
        name: take_name(&mut take)?,
        paused: false,
        tasks_max: None,
        bytes_max: None,
        expires_in_ms: None,
        result_ttl_ms: None,
        declared: false,
        idle_ms: None,
    };
    while let Some(field) = take.field()? {
        match field {
            Field::Number(PAUSED, value) => queue.paused = value != 0,
            Field::Number(TASKS_MAX, value) => queue.tasks_max = Some(value),
            Field::Number(BYTES_MAX, value) => queue.bytes_max = Some(value),
            Field::Number(EXPIRES_IN_MS, value) => queue.expires_in_ms = Some(value),
            Field::Number(RESULT_TTL_MS, value) => queue.result_ttl_ms = Some(value),
            Field::Number(DECLARED, value) => queue.declared = value != 0,
            Field::Number(IDLE_MS, value) => queue.idle_ms = Some(value),
            Field::Number(..) | Field::Bytes(..) => {}
        }
    }
    Ok(queue)
}

pub(super) fn put_name(name: &QueueName, put: &mut Put<'_>) {
    put.bytes(name.as_bytes());
}

pub(super) fn take_name(take: &mut Take) -> Result<QueueName, Malformed> {
    queue_name(take.text()?)
}

/// Reads the name at the front of these bytes.
pub(super) fn peek_name(bytes: &[u8]) -> Result<QueueName, Malformed> {
    queue_name(peek_text(bytes)?.0)
}

fn queue_name(text: Box<str>) -> Result<QueueName, Malformed> {
    QueueName::parse(text).map_err(|_| Malformed("its queue has no valid name"))
}
