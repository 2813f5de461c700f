//! A record as bytes. The format belongs to the store alone, so a change of the wire protocol never
//! requires rewriting a disk.
//!
//! ```text
//! record     kind, then by kind:
//!   submitted, changed   slot, serial, the fields every such record has, then tagged fields to the end
//!   forgotten            slot, serial
//!   queue                name, then tagged fields
//!   queue deleted        name
//!   session              id, then tagged fields
//!   session ended        id
//! ```
//!
//! An absent tagged field has the default that is written in this module's files. **These defaults
//! are part of the format**: if a default of the broker changes, the defaults here stay. A new
//! field gets a new number, and an older record must be valid without it. Numbers are never reused.

mod changed;
mod submitted;

use bytes::Bytes;
use celeriac_proto::QueueName;
use celeriac_record::{
    Changed, Order, QueueRecord, Record, SessionId, SessionRecord, Slot, Submitted, TaskKey,
};

use super::varint::{Field, Malformed, Put, Take, narrow, peek_unsigned, text};

const SUBMITTED: u8 = 1;
const CHANGED: u8 = 2;
const FORGOTTEN: u8 = 3;
const QUEUE: u8 = 4;
const QUEUE_DELETED: u8 = 5;
const SESSION: u8 = 6;
const SESSION_ENDED: u8 = 7;

/// The part of a record that decides whether the record is live, read without decoding the rest.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Glance {
    Submitted(Slot),
    Changed(Slot),
    Forgotten(Slot),
    Queue(QueueName),
    QueueDeleted(QueueName),
    Session(SessionId),
    SessionEnded(SessionId),
}

/// `encode` adds at most this many bytes to the texts and payloads that [`bulk`] counts.
pub(super) const OVERHEAD_BYTES_MAX: usize = 512;

/// The bytes of the parts that can be large. The sum is enough to decide whether a record might not
/// fit into a chunk.
pub(super) fn bulk(record: &Record) -> usize {
    match record {
        Record::Submitted(task) => submitted::bulk(task),
        Record::Changed(change) => changed::bulk(change),
        Record::Session(session) => session.instance.len(),
        Record::Forgotten(_)
        | Record::Queue(_)
        | Record::QueueDeleted(_)
        | Record::SessionEnded(_) => 0,
    }
}

/// Appends the record to `buffer`.
pub(super) fn encode(record: &Record, buffer: &mut Vec<u8>) {
    let mut put = Put(buffer);
    match record {
        Record::Submitted(task) => {
            put_key(&mut put, SUBMITTED, task.key);
            submitted::encode(task, &mut put);
        }
        Record::Changed(change) => {
            put_key(&mut put, CHANGED, change.key);
            changed::encode(change, &mut put);
        }
        Record::Forgotten(key) => put_key(&mut put, FORGOTTEN, *key),
        Record::Queue(queue) => put_queue(&mut put, queue),
        Record::QueueDeleted(name) => {
            put.byte(QUEUE_DELETED);
            put.bytes(name.as_bytes());
        }
        Record::Session(session) => put_session(&mut put, session),
        Record::SessionEnded(id) => {
            put.byte(SESSION_ENDED);
            put.raw(id);
        }
    }
}

/// Reads a whole record. Payloads are slices of `bytes`.
pub(super) fn decode(bytes: Bytes) -> Result<Record, Malformed> {
    let mut take = Take::new(bytes);
    Ok(match take.byte()? {
        SUBMITTED => Record::Submitted(Box::new(submitted::decode(take_key(&mut take)?, take)?)),
        CHANGED => Record::Changed(Box::new(changed::decode(take_key(&mut take)?, take)?)),
        FORGOTTEN => Record::Forgotten(take_key(&mut take)?),
        QUEUE => Record::Queue(take_queue(take)?),
        QUEUE_DELETED => Record::QueueDeleted(queue_name(take.text()?)?),
        SESSION => Record::Session(take_session(take)?),
        SESSION_ENDED => Record::SessionEnded(take_session_id(&mut take)?),
        _ => return Err(Malformed("its kind is unknown")),
    })
}

/// Reads a record that has to be a submit.
pub(super) fn decode_submitted(bytes: Bytes) -> Result<Submitted, Malformed> {
    let mut take = Take::new(bytes);
    match take.byte()? {
        SUBMITTED => submitted::decode(take_key(&mut take)?, take),
        _ => Err(Malformed("it should have been a submit")),
    }
}

/// Reads a submit without its payload; the bytes may be cut within the payload. Returns `None` when
/// the bytes end before the payload.
pub(super) fn decode_submitted_head(bytes: Bytes) -> Option<Submitted> {
    let mut take = Take::before(bytes, submitted::PAYLOAD);
    let is_submitted = take.byte().ok()? == SUBMITTED;
    let key = take_key(&mut take).ok()?;
    submitted::decode(key, take).ok().filter(|_| is_submitted)
}

/// Reads a change without its result, like [`decode_submitted_head`].
pub(super) fn decode_changed_head(bytes: Bytes) -> Option<Changed> {
    let mut take = Take::before(bytes, changed::RESULT);
    let is_changed = take.byte().ok()? == CHANGED;
    let key = take_key(&mut take).ok()?;
    changed::decode(key, take).ok().filter(|_| is_changed)
}

