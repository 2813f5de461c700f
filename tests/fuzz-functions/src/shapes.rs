//! Frames of clients made from decisions: few ids, names and queues, so that requests meet each
//! other; and now and then a value that nobody should send.

use celeriac_proto::wire::client_frame::Body;
use celeriac_proto::wire::task_report::Report;
use celeriac_proto::wire::{self, ClientFrame};

use crate::input::Input;
use crate::world::Peer;

const TEXTS: [&str; 8] = ["a", "b", "c", "d", "e", "f", "", "다이너마이트"];

fn id(input: &mut Input<'_>) -> String {
    TEXTS[usize::from(if input.one_in(32) { 6 + input.below(2) } else { input.below(6) })]
        .to_owned()
}

fn ids(input: &mut Input<'_>) -> Vec<String> {
    (0..1 + input.below(3)).map(|_| id(input)).collect()
}

fn name(input: &mut Input<'_>) -> String {
    ["job", "song", "mix"][usize::from(input.below(3))].to_owned()
}

fn queue(input: &mut Input<'_>) -> String {
    ["default", "slow", "other", ""][usize::from(input.below(4))].to_owned()
}

fn word(input: &mut Input<'_>) -> String {
    TEXTS[usize::from(input.below(8))].to_owned()
}

/// A span in milliseconds: none, some seconds, or one at an edge.
fn span(input: &mut Input<'_>) -> Option<u64> {
    match input.below(8) {
        0 => Some(input.any_number()),
        1..3 => Some(u64::from(input.byte()) * 200),
        _ => None,
    }
}

fn count(input: &mut Input<'_>) -> Option<u32> {
    input.sometimes(3, |input| input.any_number() as u32)
}

pub(crate) fn hello(input: &mut Input<'_>, peer: &Peer, who: usize) -> wire::Hello {
    let resumes = input.one_in(2);
    let session_id =
        peer.session.filter(|_| resumes).map(|id| uuid::Uuid::from_bytes(id).to_string());
    let subscription = |input: &mut Input<'_>| wire::QueueSubscription {
        queue: ["default", "slow", "other"][usize::from(input.below(3))].to_owned(),
        weight: u32::from(input.byte()),
    };
    let worker = input.sometimes(2, |input| wire::WorkerInfo {
        queues: (0..1 + input.below(3)).map(|_| subscription(input)).collect(),
        task_names: (0..1 + input.below(3)).map(|_| name(input)).collect(),
        hostname: "host".to_owned(),
        pid: 1,
        concurrency: u32::from(input.below(4)),
        any_name: input.one_in(4),
        keeps_leases: input.one_in(4),
    });
    wire::Hello {
        protocol_min: 1,
        protocol_max: 1,
        instance_id: format!("peer-{who}"),
        session_id: session_id.unwrap_or_default(),
        worker,
        ..wire::Hello::default()
    }
}

/// Any request but Hello.
pub(crate) fn request(input: &mut Input<'_>, peer: &Peer) -> ClientFrame {
    let body = match input.below(32) {
        0..8 => Body::Submit(wire::Submit {
            tasks: (0..1 + input.below(3)).map(|_| task(input)).collect(),
        }),
        8..12 => Body::Credit(wire::Credit { credit: u32::from(input.below(6)) }),
        12..20 => Body::Report(wire::Report {
            reports: (0..1 + input.below(2)).map(|_| report(input, peer)).collect(),
        }),
        20..22 => Body::Cancel(cancel(input)),
        22 => Body::Heartbeat(wire::Heartbeat {
            memory_bytes: input.any_number(),
            ..wire::Heartbeat::default()
        }),
        23 => Body::Serve(serve(input)),
        24 => Body::Take(wire::Take { queue: queue(input), count: u32::from(input.below(4)) }),
        25 => Body::DeclareQueue(wire::DeclareQueue {
            queue: queue(input),
            passive: input.one_in(2),
            settings: input.sometimes(2, settings),
            idle_ms: span(input),
        }),
        _ => return ClientFrame { body: Some(administrative(input, peer)), ..frame(input) },
    };
    ClientFrame { body: Some(body), ..frame(input) }
}

