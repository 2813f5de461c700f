//! The transitions of a task in eager mode: what a broker does with a submit, a start, and the
//! reports of a run.
//!
//! If you add an option that a handler or a listing shows, add it to [`queued`] and [`delivery`].

use std::time::{SystemTime, UNIX_EPOCH};

use celeriac_proto::limits::{ERRORS_KEPT, PRIORITY_DEFAULT};
use celeriac_proto::wire::task_report::Report;
use celeriac_proto::wire::{self, TaskInfo, TaskState};

/// The broker's default number of attempts.
const ATTEMPTS_MAX: u32 = 4;

/// The answer for an id without a task.
pub(super) fn unknown(id: &str) -> TaskInfo {
    TaskInfo { id: id.to_owned(), ..TaskInfo::default() }
}

/// The task as a request shows it.
pub(super) fn shown(info: &TaskInfo, with_results: bool) -> TaskInfo {
    let result = if with_results { info.result.clone() } else { Default::default() };
    TaskInfo { result, ..info.clone() }
}

/// A new task, which will run at once.
pub(super) fn queued(task: &wire::Task, generation: u32) -> TaskInfo {
    TaskInfo {
        id: task.id.clone(),
        state: TaskState::Queued.into(),
        generation,
        version: 1,
        name: task.name.clone(),
        queue: if task.queue.is_empty() { "default".to_owned() } else { task.queue.clone() },
        shadow: task.shadow.clone(),
        priority: task.priority.unwrap_or(PRIORITY_DEFAULT),
        headers: task.headers.clone(),
        tags: task.tags.clone(),
        root_id: task.root_id.clone(),
        parent_id: task.parent_id.clone(),
        submitted_at_ms: now_ms(),
        // A task that must not begin twice has no second attempt either.
        attempts_max: match task.early_ack {
            true => 1,
            false => {
                task.retry.as_ref().and_then(|retry| retry.max_attempts).unwrap_or(ATTEMPTS_MAX)
            }
        },
        ..TaskInfo::default()
    }
}

/// The delivery of the next attempt.
pub(super) fn delivery(task: &wire::Task, info: &TaskInfo, lease: u64) -> wire::Delivery {
    wire::Delivery {
        id: task.id.clone(),
        lease,
        name: task.name.clone(),
        queue: info.queue.clone(),
        payload: task.payload.clone(),
        content_type: task.content_type.clone(),
        headers: task.headers.clone(),
        shadow: task.shadow.clone(),
        priority: info.priority,
        attempt: info.attempts + 1,
        attempts_max: info.attempts_max,
        deliveries: info.deliveries,
        generation: info.generation,
        submitted_at_ms: info.submitted_at_ms,
        soft_time_limit_ms: task.soft_time_limit_ms,
        time_limit_ms: task.time_limit_ms,
        root_id: task.root_id.clone(),
        parent_id: task.parent_id.clone(),
        tags: task.tags.clone(),
        ..wire::Delivery::default()
    }
}

/// The next attempt begins.
pub(super) fn started(info: &mut TaskInfo) {
    let now_ms = Some(now_ms());
    (info.leased_at_ms, info.started_at_ms) = (now_ms, now_ms);
    // Listings show the instance of a worker here.
    info.worker = "eager".to_owned();
    info.deliveries += 1;
    info.state = TaskState::Started.into();
}

/// Applies a report.
pub(super) fn apply(info: &mut TaskInfo, report: Option<Report>) {
    match report {
        Some(Report::Progress(progress)) => {
            let state =
                if progress.state.is_empty() { "PROGRESS".to_owned() } else { progress.state };
            info.progress = Some(wire::Progress { state, meta: progress.meta, at_ms: now_ms() });
        }
        Some(Report::Complete(complete)) => {
            info.attempts += 1;
            info.result = complete.result;
            info.result_content_type = complete.content_type;
            end(info, TaskState::Success);
        }
        Some(Report::Fail(fail)) => failed(info, fail.error, fail.r#final),
        Some(Report::Retry(retry)) => failed(info, retry.error, false),
        Some(Report::Reject(reject)) => failed(info, reject.error, true),
        // Only a run that was replaced is released. Its end came earlier, and this report is
        // ignored.
        Some(Report::Started(_) | Report::Settle(_) | Report::Release(_)) | None => {
            info.revoked_reason = "released".to_owned();
            end(info, TaskState::Revoked);
        }
    }
}

/// Applies the failure of an attempt.
fn failed(info: &mut TaskInfo, error: Option<wire::TaskError>, is_final: bool) {
    info.attempts += 1;
    info.errors.extend(error);
    // A broker keeps as many.
    info.errors.drain(..info.errors.len().saturating_sub(ERRORS_KEPT));
    match is_final || info.attempts >= info.attempts_max {
        true => end(info, TaskState::Failure),
        false => info.state = TaskState::Retry.into(),
    }
}

/// Ends the task in this state.
pub(super) fn end(info: &mut TaskInfo, state: TaskState) {
    info.state = state.into();
    info.finished_at_ms = Some(now_ms());
}

/// Whether the task has ended.
pub(super) fn is_ended(info: &TaskInfo) -> bool {
    matches!(info.state(), TaskState::Success | TaskState::Failure | TaskState::Revoked)
}

/// The time now, in milliseconds since 1970.
fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
