//! Records for tests: plain records and arbitrary records.

use bytes::Bytes;
use celeriac_proto::{ExchangeName, QueueName, TaskId, TaskName};
use celeriac_record::{
    Actor, Backoff, BindingRecord, Body, Cancel, Changed, ChordRecord, ClosedBy, ExchangeKind,
    ExchangeRecord, Jitter, Name, Named, Order, Progress, QueueRecord, Record, RetryPolicy,
    SessionRecord, State, Submitted, TaskError, TaskKey, TaskSpec,
};
use proptest::collection::vec;
use proptest::option::of;
use proptest::prelude::*;

/// A task with defaults. Its payload contains its serial, so that a test notices a mix-up.
pub(crate) fn submitted(slot: u32, serial: u64, payload_bytes: usize) -> Submitted {
    let payload: Vec<u8> = serial.to_le_bytes().into_iter().cycle().take(payload_bytes).collect();
    Submitted {
        key: TaskKey { slot, serial },
        generation: 1,
        after: None,
        submitted_at: 1_800_000_000_000,
        eta: None,
        expires: None,
        result_ttl_ms: 86_400_000,
        spec: TaskSpec {
            payload: payload.into(),
            max_deliveries: 10,
            ..TaskSpec::new(
                TaskId::parse(format!("task-{serial}")).unwrap(),
                TaskName::parse("songs.preprocess").unwrap(),
            )
        },
    }
}

/// The change of a running task.
pub(crate) fn changed(slot: u32, serial: u64, version: u32) -> Changed {
    Changed {
        key: TaskKey { slot, serial },
        state: State::Started,
        version,
        at: 1_800_000_000_500,
        actor: Actor::Broker,
        lease: 10 * serial + u64::from(version),
        closed_by: ClosedBy::Nobody,
        session: None,
        worker: "worker-1".into(),
        attempts: 1,
        deliveries: 1,
        losses: 0,
        silent: 0,
        due: None,
        leased_at: Some(1_800_000_000_400),
        started_at: Some(1_800_000_000_500),
        progress: None,
        errors: Vec::new(),
        result: None,
        revoked_reason: "".into(),
        cancel: Cancel::None,
        cancel_at: None,
        settled: false,
        redelivered: false,
        result_ttl_ms: None,
    }
}

pub(crate) fn queue(name: &str, tasks_max: u64) -> QueueRecord {
    QueueRecord {
        name: QueueName::parse(name).unwrap(),
        paused: false,
        tasks_max: Some(tasks_max),
        bytes_max: None,
        expires_in_ms: None,
        result_ttl_ms: None,
        declared: false,
        idle_ms: None,
    }
}

fn any_text() -> BoxedStrategy<Box<str>> {
    prop_oneof![Just(String::new()), "\\PC{0,40}", "[a-z]{100,300}"]
        .prop_map(String::into_boxed_str)
        .boxed()
}

fn any_bytes() -> BoxedStrategy<Bytes> {
    prop_oneof![vec(any::<u8>(), 0..40), vec(any::<u8>(), 100..300)].prop_map(Bytes::from).boxed()
}

fn any_key() -> impl Strategy<Value = TaskKey> {
    (any::<u32>(), any::<u64>()).prop_map(|(slot, serial)| TaskKey { slot, serial })
}

fn any_retry() -> impl Strategy<Value = RetryPolicy> {
    let backoff =
        prop_oneof![Just(Backoff::Exponential), Just(Backoff::Fixed), Just(Backoff::Polynomial)];
    let jitter = prop_oneof![Just(Jitter::None), Just(Jitter::Full), Just(Jitter::Equal)];
    (any::<u32>(), backoff, any::<u64>(), any::<f64>(), any::<u64>(), jitter).prop_map(
        |(attempts_max, backoff, delay_ms, factor, delay_max_ms, jitter)| RetryPolicy {
            attempts_max,
            backoff,
            delay_ms,
            factor,
            delay_max_ms,
            jitter,
        },
    )
}

