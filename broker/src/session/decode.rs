//! From wire to domain. Decoded values are checked: lengths, ranges, names. This module refuses
//! values that contradict each other; the machine refuses requests that do not fit the present
//! state.

mod chord;
mod mail;
mod observe;
mod operate;
mod outcome;
mod submission;

use bytes::Bytes;
use celeriac_machine::command::{
    Ask, CancelMode, CancelTarget, Code, Connect, ConnectionKey, Failure, Mail, Observe, Operate,
    Produce, Refusal, Release, ReportKind, RequestId, Serving, TaskReport, Work, WorkerInfo,
    WrongReport,
};
use celeriac_proto::limits::{
    BATCH_ITEMS_MAX, CREDIT_MAX, ERROR_TEXT_BYTES_MAX, NAME_BYTES_MAX, PROGRESS_BYTES_MAX,
    SPAN_MS_MAX, SUBSCRIPTIONS_MAX, TIME_MS_MAX,
};
use celeriac_proto::wire::{self, client_frame};
use celeriac_proto::{QueueName, TaskId, TaskName};
use celeriac_record::{Body, State};
use uuid::Uuid;

pub use self::mail::needs_no_answer;
use self::submission::submission;
use crate::config::Config;

/// The default time that a forced cancel waits for the worker.
const GRACE_MS_DEFAULT: u64 = 10_000;

/// The bounds that the configuration sets.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    payload_bytes_max: usize,
    /// Whether a client names a backup, and not the folder of it.
    names_backups: bool,
}

impl Bounds {
    /// The bounds that a configuration sets.
    pub fn of(config: &Config) -> Self {
        Self {
            payload_bytes_max: config.payload_bytes_max,
            names_backups: config.access_file.is_some(),
        }
    }
}

type Checked<T> = Result<T, Refusal>;

fn invalid(message: impl Into<Box<str>>) -> Refusal {
    Refusal::new(Code::InvalidArgument, message)
}

/// Decodes a Hello whose version and token are right.
pub fn hello(
    hello: wire::Hello,
    connection: ConnectionKey,
    request: RequestId,
) -> Checked<Connect> {
    let resume = match hello.session_id.as_str() {
        "" => None,
        // An id in another format counts as an ended session: the client gets a new session.
        text => Uuid::parse_str(text).ok().map(Uuid::into_bytes),
    };
    short("client name", hello.client_name)?;
    short("client version", hello.client_version)?;
    Ok(Connect {
        connection,
        request,
        session_id: Uuid::new_v4().into_bytes(),
        resume,
        instance: short("instance id", hello.instance_id)?.into(),
        worker: hello.worker.map(worker_info).transpose()?,
        entry: None,
        scope: None,
    })
}

fn worker_info(info: wire::WorkerInfo) -> Checked<WorkerInfo> {
    if info.queues.len() > SUBSCRIPTIONS_MAX || info.task_names.len() > SUBSCRIPTIONS_MAX {
        return Err(invalid(format!(
            "a worker serves at most {SUBSCRIPTIONS_MAX} queues and names"
        )));
    }
    Ok(WorkerInfo {
        queues: subscriptions(info.queues)?,
        task_names: info.task_names.into_iter().map(TaskName::parse).collect::<Result<_, _>>()?,
        any_name: info.any_name,
        keeps_leases: info.keeps_leases,
        hostname: short("hostname", info.hostname)?,
        pid: info.pid,
        concurrency: info.concurrency.clamp(1, CREDIT_MAX),
    })
}

fn subscriptions(queues: Vec<wire::QueueSubscription>) -> Checked<Vec<(QueueName, u32)>> {
    let queue = |subscription: wire::QueueSubscription| {
        Ok((QueueName::parse(subscription.queue)?, subscription.weight))
    };
    queues.into_iter().map(queue).collect()
}

fn serve(serve: wire::Serve) -> Checked<Work> {
    let wire::Serve { add_queues, remove_queues, add_task_names, remove_task_names } = serve;
    let lengths =
        [add_queues.len(), remove_queues.len(), add_task_names.len(), remove_task_names.len()];
    if lengths.into_iter().any(|length| length > SUBSCRIPTIONS_MAX) {
        return Err(invalid(format!(
            "a worker serves at most {SUBSCRIPTIONS_MAX} queues and names"
        )));
    }
    let names =
        |names: Vec<String>| names.into_iter().map(TaskName::parse).collect::<Result<Vec<_>, _>>();
    Ok(Work::Serve(Serving {
        add_queues: subscriptions(add_queues)?,
        remove_queues: remove_queues.into_iter().map(QueueName::parse).collect::<Result<_, _>>()?,
        add_names: names(add_task_names)?,
        remove_names: names(remove_task_names)?,
    }))
}

