//! The record of a binding to a queue as bytes: exchange, routing key and queue. They are its name,
//! and there is nothing more.

use celeriac_record::BindingRecord;

use super::{exchange, queue};
use crate::varint::{Malformed, Put, Take, peek_text};

pub(super) const KIND: u8 = 10;
pub(super) const REMOVED: u8 = 11;

pub(super) fn put(binding: &BindingRecord, put: &mut Put<'_>) {
    put_name(binding, put);
}

pub(super) fn take(mut take: Take) -> Result<BindingRecord, Malformed> {
    let binding = take_name(&mut take)?;
    // A newer version may have added fields.
    while take.field()?.is_some() {}
    Ok(binding)
}

pub(super) fn put_name(binding: &BindingRecord, put: &mut Put<'_>) {
    exchange::put_name(&binding.exchange, put);
    put.bytes(binding.routing_key.as_bytes());
    queue::put_name(&binding.queue, put);
}

pub(super) fn take_name(take: &mut Take) -> Result<BindingRecord, Malformed> {
    Ok(BindingRecord {
        exchange: exchange::take_name(take)?,
        routing_key: take.text()?,
        queue: queue::take_name(take)?,
    })
}

/// Reads the name at the front of these bytes.
pub(super) fn peek_name(bytes: &[u8]) -> Result<BindingRecord, Malformed> {
    let (exchange, rest) = peek_text(bytes)?;
    let (routing_key, rest) = peek_text(rest)?;
    Ok(BindingRecord {
        exchange: exchange::parse(exchange)?,
        routing_key,
        queue: queue::peek_name(rest)?,
    })
}
