//! Bytes as the chunks of a log, with checksums that are right: a start refuses them, or serves
//! what is in them.

use bytes::Bytes;
use celeriac_proto::{ExchangeName, QueueName, TaskId, TaskName};
use celeriac_record::{
    Actor, Backoff, BindingRecord, Body, Cancel, Changed, ChordRecord, ClosedBy, ExchangeKind,
    ExchangeRecord, Jitter, Name, Named, Order, Progress, QueueRecord, Record, RetryPolicy,
    SessionId, SessionRecord, State, Submitted, TaskError, TaskKey, TaskSpec,
};
use celeriac_store::Marks;
use celeriac_store::format::{
    Stored, chunk_of_a_run, chunk_of_records, encode_record, load, number_of, with_checksum,
};

use crate::input::Input;
use crate::request::play;
use crate::world::World;

/// Where the log of the made-up chunks begins.
const FIRST: u64 = 7;

/// Starts a broker with the chunks. If they are served, it lives on with what is left of the bytes.
pub fn chunk(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let stored = match input.below(4) {
        0 => any_chunks(&mut input),
        1 => a_run(&mut input),
        2 => any_records(&mut input),
        _ => made_records(&mut input),
    };
    if let Ok((records, marks)) = load(&stored) {
        play(&mut World::restored(&records, marks), &mut input);
    }
}

/// Whole chunks, the header included.
fn any_chunks(input: &mut Input<'_>) -> Stored {
    let mut stored = Stored::new();
    for _ in 0..1 + input.below(3) {
        let length = input.number(2) as usize;
        let bytes = with_checksum(input.bytes(length).to_vec());
        stored.insert(number_of(&bytes), bytes);
    }
    stored
}

/// A record in pieces, some of them missing or in the wrong place.
fn a_run(input: &mut Input<'_>) -> Stored {
    let pieces = 1 + input.below(4);
    let mut stored = Stored::new();
    for place in 0..pieces {
        let (number, length) = (FIRST + u64::from(place), usize::from(input.byte()));
        let (place, of) = (place ^ (input.below(8) / 7), pieces ^ (input.below(8) / 7));
        let body = input.bytes(length);
        let chunk =
            chunk_of_a_run(number, FIRST, marks(input), u32::from(place), u32::from(of), body);
        stored.insert(number, chunk.into());
    }
    stored
}

/// Records of any bytes.
fn any_records(input: &mut Input<'_>) -> Stored {
    let record = |input: &mut Input<'_>| {
        let length = usize::from(input.byte());
        Bytes::copy_from_slice(input.bytes(length))
    };
    chunks(input, record)
}

/// Records whose fields are in order one by one, however they contradict each other.
fn made_records(input: &mut Input<'_>) -> Stored {
    chunks(input, |input| encode_record(&made_record(input)))
}

fn chunks(input: &mut Input<'_>, record: impl Fn(&mut Input<'_>) -> Bytes) -> Stored {
    let mut stored = Stored::new();
    for number in FIRST..=FIRST + u64::from(input.below(2)) {
        let records: Vec<Bytes> = (0..1 + input.below(12)).map(|_| record(input)).collect();
        stored.insert(number, chunk_of_records(number, FIRST, marks(input), &records).into());
    }
    stored
}

fn marks(input: &mut Input<'_>) -> Marks {
    match input.below(4) {
        0 => Marks { serial: input.any_number(), lease: input.any_number() },
        _ => Marks { serial: 1_000_000, lease: 1_000_000 },
    }
}

fn made_record(input: &mut Input<'_>) -> Record {
    match input.below(17) {
        0..7 => Record::Submitted(Box::new(submitted(input))),
        7..13 => Record::Changed(Box::new(changed(input))),
        13 => Record::Forgotten(key(input)),
        14 if input.one_in(4) => Record::Removed(Name::Chord(group(input))),
        14 if input.one_in(4) => Record::Named(Named::Chord(ChordRecord {
            group: group(input),
            size: input.sometimes(2, |input| input.any_number() as u32),
            lease: input.any_number(),
            is_done: input.one_in(2),
            expires_at: time(input),
        })),
        14 => Record::Named(Named::Queue(QueueRecord {
            name: queue(input),
            paused: input.one_in(2),
            tasks_max: input.sometimes(2, Input::any_number),
            bytes_max: input.sometimes(2, Input::any_number),
            expires_in_ms: input.sometimes(2, Input::any_number),
            result_ttl_ms: input.sometimes(2, Input::any_number),
            declared: input.one_in(2),
            idle_ms: input.sometimes(2, Input::any_number),
        })),
        15 if input.one_in(2) => Record::Named(Named::Session(SessionRecord {
            id: session(input),
            instance: word(input).into(),
            entry: input.one_in(2).then(|| "entry".into()),
            concurrency: input.any_number() as u32,
            order: [Order::Resume, Order::Quiet, Order::Shutdown][usize::from(input.below(3))],
            keeps_leases: input.one_in(2),
        })),
        15 => Record::Removed(Name::Session(session(input))),
        _ if input.one_in(2) => route(input),
        _ => Record::Removed(Name::Queue(queue(input))),
    }
}

fn route(input: &mut Input<'_>) -> Record {
    let name = |input: &mut Input<'_>| {
        let name = ["e", "f"][usize::from(input.below(2))];
        ExchangeName::parse(name).expect("a name of an exchange")
    };
    let exchange = ExchangeRecord {
        name: name(input),
        kind: [ExchangeKind::Direct, ExchangeKind::Topic, ExchangeKind::Fanout]
            [usize::from(input.below(3))],
        auto_delete: input.one_in(2),
    };
    let binding =
        BindingRecord { exchange: name(input), routing_key: word(input), queue: queue(input) };
    match input.below(4) {
        0 => Record::Named(Named::Exchange(exchange)),
        1 => Record::Removed(Name::Exchange(exchange.name)),
        2 => Record::Named(Named::Binding(binding)),
        _ => Record::Removed(Name::Binding(binding)),
    }
}

