//! No message takes more bytes than were counted for it, whatever its content is. The largest task
//! that the limits allow fits into the frame length that is required for it.

use std::sync::Arc;

use celeriac_machine::command::{
    BindingOutline, BrokerOutline, BrokerStats, CancelOutcome, ChordState, Cursor, DeliveredMail,
    DeliveryOutline, DestinationName, Histogram, List, ListPlace, MailMessage, MailboxOutline,
    Outline, Page, QueueCounters, QueueOutline, QueueStats, Spans, Stats, WorkerStatus,
};
use celeriac_proto::limits::{
    ERROR_TEXT_BYTES_MAX, ERRORS_KEPT, HEADERS_BYTES_MAX, MAIL_PROPERTIES_BYTES_MAX,
    NAME_BYTES_MAX, PROGRESS_BYTES_MAX, TAGS_MAX,
};
use celeriac_proto::{ExchangeName, MailboxName, QueueName, TaskId, TaskName};
use celeriac_record::{Body as Stored, Progress, QueueRecord, RetryPolicy, TaskKey, TaskSpec};
use celeriac_record::{ClosedBy, ExchangeKind};
use celeriac_store::Usage;
use proptest::prelude::*;
use prost::Message as _;

use super::*;
use crate::outgoing::{
    AuthFailures, BrokerView, Outside, Process, QueueView, Reload, StatsView, WorkerView,
};

/// The sizes of the parts of a task.
#[derive(Debug, Clone)]
struct Shape {
    name: usize,
    /// `None`: as many headers as have room, each as short as possible.
    header: Option<usize>,
    tags: usize,
    text: usize,
    body: usize,
    errors: usize,
    number: i64,
}

const LARGEST: Shape = Shape {
    name: NAME_BYTES_MAX,
    header: None,
    tags: TAGS_MAX,
    text: ERROR_TEXT_BYTES_MAX,
    body: 100_000,
    errors: ERRORS_KEPT,
    number: i64::MIN,
};

fn shapes() -> impl Strategy<Value = Shape> {
    let lengths = || prop_oneof![Just(0_usize), 1..4_usize, 120..140_usize, Just(NAME_BYTES_MAX)];
    let header = prop_oneof![Just(None), (0..300_usize).prop_map(Some)];
    let numbers = prop_oneof![Just(0), Just(i64::MIN), Just(i64::MAX), any::<i64>()];
    (lengths(), header, 0..=TAGS_MAX, 0..=300_usize, 0..20_000_usize, 0..=ERRORS_KEPT, numbers)
        .prop_map(|(name, header, tags, text, body, errors, number)| Shape {
            name,
            header,
            tags,
            text,
            body,
            errors,
            number,
        })
}

fn text(length: usize) -> Box<str> {
    "x".repeat(length).into()
}

fn name(shape: &Shape) -> Box<str> {
    text(shape.name.max(1))
}

/// All texts of one and two bytes, then some of three.
fn short_names() -> impl Iterator<Item = String> {
    let ones = (0..128_u8).map(|byte| char::from(byte).to_string());
    let twos = (0..128_u8)
        .flat_map(|a| (0..128_u8).map(move |b| [char::from(a), char::from(b)].iter().collect()));
    let wide = (0x80..0x800_u32).filter_map(char::from_u32).map(String::from);
    let threes = (0..128_u8).flat_map(|a| {
        (0x80..0x800_u32).filter_map(char::from_u32).map(move |b| format!("{}{b}", char::from(a)))
    });
    std::iter::once(String::new()).chain(ones).chain(twos).chain(wide).chain(threes)
}

fn headers(shape: &Shape) -> Vec<(Box<str>, Bytes)> {
    let mut room = HEADERS_BYTES_MAX;
    let header = |key: String| {
        let value = shape.header.unwrap_or_default();
        room = room.checked_sub(key.len() + value)?;
        Some((key.into(), vec![b'v'; value].into()))
    };
    short_names().map_while(header).collect()
}