/// Reads a record that has to be a change.
pub(super) fn decode_changed(bytes: Bytes) -> Result<Changed, Malformed> {
    let mut take = Take::new(bytes);
    match take.byte()? {
        CHANGED => changed::decode(take_key(&mut take)?, take),
        _ => Err(Malformed("it should have been a change")),
    }
}

/// Reads only as far as needed to know which records the record replaces.
pub(super) fn glance(bytes: &[u8]) -> Result<Glance, Malformed> {
    let (kind, rest) = bytes.split_first().ok_or(Malformed("it is empty"))?;
    if let SESSION | SESSION_ENDED = *kind {
        let id = *rest.first_chunk().ok_or(SHORT_SESSION_ID)?;
        return Ok(if *kind == SESSION { Glance::Session(id) } else { Glance::SessionEnded(id) });
    }
    let (number, length) = peek_unsigned(rest)?;
    let name = || {
        let end = usize::try_from(number).ok().and_then(|number| number.checked_add(length));
        let name = end
            .and_then(|end| rest.get(length..end))
            .ok_or(Malformed("a name reaches past its end"))?;
        queue_name(text(name)?)
    };
    Ok(match *kind {
        SUBMITTED => Glance::Submitted(narrow(number)?),
        CHANGED => Glance::Changed(narrow(number)?),
        FORGOTTEN => Glance::Forgotten(narrow(number)?),
        QUEUE => Glance::Queue(name()?),
        QUEUE_DELETED => Glance::QueueDeleted(name()?),
        _ => return Err(Malformed("its kind is unknown")),
    })
}

fn put_key(put: &mut Put<'_>, kind: u8, key: TaskKey) {
    put.byte(kind);
    put.unsigned(u64::from(key.slot));
    put.unsigned(key.serial);
}

fn take_key(take: &mut Take) -> Result<TaskKey, Malformed> {
    Ok(TaskKey { slot: narrow(take.unsigned()?)?, serial: take.unsigned()? })
}

fn queue_name(text: Box<str>) -> Result<QueueName, Malformed> {
    QueueName::parse(text).map_err(|_| Malformed("its queue has no valid name"))
}

// The fields of a queue.
const PAUSED: u8 = 1;
const TASKS_MAX: u8 = 2;
const BYTES_MAX: u8 = 3;
const EXPIRES_IN_MS: u8 = 4;
const RESULT_TTL_MS: u8 = 5;

fn put_queue(put: &mut Put<'_>, queue: &QueueRecord) {
    put.byte(QUEUE);
    put.bytes(queue.name.as_bytes());
    put.unsigned_field(PAUSED, u64::from(queue.paused));
    for (field, value) in [
        (TASKS_MAX, queue.tasks_max),
        (BYTES_MAX, queue.bytes_max),
        (EXPIRES_IN_MS, queue.expires_in_ms),
        (RESULT_TTL_MS, queue.result_ttl_ms),
    ] {
        if let Some(value) = value {
            put.present_field(field, value);
        }
    }
}

fn take_queue(mut take: Take) -> Result<QueueRecord, Malformed> {
    let mut queue = QueueRecord {
        name: queue_name(take.text()?)?,
        paused: false,
        tasks_max: None,
        bytes_max: None,
        expires_in_ms: None,
        result_ttl_ms: None,
    };
    while let Some(field) = take.field()? {
        match field {
            Field::Number(PAUSED, value) => queue.paused = value != 0,
            Field::Number(TASKS_MAX, value) => queue.tasks_max = Some(value),
            Field::Number(BYTES_MAX, value) => queue.bytes_max = Some(value),
            Field::Number(EXPIRES_IN_MS, value) => queue.expires_in_ms = Some(value),
            Field::Number(RESULT_TTL_MS, value) => queue.result_ttl_ms = Some(value),
            Field::Number(..) | Field::Bytes(..) => {}
        }
    }
    Ok(queue)
}

// The fields of a session.
const INSTANCE: u8 = 1;
const CONCURRENCY: u8 = 2;
const ORDER: u8 = 3;

const SHORT_SESSION_ID: Malformed = Malformed("its session is not 16 bytes");

fn put_session(put: &mut Put<'_>, session: &SessionRecord) {
    put.byte(SESSION);
    put.raw(&session.id);
    put.bytes_field(INSTANCE, session.instance.as_bytes());
    put.unsigned_field(CONCURRENCY, u64::from(session.concurrency));
    put.unsigned_field(
        ORDER,
        match session.order {
            Order::Resume => 0,
            Order::Quiet => 1,
            Order::Shutdown => 2,
        },
    );
}

fn take_session_id(take: &mut Take) -> Result<SessionId, Malformed> {
    let mut id = [0; 16];
    for byte in &mut id {
        *byte = take.byte().map_err(|_| SHORT_SESSION_ID)?;
    }
    Ok(id)
}

fn take_session(mut take: Take) -> Result<SessionRecord, Malformed> {
    let id = take_session_id(&mut take)?;
    let mut session =
        SessionRecord { id, instance: "".into(), concurrency: 0, order: Order::Resume };
    while let Some(field) = take.field()? {
        match field {
            Field::Bytes(INSTANCE, value) => session.instance = text(&value)?.into(),
            Field::Number(CONCURRENCY, value) => session.concurrency = narrow(value)?,
            Field::Number(ORDER, 1) => session.order = Order::Quiet,
            Field::Number(ORDER, 2) => session.order = Order::Shutdown,
            Field::Number(..) | Field::Bytes(..) => {}
        }
    }
    Ok(session)
}

#[cfg(test)]
mod tests;
