//! A change of state as bytes. Each task has several changes, so the common changes take only a few
//! dozen bytes.

use celeriac_record::{
    Actor, Body, Cancel, Changed, ClosedBy, Progress, State, TaskError, TaskKey,
};

use super::super::varint::{Field, Malformed, Put, Take, narrow, text, unzigzag};

const LEASE: u8 = 1;
const SESSION: u8 = 2;
const WORKER: u8 = 3;
const ATTEMPTS: u8 = 4;
const DELIVERIES: u8 = 5;
const DUE: u8 = 6;
const LEASED_AT: u8 = 7;
const STARTED_AT: u8 = 8;
const PROGRESS: u8 = 9;
const ERROR: u8 = 10;
/// The result is written last, so that a record can be read without it.
pub(super) const RESULT: u8 = 11;
const REVOKED_REASON: u8 = 12;
/// 1: the worker is told. 2: the worker is not told.
const CANCEL: u8 = 13;
/// Absent: the broker. A number: the worker. Bytes: a client.
const ACTOR: u8 = 14;
/// Absent: the value of [`closed_by_state`] for the state.
const CLOSED_BY: u8 = 15;
const LOSSES: u8 = 16;
const SILENT: u8 = 17;
const RESULT_TTL_MS: u8 = 18;
const SETTLED: u8 = 19;
const REDELIVERED: u8 = 20;
const CANCEL_AT: u8 = 21;

/// The fields of an error, after the parts that every error has.
const ERROR_LEASED_AT: u8 = 1;
const ERROR_STARTED_AT: u8 = 2;
const ERROR_WORKER: u8 = 3;

pub(super) fn bulk(change: &Changed) -> usize {
    let errors: usize = change
        .errors
        .iter()
        .map(|error| {
            let texts = error.kind.len() + error.message.len() + error.traceback.len();
            texts + error.worker.len() + 96
        })
        .sum();
    let progress =
        change.progress.as_ref().map_or(0, |progress| progress.state.len() + progress.meta.len());
    let result =
        change.result.as_ref().map_or(0, |result| result.bytes.len() + result.content_type.len());
    let actor = if let Actor::Client(instance) = &change.actor { instance.len() } else { 0 };
    errors + progress + result + change.worker.len() + actor + change.revoked_reason.len()
}

pub(super) fn encode(change: &Changed, put: &mut Put<'_>) {
    put.byte(state_number(change.state));
    put.unsigned(u64::from(change.version));
    put.signed(change.at);
    put.unsigned_field(LEASE, change.lease);
    if let Some(session) = &change.session {
        put.bytes_field(SESSION, session);
    }
    put.bytes_field(WORKER, change.worker.as_bytes());
    match &change.actor {
        Actor::Broker => {}
        Actor::Worker => put.unsigned_field(ACTOR, 1),
        Actor::Client(instance) => put.nested_field(ACTOR, |put| put.bytes(instance.as_bytes())),
    }
    put.unsigned_field(ATTEMPTS, u64::from(change.attempts));
    put.unsigned_field(DELIVERIES, u64::from(change.deliveries));
    put.unsigned_field(LOSSES, u64::from(change.losses));
    put.unsigned_field(SILENT, u64::from(change.silent));
    if change.closed_by != closed_by_state(change.state) {
        put.present_field(CLOSED_BY, closed_by_number(change.closed_by));
    }
    let since_change = |time: Option<i64>| time.map(|time| time.wrapping_sub(change.at));
    put.signed_field(DUE, since_change(change.due));
    put.signed_field(LEASED_AT, since_change(change.leased_at));
    put.signed_field(STARTED_AT, since_change(change.started_at));
    if let Some(progress) = &change.progress {
        put.nested_field(PROGRESS, |put| {
            put.signed(progress.at);
            put.bytes(progress.state.as_bytes());
            put.raw(&progress.meta);
        });
    }
    for error in &change.errors {
        put.nested_field(ERROR, |put| encode_error(error, put));
    }
    put.bytes_field(REVOKED_REASON, change.revoked_reason.as_bytes());
    put.unsigned_field(CANCEL, cancel_number(change.cancel));
    put.signed_field(CANCEL_AT, since_change(change.cancel_at));
    put.unsigned_field(SETTLED, u64::from(change.settled));
    put.unsigned_field(REDELIVERED, u64::from(change.redelivered));
    if let Some(ttl_ms) = change.result_ttl_ms {
        put.present_field(RESULT_TTL_MS, ttl_ms);
    }
    if let Some(result) = &change.result {
        put.nested_field(RESULT, |put| {
            put.bytes(result.content_type.as_bytes());
            put.raw(&result.bytes);
        });
    }
}