fn submitted(shape: &Shape) -> Submitted {
    Submitted {
        key: TaskKey { slot: 1, serial: 1 },
        generation: u32::MAX,
        after: None,
        submitted_at: shape.number,
        eta: Some(shape.number),
        expires: Some(shape.number),
        result_ttl_ms: u64::MAX,
        spec: TaskSpec {
            id: TaskId::parse(name(shape)).expect("an id"),
            name: TaskName::parse(name(shape)).expect("a name"),
            queue: QueueName::parse(name(shape)).expect("a queue"),
            payload: vec![0; shape.body].into(),
            content_type: text(shape.name),
            headers: headers(shape),
            shadow: text(shape.name),
            priority: 9,
            retry: RetryPolicy { attempts_max: u32::MAX, ..RetryPolicy::default() },
            soft_time_limit_ms: Some(u64::MAX),
            time_limit_ms: Some(u64::MAX),
            max_deliveries: u32::MAX,
            early_ack: true,
            root_id: text(shape.name),
            parent_id: text(shape.name),
            tags: (0..shape.tags).map(|_| name(shape)).collect(),
            submit_key: text(shape.name),
            lead_ms: u64::MAX,
            forget_at_end: true,
            announce_end: true,
        },
    }
}

fn changed(shape: &Shape) -> Changed {
    let instance: Arc<str> = text(shape.name).into();
    let error = TaskError {
        kind: text(shape.name),
        message: text(shape.text),
        traceback: text(shape.text),
        at: shape.number,
        attempt: u32::MAX,
        leased_at: Some(shape.number),
        started_at: Some(shape.number),
        worker: instance.clone(),
    };
    Changed {
        key: TaskKey { slot: 1, serial: 1 },
        state: State::Revoked,
        version: u32::MAX,
        at: shape.number,
        actor: if shape.tags > 1 { Actor::Client(instance.clone()) } else { Actor::Broker },
        lease: u64::MAX,
        closed_by: ClosedBy::Nobody,
        session: None,
        worker: instance,
        attempts: u32::MAX,
        deliveries: u32::MAX,
        losses: u32::MAX,
        silent: u32::MAX,
        due: Some(shape.number),
        leased_at: Some(shape.number),
        started_at: Some(shape.number),
        progress: Some(Progress {
            state: text(shape.name),
            meta: vec![0; shape.body.min(PROGRESS_BYTES_MAX)].into(),
            at: shape.number,
        }),
        errors: vec![error; shape.errors],
        result: Some(Stored { bytes: vec![0; shape.body].into(), content_type: text(shape.name) }),
        revoked_reason: text(shape.name),
        cancel: Cancel::Told,
        cancel_at: Some(shape.number),
        settled: true,
        redelivered: true,
        result_ttl_ms: Some(5_000),
    }
}

fn view(shape: &Shape) -> TaskView {
    let outline = Outline {
        slot: 1,
        state: State::Revoked,
        generation: u32::MAX,
        version: u32::MAX,
        waiting_for: WaitingFor::Queue,
        forget_at: Some(shape.number),
    };
    let (submitted, changed) = (Box::new(submitted(shape)), Some(Box::new(changed(shape))));
    let id = TaskId::parse(name(shape)).expect("an id");
    TaskView { id, found: Some(FoundTask { outline, submitted, changed, payload_left_out: true }) }
}

fn views(shape: &Shape) -> Vec<TaskView> {
    let unknown = TaskView { found: None, ..view(&Shape { header: Some(200), ..shape.clone() }) };
    vec![view(shape), unknown, view(shape)]
}

fn delivery(shape: &Shape) -> Delivery {
    let outline = DeliveryOutline {
        slot: 1,
        lease: u64::MAX,
        attempt: u32::MAX,
        deliveries: u32::MAX,
        report_start: true,
        redelivered: true,
        revoked_reason: Some(text(shape.name)),
    };
    Delivery { outline, submitted: Box::new(submitted(shape)) }
}

