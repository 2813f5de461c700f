//! Promise 13: a task that never began is not charged for a lost worker. No attempt beyond
//! `max_attempts` begins, whatever ended the others, and none after the task was settled. A task
//! that was delivered alone may have begun without a report, and may be given up.

use std::collections::BTreeMap;

use celeriac_proto::wire::{ErrorCode, TaskState};

use super::Findings;
use crate::event::Position;
use crate::index::{Index, Lease, Reported, Seen, Task};
use crate::task_lifetime::DELIVERIES_MAX;

pub(super) fn only_what_began_is_charged(index: &Index<'_>, broken: &mut Findings) {
    for (id, task) in &index.tasks {
        if task.submits.is_empty() || index.may_name_two_tasks(task) {
            continue;
        }
        no_attempt_exceeds_the_limit(index, id, task, broken);
        for pair in task.leases.windows(2) {
            let (lease, next) = (&index.leases[&pair[0]], &index.leases[&pair[1]]);
            let is_announced = lease.is_announcement() || next.is_announcement();
            if lease.delivery.generation == next.delivery.generation && !is_announced {
                an_unbegun_lease_is_not_counted(index, id, lease, next, broken);
                what_was_settled_does_not_run_again(id, lease, next, broken);
            }
        }
        for seen in &task.seen {
            nothing_unbegun_is_given_up(index, id, task, seen, broken);
        }
    }
}

fn no_attempt_exceeds_the_limit(
    index: &Index<'_>,
    id: &str,
    task: &Task<'_>,
    broken: &mut Findings,
) {
    let mut begun: BTreeMap<u32, u32> = BTreeMap::new();
    let leases = task.leases.iter().map(|number| &index.leases[number]);
    for lease in leases.filter(|lease| !lease.is_announcement()) {
        let (number, generation, attempt) =
            (lease.delivery.lease, lease.delivery.generation, lease.delivery.attempt);
        let Some(limit) = task.attempts_max(generation) else { continue };
        if attempt > limit {
            broken.add(
                13,
                format!("{id}: attempt {attempt} under lease {number}, and {limit} may begin"),
            );
            return;
        }
        let counts = lease.reports.iter().any(is_counted_start);
        // A release cancels the start, answered or not. For a task with `early_ack` it does so only
        // before the task has begun.
        let refused = |code: ErrorCode| code != ErrorCode::Unspecified;
        let takes_back = |report: &Reported<'_>| match task.begins_once(generation) {
            true => report.is_unbegun(),
            false => report.is_release(),
        };
        let released = lease.reports.iter().any(|report| {
            takes_back(report)
                && !report.answered.is_some_and(|(_, outcome)| refused(outcome.code()))
        });
        let begun = begun.entry(generation).or_default();
        *begun += u32::from(counts && !released);
        if *begun > limit {
            broken.add(
                13,
                format!("{id}: {begun} attempts have begun with lease {number}, and {limit} may"),
            );
            return;
        }
    }
    let over = task
        .seen
        .iter()
        .find(|seen| seen.info.attempts > seen.info.attempts_max && seen.info.attempts_max > 0);
    if let Some(seen) = over {
        let (attempts, limit) = (seen.info.attempts, seen.info.attempts_max);
        broken.add(13, format!("{id}: shown with {attempts} attempts of {limit}"));
    }
}

/// The broker may accept a report on a lease that it took back. The task then waits.
fn is_counted_start(report: &Reported<'_>) -> bool {
    let waits = |state: TaskState| {
        matches!(state, TaskState::Scheduled | TaskState::Queued | TaskState::Leased)
    };
    let counted = report.answered.is_some_and(|(_, outcome)| !waits(outcome.state()));
    report.is_of_a_run() && report.accepted().is_some() && counted
}

/// Only a worker that says that the handler has not begun gives a settled task back.
fn what_was_settled_does_not_run_again(
    id: &str,
    lease: &Lease<'_>,
    next: &Lease<'_>,
    broken: &mut Findings,
) {
    let is_settled =
        lease.reports.iter().any(|report| report.is_settle() && report.accepted().is_some());
    if is_settled && !lease.reports.iter().any(Reported::is_unbegun) {
        let (number, another) = (lease.delivery.lease, next.delivery.lease);
        broken.add(
            13,
            format!("{id}: settled under lease {number}, and given again under {another}"),
        );
    }
}

