//! One task with its whole history, for `show` and `dead show`: what the task is, what happened to
//! it and when, each failed attempt with its traceback, and the tasks that it submitted.
//!
//! The first part is the one of `status`. This file adds what `status` leaves out.

use std::time::SystemTime;

use celeriac_client::{Client, Error, ErrorCode, State, TaskError, TaskFilter, TaskInfo};
use celeriac_web::documents::TaskDocument;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::connection::failure;
use crate::exit::{Exit, Failure};
use crate::json::shown;
use crate::line::{Line, Text, Tone};
use crate::output::{Output, details_lines, print_to_stderr};
use crate::task_columns::{USUAL, table};
use crate::task_view::{details, failed_attempt, without_outcome};
use crate::time::{absolute, absolute_and_relative, ms, now_ms, relative};
use celeriac_web::printable::clean;

/// How many tasks of a tree are searched for children. A tree may have any number of tasks, and
/// `tasks --root` lists all of them.
const TREE_TASKS_MAX: u32 = 1000;

/// What a history says in place of what the broker does not give to this client.
const NO_BODIES: &str = "not shown: payloads and results need bodies = true in the access file, \
                         or the role producer";
const NO_CHILDREN: &str = "not shown: a list of tasks needs the role reader or operator";

/// A task with its result, and the first of the tasks that it submitted, as far as the access of
/// this client allows it to see them.
pub(crate) struct TaskHistory {
    pub(crate) task: TaskInfo,
    /// Whether the task has its arguments and its result.
    has_bodies: bool,
    /// `None`: this client may not list tasks.
    children: Option<Vec<TaskInfo>>,
}

/// A task with its history for programs.
#[derive(Serialize)]
struct Document<'a> {
    #[serde(flatten)]
    task: TaskDocument<'a>,
    /// None when this client may not list tasks.
    children: Option<Vec<&'a str>>,
}

impl TaskHistory {
    pub(crate) fn new(task: TaskInfo, children: Vec<TaskInfo>) -> Self {
        Self { task, has_bodies: true, children: Some(children) }
    }

    /// Asks the broker for the task and its children. What the access of this client does not
    /// allow is left out.
    pub(crate) async fn fetch(client: &Client, id: &str) -> Result<Self, Failure> {
        let allowed = if_allowed(client.info_with_results(&[id]).await)?;
        let has_bodies = allowed.is_some();
        let tasks = match allowed {
            Some(tasks) => tasks,
            None => client.info(&[id]).await.map_err(failure)?,
        };
        let task = tasks.into_iter().next().ok_or_else(|| {
            Failure::error("the answer of the broker does not have the requested task")
        })?;
        let mut history = Self { has_bodies, ..Self::new(task, Vec::new()) };
        if history.task.state == State::Unknown {
            return Ok(history);
        }
        if has_bodies {
            history.add_payload(client).await?;
        }
        history.children = if_allowed(children(client, &history.task).await)?;
        Ok(history)
    }

    async fn add_payload(&mut self, client: &Client) -> Result<(), Failure> {
        let task = &mut self.task;
        let with_payload = client.info_with_payloads(&[&task.id]).await.map_err(failure)?.pop();
        // Between the two answers the id may have got another run, with another payload.
        if let Some(same) = with_payload.filter(|same| same.generation == task.generation) {
            task.payload = same.payload;
            task.payload_content_type = same.payload_content_type;
        }
        Ok(())
    }

    /// Prints the arguments alone, byte by byte.
    pub(crate) fn print_payload(&self, output: &mut Output) -> Result<(), Failure> {
        if !self.has_bodies {
            return Err(Failure::new(Exit::Token, format!("the arguments are {NO_BODIES}")));
        }
        Ok(output.bytes(&self.task.payload)?)
    }

    /// Prints the task with its history. For programs stderr says what is missing.
    pub(crate) fn print(&self, output: &mut Output) -> Result<(), Failure> {
        if !output.is_json() {
            let width = output.size().width;
            return Ok(output.lines(&lines(self, now_ms(), width))?);
        }
        let children = self.children.as_deref();
        let children = children.map(|all| all.iter().map(|child| child.id.as_str()).collect());
        output.document(&Document { task: TaskDocument::new(&self.task), children })?;
        if !self.has_bodies {
            print_to_stderr(&format!("the arguments and the result are {NO_BODIES}"));
        }
        if self.children.is_none() {
            print_to_stderr(&format!("the tasks that this task submitted are {NO_CHILDREN}"));
        }
        Ok(())
    }
}