fn queue(shape: &Shape) -> QueueView {
    let (most, name) = (Some(u64::MAX), QueueName::parse(name(shape)).expect("a queue"));
    let outline = QueueOutline {
        record: QueueRecord {
            name,
            paused: true,
            tasks_max: most,
            bytes_max: most,
            expires_in_ms: most,
            result_ttl_ms: most,
            declared: true,
            idle_ms: most,
        },
        ready: u64::MAX,
        scheduled: u64::MAX,
        leased: u64::MAX,
        dead: u64::MAX,
        oldest: None,
        workers: u32::MAX,
        submitted_total: u64::MAX,
        ended_total: u64::MAX,
        submitted_per_second: 1.5,
        ended_per_second: 1.5,
        bytes: u64::MAX,
    };
    QueueView { outline, oldest_ms: u64::MAX }
}

fn worker(shape: &Shape) -> WorkerView {
    let status = WorkerStatus {
        key: u64::MAX,
        instance: text(shape.name).into(),
        hostname: text(shape.name),
        pid: u32::MAX,
        queues: vec![QueueName::parse(name(shape)).expect("a queue"); shape.tags],
        task_names: vec![TaskName::parse(name(shape)).expect("a name"); shape.tags],
        concurrency: u32::MAX,
        credit: u32::MAX,
        memory_bytes: u64::MAX,
        connected_at: shape.number,
        seen_at: shape.number,
        quiet: true,
        lost: true,
    };
    WorkerView { status, running: views(shape), running_left_out: u32::MAX }
}

/// One message of every kind, at its longest. [`every_kind_is_here`] fails when a new kind has no
/// message here.
fn messages(shape: &Shape) -> Vec<Outgoing> {
    let answers = answers(shape).into_iter().map(|answer| Outgoing::Answer(u64::MAX, answer));
    let shown = shown(shape).into_iter().map(|shown| Outgoing::Show(u64::MAX, shown));
    let pushed = [
        Outgoing::Deliver(vec![delivery(shape), delivery(shape)]),
        Outgoing::Push(Push::Signal {
            leases: vec![u64::MAX; 100],
            kind: SignalKind::TakenBack,
            reason: text(shape.name),
        }),
        Outgoing::Push(Push::Order(Order::Resume)),
        Outgoing::Transition { watch: u64::MAX, task: view(shape) },
        Outgoing::Push(Push::Closing(refusal(shape))),
        Outgoing::Push(Push::Mail {
            consumer: u64::MAX,
            messages: vec![mail(shape); 3],
            dropped: u64::MAX,
        }),
        Outgoing::Push(Push::ConsumerEnded { consumer: u64::MAX, mailbox: mailbox(shape) }),
    ];
    answers.chain(shown).chain(pushed).collect()
}

fn refusal(shape: &Shape) -> Refusal {
    let message = text(10 * shape.text);
    Refusal { code: Code::Internal, message, retry_after_ms: u64::MAX }
}

fn answers(shape: &Shape) -> Vec<Answer> {
    let id = || TaskId::parse(name(shape)).expect("an id");
    let submitted = [
        SubmitOutcome::Refused(refusal(shape)),
        SubmitOutcome::Refused(Refusal { message: text(0), ..refusal(shape) }),
        SubmitOutcome::NewGeneration { generation: u32::MAX, state: State::Revoked },
    ];
    vec![
        Answer::Welcome {
            session_id: [255; 16],
            resumed: true,
            leases: vec![u64::MAX; 10_000],
            wall: shape.number,
        },
        Answer::Done,
        Answer::Refused(refusal(shape)),
        Answer::Heartbeat { wall: shape.number },
        Answer::Submitted(submitted.into()),
        Answer::Reported(vec![Err((Code::Internal, Some(State::Revoked))); 100]),
        Answer::Stored(vec![Ok((State::Revoked, u32::MAX)); 100]),
        Answer::Stored(vec![Err((refusal(shape), Some(State::Revoked)))]),
        Answer::Chord(ChordState {
            count: u32::MAX,
            size: Some(u32::MAX),
            added: u32::MAX,
            lease: u64::MAX,
            is_done: true,
            parts: vec![id(); 1_000],
            parts_left: u32::MAX,
        }),
        Answer::Forgot(vec![Err(Code::Internal); 100]),
        Answer::Cancelled(vec![(id(), CancelOutcome::NotFound); 100]),
        Answer::Count(u64::MAX),
        Answer::BackedUp { tasks: u64::MAX, bytes: u64::MAX },
        Answer::LogFilter("info,celeriac_broker=debug".into()),
        Answer::Mailbox { mailbox: mailbox(shape), ready: u64::MAX, consumers: u32::MAX },
        Answer::Consuming(u64::MAX),
        Answer::Fetched { message: Some(mail(shape)), ready: u64::MAX, dropped: u64::MAX },
    ]
}

