//! All workers, and what each one runs.

use std::sync::Arc;

use celeriac_client::WorkerStatus;
use maud::{Markup, html};

use super::layout::Tab;
use super::look::{Look, part};
use super::show::{bytes, count, counted, dot, empty, table, text, time, worker_link};
use super::{Page, rows};
use crate::asked::Asked;
use crate::problem::Problem;
use crate::site::Site;

/// The workers of one page, and the names that stand in a row.
const PAGE: usize = 200;
const NAMES: usize = 4;

pub(super) async fn page(look: &Look, mut asked: Asked) -> Result<Page, Problem> {
    let after = asked.take("after")?;
    asked.finish()?;
    let site = &look.visitor.site;
    let workers = look.workers().await;
    let list = part(workers, "the workers", |workers| list(site, &workers, after.as_deref()))?;
    Ok(Page::new(Tab::Workers, "Workers").live("workers", list))
}

fn list(site: &Site, workers: &Arc<[WorkerStatus]>, after: Option<&str>) -> Markup {
    if workers.is_empty() {
        return empty(
            "No worker is connected.",
            Some("celeriac work --name songs.play -- echo '{0}'"),
        );
    }
    let mut shown: Vec<&WorkerStatus> = workers
        .iter()
        .filter(|worker| after.is_none_or(|after| worker.instance_id.as_str() > after))
        .collect();
    shown.sort_by(|one, other| one.instance_id.cmp(&other.instance_id));
    let has_more = shown.len() > PAGE;
    shown.truncate(PAGE);
    let last = shown.last().filter(|_| has_more).map(|worker| worker.instance_id.as_str());
    html! {
        p.dim { (counted(workers.len() as u64, "worker", "workers")) }
        (table_of(site, &shown))
        p.pages {
            @if after.is_some() { a href=(site.to("/workers")) { "First page" } }
            @if let Some(last) = last {
                a href=(site.link("/workers", &[("after", last)])) { "Next page" }
            }
        }
    }
}

fn table_of(site: &Site, workers: &[&WorkerStatus]) -> Markup {
    let head = html! {
        th scope="col" { "Worker" }
        th scope="col" { "State" }
        th.wide scope="col" { "Queues" }
        th.n scope="col" { "Runs" }
        th.wide scope="col" { "What" }
        th.n.wide scope="col" { "Memory" }
        th.wide scope="col" { "Connected" }
        th.wide scope="col" { "Seen" }
    };
    table(
        "Workers",
        head,
        html! {
            @for worker in workers {
                tr {
                    td.task {
                        (worker_link(site, &worker.instance_id)) br;
                        span.dim { (text(&worker.hostname)) " · " (worker.pid) }
                    }
                    td { (state(worker)) }
                    td.wide { (few(worker.queues.iter().map(String::as_str))) }
                    td.n { (held(worker)) " of " (worker.concurrency) }
                    td.wide { (few(worker.running.iter().map(|task| task.name.as_str()))) }
                    td.n.wide { (bytes(worker.memory_bytes)) }
                    td.wide { (time(worker.connected_at)) }
                    td.wide { (time(worker.seen_at)) }
                }
            }
        },
    )
}

/// The tasks that a worker holds.
pub(super) fn held(worker: &WorkerStatus) -> String {
    count(worker.running.len() as u64 + u64::from(worker.running_left_out))
}

/// The first few different texts.
fn few<'a>(all: impl Iterator<Item = &'a str>) -> String {
    let mut names: Vec<&str> = Vec::new();
    let mut has_more = false;
    for name in all {
        if names.contains(&name) {
            continue;
        }
        if names.len() == NAMES {
            has_more = true;
            break;
        }
        names.push(name);
    }
    text(&names.join(", ")) + if has_more { ", …" } else { "" }
}

/// What a worker does, as a dot and a word.
pub(super) fn state(worker: &WorkerStatus) -> Markup {
    match worker {
        worker if worker.lost => dot("failure", "Lost"),
        worker if worker.quiet => dot("paused", "Quiet"),
        worker if worker.running.is_empty() => dot("idle", "Idle"),
        _ => dot("started", "Busy"),
    }
}

/// The tasks of one worker.
pub(super) fn running(site: &Site, worker: &WorkerStatus) -> Markup {
    html! {
        h2 { "Has these tasks" }
        @if worker.running.is_empty() { (empty("It has no task.", None)) }
        @else { (rows::tasks(site, "Tasks of the worker", &worker.running, false)) }
        @if worker.running_left_out > 0 {
            p.dim { "And " (counted(worker.running_left_out.into(), "more", "more")) "." }
        }
    }
}
