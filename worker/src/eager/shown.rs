//! What an id shows in eager mode: what a broker would make of a submit, of a start and of the
//! reports of a run.

use std::time::{SystemTime, UNIX_EPOCH};

use celeriac_proto::limits::{ERRORS_KEPT, PRIORITY_DEFAULT};
use celeriac_proto::wire::task_report::Report;
use celeriac_proto::wire::{self, TaskInfo, TaskState};

/// As a broker has it, where the task says nothing.
const ATTEMPTS_MAX: u32 = 4;

/// What is known of an id that is not known.
pub(super) fn unknown(id: &str) -> TaskInfo {
    TaskInfo { id: id.to_owned(), ..TaskInfo::default() }
}

pub(super) fn shown(info: &TaskInfo, with_results: bool) -> TaskInfo {
    let result = if with_results { info.result.clone() } else { Default::default() };
    TaskInfo { result, ..info.clone() }
}

/// A task that is about to run.
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
        // What is not to begin twice is not tried again either.
        attempts_max: match task.early_ack {
            true => 1,
            false => {
                task.retry.as_ref().and_then(|retry| retry.max_attempts).unwrap_or(ATTEMPTS_MAX)
            }
        },
        ..TaskInfo::default()
    }
}

/// The next attempt begins.
pub(super) fn started(info: &mut TaskInfo) {
    let now_ms = Some(now_ms());
    (info.leased_at_ms, info.started_at_ms) = (now_ms, now_ms);
    info.worker = "eager".to_owned();
    info.deliveries += 1;
    info.state = TaskState::Started.into();
}

/// What a broker makes of a report.
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
        // Only a run that was replaced is taken away from its handler, and of that nothing is heard
        // any more.
        Some(Report::Started(_) | Report::Release(_)) | None => {
            info.revoked_reason = "released".to_owned();
            end(info, TaskState::Revoked);
        }
    }
}

fn failed(info: &mut TaskInfo, error: Option<wire::TaskError>, is_final: bool) {
    info.attempts += 1;
    info.errors.extend(error);
    info.errors.drain(..info.errors.len().saturating_sub(ERRORS_KEPT));
    match is_final || info.attempts >= info.attempts_max {
        true => end(info, TaskState::Failure),
        false => info.state = TaskState::Retry.into(),
    }
}

pub(super) fn end(info: &mut TaskInfo, state: TaskState) {
    info.state = state.into();
    info.finished_at_ms = Some(now_ms());
}

pub(super) fn is_ended(info: &TaskInfo) -> bool {
    matches!(info.state(), TaskState::Success | TaskState::Failure | TaskState::Revoked)
}

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
