//! One task: its state and why it waits, its times, its attempts, arguments, result and children.

use std::time::{Duration, SystemTime};

use axum::http::StatusCode;
use celeriac_client::{State, TaskError, TaskFilter, TaskInfo};
use maud::{Markup, html};

use super::Page;
use super::actions::{button, hidden, hidden_text};
use super::layout::Tab;
use super::look::{Look, part};
use super::rows::{self, attempts, title, waits_for};
use super::show::{clock, count, queue_link, span, state, task_link, text, time, worker_link};
use super::{payload, show};
use crate::api::tasks::check_ids;
use crate::asked::Asked;
use crate::problem::Problem;
use crate::query::shortened;
use crate::site::with_pairs;

/// What a visitor may not be allowed to see.
const RESULT: &str = "the result";
/// The tasks of the tree that are shown.
const TREE: u32 = 20;
/// An open page asks for the result of a task that ended within this time.
const RESULT_IS_NEW: Duration = Duration::from_secs(60);

pub(super) async fn page(look: &Look, mut asked: Asked) -> Result<Page, Problem> {
    let id = asked.need("id")?;
    asked.finish()?;
    check_ids([&id])?;
    let (task, refused) = read(look, &id).await?;
    let page = Page::new(Tab::Tasks, title(&task))
        .live("task", facts(look, &task))
        .live("timeline", html! { h2 { "Timeline" } (timeline(look, &task)) })
        .live("errors", errors(&task));
    if look.is_again() {
        return Ok(match is_new(&task) {
            true => page.live("result", new_result(look, &id).await?),
            false => page,
        });
    }
    let result = match (task.state, &refused) {
        (State::Success, None) => part(with_result(look, &id).await, RESULT, |it| result(&it))?,
        (State::Success, Some(problem)) => part(Err(problem.clone()), RESULT, result)?,
        _ => html! {},
    };
    let payload = part(refused.map_or(Ok(&task), Err), "the payload", payload_of)?;
    Ok(page
        .live("result", result)
        .fixed(html! { h2 { "Payload" } (payload) })
        .fixed(tree(look, &task).await?))
}

/// The task; and for a visitor who may see no payload and no result, the refusal of both. An open
/// page needs neither of them again.
async fn read(look: &Look, id: &str) -> Result<(TaskInfo, Option<Problem>), Problem> {
    let mut refused = None;
    if !look.is_again() {
        match look.ask(async |client| client.info_with_payloads(&[id]).await).await {
            Ok(tasks) => return Ok((there(tasks, id)?, None)),
            Err(problem) if problem.status() == StatusCode::FORBIDDEN => refused = Some(problem),
            Err(problem) => return Err(problem),
        }
    }
    let tasks = look.ask(async |client| client.info(&[id]).await).await?;
    Ok((there(tasks, id)?, refused))
}

/// The result of a task that has just ended. A visitor who may not see it is told so once, and the
/// broker is not asked again for each second of the page.
async fn new_result(look: &Look, id: &str) -> Result<Markup, Problem> {
    if look.has_no_bodies() {
        return Ok(html! { p.notice { "You may not see " (RESULT) "." } });
    }
    let task = with_result(look, id).await;
    if task.as_ref().is_err_and(|problem| problem.status() == StatusCode::FORBIDDEN) {
        look.note_no_bodies();
    }
    part(task, RESULT, |task| result(&task))
}

async fn with_result(look: &Look, id: &str) -> Result<TaskInfo, Problem> {
    there(look.ask(async |client| client.info_with_results(&[id]).await).await?, id)
}

fn there(mut tasks: Vec<TaskInfo>, id: &str) -> Result<TaskInfo, Problem> {
    let task = tasks.pop().filter(TaskInfo::is_there);
    task.ok_or_else(|| {
        let id = shortened(id);
        Problem::not_found(format!("there is no task {id}: it never was, or it is forgotten"))
    })
}

fn is_new(task: &TaskInfo) -> bool {
    let since = SystemTime::now().checked_sub(RESULT_IS_NEW);
    task.finished_at.is_some() && task.finished_at > since
}

