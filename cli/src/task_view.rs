//! A task for people: a row among others, details, or a line for one transition. `task_document`
//! has a task for programs.

use std::time::SystemTime;

use celeriac_client::{Progress, State, TaskError, TaskInfo, WaitingFor};

use crate::exit::Exit;
use crate::json::shown;
use crate::printable::clean;
use crate::time::{
    absolute, absolute_and_relative, ms, now_ms, relative, rough, time_of_day, whole_ms,
};

/// The exit code of a command that shows a task: an id without a task is not found.
pub(crate) fn exit_if_unknown(task: &TaskInfo) -> Exit {
    if task.state == State::Unknown { Exit::NotFound } else { Exit::Success }
}

/// The headings of [`row`].
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

/// One task in detail. Rows without a value are left out, and so are counts with their usual value.
pub(crate) fn details(task: &TaskInfo, now_ms: i64) -> Vec<(&'static str, String)> {
    let time = |time: Option<SystemTime>| {
        time.map(|time| absolute_and_relative(ms(time), now_ms)).unwrap_or_default()
    };
    let if_repeated = |count: u32| if count > 1 { count.to_string() } else { String::new() };
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
        ("deliveries", without_outcome(task).filter(|_| task.deliveries > 1).unwrap_or_default()),
        ("generation", if_repeated(task.generation)),
        ("tags", clean(&task.tags.join(", "))),
        ("root", clean(&task.root_id)),
        ("parent", clean(&task.parent_id)),
    ];
    for (key, value) in &task.headers {
        rows.push(("header", format!("{}={}", clean(key), shown(value))));
    }
    for error in &task.errors {
        rows.push(("error", failed_attempt(error)));
    }
    rows.retain(|(_, value)| !value.is_empty());
    rows
}

/// The count of deliveries, which says how often the task was handed out and no report followed.
pub(crate) fn without_outcome(task: &TaskInfo) -> Option<String> {
    (task.deliveries > 0).then(|| format!("{} without an outcome", task.deliveries))
}

/// Whether a line names the task. One task alone needs no name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum IdColumn {
    Shown,
    Hidden,
}

/// One transition as a line: time, id, state, and the note for this state.
pub(crate) fn transition(task: &TaskInfo, id_column: IdColumn) -> String {
    let now_ms = now_ms();
    let id = match id_column {
        IdColumn::Shown => format!("{}  ", clean(&task.id)),
        IdColumn::Hidden => String::new(),
    };
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

/// The most useful fact about a task in its state: why it waits, its progress, or why it ended.
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
        State::Started => match &task.progress {
            Some(report) => format!("{}; {}", on_worker(task), progress(report)),
            None => on_worker(task),
        },
        State::Success => run_time(task).map(|span| format!("in {span}")).unwrap_or_default(),
        State::Failure => last_error(task),
        State::Revoked => clean(&task.revoked_reason),
        _ => String::new(),
    }
}

/// Why a task that has not begun waits. `None` if it only waits for its turn, or does not wait.
pub(crate) fn why_it_waits(task: &TaskInfo) -> Option<String> {
    let (id, queue, name) = (clean(&task.id), clean(&task.queue), clean(&task.name));
    let time = || task.eta.map(|eta| absolute(ms(eta))).unwrap_or_default();
    match (task.state, task.waiting_for) {
        (State::Queued, WaitingFor::Worker) => Some(format!(
            "task {id} waits: no worker serves the queue {queue} and knows the name {name}"
        )),
        (State::Queued, WaitingFor::Queue) => {
            Some(format!("task {id} waits: the queue {queue} is paused"))
        }
        (State::Scheduled, _) => Some(format!("task {id} waits until {}", time())),
        (State::Retry, _) => {
            Some(format!("task {id} waits until {}: {}", time(), last_error(task)))
        }
        _ => None,
    }
}

fn on_worker(task: &TaskInfo) -> String {
    let cancel = if task.cancel_requested { ", asked to stop" } else { "" };
    format!("attempt {} on {}{cancel}", attempts(task), clean(&task.worker))
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

/// A failed attempt: `attempt 2: ValueError: no such file`.
pub(crate) fn failed_attempt(error: &TaskError) -> String {
    format!("attempt {}: {}: {}", error.attempt, clean(&error.kind), clean(&error.message))
}

fn run_time(task: &TaskInfo) -> Option<String> {
    let span = task.finished_at?.duration_since(task.started_at?).ok()?;
    Some(rough(whole_ms(span)))
}

/// Shortens a text, so that a row of a table fits on one line. `show` prints the whole text.
pub(crate) fn shortened(text: &str) -> String {
    const CHARACTERS_MAX: usize = 60;
    match text.char_indices().nth(CHARACTERS_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
