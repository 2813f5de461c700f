//! A record as bytes. The format belongs to the store alone, so a change of the wire protocol never
//! requires rewriting a disk.
//!
//! ```text
//! record     kind, then by kind:
//!   submitted, changed   slot, serial, the fields every such record has, then tagged fields to the end
//!   forgotten            slot, serial
//!   queue, session, exchange, binding, chord   name or id, then tagged fields
//!   removed              name or id; each family of named things has a kind of its own
//! ```
//!
//! An absent tagged field has the default that is written in this module's files. **These defaults
//! are part of the format**: if a default of the broker changes, the defaults here stay. A new
//! field gets a new number, and an older record must be valid without it. Numbers are never reused.

mod binding;
mod changed;
mod chord;
mod exchange;
mod named;
mod queue;
mod session;
mod submitted;

use bytes::Bytes;
use celeriac_record::{Changed, Name, Named, Record, Slot, Submitted, TaskKey};

use super::varint::{Malformed, Put, Take, narrow, peek_unsigned};

const SUBMITTED: u8 = 1;
const CHANGED: u8 = 2;
const FORGOTTEN: u8 = 3;

/// The part of a record that decides whether the record is live, read without decoding the rest.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Glance {
    Submitted(Slot),
    Changed(Slot),
    Forgotten(Slot),
    Named(Name),
    Removed(Name),
}

/// `encode` adds at most this many bytes to the texts and payloads that [`bulk`] counts.
pub(super) const OVERHEAD_BYTES_MAX: usize = 512;

/// The bytes of the parts that can be large. The sum is enough to decide whether a record might not
/// fit into a chunk.
pub(super) fn bulk(record: &Record) -> usize {
    match record {
        Record::Submitted(task) => submitted::bulk(task),
        Record::Changed(change) => changed::bulk(change),
        Record::Named(Named::Session(session)) => session.instance.len(),
        Record::Named(Named::Queue(_) | Named::Exchange(_) | Named::Chord(_))
        | Record::Forgotten(_) => 0,
        Record::Named(Named::Binding(binding)) | Record::Removed(Name::Binding(binding)) => {
            binding.exchange.len() + binding.routing_key.len() + binding.queue.len()
        }
        Record::Removed(_) => 0,
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
        Record::Named(record) => named::put(record, &mut put),
        Record::Removed(name) => named::put_removed(name, &mut put),
    }
}

/// Reads a whole record. Payloads are slices of `bytes`.
pub(super) fn decode(bytes: Bytes) -> Result<Record, Malformed> {
    let mut take = Take::new(bytes);
    Ok(match take.byte()? {
        SUBMITTED => Record::Submitted(Box::new(submitted::decode(take_key(&mut take)?, take)?)),
        CHANGED => Record::Changed(Box::new(changed::decode(take_key(&mut take)?, take)?)),
        FORGOTTEN => Record::Forgotten(take_key(&mut take)?),
        kind => named::take(kind, take)?,
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
    let slot = || narrow(peek_unsigned(rest)?.0);
    Ok(match *kind {
        SUBMITTED => Glance::Submitted(slot()?),
        CHANGED => Glance::Changed(slot()?),
        FORGOTTEN => Glance::Forgotten(slot()?),
        kind => named::glance(kind, rest)?,
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

#[cfg(test)]
mod tests;