fn facts(look: &Look, task: &TaskInfo) -> Markup {
    let site = &look.visitor.site;
    html! {
        p.ident { code.copy { (text(&task.id)) } }
        dl.facts {
            dt { "State" } dd {
                (state(task.state))
                @if task.cancel_requested { " – it was asked to stop" }
                @if !task.revoked_reason.is_empty() { " – " (text(&task.revoked_reason)) }
            }
            @if let Some(reason) = waits_for(task.waiting_for) { dt { "Waits for" } dd { (reason) } }
            @if let Some(progress) = &task.progress {
                dt { "Progress" } dd {
                    (text(&progress.state)) " "
                    code { (text(&shortened(&String::from_utf8_lossy(&progress.meta)))) }
                    " " (time(progress.at))
                }
            }
            dt { "Name" } dd { code { (text(&task.name)) } }
            dt { "Queue" } dd { (queue_link(site, &task.queue)) }
            dt { "Priority" } dd { (task.priority) }
            dt { "Attempts" } dd { (attempts(task)) }
            @if task.deliveries > 1 {
                dt { "Deliveries" } dd {
                    (task.deliveries) @if task.deliveries_max > 0 { " of " (task.deliveries_max) }
                }
            }
            @if !task.worker.is_empty() {
                dt { "Worker" } dd { (worker_link(site, &task.worker)) }
            }
            @if task.generation > 1 { dt { "Run" } dd { (task.generation) " under this id" } }
            @if !task.tags.is_empty() {
                dt { "Tags" } dd.tags { @for tag in &task.tags {
                    a href=(site.link("/tasks", &[("tag", tag)])) { (text(tag)) } " "
                } }
            }
            @for (name, value) in &task.headers {
                dt { "Header " (text(name)) } dd { code { (text(&String::from_utf8_lossy(value))) } }
            }
            @if !task.parent_id.is_empty() {
                dt { "Parent" } dd { (task_link(site, &task.parent_id)) }
            }
            @if !task.root_id.is_empty() && task.root_id != task.id {
                dt { "Root of its tree" } dd { (task_link(site, &task.root_id)) }
            }
        }
        (actions(look, task))
    }
}

fn actions(look: &Look, task: &TaskInfo) -> Markup {
    let back = with_pairs("/task", [("id", task.id.as_str())]);
    let of = |order, word| button(look, order, &[("id", &task.id)], &back, word);
    html! {
        div.actions {
            @if !task.state.is_ended() {
                (of("cancel", "Cancel…"))
                @if matches!(task.state, State::Leased | State::Started) {
                    form method="post" action=(look.visitor.site.to("/act")) {
                        (hidden_text("id", &task.id)) (hidden("mode", "force")) (hidden("back", &back))
                        button name="do" value="cancel" { "Stop by force…" }
                    }
                }
            } @else {
                @if task.state == State::Failure {
                    (of("replay", "Replay…"))
                    (of("discard", "Discard…"))
                } @else {
                    (of("forget", "Forget…"))
                }
            }
        }
    }
}

/// What happened to the task, in order of time.
fn timeline(look: &Look, task: &TaskInfo) -> Markup {
    let site = &look.visitor.site;
    let mut events: Vec<(SystemTime, &str, Markup)> = Vec::new();
    let mut add = |at: Option<SystemTime>, kind, what| {
        if let Some(at) = at {
            events.push((at, kind, what));
        }
    };
    add(task.submitted_at, "queued", html! { "Submitted" });
    for error in &task.errors {
        let worker =
            html! { @if !error.worker.is_empty() { " to " (worker_link(site, &error.worker)) } };
        add(error.leased_at, "leased", html! { "Delivered" (worker) });
        add(error.started_at, "started", html! { "Attempt " (error.attempt) " began" });
        add(
            Some(error.at),
            "failure",
            html! {
                "Attempt " (error.attempt) " failed: " b { (text(&error.kind)) }
                @if let Some(began) = error.started_at { (after(began, error.at)) }
            },
        );
    }
    // The last attempt of a task that failed stands among its errors.
    if task.state != State::Failure && task.state != State::Retry {
        let worker =
            html! { @if !task.worker.is_empty() { " to " (worker_link(site, &task.worker)) } };
        let is_new = |at: Option<SystemTime>| {
            at.filter(|at| task.errors.last().is_none_or(|error| error.at <= *at))
        };
        add(is_new(task.leased_at), "leased", html! { "Delivered" (worker) });
        let began = is_new(task.started_at);
        add(began, "started", html! { "Attempt " (task.attempts) " began" });
    }
    add(task.cancel_requested_at, "revoked", html! { "Asked to stop" });
    events.sort_by_key(|(at, ..)| *at);
    if let Some(end) = task.finished_at {
        let ran = task.started_at.filter(|_| task.state == State::Success);
        events.push((
            end,
            ended(task.state),
            html! {
                "Ended: " (state(task.state)) @if let Some(began) = ran { (after(began, end)) }
            },
        ));
    }
    html! {
        ol.timeline {
            @for (at, kind, what) in &events {
                li class={ "is-" (kind) } {
                    span.dot aria-hidden="true" {} (what) " " (time(*at)) " "
                    span.clock { (clock(*at)) }
                }
            }
            (ahead(task))
        }
    }
}

