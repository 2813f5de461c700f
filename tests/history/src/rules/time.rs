//! Promise 8: a confirmed result is readable until its TTL is over, and not after. Promise 10: no
//! task starts before its ETA, no attempt begins after the expiry of its task, and a revoked task
//! never runs.

use celeriac_proto::wire::submit_outcome::Kind;
use celeriac_proto::wire::{TaskState, task_report};

use super::Findings;
use crate::event::Position;
use crate::index::{Index, Lease, Submit, Task};
use crate::task_lifetime::{Due, is_ended};

/// The end of a task that a client was told of.
struct End {
    asked: Position,
    told: Position,
    generation: u32,
    state: TaskState,
}

pub(super) fn a_confirmed_end_is_readable_until_its_time(index: &Index<'_>, broken: &mut Findings) {
    for (id, task) in &index.tasks {
        if task.submits.is_empty() || index.may_name_two_tasks(task) {
            continue;
        }
        for end in ends(index, task) {
            is_readable(index, id, task, &end, broken);
        }
        an_end_stays_as_it_is(id, task, broken);
    }
}

fn ends(index: &Index<'_>, task: &Task<'_>) -> Vec<End> {
    let mut ends = Vec::new();
    for lease in task.leases.iter().map(|number| &index.leases[number]) {
        let completes = || {
            let reports = lease.reports.iter();
            reports.filter(|report| matches!(report.what, task_report::Report::Complete(_)))
        };
        let asked = completes().map(|report| report.asked).min();
        let told = completes().filter_map(|report| report.accepted()).min();
        if let (Some(asked), Some(told)) = (asked, told) {
            ends.push(End {
                asked,
                told,
                generation: lease.delivery.generation,
                state: TaskState::Success,
            });
        }
    }
    for revoked in index.revoked(task) {
        let (asked, told, generation) = (revoked.asked, revoked.told, revoked.generation);
        if task.may_announce_end(generation) {
            continue;
        }
        ends.push(End { asked, told, generation, state: TaskState::Revoked });
    }
    ends
}

fn is_readable(index: &Index<'_>, id: &str, task: &Task<'_>, end: &End, broken: &mut Findings) {
    let makers = task.makers(end.generation);
    let ttls = || makers.iter().map(|submit| submit.result_ttl_ms(index.promises.result_ttl_ms));
    let (Some(least), Some(most)) = (ttls().min(), ttls().max()) else { return };
    let over = index.after(end.asked, end.told, least, most);
    let clock = index.promises.clock_ms as i64;
    let forgotten = task.forgets.iter().map(|forget| forget.asked).min().unwrap_or(Position::MAX);
    let replaced = task.submits.iter().filter(|submit| may_make_a_later(submit, end.generation));
    let replaced = replaced.map(|submit| submit.asked).min().unwrap_or(Position::MAX);
    for seen in &task.seen {
        let Some(asked) = seen.asked.filter(|asked| *asked > end.told) else { continue };
        let (state, generation) = (seen.info.state(), seen.info.generation);
        let is_it = state == end.state && generation == end.generation;
        let in_time = index.early_ms(&over, end.asked, seen.told) > clock;
        if in_time && seen.told < forgotten && seen.told < replaced && !is_it {
            let wanted = end.state;
            broken.add(
                8,
                format!(
                    "{id}: ended as {wanted:?}, and was shown as {state:?} before its time was over"
                ),
            );
            return;
        }
        if is_it && index.is_overdue(&over, asked, seen.told) {
            broken.add(8, format!("{id}: was shown as {state:?} after its time was over"));
            return;
        }
    }
}

fn may_make_a_later(submit: &Submit<'_>, generation: u32) -> bool {
    match submit.outcome() {
        None => true,
        Some((Kind::Created, _)) => false,
        Some((Kind::NewGeneration, made)) => made > generation,
        Some(_) => false,
    }
}

/// An ended generation does not change any more.
fn an_end_stays_as_it_is(id: &str, task: &Task<'_>, broken: &mut Findings) {
    let ended = task.seen.iter().filter(|seen| is_ended(seen.info.state()));
    let mut ended: Vec<_> =
        ended.map(|seen| (seen.info.generation, seen.told, seen.info.state())).collect();
    ended.sort_unstable_by_key(|(generation, told, _)| (*generation, *told));
    ended.dedup_by_key(|(generation, ..)| *generation);
    for seen in task.seen.iter().filter(|seen| seen.info.state() != TaskState::Unknown) {
        let state = seen.info.state();
        let same = ended.iter().find(|(generation, ..)| *generation == seen.info.generation);
        let is_after =
            |told: Position| seen.asked.is_some_and(|asked| asked > told) || is_ended(state);
        if let Some((generation, told, end)) = same
            && *end != state
            && is_after(*told)
        {
            broken.add(
                8,
                format!("{id}: generation {generation} ended as {end:?}, and then was {state:?}"),
            );
            return;
        }
    }
}

