//! The page that asks before something is done that cannot be undone. It says how many tasks there
//! are at the moment, and of what.

use std::time::SystemTime;

use axum::http::Uri;
use celeriac_client::{CancelMode, QueueInfo, WorkerOrder};
use maud::{Markup, html};

use super::actions::{Action, QueueOrder, TaskOrder, Which, hidden, hidden_text, until};
use super::layout::{self, Tab};
use super::list::pairs;
use super::look::Look;
use super::show::{count, counted, text};
use super::workers;
use crate::api::filter::FilterDocument;
use crate::problem::Problem;
use crate::time::{ms, rfc3339};

/// The tasks of one look, and the looks that count those that match.
const AT_ONCE: u32 = 1_000;
const LOOKS_MAX: usize = 20;
/// The ids that are named.
const IDS_SHOWN: usize = 20;

/// What the page asks, and what it says about it.
pub(super) struct Question {
    title: String,
    words: Markup,
    /// The word on the button.
    word: &'static str,
}

/// The question before this action. `None`: it can be undone, so nobody asks.
pub(super) async fn question(look: &Look, action: &Action) -> Result<Option<Question>, Problem> {
    Ok(Some(match action {
        Action::Queue(QueueOrder::Purge, queue) => purge(&*look.queue(queue).await?),
        Action::Queue(QueueOrder::Delete, queue) => delete(&*look.queue(queue).await?),
        Action::Tasks(order, which, mode) => tasks(look, *order, which, *mode).await?,
        Action::Worker(WorkerOrder::Shutdown, instance) => shutdown(look, instance).await?,
        Action::Drain(true) => drain(look).await?,
        _ => return Ok(None),
    }))
}

fn purge(queue: &QueueInfo) -> Question {
    let waits = queue.ready + queue.scheduled;
    Question {
        title: format!("Purge the queue {}?", queue.name),
        words: html! {
            p { b { (counted(waits, "task that waits", "tasks that wait")) } " will be revoked: "
                (count(queue.ready)) " ready and " (count(queue.scheduled)) " scheduled. "
                (counted(queue.leased, "task", "tasks")) " with workers will go on." }
        },
        word: "Purge",
    }
}

fn delete(queue: &QueueInfo) -> Question {
    let waits = queue.ready + queue.scheduled;
    Question {
        title: format!("Delete the queue {}?", queue.name),
        words: html! {
            p { b { (counted(waits, "task that waits", "tasks that wait")) }
                " will be revoked, and the settings of the queue are dropped." }
            @if queue.leased > 0 {
                p.notice { "The broker will refuse it: workers have "
                    (counted(queue.leased, "task", "tasks")) " of this queue." }
            }
        },
        word: "Delete",
    }
}

async fn tasks(
    look: &Look,
    order: TaskOrder,
    which: &Which,
    mode: CancelMode,
) -> Result<Question, Problem> {
    let (number, has_more, of_what) = match which {
        Which::Ids(ids) => (ids.len() as u64, false, named(ids)),
        Which::Matching { filter, until: end } => {
            let (number, has_more) = match dead(look, filter).await? {
                Some(number) => (number, false),
                None => matching(look, until(filter, *end)?).await?,
            };
            let means_all = FilterDocument { state: None, ..filter.clone() }.is_empty();
            (
                number,
                has_more,
                html! {
                    ul { @for (name, value) in pairs(filter) {
                        li { (name) ": " code { (text(value)) } }
                    } }
                    @if means_all {
                        p.notice { "No filter is set: these are the tasks of all queues." }
                    }
                    p.dim { "Tasks that are submitted after " (rfc3339(ms(*end))) " stay." }
                },
            )
        }
    };
    let how_many = counted(number, "task", "tasks");
    let how_many = if has_more { format!("{how_many} or more") } else { how_many };
    let what = match (order, mode) {
        (TaskOrder::Cancel, CancelMode::Force { .. }) => {
            "They never start, and the handlers of those that run are stopped."
        }
        (TaskOrder::Cancel, _) => "Those that wait never start. Those that run are asked to stop.",
        (TaskOrder::Forget, _) => "The broker drops them with their results. Only ended tasks go.",
        (TaskOrder::Replay, _) => "Each one runs again, with the same id and arguments.",
        (TaskOrder::Discard, _) => "The broker drops them with their errors.",
    };
    let (title, word) = match (order, mode) {
        (TaskOrder::Cancel, CancelMode::Force { .. }) => {
            (format!("Stop {how_many} by force?"), "Stop by force")
        }
        (TaskOrder::Cancel, _) => (format!("Cancel {how_many}?"), "Cancel tasks"),
        (order, _) => (format!("{} {how_many}?", order.word()), order.word()),
    };
    Ok(Question { title, words: html! { p { (what) } (of_what) }, word })
}

