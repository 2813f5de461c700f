//! A task as people see it: a row among others, details, its whole history, or a line for one
//! transition.
//!
//! What programs read is in `task_document`.

use std::time::SystemTime;

use celeriac_client::{Progress, State, TaskError, TaskInfo, WaitingFor};

use crate::exit::Exit;
use crate::json::shown;
use crate::output::clean;
use crate::time::{both, ms, now_ms, relative, rough, time_of_day, whole_ms};

/// Exit code 4 for an id without a task.
pub(crate) fn exists(task: &TaskInfo) -> Exit {
    if task.state == State::Unknown { Exit::NotFound } else { Exit::Success }
}

/// What stands above [`row`].
pub(crate) const HEADINGS: [&str; 7] =
    ["ID", "STATE", "TASK", "QUEUE", "ATTEMPTS", "SUBMITTED", "NOTE"];

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

/// A task alone, with what is out of the ordinary.
pub(crate) fn details(task: &TaskInfo, now_ms: i64) -> Vec<(&'static str, String)> {
    let time =
        |time: Option<SystemTime>| time.map(|time| both(ms(time), now_ms)).unwrap_or_default();
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
        ("changed by", clean(&task.actor)),
        ("attempts", attempts(task)),
        (
            "deliveries",
            if task.deliveries > 1 { task.deliveries.to_string() } else { String::new() },
        ),
        (
            "generation",
            if task.generation > 1 { task.generation.to_string() } else { String::new() },
        ),
        ("tags", clean(&task.tags.join(", "))),
        ("root", clean(&task.root_id)),
        ("parent", clean(&task.parent_id)),
    ];
    rows.extend(
        task.headers
            .iter()
            .map(|(key, value)| ("header", format!("{}={}", clean(key), shown(value)))),
    );
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
    if task.attempts_max == 0 {
        String::new()
    } else {
        format!("{}/{}", task.attempts, task.attempts_max)
    }
}

/// What is worth knowing of a task in its state: why it waits, how far it is, why it ended.
fn note(task: &TaskInfo, now_ms: i64) -> String {
    let due =
        || task.eta.map(|eta| format!("due {}", relative(ms(eta), now_ms))).unwrap_or_default();
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
    let meta = if progress.meta.is_empty() {
        String::new()
    } else {
        format!(" {}", shown(&progress.meta))
    };
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

/// Cut so that a row stays a row; `show` has all of it.
pub(crate) fn shortened(text: &str) -> String {
    const SHOWN: usize = 60;
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