fn any_submitted() -> impl Strategy<Value = Submitted> {
    let identity =
        (any_key(), any::<u32>(), "\\PC{1,60}", "[a-z.]{1,255}", "[a-z]{1,20}", any_bytes());
    let described =
        (any_text(), vec((any_text(), any_bytes()), 0..3), any_text(), vec(any_text(), 0..3));
    let times =
        (any::<u8>(), any::<i64>(), of(any::<i64>()), of(any::<i64>()), any::<u64>(), any_retry());
    let limits = (
        of(any::<u64>()),
        of(any::<u64>()),
        any::<u32>(),
        any::<bool>(),
        any_text(),
        any_text(),
        of(any_key()),
    );
    let again = (any_text(), any::<u64>(), any::<bool>(), any::<bool>());
    let parts = (identity, described, times, limits, again);
    parts.prop_map(|(identity, described, times, limits, again)| Submitted {
        key: identity.0,
        generation: identity.1,
        after: limits.6,
        submitted_at: times.1,
        eta: times.2,
        expires: times.3,
        result_ttl_ms: times.4,
        spec: TaskSpec {
            id: TaskId::parse(identity.2).unwrap(),
            name: TaskName::parse(identity.3).unwrap(),
            queue: QueueName::parse(identity.4).unwrap(),
            payload: identity.5,
            content_type: described.0,
            headers: described.1,
            shadow: described.2,
            tags: described.3,
            priority: times.0,
            retry: times.5,
            soft_time_limit_ms: limits.0,
            time_limit_ms: limits.1,
            max_deliveries: limits.2,
            early_ack: limits.3,
            root_id: limits.4,
            parent_id: limits.5,
            submit_key: again.0,
            lead_ms: again.1,
            forget_at_end: again.2,
            announce_end: again.3,
        },
    })
}

fn any_error() -> impl Strategy<Value = TaskError> {
    let texts = (any_text(), any_text(), any_text(), any_text());
    let numbers = (any::<i64>(), any::<u32>(), of(any::<i64>()), of(any::<i64>()));
    (texts, numbers).prop_map(|(texts, numbers)| TaskError {
        kind: texts.0,
        message: texts.1,
        traceback: texts.2,
        at: numbers.0,
        attempt: numbers.1,
        leased_at: numbers.2,
        started_at: numbers.3,
        worker: texts.3.into(),
    })
}

fn any_state() -> impl Strategy<Value = State> {
    proptest::sample::select(vec![
        State::Scheduled,
        State::Queued,
        State::Leased,
        State::Started,
        State::Retry,
        State::Success,
        State::Failure,
        State::Revoked,
    ])
}

fn any_closed_by() -> impl Strategy<Value = ClosedBy> {
    proptest::sample::select(vec![
        ClosedBy::Nobody,
        ClosedBy::Complete,
        ClosedBy::Fail,
        ClosedBy::Release,
        ClosedBy::TakenBack,
        ClosedBy::Lost,
    ])
}

fn any_session() -> impl Strategy<Value = SessionRecord> {
    let order = proptest::sample::select(vec![Order::Resume, Order::Quiet, Order::Shutdown]);
    // A name of an entry is never empty.
    let entry = of(any_text().prop_map(|text| format!("e{text}")));
    (any::<[u8; 16]>(), any_text(), entry, any::<u32>(), order, any::<bool>()).prop_map(
        |(id, instance, entry, concurrency, order, keeps_leases)| SessionRecord {
            id,
            instance: instance.into(),
            entry: entry.map(Into::into),
            concurrency,
            order,
            keeps_leases,
        },
    )
}

fn any_actor() -> impl Strategy<Value = Actor> {
    prop_oneof![
        Just(Actor::Broker),
        Just(Actor::Worker),
        any_text().prop_map(|text| Actor::Client(text.into()))
    ]
}