fn serve(input: &mut Input<'_>) -> wire::Serve {
    let subscription =
        |input: &mut Input<'_>| wire::QueueSubscription { queue: queue(input), weight: 1 };
    wire::Serve {
        add_queues: (0..input.below(3)).map(|_| subscription(input)).collect(),
        remove_queues: (0..input.below(3)).map(|_| queue(input)).collect(),
        add_task_names: (0..input.below(3)).map(|_| name(input)).collect(),
        remove_task_names: (0..input.below(3)).map(|_| name(input)).collect(),
    }
}

fn frame(input: &mut Input<'_>) -> ClientFrame {
    ClientFrame { request_id: 1, timeout_ms: span(input).unwrap_or(0), body: None }
}

fn administrative(input: &mut Input<'_>, peer: &Peer) -> Body {
    match input.below(20) {
        0 => Body::Goodbye(wire::Goodbye {}),
        1 => Body::Get(wire::Get {
            ids: ids(input),
            with_results: input.one_in(2),
            with_payloads: input.one_in(2),
        }),
        2 => Body::Unwait(wire::Unwait {
            request_ids: (0..=input.below(3)).map(u64::from).collect(),
        }),
        3 => Body::Wait(wire::Wait {
            ids: ids(input),
            mode: i32::from(input.below(3)),
            until: if input.one_in(2) { 0 } else { i32::from(input.below(10)) },
            with_results: input.one_in(2),
        }),
        4..6 => Body::Watch(wire::Watch { ids: ids(input), with_results: input.one_in(2) }),
        6 => Body::Unwatch(wire::Unwatch {
            watch_id: peer.watches.last().copied().unwrap_or(input.any_number()),
        }),
        7..9 => Body::Forget(wire::Forget { ids: ids(input) }),
        9 => {
            let queues = (0..input.below(3)).map(|_| queue(input)).collect();
            // The decision takes no byte, so that the inputs of before mean the same.
            match peer.held.len() % 2 {
                0 => Body::ListQueues(wire::ListQueues { queues, ..Default::default() }),
                _ => Body::Stats(wire::Stats { queues, ..Default::default() }),
            }
        }
        10 => Body::ConfigureQueue(wire::ConfigureQueue {
            queue: queue(input),
            settings: Some(settings(input)),
        }),
        11 => Body::PauseQueues(wire::PauseQueues {
            queues: vec![queue(input)],
            paused: input.one_in(2),
        }),
        12 => Body::PurgeQueue(wire::PurgeQueue { queue: queue(input) }),
        13 => Body::DeleteQueue(wire::DeleteQueue { queue: queue(input) }),
        14 => {
            let (ids, filter) = dead(input);
            Body::ReplayDead(wire::ReplayDead { ids, filter })
        }
        15 => {
            let (ids, filter) = dead(input);
            Body::DiscardDead(wire::DiscardDead { ids, filter, all: input.byte() & 1 == 1 })
        }
        16 => list_tasks(input),
        17 => Body::ListWorkers(wire::ListWorkers::default()),
        18 => Body::Backup(wire::Backup { folder: "/backup".to_owned() }),
        // The inputs of the corpus keep their meaning for all other requests.
        19 if input.one_in(2) => Body::Drain(wire::Drain { draining: input.one_in(2) }),
        _ => Body::OrderWorkers(wire::OrderWorkers {
            instance_ids: Vec::new(),
            order: i32::from(input.below(5)),
        }),
    }
}

fn list_tasks(input: &mut Input<'_>) -> Body {
    let (filter, limit) = (input.sometimes(2, filter), u32::from(input.below(4)));
    let kind = input.below(4);
    let cursor = match kind {
        1 => input.bytes(4).to_vec().into(),
        3 => input.bytes(29).to_vec().into(),
        _ => Default::default(),
    };
    let list = wire::ListTasks { filter, limit, cursor, ..Default::default() };
    Body::ListTasks(wire::ListTasks { just_ended: kind == 2, ..list })
}