fn mailbox(shape: &Shape) -> MailboxName {
    MailboxName::parse(name(shape)).expect("a mailbox name")
}

fn mail(shape: &Shape) -> DeliveredMail {
    let message = MailMessage {
        exchange: Some(ExchangeName::parse(name(shape)).expect("a name of an exchange")),
        routing_key: text(shape.name),
        body: vec![0; shape.body].into(),
        content_type: text(shape.name),
        properties: vec![0; shape.body.min(MAIL_PROPERTIES_BYTES_MAX)].into(),
    };
    DeliveredMail { tag: u64::MAX, message: Arc::new(message), redelivered: true }
}

fn listed_mailbox(shape: &Shape) -> MailboxOutline {
    MailboxOutline {
        mailbox: mailbox(shape),
        exclusive: true,
        auto_delete: true,
        ready: u64::MAX,
        bytes: u64::MAX,
        unacknowledged: u64::MAX,
        consumers: u32::MAX,
        dropped_total: u64::MAX,
    }
}

fn binding(shape: &Shape) -> BindingOutline {
    BindingOutline {
        exchange: ExchangeName::parse(name(shape)).expect("a name of an exchange"),
        kind: ExchangeKind::Fanout,
        routing_key: text(shape.name),
        to: Some(DestinationName::Mailbox(mailbox(shape))),
    }
}

fn shown(shape: &Shape) -> Vec<Shown> {
    let tasks = || Selection { tasks: views(shape), left_out: vec![u32::MAX; 100] };
    vec![
        Shown::Got { tasks: tasks() },
        Shown::Waited { satisfied: true, tasks: tasks() },
        Shown::Watching { watch: u64::MAX, tasks: tasks() },
        Shown::Queues {
            queues: vec![queue(shape); 3],
            next: Some(queue(shape).outline.record.name),
        },
        Shown::Page(page(shape)),
        Shown::Workers { workers: vec![worker(shape), worker(shape)], next: Some(u64::MAX) },
        Shown::Mailboxes { mailboxes: vec![listed_mailbox(shape); 3], next: Some(mailbox(shape)) },
        Shown::Bindings { bindings: vec![binding(shape); 3], is_last: false },
        Shown::Broker(Box::new(broker(shape))),
        Shown::Stats(Box::new(stats(shape))),
    ]
}

fn page(shape: &Shape) -> Page<TaskView> {
    let (list, looked) = (List::Ended, u64::MAX);
    let place = ListPlace { list, group: u64::MAX, order: u64::MAX, slot: u32::MAX, looked };
    Page {
        tasks: views(shape).into_iter().map(|view| (Cursor::Slot(0), view)).collect(),
        newest_first: true,
        just_ended: true,
        next: Some(Cursor::In(place)),
        looked,
        total: u64::MAX,
    }
}