fn encode_error(error: &TaskError, put: &mut Put<'_>) {
    put.signed(error.at);
    put.unsigned(u64::from(error.attempt));
    put.bytes(error.kind.as_bytes());
    put.bytes(error.message.as_bytes());
    put.bytes(error.traceback.as_bytes());
    let since_error = |time: Option<i64>| time.map(|time| time.wrapping_sub(error.at));
    put.signed_field(ERROR_LEASED_AT, since_error(error.leased_at));
    put.signed_field(ERROR_STARTED_AT, since_error(error.started_at));
    put.bytes_field(ERROR_WORKER, error.worker.as_bytes());
}

fn decode_error(mut take: Take) -> Result<TaskError, Malformed> {
    let mut error = TaskError {
        at: take.signed()?,
        attempt: narrow(take.unsigned()?)?,
        kind: take.text()?,
        message: take.text()?,
        traceback: take.text()?,
        leased_at: None,
        started_at: None,
        worker: "".into(),
    };
    let since_error = |value| Some(unzigzag(value).wrapping_add(error.at));
    while let Some(field) = take.field()? {
        match field {
            Field::Number(ERROR_LEASED_AT, value) => error.leased_at = since_error(value),
            Field::Number(ERROR_STARTED_AT, value) => error.started_at = since_error(value),
            Field::Bytes(ERROR_WORKER, value) => error.worker = text(&value)?.into(),
            Field::Number(..) | Field::Bytes(..) => {}
        }
    }
    Ok(error)
}

pub(super) fn decode(key: TaskKey, mut take: Take) -> Result<Changed, Malformed> {
    let state = state(take.byte()?)?;
    let mut change = Changed {
        key,
        state,
        version: narrow(take.unsigned()?)?,
        at: take.signed()?,
        actor: Actor::Broker,
        lease: 0,
        closed_by: closed_by_state(state),
        session: None,
        worker: "".into(),
        attempts: 0,
        deliveries: 0,
        losses: 0,
        silent: 0,
        due: None,
        leased_at: None,
        started_at: None,
        progress: None,
        errors: Vec::new(),
        result: None,
        result_ttl_ms: None,
        revoked_reason: "".into(),
        cancel: Cancel::None,
        cancel_at: None,
        settled: false,
        redelivered: false,
    };
    while let Some(field) = take.field()? {
        set(&mut change, field)?;
    }
    Ok(change)
}

