//! A task as the command line shows it: a JSON document for programs, a row, details or a line for people.
//!
//! The names in [`TaskDocument`] are a contract with scripts, written down in `cli/README.md`; a test compares the two.

use std::collections::BTreeMap;
use std::time::SystemTime;

use celeriac_client::{Progress, State, TaskError, TaskInfo, WaitingFor};
use serde::Serialize;
use serde_json::value::RawValue;

use crate::exit::Exit;
use crate::json::{embed, shown};
use crate::output::clean;
use crate::time::{both, ms, now_ms, relative, rough, time_of_day, whole_ms};

/// A task for programs. Every field is always there; what does not apply is null or empty.
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
    progress: Option<ProgressDocument<'a>>,
    errors: Vec<ErrorDocument<'a>>,
    result: Option<Box<RawValue>>,
    result_content_type: &'a str,
    revoked_reason: &'a str,
    cancel_requested: bool,
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
            headers: task.headers.iter().map(|(key, value)| (key.as_str(), embed(value, "text/plain"))).collect(),
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
            progress: task.progress.as_ref().map(ProgressDocument::new),
            errors: task.errors.iter().map(ErrorDocument::new).collect(),
            result: has_result.then(|| embed(&task.result, &task.result_content_type)),
            result_content_type: &task.result_content_type,
            revoked_reason: &task.revoked_reason,
            cancel_requested: task.cancel_requested,
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
        let TaskError { kind, message, traceback, at, attempt, .. } = error;
        Self { kind, message, traceback, at_ms: ms(*at), attempt: *attempt }
    }
}

/// The word for programs; for people a sentence is made of it in [`note`].
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

/// Exit code 4 for an id without a task.
pub(crate) fn exists(task: &TaskInfo) -> Exit {
    if task.state == State::Unknown { Exit::NotFound } else { Exit::Success }
}

/// What stands above [`row`].
pub(crate) const HEADINGS: [&str; 7] = ["ID", "STATE", "TASK", "QUEUE", "ATTEMPTS", "SUBMITTED", "NOTE"];

/// A task among others.
pub(crate) fn row(task: &TaskInfo, now_ms: i64) -> [String; 7] {
    [
        clean(&task.id),
        task.state.to_string(),
        clean(task.title()),
        clean(&task.queue),
        attempts(task),
        task.submitted_at.map(|time| relative(ms(time), now_ms)).unwrap_or_default(),
        shortened(&note(task, now_ms)),
    ]
}

/// A task alone, in full.
pub(crate) fn details(task: &TaskInfo, now_ms: i64) -> Vec<(&'static str, String)> {
    let time = |time: Option<SystemTime>| time.map(|time| both(ms(time), now_ms)).unwrap_or_default();
    let mut rows = vec![
        ("id", clean(&task.id)),
        ("state", task.state.to_string()),
        ("note", note(task, now_ms)),
        ("task", clean(&task.name)),
        ("shadow", clean(&task.shadow)),
        ("queue", clean(&task.queue)),
        ("submitted", time(task.submitted_at)),
        ("due", time(task.eta)),
        ("expires", time(task.expires_at)),
        ("leased", time(task.leased_at)),
        ("started", time(task.started_at)),
        ("finished", time(task.finished_at)),
        ("kept until", time(task.forget_at)),
        ("worker", clean(&task.worker)),
        ("attempts", attempts(task)),
        ("deliveries", if task.deliveries > 1 { task.deliveries.to_string() } else { String::new() }),
        ("generation", if task.generation > 1 { task.generation.to_string() } else { String::new() }),
        ("tags", clean(&task.tags.join(", "))),
        ("root", clean(&task.root_id)),
        ("parent", clean(&task.parent_id)),
    ];
    rows.extend(task.headers.iter().map(|(key, value)| ("header", format!("{}={}", clean(key), shown(value)))));
    rows.extend(task.errors.iter().map(|error| ("error", failed_attempt(error))));
    rows.retain(|(_, value)| !value.is_empty());
    rows
}

/// One transition as a line: time, state, and what is worth knowing at that moment.
pub(crate) fn transition(task: &TaskInfo, with_id: bool) -> String {
    let now_ms = now_ms();
    let id = if with_id { format!("{}  ", clean(&task.id)) } else { String::new() };
    let line = format!("{}  {id}{:9}  {}", time_of_day(now_ms), task.state, note(task, now_ms));
    line.trim_end().to_owned()
}

fn attempts(task: &TaskInfo) -> String {
    if task.attempts_max == 0 { String::new() } else { format!("{}/{}", task.attempts, task.attempts_max) }
}

/// What is worth knowing of a task in its state: why it waits, how far it is, why it ended.
fn note(task: &TaskInfo, now_ms: i64) -> String {
    let due = || task.eta.map(|eta| format!("due {}", relative(ms(eta), now_ms))).unwrap_or_default();
    match task.state {
        State::Unknown => "no such task".to_owned(),
        State::Scheduled => due(),
        State::Retry => [due(), last_error(task)].join("; "),
        State::Queued => match task.waiting_for {
            WaitingFor::Worker => "no worker serves its queue and knows its name".to_owned(),
            WaitingFor::Queue => "its queue is paused".to_owned(),
            _ => String::new(),
        },
        State::Leased => format!("handed to {}", clean(&task.worker)),
        State::Started => [Some(on_worker(task)), task.progress.as_ref().map(progress)]
            .into_iter()
            .flatten()
            .collect::<Vec<_>>()
            .join("; "),
        State::Success => run_time(task).map(|span| format!("in {span}")).unwrap_or_default(),
        State::Failure => last_error(task),
        State::Revoked => clean(&task.revoked_reason),
        _ => String::new(),
    }
}

fn on_worker(task: &TaskInfo) -> String {
    let stopping = if task.cancel_requested { ", asked to stop" } else { "" };
    format!("attempt {} on {}{stopping}", attempts(task), clean(&task.worker))
}

fn progress(progress: &Progress) -> String {
    let meta = if progress.meta.is_empty() { String::new() } else { format!(" {}", shown(&progress.meta)) };
    format!("{}{meta}", clean(&progress.state))
}

fn last_error(task: &TaskInfo) -> String {
    task.errors.last().map(failed_attempt).unwrap_or_default()
}

/// `attempt 2: ValueError: no such file`. Also the sentence of `celeriac result`.
pub(crate) fn failed_attempt(error: &TaskError) -> String {
    format!("attempt {}: {}: {}", error.attempt, clean(&error.kind), clean(&error.message))
}

fn run_time(task: &TaskInfo) -> Option<String> {
    let span = task.finished_at?.duration_since(task.started_at?).ok()?;
    Some(rough(whole_ms(span)))
}

/// Cut so that a row stays a row; `status` of one task shows all of it.
fn shortened(text: &str) -> String {
    const SHOWN: usize = 60;
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
