//! The first page: what needs attention, the figures, the busiest queues, what failed last.

use std::sync::Arc;

use celeriac_client::{BrokerInfo, QueueInfo, State, TaskFilter, TaskPage};
use maud::{Markup, html};

use super::Page;
use super::attention::{Seen, attention};
use super::layout::Tab;
use super::look::{Look, Unserved, part};
use super::show::{bytes, count, counted, empty, rate, tile, time};
use super::{queues, rows};
use crate::asked::Asked;
use crate::problem::Problem;
use crate::site::Site;

/// The queues that are shown.
const QUEUES: usize = 10;
/// The failed tasks that are looked at, and those that are shown.
const FAILED_MAX: u32 = 100;
const FAILED_SHOWN: usize = 8;

pub(super) async fn page(look: &Look, asked: Asked) -> Result<Page, Problem> {
    asked.finish()?;
    let site = &look.visitor.site;
    let failed = look.ask(async |client| {
        client.ended_tasks(TaskFilter::new().state(State::Failure), FAILED_MAX, None).await
    });
    let (broker, queues, workers, failed) =
        tokio::join!(look.broker(), look.queues(), look.workers(), failed);
    let unserved = look.unserved(queues.as_deref().unwrap_or_default()).await;
    let seen = Seen {
        broker: broker.as_deref().ok(),
        queues: queues.as_deref().ok(),
        unserved: &unserved,
        workers: workers.as_deref().ok(),
        failed: failed.as_ref().ok().map(|page| (&*page.tasks, page.cursor.is_some())),
    };
    let notes = attention(site, &seen);
    let sums = part(queues.clone(), "the queues", |queues| figures(&queues))?;
    let broker = part(broker, "the broker", |broker| of_broker(&broker))?;
    let busiest = part(queues, "the queues", |queues| busiest(site, &queues, &unserved))?;
    let failed = part(failed, "tasks", |page| latest(site, &page))?;
    Ok(Page::new(Tab::Overview, "Overview")
        .live("attention", notes)
        .live("figures", html! { (sums) (broker) })
        .live("queues", html! { h2 { "Queues" } (busiest) })
        .live("failed", html! { h2 { "Latest failures" } (failed) }))
}

/// The sums over all queues.
fn figures(queues: &[QueueInfo]) -> Markup {
    let sum = |figure: fn(&QueueInfo) -> u64| count(queues.iter().map(figure).sum());
    let rates = |figure: fn(&QueueInfo) -> f64| rate(queues.iter().map(figure).sum());
    let paused = queues.iter().filter(|queue| queue.paused).count();
    html! {
        dl.tiles {
            (tile("Ready", &sum(|queue| queue.ready), html! { "wait for a worker" }))
            (tile("Scheduled", &sum(|queue| queue.scheduled), html! { "wait for their time" }))
            (tile("Leased", &sum(|queue| queue.leased), html! { "are with workers" }))
            (tile("Dead", &sum(|queue| queue.dead), html! { "failed for good" }))
            (tile("In", &rates(|queue| queue.submitted_per_second), html! { "per second" }))
            (tile("Out", &rates(|queue| queue.ended_per_second), html! { "per second" }))
            (tile("Queues", &count(queues.len() as u64), html! {
                @if paused > 0 { (paused) " paused" }
            }))
        }
    }
}

fn of_broker(broker: &Arc<BrokerInfo>) -> Markup {
    let lost = broker.workers_lost;
    html! {
        dl.tiles {
            (tile("Workers", &count(broker.workers.into()), html! {
                @if lost > 0 { (lost) " lost" } @else { "are connected" }
            }))
            @if let Some(memory) = broker.memory_bytes {
                (tile("Memory", &bytes(memory), html! { "of the broker" }))
            }
            @if let Some(data) = &broker.data {
                (tile("Disk", &bytes(data.usable_bytes), html! {
                    "left, " (bytes(data.file_bytes)) " used"
                }))
            }
            (tile("Version", &broker.version, html! { "started " (time(broker.started_at)) }))
        }
    }
}

/// The queues with the most to do.
fn busiest(site: &Site, all: &[QueueInfo], unserved: &Unserved) -> Markup {
    if all.is_empty() {
        return empty(
            "There is no queue yet. A queue begins with its first task or its first worker.",
            Some("celeriac submit songs.play --args '[\"Dynamite\"]'"),
        );
    }
    let mut shown: Vec<&QueueInfo> = all.iter().collect();
    shown.sort_by_key(|queue| {
        (std::cmp::Reverse(queue.ready + queue.leased + queue.scheduled), queue.name.as_str())
    });
    shown.truncate(QUEUES);
    html! {
        (queues::table_of(site, &shown, unserved))
        @if all.len() > QUEUES {
            p { a href=(site.to("/queues")) {
                "All " (counted(all.len() as u64, "queue", "queues"))
            } }
        }
    }
}

fn latest(site: &Site, page: &TaskPage) -> Markup {
    match page.tasks.as_slice() {
        [] => html! { p.dim { "No task failed of late." } },
        tasks => {
            let shown = &tasks[..tasks.len().min(FAILED_SHOWN)];
            html! {
                (rows::tasks(site, "Tasks that failed last", shown, false))
                p { a href=(site.to("/dead")) { "All dead tasks" } }
            }
        }
    }
}
