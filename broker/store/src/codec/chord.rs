//! The record of a chord as bytes: the id of its group, then tagged fields.

use celeriac_proto::TaskId;
use celeriac_record::ChordRecord;

use crate::varint::{Field, Malformed, Put, Take, narrow, peek_unsigned, text, unzigzag};

pub(super) const KIND: u8 = 16;
pub(super) const REMOVED: u8 = 17;

const SIZE: u8 = 1;
const LEASE: u8 = 2;
const DONE: u8 = 3;
const EXPIRES_AT: u8 = 4;

pub(super) fn put(chord: &ChordRecord, put: &mut Put<'_>) {
    put_name(&chord.group, put);
    if let Some(size) = chord.size {
        put.present_field(SIZE, u64::from(size));
    }
    put.unsigned_field(LEASE, chord.lease);
    put.unsigned_field(DONE, u64::from(chord.is_done));
    put.signed_field(EXPIRES_AT, Some(chord.expires_at));
}

pub(super) fn take(mut take: Take) -> Result<ChordRecord, Malformed> {
    let group = take_name(&mut take)?;
    let mut chord = ChordRecord { group, size: None, lease: 0, is_done: false, expires_at: 0 };
    while let Some(field) = take.field()? {
        match field {
            Field::Number(SIZE, value) => chord.size = Some(narrow(value)?),
            Field::Number(LEASE, value) => chord.lease = value,
            Field::Number(DONE, value) => chord.is_done = value != 0,
            Field::Number(EXPIRES_AT, value) => chord.expires_at = unzigzag(value),
            Field::Number(..) | Field::Bytes(..) => {}
        }
    }
    Ok(chord)
}

pub(super) fn put_name(group: &TaskId, put: &mut Put<'_>) {
    put.bytes(group.as_bytes());
}

pub(super) fn take_name(take: &mut Take) -> Result<TaskId, Malformed> {
    group(take.text()?)
}

/// Reads the id at the front of these bytes.
pub(super) fn peek_name(bytes: &[u8]) -> Result<TaskId, Malformed> {
    let (number, length) = peek_unsigned(bytes)?;
    let end = usize::try_from(number).ok().and_then(|number| number.checked_add(length));
    let id = end
        .and_then(|end| bytes.get(length..end))
        .ok_or(Malformed("an id reaches past its end"))?;
    group(text(id)?)
}

fn group(text: Box<str>) -> Result<TaskId, Malformed> {
    TaskId::parse(text).map_err(|_| Malformed("its group has no valid id"))
}