pub(super) fn nothing_starts_outside_its_time(index: &Index<'_>, broken: &mut Findings) {
    for (id, task) in &index.tasks {
        if task.submits.is_empty() || index.may_name_two_tasks(task) {
            continue;
        }
        for lease in task.leases.iter().map(|number| &index.leases[number]) {
            starts_in_time(index, id, task, lease, broken);
        }
        what_was_revoked_never_runs(index, id, task, broken);
    }
}

fn starts_in_time(
    index: &Index<'_>,
    id: &str,
    task: &Task<'_>,
    lease: &Lease<'_>,
    broken: &mut Findings,
) {
    let generation = lease.delivery.generation;
    // A replay of a dead task has no ETA. A task that was called off waits for nothing.
    if task.may_be_replayed(generation) || lease.is_announcement() {
        return;
    }
    let makers = task.makers(generation);
    let lead_ms = makers.iter().filter_map(|submit| submit.task.lead_ms).max().unwrap_or(0);
    let (seen, number) = (lease.first_seen(), lease.delivery.lease);
    let asked = makers.iter().map(|submit| submit.asked).min().unwrap_or(0).min(seen);
    let etas: Option<Vec<Due>> = makers.iter().map(|submit| index.eta(submit, seen)).collect();
    let early = etas.into_iter().flatten().map(|eta| index.early_ms(&eta, asked, seen)).min();
    let clock_ms = index.promises.clock_ms.saturating_add(lead_ms);
    if let Some(early_ms) = early.filter(|ms| *ms > clock_ms as i64) {
        broken
            .add(10, format!("{id}: delivered under lease {number} {early_ms} ms before its eta"));
    }
    let expiries: Option<Vec<Due>> =
        makers.iter().map(|submit| index.expires_at(submit, seen)).collect();
    let expiries = expiries.unwrap_or_default();
    let is_expired = |from: Position, to: Position| {
        !expiries.is_empty()
            && expiries.iter().all(|expiry| index.is_overdue(expiry, from.min(to), to))
    };
    if is_expired(lease.given_after, seen) {
        broken.add(10, format!("{id}: delivered under lease {number} after its expiry"));
    }
    let begun = lease.reports.iter().filter(|report| report.is_of_a_run());
    let counted = begun.filter_map(|report| report.accepted()).min();
    if let (Some(began), Some(counted)) = (lease.begun(), counted)
        && !task.may_announce_end(generation)
        && is_expired(began, counted)
    {
        broken.add(10, format!("{id}: begun under lease {number} after its expiry"));
    }
}

fn what_was_revoked_never_runs(
    index: &Index<'_>,
    id: &str,
    task: &Task<'_>,
    broken: &mut Findings,
) {
    for revoked in index.revoked(task) {
        let of_it = task.leases.iter().map(|number| &index.leases[number]);
        let is_announced = task.may_announce_end(revoked.generation);
        for lease in of_it.filter(|lease| lease.delivery.generation == revoked.generation) {
            let number = lease.delivery.lease;
            if lease.is_announcement() {
                continue;
            }
            if lease.given_after > revoked.told {
                broken
                    .add(10, format!("{id}: delivered under lease {number} after it was revoked"));
            }
            // A report that is sent again gets the same answer as before. A release says nothing of
            // the handler: it is accepted also where the broker took the lease back already.
            let reports = || lease.reports.iter().filter(|report| report.is_of_a_run());
            let begun = reports().map(|report| report.asked).min();
            let counts = reports().any(|report| report.accepted().is_some());
            // The report of a worker that announces the end counts as the announcement.
            if counts && !is_announced && begun.is_some_and(|begun| begun > revoked.told) {
                broken.add(
                    10,
                    format!("{id}: a report under lease {number} counted after it was revoked"),
                );
            }
        }
        let succeeded = |seen: &&crate::index::Seen<'_>| {
            seen.info.state() == TaskState::Success && seen.info.generation == revoked.generation
        };
        if task.seen.iter().any(|seen| succeeded(&seen)) {
            broken.add(
                10,
                format!("{id}: generation {} was revoked and became SUCCESS", revoked.generation),
            );
        }
    }
}
