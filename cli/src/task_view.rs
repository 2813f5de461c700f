//! A task for people: its details, a line for one transition, and the parts of both. `task_columns`
//! has a task among others.

use std::time::SystemTime;

use celeriac_client::{Progress, State, TaskError, TaskInfo, WaitingFor};

use crate::exit::Exit;
use crate::json::shown;
use crate::line::{Line, Text};
use crate::time::{absolute, absolute_and_relative, ms, relative, rough, time_of_day, whole_ms};
use celeriac_web::printable::clean;

/// The kind and the sentence of the broker's error for a task that reached its limit of deliveries.
/// A test compares them with those of a broker.
const LOST: &str = "worker_lost";
const TOO_OFTEN: &str = "workers were lost with this task too often";

/// The exit code of a command that shows a task: an id without a task is not found.
pub(crate) fn exit_if_unknown(task: &TaskInfo) -> Exit {
    if task.state == State::Unknown { Exit::NotFound } else { Exit::Success }
}

/// One task in detail. Rows without a value are left out, and so are counts with their usual value.
pub(crate) fn details(task: &TaskInfo, now_ms: i64) -> Vec<(&'static str, Text)> {
    let time = |time: Option<SystemTime>| {
        time.map(|time| absolute_and_relative(ms(time), now_ms)).unwrap_or_default()
    };
    // A task that waits again has no worker: these are of an earlier delivery.
    let is_waiting = matches!(task.state, State::Scheduled | State::Queued);
    let of_worker = |time: Option<SystemTime>| time.filter(|_| !is_waiting);
    let worker = if is_waiting { "" } else { task.worker.as_str() };
    let if_repeated = |count: u32| if count > 1 { count.to_string() } else { String::new() };
    let mut rows: Vec<(&'static str, Text)> = vec![
        ("id", task.id.as_str().into()),
        ("state", Text::state(task.state)),
        ("note", note(task, now_ms).into()),
        ("task", task.name.as_str().into()),
        ("shadow", task.shadow.as_str().into()),
        ("queue", task.queue.as_str().into()),
        ("submitted", time(task.submitted_at).into()),
        ("due", time(task.eta).into()),
        ("expires", time(task.expires_at).into()),
        ("leased", time(of_worker(task.leased_at)).into()),
        ("started", time(of_worker(task.started_at)).into()),
        ("finished", time(task.finished_at).into()),
        ("kept until", time(task.forget_at).into()),
        ("worker", worker.into()),
        ("changed by", task.actor.as_str().into()),
        ("attempts", attempts(task).into()),
        ("deliveries", without_outcome(task).unwrap_or_default().into()),
        ("generation", if_repeated(task.generation).into()),
        ("tags", task.tags.join(", ").into()),
        ("root", task.root_id.as_str().into()),
        ("parent", task.parent_id.as_str().into()),
    ];
    for (key, value) in &task.headers {
        rows.push(("header", format!("{key}={}", shown(value)).into()));
    }
    for error in &task.errors {
        rows.push(("error", failed_attempt(error).into()));
    }
    rows.retain(|(_, value)| !value.is_empty());
    rows
}

/// The count of deliveries, which says how often the task was handed out and no report followed.
pub(crate) fn without_outcome(task: &TaskInfo) -> Option<String> {
    let count = match task.state {
        // The last delivery is under way, or it ended with the task.
        State::Leased | State::Started | State::Success => task.deliveries.saturating_sub(1),
        // Nobody can tell any more whether a delivery was under way when the task was revoked.
        State::Revoked => 0,
        _ => task.deliveries,
    };
    let of_all = match task.deliveries_max {
        // A broker that does not tell the limit.
        0 => String::new(),
        most => format!(" of {most}"),
    };
    (count > 0).then(|| format!("{count}{of_all} without an outcome"))
}

/// The width of the column of ids in the lines of [`transition`], so that the lines of several
/// tasks are aligned. One task alone needs no name.
pub(crate) fn id_width(ids: &[&String]) -> Option<usize> {
    let widths = ids.iter().map(|id| Text::from(id.as_str()).width());
    widths.max().filter(|_| ids.len() > 1)
}

