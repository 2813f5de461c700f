//! From domain to wire: one message becomes one frame. That it is not too large is seen to where it
//! is filled in.

use bytes::Bytes;
use celeriac_machine::command::{
    CancelOutcome, Code, Delivery, Message, Order, QueueInfo, Refusal, ReportOutcome, RequestId,
    SignalKind, SubmitOutcome, View, WaitingFor, WorkerStatus,
};
use celeriac_proto::limits::{
    BATCH_ITEMS_MAX, CREDIT_MAX, PROTOCOL_VERSION, REQUESTS_IN_FLIGHT_MAX,
};
use celeriac_proto::wire::{self, ServerFrame, server_frame::Body};
use celeriac_record::{Actor, Changed, State, Submitted, TaskError, Timestamp};
use uuid::Uuid;

use crate::config::Config;
use crate::size;

/// What Welcome says of the broker.
#[derive(Debug, Clone)]
pub(crate) struct Limits {
    heartbeat_ms: u64,
    lease_ms: u64,
    limits: wire::Limits,
}

pub(crate) fn limits(config: &Config) -> Limits {
    Limits {
        heartbeat_ms: config.heartbeat_ms,
        lease_ms: config.lease_ms,
        limits: wire::Limits {
            frame_bytes_max: config.frame_bytes_max as u64,
            payload_bytes_max: config.payload_bytes_max as u64,
            result_bytes_max: config.result_bytes_max as u64,
            batch_items_max: BATCH_ITEMS_MAX as u32,
            requests_in_flight_max: REQUESTS_IN_FLIGHT_MAX as u32,
            credit_max: CREDIT_MAX,
        },
    }
}

/// One message is one frame.
pub(crate) fn frame(message: Message, limits: &Limits) -> ServerFrame {
    let (request_id, body) = body(message, limits);
    ServerFrame { request_id, body: Some(body) }
}

fn body(message: Message, limits: &Limits) -> (RequestId, Body) {
    match message {
        Message::Welcome { request, session_id, resumed, leases, wall } => {
            (request, Body::Welcome(welcome(session_id, resumed, leases, wall, limits)))
        }
        Message::Done { request } => (request, Body::Done(wire::Done {})),
        Message::Refused { request, refusal } => (request, Body::Error(error(refusal))),
        Message::HeartbeatReply { request, wall } => {
            (request, Body::HeartbeatReply(wire::HeartbeatReply { server_time_ms: wall }))
        }
        Message::Submitted { request, outcomes } => {
            let outcomes = outcomes.into_iter().map(submit_outcome).collect();
            (request, Body::SubmitReply(wire::SubmitReply { outcomes }))
        }
        Message::Reported { request, outcomes } => {
            let outcomes = outcomes.into_iter().map(report_outcome).collect();
            (request, Body::ReportReply(wire::ReportReply { outcomes }))
        }
        Message::Got { request, tasks, left_out } => {
            (request, Body::GetReply(wire::GetReply { tasks: infos(tasks), left_out }))
        }
        Message::Waited { request, satisfied, tasks, left_out } => {
            (request, Body::WaitReply(wire::WaitReply { satisfied, tasks: infos(tasks), left_out }))
        }
        Message::Watching { request, watch, tasks, left_out } => (
            request,
            Body::WatchReply(wire::WatchReply { watch_id: watch, tasks: infos(tasks), left_out }),
        ),
        Message::Forgot { request, outcomes } => {
            let outcome = |outcome: Result<(), Code>| {
                outcome.map_or_else(code, |()| wire::ErrorCode::Unspecified)
            };
            let outcomes = outcomes.into_iter().map(|each| outcome(each) as i32).collect();
            (request, Body::ForgetReply(wire::ForgetReply { outcomes }))
        }
        Message::Cancelled { request, outcomes } => {
            let ids: usize = outcomes.iter().map(|(id, _)| id.len()).sum();
            let with_ids = ids + outcomes.len() * size::OUTCOME + size::FRAME
                <= limits.limits.frame_bytes_max as usize;
            let outcome = |(id, outcome): (celeriac_proto::TaskId, _)| wire::CancelOutcome {
                id: if with_ids { id.into() } else { String::new() },
                kind: cancel_kind(outcome) as i32,
            };
            (
                request,
                Body::CancelReply(wire::CancelReply {
                    outcomes: outcomes.into_iter().map(outcome).collect(),
                }),
            )
        }
        Message::Queues { request, queues, next, .. } => {
            let queues = queues.into_iter().map(queue_info).collect();
            let cursor = next.map(|next| Bytes::from(String::from(next))).unwrap_or_default();
            (request, Body::QueueList(wire::QueueList { queues, cursor }))
        }
        Message::Count { request, count } => {
            (request, Body::CountReply(wire::CountReply { count }))
        }
        Message::Page { request, tasks, next } => {
            let cursor =
                next.map(|next| Bytes::copy_from_slice(&next.to_be_bytes())).unwrap_or_default();
            (request, Body::TaskPage(wire::TaskPage { tasks: infos(tasks), cursor }))
        }
        Message::Workers { request, workers, next } => {
            let workers = workers.into_iter().map(worker_status).collect();
            let cursor =
                next.map(|next| Bytes::copy_from_slice(&next.to_be_bytes())).unwrap_or_default();
            (request, Body::WorkerList(wire::WorkerList { workers, cursor }))
        }
        Message::BackedUp { request, tasks, bytes } => {
            (request, Body::BackupReply(wire::BackupReply { tasks, bytes }))
        }
        message => (0, push(message)),
    }
}