/// What the broker answered; `None` when the access of this client does not allow the request.
fn if_allowed<T>(answer: Result<T, Error>) -> Result<Option<T>, Failure> {
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(Error::Refused { code: ErrorCode::Forbidden, .. }) => Ok(None),
        Err(error) => Err(failure(error)),
    }
}

/// The tasks that a task submitted, as far as they are among the first [`TREE_TASKS_MAX`] of the
/// tree.
async fn children(client: &Client, task: &TaskInfo) -> Result<Vec<TaskInfo>, Error> {
    // A tree has the id of its first task. The first task itself names no root.
    let root = if task.root_id.is_empty() { &task.id } else { &task.root_id };
    let filter = TaskFilter::new().root_id(root);
    let (mut children, mut left, mut cursor) = (Vec::new(), TREE_TASKS_MAX, None);
    while left > 0 {
        let page = client.tasks(filter.clone(), left, cursor).await?;
        left = left.saturating_sub(page.tasks.len() as u32);
        children.extend(page.tasks.into_iter().filter(|other| other.parent_id == task.id));
        cursor = page.cursor;
        if cursor.is_none() {
            break;
        }
    }
    Ok(children)
}

/// The text for people. What other programs wrote line by line, such as arguments and tracebacks,
/// is not fitted to the width of the terminal.
pub(crate) fn lines(history: &TaskHistory, now_ms: i64, width: Option<usize>) -> Vec<Line> {
    let TaskHistory { task, has_bodies, children } = history;
    let mut lines = details_lines(&in_full(task, now_ms), width);
    if task.state == State::Unknown {
        return lines;
    }
    let inner = width.map(|width| width.saturating_sub(INDENT.len()));
    let note = |text: &str| Line::from(text).wrapped(inner, 0);
    let body = |text: Vec<String>| if *has_bodies { plain(text) } else { note(NO_BODIES) };
    section(&mut lines, vec![heading("ARGUMENTS")], body(argument_lines(task)));
    section(&mut lines, vec![heading("HISTORY")], event_lines(task, now_ms, inner));
    for error in &task.errors {
        let heading = heading(&failed_attempt(error)).wrapped(width, INDENT.len());
        section(&mut lines, heading, plain(traceback(error, now_ms)));
    }
    if task.state == State::Success {
        section(&mut lines, vec![heading("RESULT")], body(vec![result(task)]));
    }
    let children = match children.as_deref() {
        Some([]) => return lines,
        Some(children) => table(children, &USUAL, now_ms).lines(inner),
        None => note(NO_CHILDREN),
    };
    section(&mut lines, vec![heading("SUBMITTED BY THIS TASK")], children);
    lines
}

/// The blanks before each line of a section.
const INDENT: &str = "  ";

fn heading(text: &str) -> Line {
    Text::new(text, Tone::Heading).into()
}

fn section(lines: &mut Vec<Line>, heading: Vec<Line>, content: Vec<Line>) {
    lines.push(Line::default());
    lines.extend(heading);
    for content in content {
        let mut line = Line::from(INDENT);
        line.append(content);
        lines.push(line);
    }
}

fn plain(lines: Vec<String>) -> Vec<Line> {
    lines.iter().map(|line| Line::from(line.trim_end())).collect()
}

/// The rows of `status` without the rows that have their own section, and with the counts that
/// `status` shows only if they are unusual.
fn in_full(task: &TaskInfo, now_ms: i64) -> Vec<(&'static str, Text)> {
    const IN_SECTIONS: [&str; 5] = ["submitted", "leased", "started", "finished", "error"];
    const COUNTS: [&str; 2] = ["deliveries", "generation"];
    let mut rows = details(task, now_ms);
    rows.retain(|(name, _)| !IN_SECTIONS.contains(name) && !COUNTS.contains(name));
    if task.state == State::Unknown {
        return rows;
    }
    rows.push(("priority", task.priority.to_string().into()));
    rows.extend(without_outcome(task).map(|count| ("deliveries", count.into())));
    rows.push(("generation", task.generation.to_string().into()));
    rows.push(("version", task.version.to_string().into()));
    if let Some(progress) = &task.progress {
        let report = format!("{} {}", clean(&progress.state), shown(&progress.meta));
        let time = absolute_and_relative(ms(progress.at), now_ms);
        rows.push(("progress", format!("{} — {time}", report.trim_end()).into()));
    }
    if task.cancel_requested {
        let text = match task.state.is_ended() {
            true => "it was asked to stop while it ran",
            false => "it runs and was asked to stop",
        };
        let time = task.cancel_requested_at.map(|at| absolute_and_relative(ms(at), now_ms));
        let time = time.map(|time| format!(" — {time}")).unwrap_or_default();
        rows.push(("cancel", format!("{text}{time}").into()));
    }
    rows
}