fn set(change: &mut Changed, field: Field) -> Result<(), Malformed> {
    let since_change = |value| Some(unzigzag(value).wrapping_add(change.at));
    match field {
        Field::Number(LEASE, value) => change.lease = value,
        Field::Bytes(SESSION, value) => {
            change.session =
                Some(value[..].try_into().map_err(|_| Malformed("its session is not 16 bytes"))?);
        }
        Field::Bytes(WORKER, value) => change.worker = text(&value)?.into(),
        Field::Number(ACTOR, _) => change.actor = Actor::Worker,
        Field::Bytes(ACTOR, value) => change.actor = Actor::Client(Take::new(value).text()?.into()),
        Field::Number(ATTEMPTS, value) => change.attempts = narrow(value)?,
        Field::Number(DELIVERIES, value) => change.deliveries = narrow(value)?,
        Field::Number(LOSSES, value) => change.losses = narrow(value)?,
        Field::Number(SILENT, value) => change.silent = narrow(value)?,
        Field::Number(CLOSED_BY, value) => change.closed_by = closed_by(value)?,
        Field::Number(DUE, value) => change.due = since_change(value),
        Field::Number(LEASED_AT, value) => change.leased_at = since_change(value),
        Field::Number(STARTED_AT, value) => change.started_at = since_change(value),
        Field::Bytes(PROGRESS, value) => {
            let mut take = Take::new(value);
            change.progress =
                Some(Progress { at: take.signed()?, state: take.text()?, meta: take.rest() });
        }
        Field::Bytes(ERROR, value) => change.errors.push(decode_error(Take::new(value))?),
        Field::Bytes(RESULT, value) => {
            let mut take = Take::new(value);
            change.result = Some(Body { content_type: take.text()?, bytes: take.rest() });
        }
        Field::Bytes(REVOKED_REASON, value) => change.revoked_reason = text(&value)?,
        Field::Number(CANCEL, value) => change.cancel = cancel(value)?,
        Field::Number(CANCEL_AT, value) => change.cancel_at = since_change(value),
        Field::Number(SETTLED, value) => change.settled = value != 0,
        Field::Number(REDELIVERED, value) => change.redelivered = value != 0,
        Field::Number(RESULT_TTL_MS, value) => change.result_ttl_ms = Some(value),
        Field::Number(..) | Field::Bytes(..) => {}
    }
    Ok(())
}

fn state_number(state: State) -> u8 {
    match state {
        State::Scheduled => 1,
        State::Queued => 2,
        State::Leased => 3,
        State::Started => 4,
        State::Retry => 5,
        State::Success => 6,
        State::Failure => 7,
        State::Revoked => 8,
    }
}

fn state(number: u8) -> Result<State, Malformed> {
    Ok(match number {
        1 => State::Scheduled,
        2 => State::Queued,
        3 => State::Leased,
        4 => State::Started,
        5 => State::Retry,
        6 => State::Success,
        7 => State::Failure,
        8 => State::Revoked,
        _ => return Err(Malformed("its state is unknown")),
    })
}

/// The report that most likely led to a state. It is not stored where this guess is right. The
/// guess is part of the format.
fn closed_by_state(state: State) -> ClosedBy {
    match state {
        State::Success => ClosedBy::Complete,
        State::Retry | State::Failure => ClosedBy::Fail,
        _ => ClosedBy::Nobody,
    }
}

fn closed_by_number(closed_by: ClosedBy) -> u64 {
    match closed_by {
        ClosedBy::Nobody => 0,
        ClosedBy::Complete => 1,
        ClosedBy::Fail => 2,
        ClosedBy::Release => 3,
        ClosedBy::TakenBack => 4,
        ClosedBy::Lost => 5,
    }
}

fn cancel_number(cancel: Cancel) -> u64 {
    match cancel {
        Cancel::None => 0,
        Cancel::Told => 1,
        Cancel::Silent => 2,
        Cancel::CalledOff => 3,
    }
}

fn cancel(number: u64) -> Result<Cancel, Malformed> {
    Ok(match number {
        0 => Cancel::None,
        1 => Cancel::Told,
        2 => Cancel::Silent,
        3 => Cancel::CalledOff,
        _ => return Err(Malformed("its cancel is unknown")),
    })
}

fn closed_by(number: u64) -> Result<ClosedBy, Malformed> {
    Ok(match number {
        0 => ClosedBy::Nobody,
        1 => ClosedBy::Complete,
        2 => ClosedBy::Fail,
        3 => ClosedBy::Release,
        4 => ClosedBy::TakenBack,
        5 => ClosedBy::Lost,
        _ => return Err(Malformed("how its lease ended is unknown")),
    })
}