fn push(message: Message) -> Body {
    match message {
        Message::Deliver(deliveries) => Body::Deliver(wire::Deliver {
            deliveries: deliveries.into_iter().map(wire_delivery).collect(),
        }),
        Message::Signal { leases, kind, reason } => Body::CancelSignal(wire::CancelSignal {
            leases,
            kind: signal_kind(kind) as i32,
            reason: reason.into(),
        }),
        Message::Order(order) => Body::Order(wire::Order { kind: order_kind(order) as i32 }),
        Message::Transition { watch, task } => {
            Body::Transition(wire::Transition { watch_id: watch, task: Some(info(task)) })
        }
        Message::Closing(refusal) => Body::Closing(wire::Closing { error: Some(error(refusal)) }),
        message => unreachable!("{message:?} is an answer"),
    }
}

fn welcome(
    session_id: [u8; 16],
    resumed: bool,
    leases: Vec<u64>,
    wall: Timestamp,
    limits: &Limits,
) -> wire::Welcome {
    wire::Welcome {
        protocol: PROTOCOL_VERSION,
        server_name: "celeriac".into(),
        server_version: env!("CARGO_PKG_VERSION").into(),
        session_id: Uuid::from_bytes(session_id).to_string(),
        resumed,
        heartbeat_ms: limits.heartbeat_ms,
        lease_ms: limits.lease_ms,
        server_time_ms: wall,
        limits: Some(limits.limits),
        features: Vec::new(),
        leases,
    }
}

pub(crate) fn error(refusal: Refusal) -> wire::Error {
    wire::Error {
        code: code(refusal.code) as i32,
        message: sentence(refusal.message),
        retryable: is_retryable(refusal.code),
        retry_after_ms: refusal.retry_after_ms,
    }
}

/// Some sentences repeat what the client said, which may be long.
fn sentence(text: Box<str>) -> String {
    let mut text = String::from(text);
    text.truncate(text.floor_char_boundary(size::SENTENCE_BYTES_MAX));
    text
}

/// Whether the same request may succeed later.
fn is_retryable(code: Code) -> bool {
    matches!(
        code,
        Code::QueueFull
            | Code::DiskFull
            | Code::Overloaded
            | Code::ShuttingDown
            | Code::NotFinished
            | Code::SessionLost
            | Code::Internal
    )
}

fn code(code: Code) -> wire::ErrorCode {
    match code {
        Code::Malformed => wire::ErrorCode::Malformed,
        Code::FrameTooLarge => wire::ErrorCode::FrameTooLarge,
        Code::Unsupported => wire::ErrorCode::Unsupported,
        Code::VersionMismatch => wire::ErrorCode::VersionMismatch,
        Code::Handshake => wire::ErrorCode::Handshake,
        Code::Unauthenticated => wire::ErrorCode::Unauthenticated,
        Code::InvalidArgument => wire::ErrorCode::InvalidArgument,
        Code::PayloadTooLarge => wire::ErrorCode::PayloadTooLarge,
        Code::ResultTooLarge => wire::ErrorCode::ResultTooLarge,
        Code::NotFound => wire::ErrorCode::NotFound,
        Code::TaskExists => wire::ErrorCode::TaskExists,
        Code::NotFinished => wire::ErrorCode::NotFinished,
        Code::StaleLease => wire::ErrorCode::StaleLease,
        Code::QueueFull => wire::ErrorCode::QueueFull,
        Code::DiskFull => wire::ErrorCode::DiskFull,
        Code::Overloaded => wire::ErrorCode::Overloaded,
        Code::ShuttingDown => wire::ErrorCode::ShuttingDown,
        Code::SessionLost => wire::ErrorCode::SessionLost,
        Code::Internal => wire::ErrorCode::Internal,
    }
}

