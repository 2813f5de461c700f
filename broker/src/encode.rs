//! From domain to wire: one message becomes one frame. The completer has made sure that the frame
//! is not too large. The committer encodes each message as soon as it is complete: so a message
//! that waits for its client takes the bytes of its frame, and keeps no chunk of the store in
//! memory.

mod listings;
mod mail;
mod outcomes;
mod stats;

use bytes::{Bytes, BytesMut};
use celeriac_machine::command::{
    Answer, Code, Order, Page, Push, Refusal, ReportOutcome, RequestId, SignalKind, SubmitOutcome,
    WaitingFor,
};
use celeriac_proto::FrameCodec;
use celeriac_proto::limits::{
    BATCH_ITEMS_MAX, CREDIT_MAX, PROTOCOL_VERSION, REQUESTS_IN_FLIGHT_MAX,
};
use celeriac_proto::wire::{self, ClientFrame, ServerFrame, server_frame::Body};
use celeriac_record::{Actor, Cancel, Changed, State, Submitted, TaskError, Timestamp};
use tokio_util::codec::Encoder;
use uuid::Uuid;

use self::listings::{broker_info, page_cursor, queue_info, seal_cursor, worker_status};
use self::stats::stats_reply;
use crate::config::Config;
use crate::cursors::Cursors;
use crate::outgoing::{Delivery, FoundTask, Outgoing, Selection, Shown, TaskView};
use crate::size;

/// The broker's limits, of which Welcome announces most.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    heartbeat_ms: u64,
    lease_ms: u64,
    result_ttl_ms: u64,
    connections_max: u32,
    limits: wire::Limits,
}

