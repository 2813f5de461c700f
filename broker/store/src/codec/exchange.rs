//! The record of an exchange as bytes: its name, then tagged fields.

use celeriac_proto::ExchangeName;
use celeriac_record::{ExchangeKind, ExchangeRecord};

use crate::varint::{Field, Malformed, Put, Take, peek_text};

pub(super) const KIND: u8 = 8;
pub(super) const REMOVED: u8 = 9;

const TYPE: u8 = 1;
const AUTO_DELETE: u8 = 2;

pub(super) fn put(exchange: &ExchangeRecord, put: &mut Put<'_>) {
    put_name(&exchange.name, put);
    let kind = match exchange.kind {
        ExchangeKind::Direct => 0,
        ExchangeKind::Topic => 1,
        ExchangeKind::Fanout => 2,
    };
    put.unsigned_field(TYPE, kind);
    put.unsigned_field(AUTO_DELETE, u64::from(exchange.auto_delete));
}

pub(super) fn take(mut take: Take) -> Result<ExchangeRecord, Malformed> {
    let name = take_name(&mut take)?;
    let mut exchange = ExchangeRecord { name, kind: ExchangeKind::Direct, auto_delete: false };
    while let Some(field) = take.field()? {
        match field {
            Field::Number(TYPE, value) => exchange.kind = kind(value)?,
            Field::Number(AUTO_DELETE, value) => exchange.auto_delete = value != 0,
            Field::Number(..) | Field::Bytes(..) => {}
        }
    }
    Ok(exchange)
}

fn kind(value: u64) -> Result<ExchangeKind, Malformed> {
    match value {
        0 => Ok(ExchangeKind::Direct),
        1 => Ok(ExchangeKind::Topic),
        2 => Ok(ExchangeKind::Fanout),
        _ => Err(Malformed("the type of its exchange is unknown")),
    }
}

pub(super) fn put_name(name: &ExchangeName, put: &mut Put<'_>) {
    put.bytes(name.as_bytes());
}

pub(super) fn take_name(take: &mut Take) -> Result<ExchangeName, Malformed> {
    parse(take.text()?)
}

/// Reads the name at the front of these bytes.
pub(super) fn peek_name(bytes: &[u8]) -> Result<ExchangeName, Malformed> {
    parse(peek_text(bytes)?.0)
}

pub(super) fn parse(text: Box<str>) -> Result<ExchangeName, Malformed> {
    ExchangeName::parse(text).map_err(|_| Malformed("its exchange has no valid name"))
}