fn ended(state: State) -> &'static str {
    match state {
        State::Success => "success",
        State::Failure => "failure",
        _ => "revoked",
    }
}

/// What will happen, as far as it is known.
fn ahead(task: &TaskInfo) -> Markup {
    let later = |what: &str, at: SystemTime| {
        html! { li.ahead { span.dot aria-hidden="true" {} (what) " " (time(at)) } }
    };
    html! {
        @if matches!(task.state, State::Scheduled | State::Retry) && let Some(at) = task.eta {
            (later(if task.state == State::Retry { "Next attempt" } else { "Due" }, at))
        }
        @if !task.state.is_ended() && let Some(at) = task.expires_at { (later("Expires", at)) }
        @if let Some(at) = task.forget_at { (later("Is forgotten", at)) }
    }
}

fn after(began: SystemTime, end: SystemTime) -> Markup {
    html! { " after " (span(end.duration_since(began).unwrap_or_default())) }
}

fn errors(task: &TaskInfo) -> Markup {
    let newest = task.errors.len().saturating_sub(1);
    html! {
        @if !task.errors.is_empty() {
            h2 { "Errors" }
            @for (place, error) in task.errors.iter().enumerate().rev() {
                details.error open[place == newest] { (error_of(error)) }
            }
        }
    }
}

fn error_of(error: &TaskError) -> Markup {
    html! {
        summary {
            "Attempt " (error.attempt) ": " b { (text(&error.kind)) } " "
            (text(&shortened(&error.message))) " " (time(error.at))
        }
        p.message { (crate::printable::clean_lines(&error.message)) }
        @if !error.traceback.is_empty() {
            pre.copy tabindex="0" { (crate::printable::clean_lines(&error.traceback)) }
        }
    }
}

fn result(task: &TaskInfo) -> Markup {
    html! {
        @if task.state == State::Success {
            h2 { "Result" }
            (payload::value("Output", &task.result, &task.result_content_type))
        }
    }
}

fn payload_of(task: &TaskInfo) -> Markup {
    html! {
        @if task.payload.is_empty() {
            p.dim { "The payload is empty, or it is no longer kept: the task has ended." }
        } @else {
            (payload::payload(&task.payload, &task.payload_content_type))
        }
    }
}

/// The tasks that belong together with this one.
async fn tree(look: &Look, task: &TaskInfo) -> Result<Markup, Problem> {
    let root = if task.root_id.is_empty() { &task.id } else { &task.root_id };
    let filter = TaskFilter::new().root_id(root);
    let page = look.ask(async |client| client.tasks(filter, TREE, None).await).await;
    let site = &look.visitor.site;
    part(page, "the tasks of its tree", |page| {
        let others: Vec<TaskInfo> =
            page.tasks.iter().filter(|other| other.id != task.id).cloned().collect();
        html! {
            h2 { "Tree" }
            @if others.is_empty() {
                p.dim {
                    "No other task belongs to it"
                    @if page.cursor.is_some() {
                        ", among the " (show::count(page.looked)) " of " (count(page.total))
                        " that were looked at"
                    }
                    "."
                }
            } @else {
                (rows::tasks(site, "Tasks of the tree", &others, false))
            }
            @if page.cursor.is_some() {
                p { a href=(site.link("/tasks", &[("root_id", root), ("order", "kept")])) {
                    "All tasks of the tree"
                } }
            }
        }
    })
}
