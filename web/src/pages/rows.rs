//! Tasks as rows of a table.

use celeriac_client::{State, TaskInfo, WaitingFor};
use maud::{Markup, html};

use super::show::{queue_link, state, table, task_link, text, time, time_or_dash, worker_link};
use crate::asked::for_form;
use crate::query::shortened;
use crate::site::Site;

/// The form to which the ticks of rows belong.
pub(super) const TICKS: &str = "ticked";

/// A table of tasks. With ticks, each row can be chosen for the form [`TICKS`].
pub(super) fn tasks(site: &Site, label: &str, tasks: &[TaskInfo], has_ticks: bool) -> Markup {
    let head = html! {
        @if has_ticks {
            th.tick scope="col" {
                input type="checkbox" data-all="" aria-label="All rows of this page" hidden;
            }
        }
        th scope="col" { "Task" }
        th scope="col" { "State" }
        th.wide scope="col" { "Queue" }
        th.n.wide scope="col" { "Attempts" }
        th scope="col" { "Submitted" }
        th.wide scope="col" { "Ended" }
        th.wide scope="col" { "Detail" }
    };
    table(label, head, html! { @for task in tasks { (row(site, task, has_ticks)) } })
}

fn row(site: &Site, task: &TaskInfo, has_ticks: bool) -> Markup {
    html! {
        tr {
            @if has_ticks {
                td.tick {
                    input type="checkbox" name="id" value=(for_form(&task.id)) form=(TICKS)
                        aria-label={ "Choose " (text(&task.id)) };
                }
            }
            td.task {
                b { (title(task)) } br; (task_link(site, &task.id))
                // A narrow window has no room for the last column.
                div.narrow { (detail(site, task)) }
            }
            td { (state(task.state)) }
            td.wide { (queue_link(site, &task.queue)) }
            td.n.wide { (attempts(task)) }
            td { (time_or_dash(task.submitted_at)) }
            td.wide { (time_or_dash(task.finished_at)) }
            td.wide.detail { (detail(site, task)) }
        }
    }
}

/// The name for people.
pub(super) fn title(task: &TaskInfo) -> String {
    text(if task.shadow.is_empty() { &task.name } else { &task.shadow })
}

/// The attempts so far, and how many there may be.
pub(super) fn attempts(task: &TaskInfo) -> String {
    format!("{} of {}", task.attempts, task.attempts_max)
}

/// What matters most about a task in its state.
fn detail(site: &Site, task: &TaskInfo) -> Markup {
    let error = task.errors.last();
    match task.state {
        State::Queued => html! {
            @if let Some(reason) = waits_for(task.waiting_for) { "waits for " (reason) }
        },
        State::Scheduled | State::Retry => match task.eta {
            Some(eta) => html! { "due " (time(eta)) },
            None => html! {},
        },
        State::Leased | State::Started => html! { "on " (worker_link(site, &task.worker)) },
        State::Revoked => html! { (text(&task.revoked_reason)) },
        State::Failure => match error {
            Some(error) => html! {
                b { (text(&error.kind)) } " " (text(&shortened(&error.message)))
            },
            None => html! {},
        },
        _ => html! {},
    }
}

/// Why a task waits, in a sentence.
pub(super) fn waits_for(reason: WaitingFor) -> Option<&'static str> {
    match reason {
        WaitingFor::Turn => Some("its turn: the workers that can run it are busy"),
        WaitingFor::Time => Some("its time"),
        WaitingFor::Worker => Some("a worker that serves its queue and knows its name"),
        WaitingFor::Queue => Some("its queue, which is paused"),
        _ => None,
    }
}