/// The next delivery counts itself in place of the lost one.
fn an_unbegun_lease_is_not_counted(
    index: &Index<'_>,
    id: &str,
    lease: &Lease<'_>,
    next: &Lease<'_>,
    broken: &mut Findings,
) {
    let (count, after) = (lease.delivery.deliveries, next.delivery.deliveries);
    let by = next.first_seen();
    if after > count
        && lease.begun().is_none_or(|begun| begun > by)
        && is_in_company(index, lease, by)
        && !may_have_been_given_unseen(index, &[lease], lease.given_after, by)
    {
        let (number, another) = (lease.delivery.lease, next.delivery.lease);
        let counts = format!("{count} deliveries, then {after} under lease {another}");
        broken.add(13, format!("{id}: charged for lease {number}, which never began: {counts}"));
    }
}

fn nothing_unbegun_is_given_up(
    index: &Index<'_>,
    id: &str,
    task: &Task<'_>,
    seen: &Seen<'_>,
    broken: &mut Findings,
) {
    let is_lost = seen.info.errors.last().is_some_and(|error| error.kind == "worker_lost");
    if seen.info.state() != TaskState::Failure || !is_lost {
        return;
    }
    let generation = seen.info.generation;
    let leases: Vec<&Lease<'_>> = task.leases.iter().map(|number| &index.leases[number]).collect();
    let of_it = leases.iter().copied().filter(|lease| lease.delivery.generation == generation);
    let of_it: Vec<&Lease<'_>> = of_it.filter(|lease| lease.first_seen() < seen.told).collect();
    if of_it.iter().any(|lease| lease.begun().is_some_and(|begun| begun < seen.told)) {
        return;
    }
    let limits = task
        .makers(generation)
        .into_iter()
        .map(|submit| submit.task.max_deliveries.unwrap_or(DELIVERIES_MAX));
    let limit = limits.min().unwrap_or(DELIVERIES_MAX);
    let alone = of_it.iter().filter(|lease| !is_in_company(index, lease, seen.told)).count();
    let first = task.submits.iter().map(|submit| submit.asked).min().unwrap_or(0);
    if (alone as u32) < limit && !may_have_been_given_unseen(index, &of_it, first, seen.told) {
        let leases = of_it.len();
        broken.add(13, format!("{id}: FAILURE `worker_lost` after {leases} leases of which none began, {alone} alone"));
    }
}

/// Whether the worker certainly held another lease at some moment of this lease.
fn is_in_company(index: &Index<'_>, lease: &Lease<'_>, by: Position) -> bool {
    let number = lease.delivery.lease;
    let beside = |other: &Lease<'_>| {
        lease.sights.iter().any(|(here, connection)| {
            let there = other
                .sights
                .iter()
                .find(|(position, on)| on == connection && *position < by)
                .map(|(position, _)| *position);
            there.is_some_and(|there| match there < *here {
                true => is_surely_held(index, other, *here, number),
                false => is_surely_held(index, lease, there, other.delivery.lease),
            })
        })
    };
    let others = index.leases.values().filter(|other| other.delivery.lease != number);
    others.into_iter().any(beside)
}

/// Whether a lease that a connection received before certainly still existed when the connection
/// received another one.
fn is_surely_held(index: &Index<'_>, lease: &Lease<'_>, position: Position, other: u64) -> bool {
    let (id, number) = (&*lease.delivery.id, lease.delivery.lease);
    let reported =
        lease.reports.iter().any(|report| report.ends_the_lease() && report.asked < position);
    let taken_back = lease.taken_back.is_some_and(|taken_back| taken_back < position);
    let Some(task) = index.tasks.get(id) else { return false };
    let next = task.leases.iter().find(|later| **later > number);
    let ended = index.may_have_ended(task, Some(lease.delivery.generation), position).is_some();
    !reported && !taken_back && !ended && next.is_none_or(|next| *next > other)
}

/// Whether the task may have been delivered to a worker that never read the delivery: a worker
/// whose connection broke and that is none of the readers of these leases, or a worker from which
/// a pause or a drain took the task back.
fn may_have_been_given_unseen(
    index: &Index<'_>,
    leases: &[&Lease<'_>],
    from: Position,
    to: Position,
) -> bool {
    index.deliveries_unseen(leases, from, to) > 0
        || index
            .pauses
            .iter()
            .chain(&index.drains)
            .any(|pause| pause.asked < to && pause.told.is_none_or(|told| told > from))
}