fn task(input: &mut Input<'_>) -> wire::Task {
    let (at, span_ms) = match input.below(8) {
        0 => (Some(input.any_number() as i64), None),
        1..3 => (None, span(input)),
        _ => (None, None),
    };
    let length = usize::from(input.byte()) * if input.one_in(8) { 8 } else { 1 };
    wire::Task {
        id: id(input),
        name: name(input),
        queue: queue(input),
        payload: vec![b'p'; length].into(),
        headers: (0..input.below(8) / 6).map(|_| (word(input), vec![b'v'; 3].into())).collect(),
        priority: input.sometimes(3, |input| u32::from(input.below(11))),
        eta_at_ms: at,
        countdown_ms: span_ms,
        expires_in_ms: span(input),
        result_ttl_ms: span(input),
        retry: input.sometimes(3, retry),
        soft_time_limit_ms: span(input),
        time_limit_ms: span(input),
        max_deliveries: count(input),
        on_conflict: i32::from(input.below(7)),
        submit_key: if input.one_in(2) { word(input) } else { String::new() },
        lead_ms: span(input),
        forget_at_end: input.one_in(8),
        announce_end: input.one_in(8),
        supersedes_lease: if input.one_in(4) { u64::from(input.byte()) } else { 0 },
        root_id: word(input),
        tags: (0..input.below(8) / 6).map(|_| word(input)).collect(),
        early_ack: input.one_in(4),
        ..wire::Task::default()
    }
}

fn retry(input: &mut Input<'_>) -> wire::RetryPolicy {
    wire::RetryPolicy {
        max_attempts: count(input),
        backoff: i32::from(input.below(4)),
        delay_ms: span(input),
        factor: input.sometimes(2, |input| f64::from_bits(input.number(8))),
        delay_max_ms: span(input),
        jitter: i32::from(input.below(4)),
    }
}

/// Mostly on something that the peer holds or once held.
fn report(input: &mut Input<'_>, peer: &Peer) -> wire::TaskReport {
    let (id, lease) = match peer.held.len() {
        0 => (id(input), input.any_number()),
        held => peer.held[usize::from(input.byte()) % held].clone(),
    };
    let error = || Some(wire::TaskError { kind: "Oops".to_owned(), ..wire::TaskError::default() });
    let report = match input.below(18) {
        0..3 => Report::Started(wire::Started {}),
        3 => Report::Settle(wire::Settle {}),
        4..6 => {
            let meta = vec![b'm'; usize::from(input.byte())].into();
            Report::Progress(wire::ProgressReport { state: word(input), meta })
        }
        6..10 => Report::Complete(wire::Complete {
            result: vec![b'r'; usize::from(input.byte())].into(),
            content_type: String::new(),
            result_ttl_ms: span(input),
        }),
        10..12 => Report::Fail(wire::Fail {
            error: error(),
            r#final: input.one_in(3),
            result: vec![b'f'; usize::from(input.byte())].into(),
            content_type: word(input),
            result_ttl_ms: span(input),
        }),
        12 => Report::Retry(wire::RetryLater { after_ms: span(input), error: error() }),
        13..16 => {
            Report::Release(wire::Release { not_begun: input.one_in(4), lost: input.one_in(2) })
        }
        _ => Report::Reject(wire::Reject { error: error() }),
    };
    wire::TaskReport { id, lease, report: (!input.one_in(64)).then_some(report) }
}

fn cancel(input: &mut Input<'_>) -> wire::Cancel {
    let which = input.below(4);
    wire::Cancel {
        ids: if which < 2 { ids(input) } else { Vec::new() },
        root_id: if which == 2 { word(input) } else { String::new() },
        tag: if which == 3 { word(input) } else { String::new() },
        mode: i32::from(input.below(4)),
        grace_ms: span(input),
        reason: word(input),
    }
}

fn settings(input: &mut Input<'_>) -> wire::QueueSettings {
    wire::QueueSettings {
        tasks_max: input.sometimes(2, Input::any_number),
        bytes_max: input.sometimes(4, Input::any_number),
        expires_in_ms: span(input),
        result_ttl_ms: span(input),
    }
}

fn dead(input: &mut Input<'_>) -> (Vec<String>, Option<wire::TaskFilter>) {
    match input.below(3) {
        0 => (ids(input), None),
        1 => (Vec::new(), Some(wire::TaskFilter::default())),
        _ => (Vec::new(), Some(filter(input))),
    }
}

fn filter(input: &mut Input<'_>) -> wire::TaskFilter {
    wire::TaskFilter {
        queue: queue(input),
        states: (0..input.below(3)).map(|_| i32::from(input.below(10))).collect(),
        name: input.sometimes(4, name).unwrap_or_default(),
        tag: input.sometimes(4, word).unwrap_or_default(),
        id_prefix: input.sometimes(4, word).unwrap_or_default(),
        submitted_before_ms: input.sometimes(4, |input| input.any_number() as i64),
        submitted_after_ms: input.sometimes(4, |input| input.any_number() as i64),
        root_id: input.sometimes(4, word).unwrap_or_default(),
    }
}