fn named(ids: &[String]) -> Markup {
    html! {
        ul { @for id in ids.iter().take(IDS_SHOWN) { li { code { (text(id)) } } } }
        @if ids.len() > IDS_SHOWN { p { "and " (ids.len() - IDS_SHOWN) " more" } }
    }
}

/// How many tasks are dead, where the filter means just these: the broker counts them.
async fn dead(look: &Look, filter: &FilterDocument) -> Result<Option<u64>, Problem> {
    let mut rest = filter.clone();
    let (states, queue) = (rest.state.take(), rest.queue.take());
    if states.as_deref() != Some("FAILURE") || !rest.is_empty() {
        return Ok(None);
    }
    Ok(Some(match queue {
        Some(queue) => look.queue(&queue).await?.dead,
        None => look.queues().await?.iter().map(|queue| queue.dead).sum(),
    }))
}

/// How many tasks match, up to a bound, and whether there may be more.
async fn matching(
    look: &Look,
    filter: celeriac_client::TaskFilter,
) -> Result<(u64, bool), Problem> {
    let (mut number, mut cursor) = (0, None);
    for _ in 0..LOOKS_MAX {
        let filter = filter.clone();
        let page = look.ask(async |client| client.tasks(filter, AT_ONCE, cursor).await).await?;
        number += page.tasks.len() as u64;
        cursor = page.cursor;
        if cursor.is_none() {
            return Ok((number, false));
        }
    }
    Ok((number, true))
}

async fn shutdown(look: &Look, instance: &str) -> Result<Question, Problem> {
    let all = look.workers().await?;
    let worker = all.iter().find(|worker| worker.instance_id == instance);
    let worker = worker.ok_or_else(|| Problem::not_found("there is no such worker"))?;
    Ok(Question {
        title: format!("Shut down the worker {instance}?"),
        words: html! {
            p { "It takes no more tasks and ends. It has " b { (workers::held(worker)) }
                " tasks now, and runs those that it has begun to their end." }
        },
        word: "Shut down",
    })
}

async fn drain(look: &Look) -> Result<Question, Problem> {
    let broker = look.broker().await?;
    Ok(Question {
        title: "Drain the broker?".to_owned(),
        words: html! {
            p { "It delivers no task until the drain ends. "
                b { (counted(broker.leased, "task", "tasks")) } " with workers will go on, and "
                (counted(broker.ready, "task that waits", "tasks that wait")) " will stay." }
        },
        word: "Drain",
    })
}

/// The page: what will be done, a form that does it, and a way back.
pub(super) fn page(
    look: &Look,
    _uri: &Uri,
    action: &Action,
    question: &Question,
    back: &str,
) -> Markup {
    let site = &look.visitor.site;
    layout::frame(
        look,
        &question.title,
        Tab::None,
        None,
        html! {
            h1 { (text(&question.title)) }
            (question.words)
            form.actions method="post" action=(site.to("/act")) {
                (hidden("sure", "yes"))
                (hidden("back", back))
                (fields(action))
                button.danger { (question.word) }
                a.button href=(site.to(back)) { "Leave it" }
            }
        },
    )
}

/// The action as the fields of a form.
fn fields(action: &Action) -> Markup {
    match action {
        Action::Queue(order, queue) => {
            let order = if *order == QueueOrder::Purge { "purge" } else { "delete" };
            html! { (hidden("do", order)) (hidden_text("queue", queue)) }
        }
        Action::Tasks(order, which, mode) => html! {
            (hidden("do", order.name()))
            @if matches!(mode, CancelMode::Force { .. }) { (hidden("mode", "force")) }
            @match which {
                Which::Ids(ids) => { @for id in ids { (hidden_text("id", id)) } },
                Which::Matching { filter, until } => {
                    (hidden("all", "yes"))
                    (hidden("until", &since_1970(*until).to_string()))
                    @for (name, text) in pairs(filter) { (hidden_text(name, text)) }
                },
            }
        },
        Action::Worker(_, instance) => {
            html! { (hidden("do", "shutdown")) (hidden_text("instance", instance)) }
        }
        Action::Drain(_) | Action::Set(..) => hidden("do", "drain"),
    }
}

fn since_1970(time: SystemTime) -> i64 {
    ms(time).max(0)
}