fn submit_outcome(outcome: SubmitOutcome) -> wire::SubmitOutcome {
    use wire::submit_outcome::Kind;
    let accepted = |kind: Kind, generation, task_state| wire::SubmitOutcome {
        kind: kind as i32,
        generation,
        state: state(task_state) as i32,
        error: None,
    };
    match outcome {
        SubmitOutcome::Created { state } => accepted(Kind::Created, 1, state),
        SubmitOutcome::Joined { generation, state } => accepted(Kind::Joined, generation, state),
        SubmitOutcome::NewGeneration { generation, state } => {
            accepted(Kind::NewGeneration, generation, state)
        }
        SubmitOutcome::Refused(refusal) => wire::SubmitOutcome {
            kind: Kind::Refused as i32,
            error: Some(error(refusal)),
            ..wire::SubmitOutcome::default()
        },
    }
}

fn report_outcome(outcome: ReportOutcome) -> wire::ReportOutcome {
    match outcome {
        Ok(after) => wire::ReportOutcome { code: 0, state: state(after) as i32 },
        Err((refused, after)) => wire::ReportOutcome {
            code: code(refused) as i32,
            state: after.map_or(wire::TaskState::Unknown, state) as i32,
        },
    }
}

fn state(state: State) -> wire::TaskState {
    match state {
        State::Scheduled => wire::TaskState::Scheduled,
        State::Queued => wire::TaskState::Queued,
        State::Leased => wire::TaskState::Leased,
        State::Started => wire::TaskState::Started,
        State::Retry => wire::TaskState::Retry,
        State::Success => wire::TaskState::Success,
        State::Failure => wire::TaskState::Failure,
        State::Revoked => wire::TaskState::Revoked,
    }
}

fn cancel_kind(outcome: CancelOutcome) -> wire::cancel_outcome::Kind {
    match outcome {
        CancelOutcome::Revoked => wire::cancel_outcome::Kind::Revoked,
        CancelOutcome::Signalled => wire::cancel_outcome::Kind::Signalled,
        CancelOutcome::AlreadyEnded => wire::cancel_outcome::Kind::AlreadyEnded,
        CancelOutcome::NotFound => wire::cancel_outcome::Kind::NotFound,
    }
}

fn signal_kind(kind: SignalKind) -> wire::cancel_signal::Kind {
    match kind {
        SignalKind::Cooperative => wire::cancel_signal::Kind::Cooperative,
        SignalKind::Force => wire::cancel_signal::Kind::Force,
        SignalKind::SoftTimeLimit => wire::cancel_signal::Kind::SoftTimeLimit,
        SignalKind::TimeLimit => wire::cancel_signal::Kind::TimeLimit,
        SignalKind::TakenBack => wire::cancel_signal::Kind::TakenBack,
    }
}

fn order_kind(order: Order) -> wire::order::Kind {
    match order {
        Order::Quiet => wire::order::Kind::Quiet,
        Order::Shutdown => wire::order::Kind::Shutdown,
        Order::Resume => wire::order::Kind::Resume,
    }
}

fn waiting_for(waiting_for: WaitingFor) -> wire::WaitingFor {
    match waiting_for {
        WaitingFor::Nothing => wire::WaitingFor::Nothing,
        WaitingFor::Turn => wire::WaitingFor::Turn,
        WaitingFor::Time => wire::WaitingFor::Time,
        WaitingFor::Worker => wire::WaitingFor::Worker,
        WaitingFor::Queue => wire::WaitingFor::Queue,
    }
}

fn strings(texts: Vec<Box<str>>) -> Vec<String> {
    texts.into_iter().map(String::from).collect()
}

fn wire_delivery(delivery: Delivery) -> wire::Delivery {
    let Delivery { lease, attempt, deliveries, report_start, submitted, .. } = delivery;
    let submitted = *submitted.expect("filled in by the store's thread");
    wire::Delivery {
        id: submitted.id.into(),
        lease,
        name: submitted.name.into(),
        queue: submitted.queue.into(),
        payload: submitted.payload,
        content_type: submitted.content_type.into(),
        headers: submitted.headers.into_iter().map(|(key, value)| (key.into(), value)).collect(),
        shadow: submitted.shadow.into(),
        priority: submitted.priority.into(),
        attempt,
        attempts_max: if submitted.early_ack { attempt } else { submitted.retry.attempts_max },
        deliveries,
        generation: submitted.generation,
        submitted_at_ms: submitted.submitted_at,
        eta_at_ms: submitted.eta,
        expires_at_ms: submitted.expires,
        soft_time_limit_ms: submitted.soft_time_limit_ms,
        time_limit_ms: submitted.time_limit_ms,
        root_id: submitted.root_id.into(),
        parent_id: submitted.parent_id.into(),
        tags: strings(submitted.tags),
        report_start,
    }
}

