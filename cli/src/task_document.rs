//! A task as programs read it. `task_view` has a task for people.
//!
//! The names in [`TaskDocument`] are a contract with scripts: `cli/README.md` lists them, and a
//! test compares the two.

use std::collections::BTreeMap;
use std::time::SystemTime;

use celeriac_client::{Progress, State, TaskError, TaskInfo, WaitingFor};
use serde::Serialize;
use serde_json::value::RawValue;

use crate::json::embed;
use crate::time::ms;

/// A task for programs. Every field is always present. A field that does not apply is null or
/// empty.
#[derive(Serialize)]
pub(crate) struct TaskDocument<'a> {
    id: &'a str,
    state: String,
    generation: u32,
    version: u32,
    name: &'a str,
    queue: &'a str,
    shadow: &'a str,
    priority: u32,
    headers: BTreeMap<&'a str, Box<RawValue>>,
    tags: &'a [String],
    root_id: &'a str,
    parent_id: &'a str,
    waiting_for: Option<&'a str>,
    submitted_at_ms: Option<i64>,
    eta_at_ms: Option<i64>,
    expires_at_ms: Option<i64>,
    leased_at_ms: Option<i64>,
    started_at_ms: Option<i64>,
    finished_at_ms: Option<i64>,
    forget_at_ms: Option<i64>,
    worker: &'a str,
    attempts: u32,
    attempts_max: u32,
    deliveries: u32,
    deliveries_max: Option<u32>,
    progress: Option<ProgressDocument<'a>>,
    errors: Vec<ErrorDocument<'a>>,
    result: Option<Box<RawValue>>,
    result_content_type: &'a str,
    payload: Option<Box<RawValue>>,
    payload_content_type: &'a str,
    revoked_reason: &'a str,
    actor: &'a str,
    cancel_requested: bool,
    cancel_requested_at_ms: Option<i64>,
}

#[derive(Serialize)]
struct ProgressDocument<'a> {
    state: &'a str,
    meta: Box<RawValue>,
    at_ms: i64,
}

#[derive(Serialize)]
struct ErrorDocument<'a> {
    kind: &'a str,
    message: &'a str,
    traceback: &'a str,
    at_ms: i64,
    attempt: u32,
    leased_at_ms: Option<i64>,
    started_at_ms: Option<i64>,
    worker: &'a str,
}

impl<'a> TaskDocument<'a> {
    pub(crate) fn new(task: &'a TaskInfo) -> Self {
        let at_ms = |time: Option<SystemTime>| time.map(ms);
        let has_result = task.state == State::Success;
        Self {
            id: &task.id,
            state: task.state.to_string(),
            generation: task.generation,
            version: task.version,
            name: &task.name,
            queue: &task.queue,
            shadow: &task.shadow,
            priority: task.priority,
            headers: task
                .headers
                .iter()
                .map(|(key, value)| (key.as_str(), embed(value, "text/plain")))
                .collect(),
            tags: &task.tags,
            root_id: &task.root_id,
            parent_id: &task.parent_id,
            waiting_for: waiting_for(task.waiting_for),
            submitted_at_ms: at_ms(task.submitted_at),
            eta_at_ms: at_ms(task.eta),
            expires_at_ms: at_ms(task.expires_at),
            leased_at_ms: at_ms(task.leased_at),
            started_at_ms: at_ms(task.started_at),
            finished_at_ms: at_ms(task.finished_at),
            forget_at_ms: at_ms(task.forget_at),
            worker: &task.worker,
            attempts: task.attempts,
            attempts_max: task.attempts_max,
            deliveries: task.deliveries,
            deliveries_max: (task.deliveries_max > 0).then_some(task.deliveries_max),
            progress: task.progress.as_ref().map(ProgressDocument::new),
            errors: task.errors.iter().map(ErrorDocument::new).collect(),
            result: has_result.then(|| embed(&task.result, &task.result_content_type)),
            result_content_type: &task.result_content_type,
            payload: (!task.payload.is_empty())
                .then(|| embed(&task.payload, &task.payload_content_type)),
            payload_content_type: &task.payload_content_type,
            revoked_reason: &task.revoked_reason,
            actor: &task.actor,
            cancel_requested: task.cancel_requested,
            cancel_requested_at_ms: at_ms(task.cancel_requested_at),
        }
    }
}

impl<'a> ProgressDocument<'a> {
    fn new(progress: &'a Progress) -> Self {
        Self { state: &progress.state, meta: embed(&progress.meta, ""), at_ms: ms(progress.at) }
    }
}

impl<'a> ErrorDocument<'a> {
    fn new(error: &'a TaskError) -> Self {
        let TaskError { kind, message, traceback, worker, .. } = error;
        Self {
            kind,
            message,
            traceback,
            at_ms: ms(error.at),
            attempt: error.attempt,
            leased_at_ms: error.leased_at.map(ms),
            started_at_ms: error.started_at.map(ms),
            worker,
        }
    }
}

/// Why a task waits, in a word for programs. `task_view` has the sentence for people.
fn waiting_for(reason: WaitingFor) -> Option<&'static str> {
    match reason {
        WaitingFor::Nothing => None,
        WaitingFor::Turn => Some("turn"),
        WaitingFor::Time => Some("time"),
        WaitingFor::Worker => Some("worker"),
        WaitingFor::Queue => Some("queue"),
        _ => Some("unknown"),
    }
}
