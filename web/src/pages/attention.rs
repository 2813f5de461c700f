//! What needs the attention of an operator.

use std::time::{Duration, SystemTime};

use celeriac_client::{BrokerInfo, QueueInfo, TaskInfo, WorkerStatus};
use maud::{Markup, html};

use super::look::Unserved;
use super::queues;
use super::show::{bytes, counted, queue_link, worker_link};
use crate::site::Site;

/// The most lines of one kind.
const LINES_MAX: usize = 5;
/// A task that ended within this time has just failed.
pub(super) const OF_LATE: Duration = Duration::from_secs(3_600);

/// What the broker has told. A part that the visitor may not see is `None`.
pub(super) struct Seen<'a> {
    pub broker: Option<&'a BrokerInfo>,
    pub queues: Option<&'a [QueueInfo]>,
    /// The ready tasks that no worker of their queue takes.
    pub unserved: &'a Unserved,
    pub workers: Option<&'a [WorkerStatus]>,
    /// The tasks that failed last, and whether there are more.
    pub failed: Option<(&'a [TaskInfo], bool)>,
}

/// A list of what needs attention, or a sentence that nothing does.
pub(super) fn attention(site: &Site, seen: &Seen) -> Markup {
    let is_blind = seen.broker.is_none()
        || seen.queues.is_none()
        || seen.workers.is_none()
        || seen.failed.is_none();
    let mut lines = of_broker(site, seen.broker);
    lines.extend(of_queues(site, seen.queues.unwrap_or_default(), seen.unserved));
    lines.extend(of_workers(site, seen.workers.unwrap_or_default()));
    lines.extend(of_failed(site, seen.failed));
    html! {
        @if lines.is_empty() && is_blind {
            p.dim { "Nothing that you may see needs attention. You may not see everything." }
        } @else if lines.is_empty() {
            p.calm { span.state.is-success { span.dot aria-hidden="true" {} } "All is well." }
        } @else {
            ul.attention { @for line in &lines { li { (line) } } }
        }
    }
}

fn of_broker(site: &Site, broker: Option<&BrokerInfo>) -> Vec<Markup> {
    let Some(broker) = broker else { return Vec::new() };
    let mut lines = Vec::new();
    if let Some(data) = broker.data.as_ref().filter(|data| data.disk_is_low) {
        lines.push(html! {
            b { "The disk is low. " }
            "The broker takes no new tasks: " (bytes(data.usable_bytes)) " are left of the "
            (bytes(data.disk_low_bytes)) " that it needs."
        });
    }
    if broker.draining {
        lines.push(html! {
            b { "The broker drains. " } "It delivers no task. "
            a href=(site.to("/broker")) { "End the drain" }
        });
    }
    lines
}

fn of_queues(site: &Site, queues: &[QueueInfo], unserved: &Unserved) -> Vec<Markup> {
    let is_alone = |queue: &&QueueInfo| queue.ready > 0 && queue.workers == 0 && !queue.paused;
    let is_full = |queue: &&QueueInfo| {
        let waits = queue.ready + queue.scheduled + queue.leased;
        let tasks = queue.settings.tasks_max.is_some_and(|most| waits >= most);
        tasks || queue.settings.bytes_max.is_some_and(|most| queue.bytes >= most)
    };
    let mut lines = some(queues.iter().filter(is_alone), |queue| {
        html! {
            (queue_link(site, &queue.name)) " has " b { "no worker" } " and "
            (counted(queue.ready, "task that waits", "tasks that wait")) "."
        }
    });
    let unknown = |queue: &QueueInfo| unserved.get(&queue.name).copied();
    lines.extend(some(queues.iter().filter(|queue| unknown(queue).is_some()), |queue| {
        html! {
            (queue_link(site, &queue.name)) ": "
            (queues::unserved(unknown(queue).unwrap_or_default()))
        }
    }));
    lines.extend(some(queues.iter().filter(|queue| queue.paused), |queue| {
        html! {
            (queue_link(site, &queue.name)) " is " b { "paused" } ", with "
            (counted(queue.ready, "task that waits", "tasks that wait")) "."
        }
    }));
    lines.extend(some(queues.iter().filter(is_full), |queue| {
        html! { (queue_link(site, &queue.name)) " is " b { "full" } ": it takes no more tasks." }
    }));
    lines
}

fn of_workers(site: &Site, workers: &[WorkerStatus]) -> Vec<Markup> {
    some(workers.iter().filter(|worker| worker.lost), |worker| {
        html! { "The connection of " (worker_link(site, &worker.instance_id)) " is " b { "lost" } "." }
    })
}

fn of_failed(site: &Site, failed: Option<(&[TaskInfo], bool)>) -> Vec<Markup> {
    let Some((failed, has_more)) = failed else { return Vec::new() };
    let since = SystemTime::now().checked_sub(OF_LATE);
    let count = failed.iter().filter(|task| task.finished_at > since).count();
    let or_more = if has_more && count == failed.len() { " or more" } else { "" };
    if count == 0 {
        return Vec::new();
    }
    vec![html! {
        b { (counted(count as u64, "task", "tasks")) (or_more) } " failed within the last hour. "
        a href=(site.link("/tasks", &[("state", "FAILURE"), ("order", "ended")])) { "Look at them" }
    }]
}

/// A line for each of the first few, and one for the others.
fn some<'a, T: 'a>(all: impl Iterator<Item = &'a T>, line: impl Fn(&T) -> Markup) -> Vec<Markup> {
    let all: Vec<&T> = all.collect();
    let mut lines: Vec<Markup> = all.iter().take(LINES_MAX).map(|it| line(it)).collect();
    if all.len() > LINES_MAX {
        lines.push(html! { "… and " (all.len() - LINES_MAX) " more like these." });
    }
    lines
}