fn credit(credit: wire::Credit) -> Checked<Work> {
    match credit.credit {
        ..=CREDIT_MAX => Ok(Work::Credit(credit.credit)),
        _ => Err(invalid(format!("credit is at most {CREDIT_MAX}"))),
    }
}

fn take(take: wire::Take) -> Checked<Work> {
    if take.count > CREDIT_MAX {
        return Err(invalid(format!("a worker takes at most {CREDIT_MAX} tasks")));
    }
    Ok(Work::Take { queue: QueueName::parse(take.queue)?, count: take.count.max(1) })
}

/// Decodes any request except Hello.
pub fn ask(body: Option<client_frame::Body>, timeout_ms: u64, bounds: &Bounds) -> Checked<Ask> {
    use client_frame::Body::*;
    let Some(body) = body else {
        return Err(unsupported("the broker does not know this kind of request"));
    };
    Ok(match body {
        Hello(_) => return Err(Refusal::new(Code::Handshake, "Hello comes once")),
        Goodbye(_) => Ask::Goodbye,
        // The machine knows the number of running handlers from the leases.
        Heartbeat(beat) => Ask::Heartbeat { memory_bytes: beat.memory_bytes },
        Submit(submit) => {
            batch(submit.tasks.len())?;
            Ask::Produce(Produce::Submit(each(submit.tasks, |task| submission(task, bounds))))
        }
        Report(report) => {
            batch(report.reports.len())?;
            Ask::Work(Work::Report(each(report.reports, task_report)))
        }
        Credit(credit) => Ask::Work(self::credit(credit)?),
        Serve(serve) => Ask::Work(self::serve(serve)?),
        Take(take) => Ask::Work(self::take(take)?),
        Get(get) => Ask::Observe(observe::get(get)?),
        Wait(wait) => Ask::Observe(observe::wait(wait, timeout_ms)?),
        Watch(watch) => Ask::Observe(observe::watch(watch)?),
        Unwatch(unwatch) => Ask::Observe(Observe::Unwatch { watch: unwatch.watch_id }),
        Unwait(unwait) => Ask::Observe(observe::unwait(unwait)?),
        PutOutcome(put) => outcome::put_outcome(put)?,
        ChordPart(part) => chord::part(part)?,
        ChordExtend(extend) => chord::extend(extend)?,
        ChordDone(done) => chord::done(done)?,
        Forget(forget) => Ask::Produce(Produce::Forget(ids(forget.ids)?)),
        Cancel(cancel) => self::cancel(cancel)?,
        ListQueues(list) => Ask::Operate(operate::list_queues(list)?),
        ConfigureQueue(configure) => Ask::Operate(operate::configure_queue(configure)?),
        DeclareQueue(declare) => Ask::Operate(operate::declare_queue(declare)?),
        PauseQueues(pause) => Ask::Operate(operate::pause_queues(pause)?),
        PurgeQueue(purge) => Ask::Operate(operate::purge_queue(purge)?),
        DeleteQueue(delete) => Ask::Operate(operate::delete_queue(delete)?),
        ReplayDead(replay) => Ask::Operate(operate::replay_dead(replay)?),
        DiscardDead(discard) => Ask::Operate(operate::discard_dead(discard)?),
        ListTasks(list) => Ask::Operate(operate::list_tasks(list)?),
        ListWorkers(list) => Ask::Operate(operate::list_workers(list)?),
        OrderWorkers(order) => Ask::Operate(operate::order_workers(order)?),
        Backup(backup) => Ask::Operate(operate::backup(backup, bounds)?),
        Info(_) => Ask::Operate(Operate::Info),
        Stats(stats) => Ask::Operate(operate::stats(stats)?),
        Drain(drain) => Ask::Operate(Operate::Drain(drain.draining)),
        LogFilter(filter) => Ask::Operate(operate::log_filter(filter)?),
        DeclareMailbox(declare) => Ask::Mail(mail::declare_mailbox(declare)?),
        DeleteMailbox(delete) => Ask::Mail(mail::delete_mailbox(delete)?),
        PurgeMailbox(purge) => Ask::Mail(mail::purge_mailbox(purge)?),
        Consume(consume) => Ask::Mail(mail::consume(consume)?),
        Unconsume(unconsume) => Ask::Mail(Mail::Unconsume(unconsume.consumer_id)),
        FetchMail(fetch) => Ask::Mail(mail::fetch(fetch)?),
        AckMail(ack) => Ask::Mail(mail::ack(ack)?),
        PutBackMail(put_back) => Ask::Mail(mail::put_back(put_back)?),
        Publish(publish) => Ask::Mail(mail::publish(publish, bounds)?),
        ListMailboxes(list) => Ask::Mail(mail::list_mailboxes(list)?),
        DeclareExchange(declare) => Ask::Route(mail::declare_exchange(declare)?),
        DeleteExchange(delete) => Ask::Route(mail::delete_exchange(delete)?),
        Bind(bind) => Ask::Route(mail::bind(bind)?),
        Unbind(unbind) => Ask::Route(mail::unbind(unbind)?),
        ListBindings(list) => Ask::Route(mail::list_bindings(list)?),
    })
}

