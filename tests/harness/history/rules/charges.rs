//! Promise 13: a task that never began is not charged for a lost worker; no attempt beyond
//! `max_attempts` begins, whatever ended the others. What was given out alone may have begun
//! without a word, and may be given up.

use std::collections::BTreeMap;

use celeriac_proto::wire::{ErrorCode, TaskState};

use super::Findings;
use crate::history::event::Mark;
use crate::history::life::DELIVERIES_MAX;
use crate::history::reading::{Lease, Reading, Reported, Seen, Task};

pub(super) fn only_what_began_is_charged(reading: &Reading<'_>, broken: &mut Findings) {
    for (id, task) in &reading.tasks {
        if task.submits.is_empty() || reading.may_be_born_again(task) {
            continue;
        }
        no_attempt_exceeds_the_limit(reading, id, task, broken);
        for pair in task.leases.windows(2) {
            let (lease, next) = (&reading.leases[&pair[0]], &reading.leases[&pair[1]]);
            if lease.delivery.generation == next.delivery.generation {
                an_unbegun_lease_is_not_counted(reading, id, lease, next, broken);
            }
        }
        for seen in &task.seen {
            nothing_unbegun_is_given_up(reading, id, task, seen, broken);
        }
    }
}

fn no_attempt_exceeds_the_limit(
    reading: &Reading<'_>,
    id: &str,
    task: &Task<'_>,
    broken: &mut Findings,
) {
    let mut begun: BTreeMap<u32, u32> = BTreeMap::new();
    for lease in task.leases.iter().map(|number| &reading.leases[number]) {
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
        // A release takes the start back, answered or not; that of a task that begins once only
        // before it has begun.
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

/// What is said of a lease that was taken back may be answered kindly; the task waits then.
fn is_counted_start(report: &Reported<'_>) -> bool {
    let waits = |state: TaskState| {
        matches!(state, TaskState::Scheduled | TaskState::Queued | TaskState::Leased)
    };
    let counted = report.answered.is_some_and(|(_, outcome)| !waits(outcome.state()));
    !report.is_release() && report.accepted().is_some() && counted
}

/// The next delivery counts itself in place of the one that was lost.
fn an_unbegun_lease_is_not_counted(
    reading: &Reading<'_>,
    id: &str,
    lease: &Lease<'_>,
    next: &Lease<'_>,
    broken: &mut Findings,
) {
    let (count, after) = (lease.delivery.deliveries, next.delivery.deliveries);
    let by = next.first_seen();
    if after > count
        && lease.begun().is_none_or(|begun| begun > by)
        && is_in_company(reading, lease, by)
        && !may_have_been_given_unseen(reading, &[lease], lease.given_after, by)
    {
        let (number, another) = (lease.delivery.lease, next.delivery.lease);
        let counts = format!("{count} deliveries, then {after} under lease {another}");
        broken.add(13, format!("{id}: charged for lease {number}, which never began: {counts}"));
    }
}

fn nothing_unbegun_is_given_up(
    reading: &Reading<'_>,
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
    let leases: Vec<&Lease<'_>> =
        task.leases.iter().map(|number| &reading.leases[number]).collect();
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
    let alone = of_it.iter().filter(|lease| !is_in_company(reading, lease, seen.told)).count();
    let first = task.submits.iter().map(|submit| submit.asked).min().unwrap_or(0);
    if (alone as u32) < limit && !may_have_been_given_unseen(reading, &of_it, first, seen.told) {
        let leases = of_it.len();
        broken.add(13, format!("{id}: FAILURE `worker_lost` after {leases} leases of which none began, {alone} alone"));
    }
}

/// Whether its worker surely held something else at some moment of this lease.
fn is_in_company(reading: &Reading<'_>, lease: &Lease<'_>, by: Mark) -> bool {
    let number = lease.delivery.lease;
    let beside = |other: &Lease<'_>| {
        lease.sights.iter().any(|(here, connection)| {
            let there = other
                .sights
                .iter()
                .find(|(mark, on)| on == connection && *mark < by)
                .map(|(mark, _)| *mark);
            there.is_some_and(|there| match there < *here {
                true => is_surely_held(reading, other, *here, number),
                false => is_surely_held(reading, lease, there, other.delivery.lease),
            })
        })
    };
    let others = reading.leases.values().filter(|other| other.delivery.lease != number);
    others.into_iter().any(beside)
}

/// Whether a lease that a connection was told of before surely went on when it was told of another.
fn is_surely_held(reading: &Reading<'_>, lease: &Lease<'_>, mark: Mark, other: u64) -> bool {
    let (id, number) = (&*lease.delivery.id, lease.delivery.lease);
    let reported =
        lease.reports.iter().any(|report| report.ends_the_lease() && report.asked < mark);
    let taken_back = lease.taken_back.is_some_and(|taken_back| taken_back < mark);
    let Some(task) = reading.tasks.get(id) else { return false };
    let next = task.leases.iter().find(|later| **later > number);
    let ended = reading.may_have_ended(task, Some(lease.delivery.generation), mark).is_some();
    !reported && !taken_back && !ended && next.is_none_or(|next| *next > other)
}

/// Whether the task may have been handed to a worker that never came to read it: one whose
/// connection broke meanwhile, and is none of those that read these leases; or one from which a
/// pause took it back.
fn may_have_been_given_unseen(
    reading: &Reading<'_>,
    leases: &[&Lease<'_>],
    from: Mark,
    to: Mark,
) -> bool {
    let read_it = |id: &u64| {
        leases.iter().any(|lease| lease.sights.iter().any(|(_, connection)| connection == id))
    };
    let unread = reading.connections.iter().any(|(id, connection)| {
        let was_there =
            connection.connecting < to && connection.gone.is_none_or(|gone| gone > from);
        let read_all = connection.last_answered.is_some_and(|asked| asked > to);
        connection.credit.is_some() && was_there && !read_all && !read_it(id)
    });
    unread
        || reading
            .pauses
            .iter()
            .any(|pause| pause.asked < to && pause.told.is_none_or(|told| told > from))
}