fn infos(views: Vec<View>) -> Vec<wire::TaskInfo> {
    views.into_iter().map(info).collect()
}

fn info(view: View) -> wire::TaskInfo {
    let Some(task) = view.task else {
        return wire::TaskInfo { id: view.id.into(), ..wire::TaskInfo::default() };
    };
    let (submitted, changed) = task.records.expect("filled in by the store's thread");
    let Submitted { name, queue, shadow, priority, headers, tags, root_id, parent_id, .. } =
        *submitted;
    let info = wire::TaskInfo {
        id: view.id.into(),
        state: state(task.state) as i32,
        generation: task.generation,
        version: task.version,
        name: name.into(),
        queue: queue.into(),
        shadow: shadow.into(),
        priority: priority.into(),
        headers: headers.into_iter().map(|(key, value)| (key.into(), value)).collect(),
        tags: strings(tags),
        root_id: root_id.into(),
        parent_id: parent_id.into(),
        waiting_for: waiting_for(task.waiting_for) as i32,
        submitted_at_ms: submitted.submitted_at,
        eta_at_ms: submitted.eta,
        expires_at_ms: submitted.expires,
        forget_at_ms: task.forget_at,
        attempts_max: submitted.retry.attempts_max,
        ..wire::TaskInfo::default()
    };
    match changed {
        Some(changed) => with_change(info, *changed, view.with_result),
        None => info,
    }
}

/// Adds what happened since the submit.
fn with_change(info: wire::TaskInfo, changed: Changed, with_result: bool) -> wire::TaskInfo {
    let (result, result_content_type) = match changed.result {
        Some(result) if with_result => (result.bytes, result.content_type.into()),
        _ => (Bytes::new(), String::new()),
    };
    wire::TaskInfo {
        eta_at_ms: changed.due.filter(|_| changed.state == State::Retry).or(info.eta_at_ms),
        leased_at_ms: changed.leased_at,
        started_at_ms: changed.started_at,
        actor: match changed.actor {
            Actor::Broker => "broker".into(),
            Actor::Worker => changed.worker.to_string(),
            Actor::Client(instance) => instance.to_string(),
        },
        finished_at_ms: changed.state.is_terminal().then_some(changed.at),
        worker: changed.worker.to_string(),
        attempts: changed.attempts,
        deliveries: changed.deliveries,
        progress: changed.progress.map(|progress| wire::Progress {
            state: progress.state.into(),
            meta: progress.meta,
            at_ms: progress.at,
        }),
        errors: changed.errors.into_iter().map(task_error).collect(),
        result,
        result_content_type,
        revoked_reason: if changed.state == State::Revoked {
            changed.revoked_reason.into()
        } else {
            String::new()
        },
        cancel_requested: changed.cancel_requested,
        ..info
    }
}

fn task_error(error: TaskError) -> wire::TaskError {
    wire::TaskError {
        kind: error.kind.into(),
        message: error.message.into(),
        traceback: error.traceback.into(),
        at_ms: error.at,
        attempt: error.attempt,
    }
}

fn queue_info(info: QueueInfo) -> wire::QueueInfo {
    let record = info.record;
    wire::QueueInfo {
        name: record.name.into(),
        ready: info.ready,
        scheduled: info.scheduled,
        leased: info.leased,
        dead: info.dead,
        oldest_ready_ms: info.oldest_ms,
        paused: record.paused,
        workers: info.workers,
        submitted_total: info.submitted_total,
        ended_total: info.ended_total,
        settings: Some(wire::QueueSettings {
            tasks_max: record.tasks_max,
            bytes_max: record.bytes_max,
            expires_in_ms: record.expires_in_ms,
            result_ttl_ms: record.result_ttl_ms,
        }),
        bytes: info.bytes,
        submitted_per_second: info.submitted_per_second,
        ended_per_second: info.ended_per_second,
    }
}

fn worker_status(status: WorkerStatus) -> wire::WorkerStatus {
    wire::WorkerStatus {
        instance_id: status.instance.to_string(),
        hostname: status.hostname.into(),
        pid: status.pid,
        queues: status.queues.into_iter().map(String::from).collect(),
        task_names: status.task_names.into_iter().map(String::from).collect(),
        concurrency: status.concurrency,
        credit: status.credit,
        running: infos(status.running),
        running_left_out: status.running_left_out,
        memory_bytes: status.memory_bytes,
        connected_at_ms: status.connected_at,
        seen_at_ms: status.seen_at,
        quiet: status.quiet,
        lost: status.lost,
    }
}

#[cfg(test)]
mod tests;
