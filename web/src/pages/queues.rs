//! All queues.

use celeriac_client::QueueInfo;
use maud::{Markup, html};

use super::Page;
use super::layout::Tab;
use super::look::{Look, Unserved, part};
use super::show::{count, counted, dot, empty, queue_link, rate, span, table};
use crate::asked::Asked;
use crate::problem::Problem;
use crate::site::Site;

/// The queues of one page.
const PAGE: usize = 200;

pub(super) async fn page(look: &Look, mut asked: Asked) -> Result<Page, Problem> {
    let part_of_name = asked.take("part")?.unwrap_or_default();
    let after = asked.take("after")?;
    asked.finish()?;
    let site = &look.visitor.site;
    let queues = look.queues().await;
    let unserved = look.unserved(queues.as_deref().unwrap_or_default()).await;
    let list = part(queues, "the queues", |queues| {
        list(site, &queues, &unserved, &part_of_name, after.as_deref())
    })?;
    let search = html! {
        form.filters {
            label { "Part of the name "
                input name="part" value=(part_of_name) maxlength="255" spellcheck="false"; }
            button { "Show" }
        }
    };
    Ok(Page::new(Tab::Queues, "Queues").fixed(search).live("queues", list))
}

fn list(
    site: &Site,
    queues: &[QueueInfo],
    unserved: &Unserved,
    part: &str,
    after: Option<&str>,
) -> Markup {
    let mut found: Vec<&QueueInfo> =
        queues.iter().filter(|queue| queue.name.contains(part)).collect();
    found.sort_by(|one, other| one.name.cmp(&other.name));
    if found.is_empty() && part.is_empty() {
        return empty(
            "There is no queue yet.",
            Some("celeriac submit songs.play --args '[\"Dynamite\"]'"),
        );
    }
    let all = found.len();
    found.retain(|queue| after.is_none_or(|after| queue.name.as_str() > after));
    let has_more = found.len() > PAGE;
    found.truncate(PAGE);
    let last = found.last().filter(|_| has_more).map(|queue| queue.name.as_str());
    html! {
        p.dim { (counted(all as u64, "queue", "queues")) }
        @if found.is_empty() { (empty("No queue has this in its name.", None)) }
        @else { (table_of(site, &found, unserved)) }
        p.pages {
            @if after.is_some() { a href=(site.link("/queues", &[("part", part)])) { "First page" } }
            @if let Some(last) = last {
                a href=(site.link("/queues", &[("part", part), ("after", last)])) { "Next page" }
            }
        }
    }
}

/// A table of queues.
pub(super) fn table_of(site: &Site, queues: &[&QueueInfo], unserved: &Unserved) -> Markup {
    let head = html! {
        th scope="col" { "Queue" }
        th scope="col" { "State" }
        th.n scope="col" { "Ready" }
        th.n.wide scope="col" { "Scheduled" }
        th.n scope="col" { "Leased" }
        th.n scope="col" { "Dead" }
        th.n.wide scope="col" title="How long the oldest ready task has waited" { "Oldest" }
        th.n.wide scope="col" title="Tasks submitted per second" { "In/s" }
        th.n.wide scope="col" title="Tasks ended per second" { "Out/s" }
        th.n.wide scope="col" { "Workers" }
    };
    table(
        "Queues",
        head,
        html! {
            @for queue in queues {
                tr {
                    td { (queue_link(site, &queue.name)) }
                    td { (state(queue, unserved)) }
                    td.n { (count(queue.ready)) }
                    td.n.wide { (count(queue.scheduled)) }
                    td.n { (count(queue.leased)) }
                    td.n { @if queue.dead > 0 {
                        a href=(site.link("/dead", &[("queue", &queue.name)])) { (count(queue.dead)) }
                    } @else { "0" } }
                    td.n.wide { @if queue.ready > 0 { (span(queue.oldest_ready)) } @else { "–" } }
                    td.n.wide { (rate(queue.submitted_per_second)) }
                    td.n.wide { (rate(queue.ended_per_second)) }
                    td.n.wide { (queue.workers) }
                }
            }
        },
    )
}

/// What to do about tasks that no worker of their queue takes.
pub(super) fn unserved(tasks: u64) -> Markup {
    html! {
        (counted(tasks, "task waits", "tasks wait")) " for a worker: none that serves the queue and "
        "takes tasks knows " (if tasks == 1 { "its name" } else { "their names" }) "."
    }
}

/// Whether a queue delivers, as a dot and a word.
pub(super) fn state(queue: &QueueInfo, unserved: &Unserved) -> Markup {
    let unserved = unserved.get(&queue.name).copied().unwrap_or_default();
    match queue {
        queue if queue.paused => dot("paused", "Paused"),
        queue if queue.workers == 0 && queue.ready > 0 => dot("failure", "No worker"),
        queue if unserved > 0 && unserved >= queue.ready => dot("failure", "No worker"),
        _ if unserved > 0 => dot("failure", "No worker for some"),
        queue if queue.ready + queue.leased > 0 => dot("started", "Busy"),
        _ => dot("idle", "Idle"),
    }
}