/// One transition as a line: time, id, state, and the note for this state. The time is that of the
/// end for a task that has ended, which may be long ago. A note that is wider than the terminal
/// goes on below itself.
pub(crate) fn transition(
    task: &TaskInfo,
    id_width: Option<usize>,
    now_ms: i64,
    width_max: Option<usize>,
) -> Vec<Line> {
    const STATE_WIDTH: usize = 9;
    let at_ms = task.finished_at.filter(|_| task.state.is_ended()).map_or(now_ms, ms);
    let mut line = Line::from(format!("{}  ", time_of_day(at_ms)));
    if let Some(width) = id_width {
        let id = Text::from(task.id.as_str());
        let blank = width.saturating_sub(id.width()) + 2;
        line.push(id);
        line.push(" ".repeat(blank));
    }
    let (state, note) = (Text::state(task.state), note(task, now_ms));
    let blank = STATE_WIDTH.saturating_sub(state.width()) + 2;
    line.push(state);
    let indent = line.width() + blank;
    if !note.is_empty() {
        line.push(" ".repeat(blank));
        line.push(note);
    }
    line.wrapped(width_max, indent)
}

/// The attempts that began, of those that are allowed.
pub(crate) fn attempts(task: &TaskInfo) -> String {
    if task.attempts_max == 0 {
        String::new()
    } else {
        format!("{}/{}", task.attempts, task.attempts_max)
    }
}

/// The most useful fact about a task in its state: why it waits, its progress, or why it ended.
pub(crate) fn note(task: &TaskInfo, now_ms: i64) -> String {
    match task.state {
        State::Unknown => "no such task".to_owned(),
        State::Scheduled => {
            task.eta.map(|eta| format!("due {}", relative(ms(eta), now_ms))).unwrap_or_default()
        }
        State::Retry => [runs_again(task, now_ms), last_error(task)].join("; "),
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
    let (queue, name) = (clean(&task.queue), clean(&task.name));
    let time = || task.eta.map(|eta| absolute(ms(eta))).unwrap_or_default();
    match (task.state, task.waiting_for) {
        (State::Queued, WaitingFor::Worker) => {
            Some(format!("no worker serves the queue {queue} and knows the name {name}"))
        }
        (State::Queued, WaitingFor::Queue) => Some(format!("the queue {queue} is paused")),
        (State::Scheduled, _) => Some(format!("it is due at {}", time())),
        (State::Retry, _) => Some(format!("it runs again at {}: {}", time(), last_error(task))),
        _ => None,
    }
}

/// When the next attempt begins. The broker's clock decides that, and it may be slower than ours.
fn runs_again(task: &TaskInfo, now_ms: i64) -> String {
    match task.eta.map(ms).filter(|at_ms| *at_ms > now_ms) {
        Some(at_ms) => format!("runs again {}", relative(at_ms, now_ms)),
        None => "runs again soon".to_owned(),
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

/// The latest failed attempt; empty when none failed. Of a task whose workers were lost too often
/// it has the number of these deliveries, and their limit.
pub(crate) fn last_error(task: &TaskInfo) -> String {
    let Some(error) = task.errors.last() else { return String::new() };
    let sentence = failed_attempt(error);
    if task.state != State::Failure || error.kind != LOST || error.message != TOO_OFTEN {
        return sentence;
    }
    let (count, most) = (task.deliveries, task.deliveries_max);
    let deliveries = if count.max(most) == 1 { "delivery" } else { "deliveries" };
    match (count, most) {
        (_, 0) => format!(
            "{sentence}: {count} {deliveries} without an outcome, and --max-deliveries allows no \
             more"
        ),
        (count, most) if count >= most => {
            format!("{sentence}: {count} of {most} {deliveries} without an outcome")
        }
        _ => format!(
            "{sentence}: {count} of {most} {deliveries} without an outcome, and others that may \
             have begun unseen"
        ),
    }
}

/// A failed attempt: `attempt 2: ValueError: no such file`.
pub(crate) fn failed_attempt(error: &TaskError) -> String {
    format!("attempt {}: {}: {}", error.attempt, clean(&error.kind), clean(&error.message))
}

fn run_time(task: &TaskInfo) -> Option<String> {
    let span = task.finished_at?.duration_since(task.started_at?).ok()?;
    Some(rough(whole_ms(span)))
}
