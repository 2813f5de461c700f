//! Promise 6: FIFO per queue and priority on first delivery with one consumer. Judged for queues of
//! which the history says that they have one producer and one consumer.

use std::collections::BTreeMap;

use celeriac_proto::wire::submit_outcome::Kind;

use super::Findings;
use crate::history::event::{ConnectionId, Mark};
use crate::history::reading::{Lease, Reading};

/// A task that could run at once, and its first delivery.
struct First<'h> {
    id: &'h str,
    priority: u32,
    connection: ConnectionId,
    asked: Mark,
    confirmed: Mark,
    lease: u64,
    given_after: Mark,
}

pub(super) fn queues_keep_their_order(reading: &Reading<'_>, broken: &mut Findings) {
    for queue in &reading.in_order {
        let firsts = firsts(reading, queue);
        equal_ones_go_in_order(queue, &firsts, broken);
        urgent_ones_go_first(queue, &firsts, broken);
    }
}

fn firsts<'h>(reading: &Reading<'h>, queue: &str) -> Vec<First<'h>> {
    // What is handed back stands in front of its queue, and nobody sees where exactly.
    let of_queue = reading.leases.values().filter(|lease| lease.delivery.queue == queue);
    let handed_back =
        of_queue.filter_map(|lease| handed_back(reading, lease)).min().unwrap_or(Mark::MAX);
    let mut firsts = Vec::new();
    for (id, task) in &reading.tasks {
        let [submit] = &task.submits[..] else { continue };
        let Some((confirmed, _)) =
            submit.confirmed().filter(|_| submit.outcome() == Some((Kind::Created, 1)))
        else {
            continue;
        };
        let is_ready = submit.task.eta_at_ms.is_none() && submit.task.countdown_ms.is_none();
        let lease = task.leases.first().map(|lease| &reading.leases[lease]);
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

fn handed_back(reading: &Reading<'_>, lease: &Lease<'_>) -> Option<Mark> {
    let released =
        lease.reports.iter().filter(|report| report.is_release()).map(|report| report.asked).min();
    let sessions =
        lease.sights.iter().filter_map(|(_, connection)| reading.session_of(*connection));
    let left = sessions.filter_map(|session| reading.sessions[session].goodbye).min();
    [released, left, lease.taken_back].into_iter().flatten().min()
}

/// Of one producer's tasks of one priority, what was asked for first is delivered first.
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

/// A task that was there when one of a lower priority was given goes before it.
fn urgent_ones_go_first(queue: &str, firsts: &[First<'_>], broken: &mut Findings) {
    let mut by_lease: Vec<&First<'_>> = firsts.iter().collect();
    by_lease.sort_unstable_by_key(|first| std::cmp::Reverse(first.lease));
    // Of those that were delivered later, by priority: the one that was confirmed first.
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