fn unsupported(message: &str) -> Refusal {
    Refusal::new(Code::Unsupported, message)
}

/// A value of an enumeration. The broker refuses a value that only a newer client knows; it does
/// not guess.
fn known<T: TryFrom<i32>>(what: &str, value: i32) -> Checked<T> {
    T::try_from(value).map_err(|_| invalid(format!("{value} is no {what}")))
}

fn batch(items: usize) -> Checked<()> {
    match items {
        1..=BATCH_ITEMS_MAX => Ok(()),
        _ => {
            Err(invalid(format!("a batch has 1 to {BATCH_ITEMS_MAX} items, this one has {items}")))
        }
    }
}

/// Decodes the items of a batch into a vector of their number. `collect` would use the memory of
/// the items again, which is much larger, and then shrink it, which costs more than new memory.
fn each<Item, Decoded>(items: Vec<Item>, decode: impl Fn(Item) -> Decoded) -> Vec<Decoded> {
    let mut decoded = Vec::with_capacity(items.len());
    decoded.extend(items.into_iter().map(decode));
    decoded
}

fn ids(ids: Vec<String>) -> Checked<Vec<TaskId>> {
    batch(ids.len())?;
    Ok(ids.into_iter().map(TaskId::parse).collect::<Result<_, _>>()?)
}

/// A text that may be empty but not long.
fn short(what: &str, text: String) -> Checked<Box<str>> {
    if text.len() > NAME_BYTES_MAX {
        return Err(invalid(format!(
            "a {what} has at most {NAME_BYTES_MAX} bytes, this one has {}",
            text.len()
        )));
    }
    Ok(text.into())
}

fn time(what: &str, at: Option<i64>) -> Checked<Option<i64>> {
    match at {
        Some(at) if !(0..=TIME_MS_MAX).contains(&at) => Err(invalid(format!(
            "the {what} {at} is no time between the years 1970 and 9999 in milliseconds"
        ))),
        at => Ok(at),
    }
}

fn span(what: &str, span_ms: Option<u64>, min: u64) -> Checked<Option<u64>> {
    match span_ms {
        Some(span_ms) if span_ms < min || span_ms > SPAN_MS_MAX => Err(invalid(format!(
            "{what} of {span_ms} ms is not between {min} and {SPAN_MS_MAX} ms (100 years)"
        ))),
        span_ms => Ok(span_ms),
    }
}

fn task_report(report: wire::TaskReport) -> Result<TaskReport, WrongReport> {
    match (TaskId::parse(report.id), report_kind(report.report)) {
        (Ok(id), Ok(kind)) => Ok(TaskReport { id, lease: report.lease, kind }),
        (id, _) => Err(WrongReport(id.ok())),
    }
}

fn report_kind(report: Option<wire::task_report::Report>) -> Checked<ReportKind> {
    use wire::task_report::Report;
    Ok(match report {
        Some(Report::Started(_)) => ReportKind::Started,
        Some(Report::Progress(progress)) => progress_report(progress)?,
        Some(Report::Settle(_)) => ReportKind::Settle,
        Some(Report::Complete(complete)) => ReportKind::Complete {
            result: body(complete.result, complete.content_type)?,
            result_ttl_ms: span("result_ttl_ms", complete.result_ttl_ms, 0)?,
        },
        Some(Report::Fail(fail)) => {
            // A content type alone says that the result is empty, and not that there is none.
            let has_result = !fail.result.is_empty() || !fail.content_type.is_empty();
            let result = body(fail.result, fail.content_type)?;
            ReportKind::Fail {
                error: failure(fail.error),
                last: fail.r#final,
                result: has_result.then_some(result),
                result_ttl_ms: span("result_ttl_ms", fail.result_ttl_ms, 0)?,
            }
        }
        Some(Report::Retry(retry)) => ReportKind::RetryLater {
            after_ms: span("retry delay", retry.after_ms, 0)?,
            error: failure(retry.error),
        },
        Some(Report::Release(release)) => ReportKind::Release(self::release(release)?),
        Some(Report::Reject(reject)) => ReportKind::Reject(failure(reject.error)),
        None => {
            return Err(invalid(
                "a report says nothing, or something that the broker does not know",
            ));
        }
    })
}