/// Mostly of a few slots whose present task is the first.
fn key(input: &mut Input<'_>) -> TaskKey {
    let slot = u32::from(input.below(6));
    let serial = if input.one_in(8) { input.any_number() } else { u64::from(slot) + 10 };
    TaskKey { slot, serial }
}

fn queue(input: &mut Input<'_>) -> QueueName {
    QueueName::parse(["default", "slow", "other"][usize::from(input.below(3))])
        .expect("it is a name")
}

fn group(input: &mut Input<'_>) -> TaskId {
    TaskId::parse(["a", "b"][usize::from(input.below(2))]).expect("it is an id")
}

fn session(input: &mut Input<'_>) -> SessionId {
    [0xA0 + input.below(3); 16]
}

fn word(input: &mut Input<'_>) -> Box<str> {
    ["", "a", "b", "c"][usize::from(input.below(4))].into()
}

/// Around the start of the broker, or at the edge of all times.
fn time(input: &mut Input<'_>) -> i64 {
    match input.below(16) {
        0 => input.any_number() as i64,
        1 => -(input.any_number() as i64 / 2),
        _ => 1_800_000_000_000 + (input.number(2) as i64 - 32_768) * 10,
    }
}

fn submitted(input: &mut Input<'_>) -> Submitted {
    let key = key(input);
    let id = if input.one_in(8) {
        ["a", "b"][usize::from(input.below(2))].to_owned()
    } else {
        format!("task-{}", key.slot)
    };
    Submitted {
        key,
        generation: input.any_number() as u32,
        after: input.sometimes(4, |input| self::key(input)),
        submitted_at: time(input),
        eta: input.sometimes(3, time),
        expires: input.sometimes(3, time),
        result_ttl_ms: if input.one_in(2) { 60_000 } else { input.any_number() },
        spec: TaskSpec {
            id: TaskId::parse(id).expect("it is an id"),
            name: TaskName::parse(["job", "song", "mix"][usize::from(input.below(3))])
                .expect("it is a name"),
            queue: queue(input),
            payload: vec![b'p'; usize::from(input.byte())].into(),
            content_type: word(input),
            headers: Vec::new(),
            shadow: word(input),
            priority: input.byte(),
            retry: RetryPolicy {
                attempts_max: input.any_number() as u32,
                backoff: [Backoff::Exponential, Backoff::Fixed, Backoff::Polynomial]
                    [usize::from(input.below(3))],
                delay_ms: input.any_number(),
                factor: f64::from_bits(input.any_number()),
                delay_max_ms: input.any_number(),
                jitter: [Jitter::None, Jitter::Full, Jitter::Equal][usize::from(input.below(3))],
            },
            soft_time_limit_ms: input.sometimes(4, Input::any_number),
            time_limit_ms: input.sometimes(4, Input::any_number),
            max_deliveries: input.any_number() as u32,
            early_ack: input.one_in(2),
            root_id: word(input),
            parent_id: word(input),
            tags: vec![word(input)],
            submit_key: word(input),
            lead_ms: input.sometimes(4, Input::any_number).unwrap_or(0),
            forget_at_end: input.one_in(4),
            announce_end: input.one_in(4),
        },
    }
}

fn changed(input: &mut Input<'_>) -> Changed {
    use State::*;
    let states = [Leased, Started, Queued, Scheduled, Retry, Success, Failure, Revoked];
    let state = states[usize::from(input.below(8))];
    // The times and the worker of an attempt take no input: a known input keeps its meaning.
    let error = |input: &mut Input<'_>| TaskError {
        kind: ["Oops", "worker_lost", "result_too_large"][usize::from(input.below(3))].into(),
        message: word(input),
        traceback: word(input),
        at: time(input),
        attempt: input.any_number() as u32,
        leased_at: Some(i64::MIN),
        started_at: Some(i64::MAX),
        worker: "worker".into(),
    };
    Changed {
        key: key(input),
        state,
        version: input.any_number() as u32,
        at: time(input),
        actor: match input.below(3) {
            0 => Actor::Broker,
            1 => Actor::Worker,
            _ => Actor::Client(word(input).into()),
        },
        lease: input.any_number(),
        closed_by: [
            ClosedBy::Nobody,
            ClosedBy::Complete,
            ClosedBy::Fail,
            ClosedBy::Release,
            ClosedBy::Lost,
        ][usize::from(input.below(5))],
        session: (!input.one_in(4)).then(|| session(input)),
        worker: word(input).into(),
        attempts: input.any_number() as u32,
        deliveries: input.any_number() as u32,
        losses: input.any_number() as u32,
        silent: input.any_number() as u32,
        due: input.sometimes(2, time),
        leased_at: input.sometimes(2, time),
        started_at: input.sometimes(2, time),
        progress: input.sometimes(4, |input| Progress {
            state: word(input),
            meta: Bytes::new(),
            at: time(input),
        }),
        errors: (0..input.below(8)).map(|_| error(input)).collect(),
        result: input.sometimes(2, |input| Body {
            bytes: Bytes::from_static(b"2"),
            content_type: word(input),
        }),
        revoked_reason: word(input),
        result_ttl_ms: input.sometimes(4, Input::any_number),
        cancel: [Cancel::None, Cancel::Silent, Cancel::Told, Cancel::CalledOff]
            [usize::from(input.below(4))],
        cancel_at: Some(0),
        settled: input.one_in(4),
        redelivered: input.one_in(2),
    }
}