/// The limits of this configuration.
pub fn limits(config: &Config) -> Limits {
    Limits {
        heartbeat_ms: config.heartbeat_ms,
        lease_ms: config.lease_ms,
        result_ttl_ms: config.result_ttl_ms,
        connections_max: config.connections_max as u32,
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

/// Appends one message as one frame to `buffer`. A client with a scope has cursors of its own.
/// Returns the request that the message answers; 0 if it answers none.
pub(crate) fn append(
    message: Outgoing,
    limits: &Limits,
    cursors: Option<&Cursors>,
    buffer: &mut BytesMut,
) -> RequestId {
    let mut frame = frame(message, limits);
    if let (Some(cursors), Some(body)) = (cursors, &mut frame.body) {
        seal_cursor(body, cursors);
    }
    let request = frame.request_id;
    append_frame(frame, buffer);
    request
}

/// Appends a refusal to a connection that never got a session.
pub(crate) fn append_refusal(request: RequestId, refusal: Refusal, buffer: &mut BytesMut) {
    let body = Some(Body::Error(error(refusal)));
    append_frame(ServerFrame { request_id: request, body }, buffer);
}

fn append_frame(frame: ServerFrame, buffer: &mut BytesMut) {
    let mut codec = FrameCodec::<ClientFrame, ServerFrame>::new(0);
    codec.encode(frame, buffer).expect("answers are bounded far below 4 GiB");
}

/// Encodes one message as one frame.
pub fn frame(message: Outgoing, limits: &Limits) -> ServerFrame {
    let (request_id, body) = match message {
        Outgoing::Answer(request, reply) => (request, answer(reply, limits)),
        Outgoing::Show(request, answer) => (request, shown(answer, limits)),
        Outgoing::Deliver(deliveries) => {
            let deliveries = deliveries.into_iter().map(delivery).collect();
            (0, Body::Deliver(wire::Deliver { deliveries }))
        }
        Outgoing::Transition { watch, task } => {
            let transition = wire::Transition { watch_id: watch, task: Some(info(task)) };
            (0, Body::Transition(transition))
        }
        Outgoing::Push(pushed) => (0, push(pushed)),
    };
    ServerFrame { request_id, body: Some(body) }
}

fn answer(answer: Answer, limits: &Limits) -> Body {
    match answer {
        Answer::Welcome { session_id, resumed, leases, wall } => {
            Body::Welcome(welcome(session_id, resumed, leases, wall, limits))
        }
        Answer::Done => Body::Done(wire::Done {}),
        Answer::Refused(refusal) => Body::Error(error(refusal)),
        Answer::Heartbeat { wall } => {
            Body::HeartbeatReply(wire::HeartbeatReply { server_time_ms: wall })
        }
        Answer::Submitted(outcomes) => {
            let outcomes = outcomes.into_iter().map(submit_outcome).collect();
            Body::SubmitReply(wire::SubmitReply { outcomes })
        }
        Answer::Reported(outcomes) => {
            let outcomes = outcomes.into_iter().map(report_outcome).collect();
            Body::ReportReply(wire::ReportReply { outcomes })
        }
        Answer::Stored(outcomes) => {
            let outcomes = outcomes.into_iter().map(outcomes::stored).collect();
            Body::PutOutcomeReply(wire::PutOutcomeReply { outcomes })
        }
        Answer::Chord(state) => Body::ChordReply(outcomes::chord(state)),
        Answer::Forgot(outcomes) => {
            let outcome = |outcome: Result<(), Code>| {
                outcome.map_or_else(code, |()| wire::ErrorCode::Unspecified)
            };
            let outcomes = outcomes.into_iter().map(|each| outcome(each) as i32).collect();
            Body::ForgetReply(wire::ForgetReply { outcomes })
        }
        Answer::Cancelled(outcomes) => outcomes::cancelled(outcomes, limits),
        Answer::Declared { created, ready, workers } => {
            Body::DeclareQueueReply(wire::DeclareQueueReply { created, ready, workers })
        }
        Answer::Count(count) => Body::CountReply(wire::CountReply { count }),
        Answer::LogFilter(filter) => {
            Body::LogFilterReply(wire::LogFilterReply { filter: filter.into() })
        }
        Answer::BackedUp { tasks, bytes } => Body::BackupReply(wire::BackupReply { tasks, bytes }),
        Answer::Mailbox { mailbox, ready, consumers } => mail::declared(mailbox, ready, consumers),
        Answer::Consuming(consumer) => mail::consuming(consumer),
        Answer::Fetched { message, ready, dropped } => mail::fetched(message, ready, dropped),
    }
}

fn shown(shown: Shown, limits: &Limits) -> Body {
    match shown {
        Shown::Got { tasks: Selection { tasks, left_out } } => {
            Body::GetReply(wire::GetReply { tasks: infos(tasks), left_out })
        }
        Shown::Waited { satisfied, tasks: Selection { tasks, left_out } } => {
            Body::WaitReply(wire::WaitReply { satisfied, tasks: infos(tasks), left_out })
        }
        Shown::Watching { watch, tasks: Selection { tasks, left_out } } => {
            Body::WatchReply(wire::WatchReply { watch_id: watch, tasks: infos(tasks), left_out })
        }
        Shown::Queues { queues, next } => {
            let queues = queues.into_iter().map(queue_info).collect();
            let cursor = next.map(|next| Bytes::from(String::from(next))).unwrap_or_default();
            Body::QueueList(wire::QueueList { queues, cursor })
        }
        Shown::Page(Page { tasks, newest_first, just_ended, next, looked, total }) => {
            let cursor = next.map(page_cursor).unwrap_or_default();
            let tasks = infos(tasks.into_iter().map(|(_, task)| task).collect());
            let page = wire::TaskPage { tasks, cursor, newest_first, just_ended, looked, total };
            Body::TaskPage(page)
        }
        Shown::Workers { workers, next } => {
            let workers = workers.into_iter().map(worker_status).collect();
            let cursor = next.map(|next| Bytes::copy_from_slice(&next.to_be_bytes()));
            let cursor = cursor.unwrap_or_default();
            Body::WorkerList(wire::WorkerList { workers, cursor })
        }
        Shown::Mailboxes { mailboxes, next } => mail::mailboxes(mailboxes, next),
        Shown::Bindings { bindings, is_last } => mail::bindings(bindings, is_last),
        Shown::Broker(view) => Body::BrokerInfo(broker_info(*view, limits)),
        Shown::Stats(view) => Body::StatsReply(stats_reply(*view, limits)),
    }
}

fn push(push: Push) -> Body {
    match push {
        Push::Signal { leases, kind, reason } => Body::CancelSignal(wire::CancelSignal {
            leases,
            kind: signal_kind(kind) as i32,
            reason: reason.into(),
        }),
        Push::Order(order) => Body::Order(wire::Order { kind: order_kind(order) as i32 }),
        Push::Closing(refusal) => Body::Closing(wire::Closing { error: Some(error(refusal)) }),
        Push::Mail { consumer, messages, dropped } => mail::pushed(consumer, messages, dropped),
        Push::ConsumerEnded { consumer, mailbox } => Body::ConsumerEnded(wire::ConsumerEnded {
            consumer_id: consumer,
            mailbox: mailbox.into(),
        }),
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

fn error(refusal: Refusal) -> wire::Error {
    wire::Error {
        code: code(refusal.code) as i32,
        message: sentence(refusal.message),
        retryable: is_retryable(refusal.code),
        retry_after_ms: refusal.retry_after_ms,
    }
}

/// Some sentences repeat text of the client, which may be long.
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
        Code::Forbidden => wire::ErrorCode::Forbidden,
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
        ..wire::SubmitOutcome::default()
    };
    match outcome {
        SubmitOutcome::Created { state } => accepted(Kind::Created, 1, state),
        SubmitOutcome::Joined { generation, state } => accepted(Kind::Joined, generation, state),
        SubmitOutcome::NewGeneration { generation, state } => {
            accepted(Kind::NewGeneration, generation, state)
        }
        SubmitOutcome::CreatedBeside { id, state } => {
            wire::SubmitOutcome { id: id.into(), ..accepted(Kind::Created, 1, state) }
        }
        SubmitOutcome::JoinedBeside { id, generation, state } => {
            wire::SubmitOutcome { id: id.into(), ..accepted(Kind::Joined, generation, state) }
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

fn delivery(delivery: Delivery) -> wire::Delivery {
    let Delivery { outline, submitted } = delivery;
    let Submitted { generation, submitted_at, eta, expires, spec, .. } = *submitted;
    wire::Delivery {
        id: spec.id.into(),
        lease: outline.lease,
        name: spec.name.into(),
        queue: spec.queue.into(),
        payload: spec.payload,
        content_type: spec.content_type.into(),
        headers: spec.headers.into_iter().map(|(key, value)| (key.into(), value)).collect(),
        shadow: spec.shadow.into(),
        priority: spec.priority.into(),
        attempt: outline.attempt,
        attempts_max: if spec.early_ack { outline.attempt } else { spec.retry.attempts_max },
        deliveries: outline.deliveries,
        generation,
        submitted_at_ms: submitted_at,
        eta_at_ms: eta,
        expires_at_ms: expires,
        soft_time_limit_ms: spec.soft_time_limit_ms,
        time_limit_ms: spec.time_limit_ms,
        root_id: spec.root_id.into(),
        parent_id: spec.parent_id.into(),
        tags: strings(spec.tags),
        report_start: outline.report_start,
        redelivered: outline.redelivered,
        revoked_reason: outline.revoked_reason.map(String::from).unwrap_or_default(),
    }
}

fn infos(views: Vec<TaskView>) -> Vec<wire::TaskInfo> {
    views.into_iter().map(info).collect()
}

fn info(view: TaskView) -> wire::TaskInfo {
    let Some(FoundTask { outline, submitted, changed, payload_left_out }) = view.found else {
        return wire::TaskInfo { id: view.id.into(), ..wire::TaskInfo::default() };
    };
    let Submitted { submitted_at, eta, expires, spec, .. } = *submitted;
    let info = wire::TaskInfo {
        id: view.id.into(),
        state: state(outline.state) as i32,
        generation: outline.generation,
        version: outline.version,
        name: spec.name.into(),
        queue: spec.queue.into(),
        shadow: spec.shadow.into(),
        priority: spec.priority.into(),
        headers: spec.headers.into_iter().map(|(key, value)| (key.into(), value)).collect(),
        tags: strings(spec.tags),
        root_id: spec.root_id.into(),
        parent_id: spec.parent_id.into(),
        waiting_for: waiting_for(outline.waiting_for) as i32,
        submitted_at_ms: submitted_at,
        eta_at_ms: eta,
        expires_at_ms: expires,
        forget_at_ms: outline.forget_at,
        attempts_max: spec.retry.attempts_max,
        deliveries_max: spec.max_deliveries,
        payload: spec.payload,
        content_type: spec.content_type.into(),
        payload_left_out,
        ..wire::TaskInfo::default()
    };
    match changed {
        Some(changed) => with_change(info, *changed),
        None => info,
    }
}

/// Adds the fields that have changed since the submit.
fn with_change(info: wire::TaskInfo, changed: Changed) -> wire::TaskInfo {
    let (result, result_content_type) = match changed.result {
        Some(result) => (result.bytes, result.content_type.into()),
        None => (Bytes::new(), String::new()),
    };
    let cancel_requested = matches!(changed.cancel, Cancel::Told | Cancel::CalledOff);
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
        cancel_requested,
        cancel_requested_at_ms: changed.cancel_at.filter(|_| cancel_requested),
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
        leased_at_ms: error.leased_at,
        started_at_ms: error.started_at,
        worker: error.worker.to_string(),
    }
}

#[cfg(test)]
mod tests;
