//! A submit as bytes: its fields, their numbers and the defaults of absent fields.

use celeriac_proto::{QueueName, TaskId, TaskName};
use celeriac_record::{Backoff, Jitter, RetryPolicy, Submitted, TaskKey, TaskSpec};

use super::super::varint::{Field, Malformed, Put, Take, narrow, text, unzigzag};

const QUEUE: u8 = 1;
const CONTENT_TYPE: u8 = 2;
const HEADER: u8 = 3;
const SHADOW: u8 = 4;
const PRIORITY: u8 = 5;
const ETA: u8 = 6;
const EXPIRES: u8 = 7;
const RESULT_TTL_MS: u8 = 8;
const RETRY: u8 = 9;
const SOFT_TIME_LIMIT_MS: u8 = 10;
const TIME_LIMIT_MS: u8 = 11;
const MAX_DELIVERIES: u8 = 12;
const EARLY_ACK: u8 = 13;
const ROOT_ID: u8 = 14;
const PARENT_ID: u8 = 15;
const TAG: u8 = 16;
const AFTER: u8 = 18;
const SUBMIT_KEY: u8 = 19;
const LEAD_MS: u8 = 20;
const FORGET_AT_END: u8 = 21;
const ANNOUNCE_END: u8 = 22;
/// The payload is written last, so that a record can be read without it.
pub(super) const PAYLOAD: u8 = 17;

// The values of absent fields. They never change: see the head of codec.rs.
const DEFAULT_QUEUE: &str = "default";
const DEFAULT_PRIORITY: u8 = 4;
const DEFAULT_RESULT_TTL_MS: u64 = 86_400_000;
const DEFAULT_RETRY: RetryPolicy = RetryPolicy {
    attempts_max: 4,
    backoff: Backoff::Exponential,
    delay_ms: 1_000,
    factor: 2.0,
    delay_max_ms: 600_000,
    jitter: Jitter::None,
};

pub(super) fn bulk(task: &Submitted) -> usize {
    let headers: usize =
        task.spec.headers.iter().map(|(key, value)| key.len() + value.len() + 16).sum();
    let tags: usize = task.spec.tags.iter().map(|tag| tag.len() + 8).sum();
    let names = task.spec.id.len()
        + task.spec.name.len()
        + task.spec.queue.len()
        + task.spec.root_id.len()
        + task.spec.parent_id.len()
        + task.spec.submit_key.len();
    task.spec.payload.len()
        + task.spec.content_type.len()
        + task.spec.shadow.len()
        + headers
        + tags
        + names
}

pub(super) fn encode(task: &Submitted, put: &mut Put<'_>) {
    put.unsigned(u64::from(task.generation));
    put.bytes(task.spec.id.as_bytes());
    put.bytes(task.spec.name.as_bytes());
    put.signed(task.submitted_at);
    if task.spec.queue.as_str() != DEFAULT_QUEUE {
        put.bytes_field(QUEUE, task.spec.queue.as_bytes());
    }
    put.bytes_field(CONTENT_TYPE, task.spec.content_type.as_bytes());
    for (key, value) in &task.spec.headers {
        put.nested_field(HEADER, |put| {
            put.bytes(key.as_bytes());
            put.raw(value);
        });
    }
    put.bytes_field(SHADOW, task.spec.shadow.as_bytes());
    if task.spec.priority != DEFAULT_PRIORITY {
        put.present_field(PRIORITY, u64::from(task.spec.priority));
    }
    put.signed_field(ETA, task.eta.map(|eta| eta.wrapping_sub(task.submitted_at)));
    put.signed_field(EXPIRES, task.expires.map(|expires| expires.wrapping_sub(task.submitted_at)));
    if task.result_ttl_ms != DEFAULT_RESULT_TTL_MS {
        put.present_field(RESULT_TTL_MS, task.result_ttl_ms);
    }
    if !same(&task.spec.retry, &DEFAULT_RETRY) {
        put.nested_field(RETRY, |put| put_retry(&task.spec.retry, put));
    }
    for (field, value) in [
        (SOFT_TIME_LIMIT_MS, task.spec.soft_time_limit_ms),
        (TIME_LIMIT_MS, task.spec.time_limit_ms),
    ] {
        if let Some(value) = value {
            put.present_field(field, value);
        }
    }
    put.unsigned_field(MAX_DELIVERIES, u64::from(task.spec.max_deliveries));
    put.unsigned_field(EARLY_ACK, u64::from(task.spec.early_ack));
    put.bytes_field(ROOT_ID, task.spec.root_id.as_bytes());
    put.bytes_field(PARENT_ID, task.spec.parent_id.as_bytes());
    for tag in &task.spec.tags {
        put.nested_field(TAG, |put| put.raw(tag.as_bytes()));
    }
    if let Some(after) = task.after {
        put.nested_field(AFTER, |put| {
            put.unsigned(u64::from(after.slot));
            put.unsigned(after.serial);
        });
    }
    put.bytes_field(SUBMIT_KEY, task.spec.submit_key.as_bytes());
    put.unsigned_field(LEAD_MS, task.spec.lead_ms);
    put.unsigned_field(FORGET_AT_END, u64::from(task.spec.forget_at_end));
    put.unsigned_field(ANNOUNCE_END, u64::from(task.spec.announce_end));
    put.bytes_field(PAYLOAD, &task.spec.payload);
}

