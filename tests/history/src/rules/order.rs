//! Promise 6: a queue is FIFO for each priority on first delivery with one consumer. The rule
//! judges queues of which the history says that they have one producer and one consumer.

use std::collections::BTreeMap;

use celeriac_proto::wire::submit_outcome::Kind;
use celeriac_proto::wire::task_report::Report;

use super::Findings;
use crate::event::{ConnectionId, Position};
use crate::index::{Index, Lease, Reported};

/// A task that was ready when it was submitted, and its first delivery.
struct First<'h> {
    id: &'h str,
    priority: u32,
    connection: ConnectionId,
    asked: Position,
    confirmed: Position,
    lease: u64,
    given_after: Position,
}

pub(super) fn queues_keep_their_order(index: &Index<'_>, broken: &mut Findings) {
    for queue in &index.in_order {
        let firsts = firsts(index, queue);
        equal_ones_go_in_order(queue, &firsts, broken);
        urgent_ones_go_first(queue, &firsts, broken);
    }
}

fn firsts<'h>(index: &Index<'h>, queue: &str) -> Vec<First<'h>> {
    // A released task goes to the front of its queue. No client sees its exact place.
    let of_queue = index.leases.values().filter(|lease| lease.delivery.queue == queue);
    let handed_back =
        of_queue.filter_map(|lease| handed_back(index, lease)).min().unwrap_or(Position::MAX);
    let mut firsts = Vec::new();
    for (id, task) in &index.tasks {
        let [submit] = &task.submits[..] else { continue };
        let Some((confirmed, _)) =
            submit.confirmed().filter(|_| submit.outcome() == Some((Kind::Created, 1)))
        else {
            continue;
        };
        let is_ready = submit.task.eta_at_ms.is_none() && submit.task.countdown_ms.is_none();
        let lease = task.leases.first().map(|lease| &index.leases[lease]);
        let Some(lease) =
            lease.filter(|lease| is_ready && is_first(lease) && lease.first_seen() < handed_back)
        else {
            continue;
        };
        if submit.task.queue == *queue {
            firsts.push(First {
                id,
                priority: lease.delivery.priority,
                connection: submit.connection,
                asked: submit.asked,
                confirmed,
                lease: lease.delivery.lease,
                given_after: lease.given_after,
            });
        }
    }
    firsts
}

fn is_first(lease: &Lease<'_>) -> bool {
    lease.delivery.deliveries == 1 && lease.delivery.attempt == 1
}

fn handed_back(index: &Index<'_>, lease: &Lease<'_>) -> Option<Position> {
    let back = |report: &&Reported<'_>| matches!(report.what, Report::Release(_));
    let released = lease.reports.iter().filter(back).map(|report| report.asked).min();
    let sessions = lease.sights.iter().filter_map(|(_, connection)| index.session_of(*connection));
    let left = sessions.filter_map(|session| index.sessions[session].goodbye).min();
    [released, left, lease.taken_back].into_iter().flatten().min()
}

/// Of the tasks of one producer and one priority, the one that was submitted first is delivered
/// first.
fn equal_ones_go_in_order(queue: &str, firsts: &[First<'_>], broken: &mut Findings) {
    let mut lines: BTreeMap<(ConnectionId, u32), Vec<&First<'_>>> = BTreeMap::new();
    for first in firsts {
        lines.entry((first.connection, first.priority)).or_default().push(first);
    }
    for line in lines.values_mut() {
        line.sort_unstable_by_key(|first| first.asked);
        for pair in line.windows(2) {
            if pair[1].lease < pair[0].lease {
                let (before, after) = (pair[0].id, pair[1].id);
                broken.add(
                    6,
                    format!(
                        "{after}: delivered before {before}, which was first in the queue {queue}"
                    ),
                );
            }
        }
    }
}

/// A task that was in the queue when a task of a lower priority was delivered is delivered before
/// it.
fn urgent_ones_go_first(queue: &str, firsts: &[First<'_>], broken: &mut Findings) {
    let mut by_lease: Vec<&First<'_>> = firsts.iter().collect();
    by_lease.sort_unstable_by_key(|first| std::cmp::Reverse(first.lease));
    // Of the tasks that were delivered later, by priority: the one that was confirmed first.
    let mut later: BTreeMap<u32, &First<'_>> = BTreeMap::new();
    for first in by_lease {
        let passed_over = later.range(first.priority + 1..).map(|(_, other)| *other);
        if let Some(other) =
            passed_over.into_iter().find(|other| other.confirmed < first.given_after)
        {
            let (urgent, id) = (other.id, first.id);
            broken.add(
                6,
                format!(
                    "{id}: delivered before {urgent}, which was more urgent, in the queue {queue}"
                ),
            );
        }
        let slot = later.entry(first.priority).or_insert(first);
        if first.confirmed < slot.confirmed {
            *slot = first;
        }
    }
}