fn broker(shape: &Shape) -> BrokerView {
    let number = shape.number as u64;
    let outline = BrokerOutline {
        uptime_ms: number,
        started_at: shape.number,
        connections: u32::MAX,
        workers: u32::MAX,
        workers_lost: u32::MAX,
        queues: u32::MAX,
        mailboxes: u32::MAX,
        ready: number,
        scheduled: number,
        leased: number,
        dead: number,
        ended: number,
        draining: true,
    };
    BrokerView { outline, memory_bytes: Some(number), usage: Some(usage(number)) }
}

fn usage(number: u64) -> Usage {
    Usage {
        live_bytes: number,
        log_bytes: number,
        chunks: number,
        file_bytes: number,
        disk_free_bytes: number,
        reusable_bytes: number,
        disk_bytes: number,
        usable_bytes: number,
        disk_low_bytes: number,
        disk_is_low: true,
    }
}

fn stats(shape: &Shape) -> StatsView {
    let number = shape.number as u64;
    let histogram = Histogram { counts: [number; 17], sum: number };
    let counters = QueueCounters {
        submitted: number,
        succeeded: number,
        failed: number,
        revoked: number,
        retried: number,
        deliveries: number,
        worker_lost: number,
        released: number,
        taken_back: number,
        spans: Some(Box::new(Spans { wait: histogram, run: histogram })),
    };
    let name = QueueName::parse(name(shape)).expect("a queue");
    let queue = QueueStats {
        name: name.clone(),
        paused: true,
        scheduled: number,
        ready: number,
        leased: number,
        started: number,
        dead: number,
        oldest_ready_at: Some(shape.number),
        bytes: number,
        workers: u32::MAX,
        slots_busy: number,
        slots_free: number,
        waiting_paused: number,
        waiting_no_worker: number,
        counters: counters.clone(),
    };
    let broker = BrokerStats {
        uptime_ms: number,
        started_at: shape.number,
        connections: u32::MAX,
        workers: u32::MAX,
        workers_lost: u32::MAX,
        mailboxes: u32::MAX,
        tasks: number,
        draining: true,
        removed: counters,
    };
    let queues = vec![queue; 3];
    let stats = Stats { wall: shape.number, broker: Some(broker), queues, next: Some(name) };
    StatsView { stats, outside: Some(outside(shape, histogram)) }
}

fn outside(shape: &Shape, commit: Histogram) -> Outside {
    let number = shape.number as u64;
    let some = Some(number);
    Outside {
        restore_ms: number,
        guests: u32::MAX,
        auth_failures: AuthFailures {
            token_missing: number,
            token_wrong: number,
            certificate: number,
            handshake: number,
        },
        refused: Code::ALL.map(|code| (code, number)).into(),
        commit,
        usage: Some(usage(number)),
        certificate_expires_at: Some(shape.number),
        reload: Reload { at: shape.number, failed: true },
        process: Process {
            memory_bytes: some,
            cpu_us: some,
            open_files: some,
            open_files_max: some,
        },
    }
}

fn usual_limits() -> Limits {
    limits(&Config::new("data"))
}

/// The encoded bytes, and the counted bytes.
fn measured(message: Outgoing) -> (usize, usize) {
    let counted = crate::size::message(&message);
    (frame(message, &usual_limits()).encoded_len(), counted)
}

fn assert_counted(shape: &Shape) {
    for message in messages(shape) {
        let kind = format!("{message:?}").chars().take(20).collect::<String>();
        let (bytes, counted) = measured(message);
        assert!(bytes <= counted, "{kind}: {bytes} bytes, and {counted} were counted");
    }
}

#[test]
fn every_kind_is_here() {
    let kinds: std::collections::BTreeSet<_> =
        messages(&Shape { header: Some(200), text: 1, ..LARGEST })
            .into_iter()
            .map(|message| {
                frame(message, &usual_limits()).body.map(|body| std::mem::discriminant(&body))
            })
            .map(|kind| format!("{kind:?}"))
            .collect();
    // All bodies of a ServerFrame.
    assert_eq!(kinds.len(), 33, "{kinds:?}");
}

#[test]
fn the_largest_messages_take_no_more_bytes_than_were_counted() {
    assert_counted(&LARGEST);
    assert_counted(&Shape { header: Some(1), ..LARGEST });
}

