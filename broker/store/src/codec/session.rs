//! The record of a worker's session as bytes: its id, then tagged fields.

use celeriac_record::{Order, SessionId, SessionRecord};

use crate::varint::{Field, Malformed, Put, Take, narrow, text};

pub(super) const KIND: u8 = 6;
pub(super) const REMOVED: u8 = 7;

const INSTANCE: u8 = 1;
const CONCURRENCY: u8 = 2;
const ORDER: u8 = 3;
const KEEPS_LEASES: u8 = 4;
const ENTRY: u8 = 5;

const SHORT_ID: Malformed = Malformed("its session is not 16 bytes");

pub(super) fn put(session: &SessionRecord, put: &mut Put<'_>) {
    put_name(&session.id, put);
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
    put.unsigned_field(KEEPS_LEASES, u64::from(session.keeps_leases));
    if let Some(entry) = &session.entry {
        put.bytes_field(ENTRY, entry.as_bytes());
    }
}

pub(super) fn take_name(take: &mut Take) -> Result<SessionId, Malformed> {
    let mut id = [0; 16];
    for byte in &mut id {
        *byte = take.byte().map_err(|_| SHORT_ID)?;
    }
    Ok(id)
}

pub(super) fn take(mut take: Take) -> Result<SessionRecord, Malformed> {
    let id = take_name(&mut take)?;
    let mut session = SessionRecord {
        id,
        instance: "".into(),
        entry: None,
        concurrency: 0,
        order: Order::Resume,
        keeps_leases: false,
    };
    while let Some(field) = take.field()? {
        match field {
            Field::Bytes(INSTANCE, value) => session.instance = text(&value)?.into(),
            Field::Number(CONCURRENCY, value) => session.concurrency = narrow(value)?,
            Field::Number(ORDER, 1) => session.order = Order::Quiet,
            Field::Number(ORDER, 2) => session.order = Order::Shutdown,
            Field::Number(KEEPS_LEASES, value) => session.keeps_leases = value != 0,
            Field::Bytes(ENTRY, value) => session.entry = Some(text(&value)?.into()),
            Field::Number(..) | Field::Bytes(..) => {}
        }
    }
    Ok(session)
}

pub(super) fn put_name(id: &SessionId, put: &mut Put<'_>) {
    put.raw(id);
}

/// Reads the id at the front of these bytes.
pub(super) fn peek_name(bytes: &[u8]) -> Result<SessionId, Malformed> {
    bytes.first_chunk().copied().ok_or(SHORT_ID)
}
