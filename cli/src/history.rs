//! One task in every detail, for people: what it is, what happened to it and when, each failed
//! attempt with its traceback.
//!
//! The first part is the one of `status`; here follows what `status` leaves out.

use std::time::SystemTime;

use celeriac_client::{State, TaskError, TaskInfo};

use crate::json::shown;
use crate::output::{clean, details_lines, table_lines};
use crate::task_view::{HEADINGS, details, failed_attempt, row};
use crate::time::{absolute, both, ms, relative};

/// The lines of `celeriac show`.
pub(crate) fn history(task: &TaskInfo, children: &[TaskInfo], now_ms: i64) -> Vec<String> {
    let mut lines = details_lines(&in_full(task, now_ms));
    if task.state == State::Unknown {
        return lines;
    }
    section(&mut lines, "HISTORY", events(task, now_ms));
    for error in &task.errors {
        section(&mut lines, &failed_attempt(error), traceback(error, now_ms));
    }
    if task.state == State::Success {
        section(&mut lines, "RESULT", vec![result(task)]);
    }
    if !children.is_empty() {
        let rows: Vec<_> = children.iter().map(|child| row(child, now_ms)).collect();
        section(&mut lines, "SUBMITTED BY THIS TASK", table_lines(HEADINGS, &rows));
    }
    lines
}

fn section(lines: &mut Vec<String>, heading: &str, content: Vec<String>) {
    lines.push(String::new());
    lines.push(heading.to_owned());
    lines.extend(content.into_iter().map(|line| format!("  {line}").trim_end().to_owned()));
}

/// The rows of `status` without those that have a section of their own, and the counts that
/// `status` shows only where they are out of the ordinary.
fn in_full(task: &TaskInfo, now_ms: i64) -> Vec<(&'static str, String)> {
    const IN_SECTIONS: [&str; 5] = ["submitted", "leased", "started", "finished", "error"];
    const IN_COUNTS: [&str; 2] = ["deliveries", "generation"];
    let mut rows = details(task, now_ms);
    rows.retain(|(name, _)| !IN_SECTIONS.contains(name) && !IN_COUNTS.contains(name));
    if task.state == State::Unknown {
        return rows;
    }
    rows.push(("priority", task.priority.to_string()));
    rows.push(("deliveries", task.deliveries.to_string()));
    rows.push(("generation", task.generation.to_string()));
    rows.push(("version", task.version.to_string()));
    if let Some(progress) = &task.progress {
        let said = format!("{} {}", clean(&progress.state), shown(&progress.meta));
        rows.push(("progress", format!("{} — {}", said.trim_end(), both(ms(progress.at), now_ms))));
    }
    if task.cancel_requested {
        rows.push(("cancel", "it runs and was asked to stop".to_owned()));
    }
    rows
}

/// What happened, in the order in which it did, as far as the broker remembers.
fn events(task: &TaskInfo, now_ms: i64) -> Vec<String> {
    let on_worker = |what: &str| format!("{what} {}", clean(&task.worker));
    let mut events: Vec<(i64, String)> = Vec::new();
    let mut push =
        |at: Option<SystemTime>, what: String| events.extend(at.map(|at| (ms(at), what)));
    push(task.submitted_at, "submitted".to_owned());
    push(task.leased_at, on_worker("handed to"));
    push(task.started_at, on_worker("started on"));
    push(task.progress.as_ref().map(|progress| progress.at), "last progress".to_owned());
    for error in &task.errors {
        push(Some(error.at), format!("failed: {}", failed_attempt(error)));
    }
    push(task.finished_at, format!("ended as {}", task.state));
    // Stable: events of one millisecond stay in the order in which they come about.
    events.sort_by_key(|(at_ms, _)| *at_ms);
    events
        .into_iter()
        .map(|(at_ms, what)| {
            format!("{}  {:<10}  {what}", absolute(at_ms), relative(at_ms, now_ms))
        })
        .collect()
}

fn traceback(error: &TaskError, now_ms: i64) -> Vec<String> {
    let mut lines = vec![both(ms(error.at), now_ms)];
    // Line breaks are the one thing in it to be obeyed.
    lines.extend(error.traceback.lines().map(|line| format!("  {}", clean(line))));
    lines
}

fn result(task: &TaskInfo) -> String {
    let text = if task.result.is_empty() { "null".to_owned() } else { shown(&task.result) };
    match task.result_content_type.as_str() {
        "" | "application/json" => text,
        content_type => format!("{text} ({})", clean(content_type)),
    }
}