fn body(bytes: Bytes, content_type: String) -> Checked<Body> {
    Ok(Body { bytes, content_type: short("content type", content_type)? })
}

fn release(release: wire::Release) -> Checked<Release> {
    match (release.not_begun, release.lost) {
        (false, false) => Ok(Release::Unfinished),
        (true, false) => Ok(Release::NotBegun),
        (false, true) => Ok(Release::Lost),
        (true, true) => Err(invalid("a handler that has not begun is not lost")),
    }
}

fn progress_report(progress: wire::ProgressReport) -> Checked<ReportKind> {
    if progress.meta.len() > PROGRESS_BYTES_MAX {
        let bytes = progress.meta.len();
        return Err(invalid(format!(
            "progress has {bytes} bytes, and {PROGRESS_BYTES_MAX} are allowed"
        )));
    }
    let state = short("progress state", progress.state)?;
    let state = if state.is_empty() { "PROGRESS".into() } else { state };
    Ok(ReportKind::Progress { state, meta: progress.meta })
}

/// Long texts are cut, not refused: the failure itself must be reported.
fn failure(error: Option<wire::TaskError>) -> Failure {
    let error = error.unwrap_or_default();
    let kind = if error.kind.is_empty() { "error".to_owned() } else { error.kind };
    Failure {
        kind: cut(kind, NAME_BYTES_MAX),
        message: text(error.message),
        traceback: text(error.traceback),
    }
}

fn text(text: String) -> Box<str> {
    cut(text, ERROR_TEXT_BYTES_MAX)
}

fn cut(mut text: String, bytes_max: usize) -> Box<str> {
    if text.len() > bytes_max {
        text.truncate(text.floor_char_boundary(bytes_max - '…'.len_utf8()));
        text.push('…');
    }
    text.into()
}

fn cancel(cancel: wire::Cancel) -> Checked<Ask> {
    let mode = match known("mode of cancel", cancel.mode)? {
        wire::cancel::Mode::Cooperative => CancelMode::Cooperative,
        wire::cancel::Mode::Force => CancelMode::Force,
        wire::cancel::Mode::Waiting => CancelMode::Waiting,
    };
    let grace_ms = span("grace", cancel.grace_ms, 0)?.unwrap_or(GRACE_MS_DEFAULT);
    let reason = short("reason", cancel.reason)?;
    let target = match (cancel.ids.is_empty(), cancel.root_id.as_str(), cancel.tag.as_str()) {
        (false, "", "") => CancelTarget::Ids(ids(cancel.ids)?),
        (true, root, "") if !root.is_empty() => {
            CancelTarget::Root(short("root id", cancel.root_id)?)
        }
        (true, "", tag) if !tag.is_empty() => CancelTarget::Tag(short("tag", cancel.tag)?),
        _ => return Err(invalid("a cancel names ids, or a root, or a tag: one of the three")),
    };
    Ok(Ask::Produce(Produce::Cancel { target, mode, grace_ms, reason }))
}

fn known_state(state: i32) -> Checked<State> {
    Ok(match wire::TaskState::try_from(state) {
        Ok(wire::TaskState::Scheduled) => State::Scheduled,
        Ok(wire::TaskState::Queued) => State::Queued,
        Ok(wire::TaskState::Leased) => State::Leased,
        Ok(wire::TaskState::Started) => State::Started,
        Ok(wire::TaskState::Retry) => State::Retry,
        Ok(wire::TaskState::Success) => State::Success,
        Ok(wire::TaskState::Failure) => State::Failure,
        Ok(wire::TaskState::Revoked) => State::Revoked,
        Ok(wire::TaskState::Unknown) | Err(_) => {
            return Err(invalid(format!("{state} is no state of a task")));
        }
    })
}