pub(super) fn decode(key: TaskKey, mut take: Take) -> Result<Submitted, Malformed> {
    let generation = narrow(take.unsigned()?)?;
    let id = TaskId::parse(take.text()?).map_err(|_| Malformed("its id is not valid"))?;
    let name = TaskName::parse(take.text()?).map_err(|_| Malformed("its name is not valid"))?;
    let mut task = Submitted {
        key,
        generation,
        after: None,
        submitted_at: take.signed()?,
        eta: None,
        expires: None,
        result_ttl_ms: DEFAULT_RESULT_TTL_MS,
        spec: TaskSpec {
            id,
            name,
            queue: QueueName::parse(DEFAULT_QUEUE)
                .map_err(|_| Malformed("its queue has no valid name"))?,
            payload: bytes::Bytes::new(),
            content_type: "".into(),
            headers: Vec::new(),
            shadow: "".into(),
            priority: DEFAULT_PRIORITY,
            retry: DEFAULT_RETRY,
            soft_time_limit_ms: None,
            time_limit_ms: None,
            max_deliveries: 0,
            early_ack: false,
            root_id: "".into(),
            parent_id: "".into(),
            tags: Vec::new(),
            submit_key: "".into(),
            lead_ms: 0,
            forget_at_end: false,
            announce_end: false,
        },
    };
    while let Some(field) = take.field()? {
        set(&mut task, field)?;
    }
    Ok(task)
}

fn set(task: &mut Submitted, field: Field) -> Result<(), Malformed> {
    let since_submit = |value| Some(unzigzag(value).wrapping_add(task.submitted_at));
    match field {
        Field::Bytes(QUEUE, name) => {
            task.spec.queue = QueueName::parse(text(&name)?)
                .map_err(|_| Malformed("its queue has no valid name"))?;
        }
        Field::Bytes(CONTENT_TYPE, value) => task.spec.content_type = text(&value)?,
        Field::Bytes(HEADER, value) => {
            let mut take = Take::new(value);
            task.spec.headers.push((take.text()?, take.rest()));
        }
        Field::Bytes(SHADOW, value) => task.spec.shadow = text(&value)?,
        Field::Number(PRIORITY, value) => {
            task.spec.priority =
                u8::try_from(value).map_err(|_| Malformed("its priority is too large"))?;
        }
        Field::Number(ETA, value) => task.eta = since_submit(value),
        Field::Number(EXPIRES, value) => task.expires = since_submit(value),
        Field::Number(RESULT_TTL_MS, value) => task.result_ttl_ms = value,
        Field::Bytes(RETRY, value) => task.spec.retry = take_retry(Take::new(value))?,
        Field::Number(SOFT_TIME_LIMIT_MS, value) => task.spec.soft_time_limit_ms = Some(value),
        Field::Number(TIME_LIMIT_MS, value) => task.spec.time_limit_ms = Some(value),
        Field::Number(MAX_DELIVERIES, value) => task.spec.max_deliveries = narrow(value)?,
        Field::Number(EARLY_ACK, value) => task.spec.early_ack = value != 0,
        Field::Bytes(ROOT_ID, value) => task.spec.root_id = text(&value)?,
        Field::Bytes(PARENT_ID, value) => task.spec.parent_id = text(&value)?,
        Field::Bytes(TAG, value) => task.spec.tags.push(text(&value)?),
        Field::Bytes(AFTER, value) => {
            let mut take = Take::new(value);
            task.after =
                Some(TaskKey { slot: narrow(take.unsigned()?)?, serial: take.unsigned()? });
        }
        Field::Bytes(SUBMIT_KEY, value) => task.spec.submit_key = text(&value)?,
        Field::Number(LEAD_MS, value) => task.spec.lead_ms = value,
        Field::Number(FORGET_AT_END, value) => task.spec.forget_at_end = value != 0,
        Field::Number(ANNOUNCE_END, value) => task.spec.announce_end = value != 0,
        Field::Bytes(PAYLOAD, value) => task.spec.payload = value,
        Field::Number(..) | Field::Bytes(..) => {}
    }
    Ok(())
}

/// Compares the bits of the factor, so that a NaN or a negative zero is read back exactly as it was
/// written.
fn same(left: &RetryPolicy, right: &RetryPolicy) -> bool {
    left == right && left.factor.to_bits() == right.factor.to_bits()
}

fn put_retry(retry: &RetryPolicy, put: &mut Put<'_>) {
    put.unsigned(u64::from(retry.attempts_max));
    put.byte(match retry.backoff {
        Backoff::Exponential => 0,
        Backoff::Fixed => 1,
        Backoff::Polynomial => 2,
    });
    put.unsigned(retry.delay_ms);
    put.raw(&retry.factor.to_le_bytes());
    put.unsigned(retry.delay_max_ms);
    put.byte(match retry.jitter {
        Jitter::None => 0,
        Jitter::Full => 1,
        Jitter::Equal => 2,
    });
}

fn take_retry(mut take: Take) -> Result<RetryPolicy, Malformed> {
    let attempts_max = narrow(take.unsigned()?)?;
    let backoff = match take.byte()? {
        0 => Backoff::Exponential,
        1 => Backoff::Fixed,
        2 => Backoff::Polynomial,
        _ => return Err(Malformed("its back-off is unknown")),
    };
    let delay_ms = take.unsigned()?;
    let mut factor = [0; 8];
    for byte in &mut factor {
        *byte = take.byte()?;
    }
    let delay_max_ms = take.unsigned()?;
    let jitter = match take.byte()? {
        0 => Jitter::None,
        1 => Jitter::Full,
        2 => Jitter::Equal,
        _ => return Err(Malformed("its jitter is unknown")),
    };
    Ok(RetryPolicy {
        attempts_max,
        backoff,
        delay_ms,
        factor: f64::from_le_bytes(factor),
        delay_max_ms,
        jitter,
    })
}