#[test]
fn a_page_of_bindings_and_the_largest_message_of_a_mailbox_fit_into_every_frame() {
    let page = Shown::Bindings { bindings: vec![binding(&LARGEST); 250], is_last: false };
    let (bytes, counted) = measured(Outgoing::Show(u64::MAX, page));
    assert!(bytes <= counted && counted <= crate::size::frame_bytes_for(0, 0), "{counted}");
    let push = Push::Mail { consumer: 1, messages: vec![mail(&LARGEST)], dropped: 1 };
    let (bytes, counted) = measured(Outgoing::Push(push));
    let frame_bytes = crate::size::frame_bytes_for(LARGEST.body, 0);
    assert!(bytes <= counted && counted <= frame_bytes, "{counted}");
}

#[test]
fn the_largest_task_fits_into_the_frame_that_is_asked_for_it() {
    for header in [None, Some(0), Some(1), Some(2), Some(130), Some(300)] {
        let shape = Shape { header, ..LARGEST };
        let frame_bytes = crate::size::frame_bytes_for(shape.body, shape.body);
        let left_out = vec![9_999; celeriac_proto::limits::BATCH_ITEMS_MAX];
        for message in [
            Outgoing::Show(
                u64::MAX,
                Shown::Got {
                    tasks: Selection { tasks: vec![view(&shape).without_payload()], left_out },
                },
            ),
            Outgoing::Transition { watch: u64::MAX, task: view(&shape).without_payload() },
            Outgoing::Deliver(vec![delivery(&shape)]),
        ] {
            let (bytes, counted) = measured(message);
            assert!(
                bytes <= counted && counted <= frame_bytes,
                "{header:?}: {bytes}, {counted}, {frame_bytes}"
            );
        }
    }
}

#[test]
fn the_outcomes_of_a_whole_batch_fit_into_the_least_frame_without_their_sentences() {
    let outcomes = vec![
        SubmitOutcome::Refused(Refusal::new(Code::Internal, ""));
        celeriac_proto::limits::BATCH_ITEMS_MAX
    ];
    let (bytes, counted) = measured(Outgoing::Answer(u64::MAX, Answer::Submitted(outcomes)));
    assert!(
        bytes <= counted && counted <= crate::size::frame_bytes_for(1, 1),
        "{bytes}, {counted}"
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]
    #[test]
    fn no_message_takes_more_bytes_than_were_counted(shape in shapes()) {
        assert_counted(&shape);
    }
}

/// The table of PROTOCOL.md says for each code whether the broker calls it retryable.
#[test]
fn the_table_of_errors_says_what_may_be_tried_again() {
    let protocol = include_str!("../../../proto/PROTOCOL.md");
    let rows = protocol.lines().filter(|line| line.starts_with("| `ERROR_CODE_"));
    let rows =
        rows.map(|line| line.trim_matches('|').split(" | ").map(str::trim).collect::<Vec<_>>());
    let table: Vec<(i32, &str)> =
        rows.map(|row| (row[1].parse().expect("a number"), row[row.len() - 2])).collect();
    for known in [
        Code::Malformed,
        Code::FrameTooLarge,
        Code::Unsupported,
        Code::VersionMismatch,
        Code::Handshake,
        Code::Unauthenticated,
        Code::InvalidArgument,
        Code::PayloadTooLarge,
        Code::ResultTooLarge,
        Code::NotFound,
        Code::TaskExists,
        Code::NotFinished,
        Code::StaleLease,
        Code::QueueFull,
        Code::DiskFull,
        Code::Overloaded,
        Code::ShuttingDown,
        Code::SessionLost,
        Code::Internal,
    ] {
        let said = table
            .iter()
            .find(|(number, _)| *number == code(known) as i32)
            .expect("each code has a row")
            .1;
        assert_eq!(said, if is_retryable(known) { "yes" } else { "no" }, "{known:?}");
    }
}
