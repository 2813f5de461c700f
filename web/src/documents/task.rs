//! A task as programs read it.
//!
//! The names in [`TaskDocument`] are a contract with scripts: `cli/README.md` lists them, and a
//! test compares the two.

use std::collections::BTreeMap;
use std::time::SystemTime;

use celeriac_client::{Progress, State, TaskError, TaskInfo, WaitingFor};
use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::json::{Rfc3339, embed};
use crate::time::ms;

/// A task for programs. Every field is always present. A field that does not apply is null or
/// empty.
#[derive(Serialize, ToSchema)]
pub struct TaskDocument<'a> {
    id: &'a str,
    state: String,
    generation: u32,
    version: u32,
    name: &'a str,
    queue: &'a str,
    shadow: &'a str,
    priority: u32,
    #[schema(value_type = BTreeMap<String, serde_json::Value>)]
    headers: BTreeMap<&'a str, Box<RawValue>>,
    tags: &'a [String],
    root_id: &'a str,
    parent_id: &'a str,
    waiting_for: Option<&'a str>,
    submitted_at: Option<Rfc3339>,
    submitted_at_ms: Option<i64>,
    eta_at: Option<Rfc3339>,
    eta_at_ms: Option<i64>,
    expires_at: Option<Rfc3339>,
    expires_at_ms: Option<i64>,
    leased_at: Option<Rfc3339>,
    leased_at_ms: Option<i64>,
    started_at: Option<Rfc3339>,
    started_at_ms: Option<i64>,
    finished_at: Option<Rfc3339>,
    finished_at_ms: Option<i64>,
    forget_at: Option<Rfc3339>,
    forget_at_ms: Option<i64>,
    worker: &'a str,
    attempts: u32,
    attempts_max: u32,
    deliveries: u32,
    deliveries_max: Option<u32>,
    progress: Option<ProgressDocument<'a>>,
    errors: Vec<ErrorDocument<'a>>,
    #[schema(value_type = Option<serde_json::Value>)]
    result: Option<Box<RawValue>>,
    result_content_type: &'a str,
    #[schema(value_type = Option<serde_json::Value>)]
    payload: Option<Box<RawValue>>,
    payload_content_type: &'a str,
    revoked_reason: &'a str,
    actor: &'a str,
    cancel_requested: bool,
    cancel_requested_at: Option<Rfc3339>,
    cancel_requested_at_ms: Option<i64>,
}

#[derive(Serialize, ToSchema)]
struct ProgressDocument<'a> {
    state: &'a str,
    #[schema(value_type = serde_json::Value)]
    meta: Box<RawValue>,
    at: Rfc3339,
    at_ms: i64,
}

#[derive(Serialize, ToSchema)]
struct ErrorDocument<'a> {
    kind: &'a str,
    message: &'a str,
    traceback: &'a str,
    at: Rfc3339,
    at_ms: i64,
    attempt: u32,
    leased_at: Option<Rfc3339>,
    leased_at_ms: Option<i64>,
    started_at: Option<Rfc3339>,
    started_at_ms: Option<i64>,
    worker: &'a str,
}

impl<'a> TaskDocument<'a> {
    /// The document of what the client has read.
    pub fn new(task: &'a TaskInfo) -> Self {
        let at = |time: Option<SystemTime>| time.map(Rfc3339);
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
            submitted_at: at(task.submitted_at),
            submitted_at_ms: at_ms(task.submitted_at),
            eta_at: at(task.eta),
            eta_at_ms: at_ms(task.eta),
            expires_at: at(task.expires_at),
            expires_at_ms: at_ms(task.expires_at),
            leased_at: at(task.leased_at),
            leased_at_ms: at_ms(task.leased_at),
            started_at: at(task.started_at),
            started_at_ms: at_ms(task.started_at),
            finished_at: at(task.finished_at),
            finished_at_ms: at_ms(task.finished_at),
            forget_at: at(task.forget_at),
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
            cancel_requested_at: at(task.cancel_requested_at),
            cancel_requested_at_ms: at_ms(task.cancel_requested_at),
        }
    }
}

impl<'a> ProgressDocument<'a> {
    fn new(progress: &'a Progress) -> Self {
        Self {
            state: &progress.state,
            meta: embed(&progress.meta, ""),
            at: Rfc3339(progress.at),
            at_ms: ms(progress.at),
        }
    }
}

impl<'a> ErrorDocument<'a> {
    fn new(error: &'a TaskError) -> Self {
        let TaskError { kind, message, traceback, worker, .. } = error;
        Self {
            kind,
            message,
            traceback,
            at: Rfc3339(error.at),
            at_ms: ms(error.at),
            attempt: error.attempt,
            leased_at: error.leased_at.map(Rfc3339),
            leased_at_ms: error.leased_at.map(ms),
            started_at: error.started_at.map(Rfc3339),
            started_at_ms: error.started_at.map(ms),
            worker,
        }
    }
}

/// Why a task waits, in a word.
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