/// Something that happened to a task.
struct Event {
    at_ms: i64,
    text: String,
}

/// The events that the broker remembers, in the order of their times.
fn event_lines(task: &TaskInfo, now_ms: i64, width_max: Option<usize>) -> Vec<Line> {
    let events = events(task);
    let ago: Vec<String> = events.iter().map(|event| relative(event.at_ms, now_ms)).collect();
    let width = ago.iter().map(String::len).max().unwrap_or(0);
    let lines = |(event, ago): (&Event, &String)| {
        let times = format!("{}  {ago:width$}  ", absolute(event.at_ms));
        let indent = times.len();
        Line::from(format!("{times}{}", event.text)).wrapped(width_max, indent)
    };
    events.iter().zip(&ago).flat_map(lines).collect()
}

fn events(task: &TaskInfo) -> Vec<Event> {
    let event = |at: Option<SystemTime>, text: String| Some(Event { at_ms: ms(at?), text });
    let of_worker = |worker: &str, leased_at, started_at| {
        let worker = clean(worker);
        [
            event(leased_at, format!("handed to {worker}")),
            event(started_at, format!("started on {worker}")),
        ]
    };
    let attempt = |error: &TaskError| of_worker(&error.worker, error.leased_at, error.started_at);
    let failed =
        |error: &TaskError| event(Some(error.at), format!("failed: {}", failed_attempt(error)));
    let (last, earlier): (Vec<&TaskError>, Vec<&TaskError>) =
        task.errors.iter().partition(|error| error.attempt >= task.attempts);
    let mut events = vec![event(task.submitted_at, "submitted".to_owned())];
    for error in earlier {
        events.extend(attempt(error));
        events.push(failed(error));
    }
    for error in &last {
        events.extend(attempt(error));
    }
    // The times of the task itself are those of its last attempt, which may have failed.
    let has_failed = |error: &TaskError| error.leased_at == task.leased_at;
    if !task.errors.iter().any(has_failed) {
        events.extend(of_worker(&task.worker, task.leased_at, task.started_at));
    }
    events.push(event(
        task.progress.as_ref().map(|progress| progress.at),
        "last progress".to_owned(),
    ));
    events.push(event(task.cancel_requested_at, "asked to stop".to_owned()));
    events.extend(last.into_iter().map(failed));
    let reason = match task.state {
        State::Revoked => format!(": {}", clean(&task.revoked_reason)),
        _ => String::new(),
    };
    events.push(event(task.finished_at, format!("ended as {}{reason}", task.state)));
    let mut events: Vec<Event> = events.into_iter().flatten().collect();
    // The sort is stable: events of one millisecond stay in the order above, which is the order in
    // which they happen.
    events.sort_by_key(|event| event.at_ms);
    events
}

/// The arguments with which the task was submitted.
fn argument_lines(task: &TaskInfo) -> Vec<String> {
    if task.payload.is_empty() {
        return vec!["the broker keeps them no longer".to_owned()];
    }
    match task.payload_content_type.as_str() {
        "" | "application/json" => match serde_json::from_slice(&task.payload) {
            Ok(Arguments(args, kwargs)) => vec![
                format!("args    {}", bounded(args.get())),
                format!("kwargs  {}", bounded(kwargs.get())),
            ],
            // Another program may write JSON of another shape.
            Err(_) => vec![bounded(&shown(&task.payload))],
        },
        content_type => {
            vec![format!("{} ({})", bounded(&shown(&task.payload)), clean(content_type))]
        }
    }
}

/// The payload of every client that calls tasks by name.
#[derive(Deserialize)]
struct Arguments<'a>(#[serde(borrow)] &'a RawValue, #[serde(borrow)] &'a RawValue);

/// A text that may be as long as a payload, shortened for people.
fn bounded(text: &str) -> String {
    const CHARACTERS_MAX: usize = 2_000;
    let text = clean(text);
    match text.char_indices().nth(CHARACTERS_MAX) {
        Some((end, _)) => {
            format!("{}… ({} bytes in all; `show --raw` prints them)", &text[..end], text.len())
        }
        None => text,
    }
}

fn traceback(error: &TaskError, now_ms: i64) -> Vec<String> {
    let mut lines = vec![absolute_and_relative(ms(error.at), now_ms)];
    // Only line breaks keep their meaning; all other hidden characters are escaped.
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