fn any_changed() -> impl Strategy<Value = Changed> {
    let identity = (any_key(), any_state(), any::<u32>(), any::<i64>(), any::<u64>(), any_actor());
    let holder = (
        of(any::<[u8; 16]>()),
        any_text(),
        any::<u32>(),
        any::<u32>(),
        any_closed_by(),
        any::<u32>(),
        any::<u32>(),
    );
    let times = (of(any::<i64>()), of(any::<i64>()), of(any::<i64>()), of(any::<i64>()));
    let progress = (any_text(), any_bytes(), any::<i64>()).prop_map(|(state, meta, at)| Progress {
        state,
        meta,
        at,
    });
    let result =
        (any_bytes(), any_text()).prop_map(|(bytes, content_type)| Body { bytes, content_type });
    let cancel = proptest::sample::select(vec![
        Cancel::None,
        Cancel::Silent,
        Cancel::Told,
        Cancel::CalledOff,
    ]);
    let outcome = (
        of(progress),
        vec(any_error(), 0..3),
        of(result),
        any_text(),
        cancel,
        any::<bool>(),
        any::<bool>(),
        of(any::<u64>()),
    );
    (identity, holder, times, outcome).prop_map(|(identity, holder, times, outcome)| Changed {
        key: identity.0,
        state: identity.1,
        version: identity.2,
        at: identity.3,
        actor: identity.5,
        lease: identity.4,
        closed_by: holder.4,
        session: holder.0,
        worker: holder.1.into(),
        attempts: holder.2,
        deliveries: holder.3,
        losses: holder.5,
        silent: holder.6,
        due: times.0,
        leased_at: times.1,
        started_at: times.2,
        progress: outcome.0,
        errors: outcome.1,
        result: outcome.2,
        revoked_reason: outcome.3,
        cancel: outcome.4,
        cancel_at: times.3,
        settled: outcome.5,
        redelivered: outcome.6,
        result_ttl_ms: outcome.7,
    })
}

fn any_group() -> impl Strategy<Value = TaskId> {
    "\\PC{1,60}".prop_map(|id| TaskId::parse(id).unwrap())
}

fn any_chord() -> impl Strategy<Value = ChordRecord> {
    (any_group(), of(any::<u32>()), 0..1_000_000_u64, any::<bool>(), any::<i64>()).prop_map(
        |(group, size, lease, is_done, expires_at)| ChordRecord {
            group,
            size,
            lease,
            is_done,
            expires_at,
        },
    )
}

pub(crate) fn any_record() -> impl Strategy<Value = Record> {
    let name = || "\\PC{1,60}".prop_map(|name| QueueName::parse(name).unwrap());
    let bounds = (of(any::<u64>()), of(any::<u64>()), of(any::<u64>()), of(any::<u64>()));
    let declared = (any::<bool>(), of(any::<u64>()));
    let queue = (name(), any::<bool>(), bounds, declared);
    let queue = queue.prop_map(|(name, paused, bounds, declared)| QueueRecord {
        name,
        paused,
        tasks_max: bounds.0,
        bytes_max: bounds.1,
        expires_in_ms: bounds.2,
        result_ttl_ms: bounds.3,
        declared: declared.0,
        idle_ms: declared.1,
    });
    let exchange =
        (exchange_name(), 0..3_usize, any::<bool>()).prop_map(|(name, kind, auto_delete)| {
            let kinds = [ExchangeKind::Direct, ExchangeKind::Topic, ExchangeKind::Fanout];
            ExchangeRecord { name, kind: kinds[kind], auto_delete }
        });
    let binding = || {
        (exchange_name(), "\\PC{0,60}", name()).prop_map(|(exchange, routing_key, queue)| {
            BindingRecord { exchange, routing_key: routing_key.into(), queue }
        })
    };
    prop_oneof![
        any_submitted().prop_map(|task| Record::Submitted(Box::new(task))),
        any_changed().prop_map(|change| Record::Changed(Box::new(change))),
        any_key().prop_map(Record::Forgotten),
        queue.prop_map(|named| Record::Named(Named::Queue(named))),
        name().prop_map(|named| Record::Removed(Name::Queue(named))),
        any_session().prop_map(|named| Record::Named(Named::Session(named))),
        any::<[u8; 16]>().prop_map(|named| Record::Removed(Name::Session(named))),
        exchange.prop_map(|named| Record::Named(Named::Exchange(named))),
        exchange_name().prop_map(|named| Record::Removed(Name::Exchange(named))),
        binding().prop_map(|named| Record::Named(Named::Binding(named))),
        binding().prop_map(|named| Record::Removed(Name::Binding(named))),
        any_chord().prop_map(|named| Record::Named(Named::Chord(named))),
        any_group().prop_map(|named| Record::Removed(Name::Chord(named))),
    ]
}

fn exchange_name() -> impl Strategy<Value = ExchangeName> {
    "\\PC{1,60}".prop_map(|name| ExchangeName::parse(name).unwrap())
}
