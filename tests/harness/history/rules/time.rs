//! Promise 8: a confirmed result is readable until its time to live is over, and not after. Promise
//! 10: nothing starts before its eta, no attempt begins after the expiry of its task, and what was
//! revoked never runs.

use celeriac_proto::wire::submit_outcome::Kind;
use celeriac_proto::wire::{TaskState, task_report};

use super::Findings;
use crate::history::event::Mark;
use crate::history::life::{Due, is_ended};
use crate::history::reading::{Lease, Reading, Submit, Task};

/// An end that a client was told of.
struct End {
    asked: Mark,
    told: Mark,
    generation: u32,
    state: TaskState,
}

pub(super) fn a_confirmed_end_is_readable_until_its_time(
    reading: &Reading<'_>,
    broken: &mut Findings,
) {
    for (id, task) in &reading.tasks {
        if task.submits.is_empty() || reading.may_be_born_again(task) {
            continue;
        }
        for end in ends(reading, task) {
            is_readable(reading, id, task, &end, broken);
        }
        an_end_stays_as_it_is(id, task, broken);
    }
}

fn ends(reading: &Reading<'_>, task: &Task<'_>) -> Vec<End> {
    let mut ends = Vec::new();
    for lease in task.leases.iter().map(|number| &reading.leases[number]) {
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
    for revoked in reading.revoked(task) {
        let (asked, told, generation) = (revoked.asked, revoked.told, revoked.generation);
        ends.push(End { asked, told, generation, state: TaskState::Revoked });
    }
    ends
}

fn is_readable(reading: &Reading<'_>, id: &str, task: &Task<'_>, end: &End, broken: &mut Findings) {
    let makers = task.makers(end.generation);
    let ttls = || makers.iter().map(|submit| submit.result_ttl_ms(reading.promises.result_ttl_ms));
    let (Some(least), Some(most)) = (ttls().min(), ttls().max()) else { return };
    let over = reading.after(end.asked, end.told, least, most);
    let clock = reading.promises.clock_ms as i64;
    let forgotten = task.forgets.iter().map(|forget| forget.asked).min().unwrap_or(Mark::MAX);
    let replaced = task.submits.iter().filter(|submit| may_make_a_later(submit, end.generation));
    let replaced = replaced.map(|submit| submit.asked).min().unwrap_or(Mark::MAX);
    for seen in &task.seen {
        let Some(asked) = seen.asked.filter(|asked| *asked > end.told) else { continue };
        let (state, generation) = (seen.info.state(), seen.info.generation);
        let is_it = state == end.state && generation == end.generation;
        let in_time = reading.early_ms(&over, end.asked, seen.told) > clock;
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
        if is_it && reading.is_overdue(&over, asked, seen.told) {
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

/// What has ended changes no more within its generation.
fn an_end_stays_as_it_is(id: &str, task: &Task<'_>, broken: &mut Findings) {
    let ended = task.seen.iter().filter(|seen| is_ended(seen.info.state()));
    let mut ended: Vec<_> =
        ended.map(|seen| (seen.info.generation, seen.told, seen.info.state())).collect();
    ended.sort_unstable_by_key(|(generation, told, _)| (*generation, *told));
    ended.dedup_by_key(|(generation, ..)| *generation);
    for seen in task.seen.iter().filter(|seen| seen.info.state() != TaskState::Unknown) {
        let state = seen.info.state();
        let same = ended.iter().find(|(generation, ..)| *generation == seen.info.generation);
        let is_after = |told: Mark| seen.asked.is_some_and(|asked| asked > told) || is_ended(state);
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

pub(super) fn nothing_starts_outside_its_time(reading: &Reading<'_>, broken: &mut Findings) {
    for (id, task) in &reading.tasks {
        if task.submits.is_empty() || reading.may_be_born_again(task) {
            continue;
        }
        for lease in task.leases.iter().map(|number| &reading.leases[number]) {
            starts_in_time(reading, id, task, lease, broken);
        }
        what_was_revoked_never_runs(reading, id, task, broken);
    }
}

fn starts_in_time(
    reading: &Reading<'_>,
    id: &str,
    task: &Task<'_>,
    lease: &Lease<'_>,
    broken: &mut Findings,
) {
    let generation = lease.delivery.generation;
    // Whoever runs a dead task again wants it now.
    if task.may_be_replayed(generation) {
        return;
    }
    let makers = task.makers(generation);
    let (seen, number) = (lease.first_seen(), lease.delivery.lease);
    let asked = makers.iter().map(|submit| submit.asked).min().unwrap_or(0).min(seen);
    let etas: Option<Vec<Due>> = makers.iter().map(|submit| reading.eta(submit, seen)).collect();
    let early = etas.into_iter().flatten().map(|eta| reading.early_ms(&eta, asked, seen)).min();
    if let Some(early_ms) = early.filter(|ms| *ms > reading.promises.clock_ms as i64) {
        broken
            .add(10, format!("{id}: delivered under lease {number} {early_ms} ms before its eta"));
    }
    let expiries: Option<Vec<Due>> =
        makers.iter().map(|submit| reading.expires_at(submit, seen)).collect();
    let expiries = expiries.unwrap_or_default();
    let is_expired = |from: Mark, to: Mark| {
        !expiries.is_empty()
            && expiries.iter().all(|expiry| reading.is_overdue(expiry, from.min(to), to))
    };
    if is_expired(lease.given_after, seen) {
        broken.add(10, format!("{id}: delivered under lease {number} after its expiry"));
    }
    let begun = lease.reports.iter().filter(|report| !report.is_release());
    let counted = begun.filter_map(|report| report.accepted()).min();
    if let (Some(began), Some(counted)) = (lease.begun(), counted)
        && is_expired(began, counted)
    {
        broken.add(10, format!("{id}: begun under lease {number} after its expiry"));
    }
}

fn what_was_revoked_never_runs(
    reading: &Reading<'_>,
    id: &str,
    task: &Task<'_>,
    broken: &mut Findings,
) {
    for revoked in reading.revoked(task) {
        let of_it = task.leases.iter().map(|number| &reading.leases[number]);
        for lease in of_it.filter(|lease| lease.delivery.generation == revoked.generation) {
            let number = lease.delivery.lease;
            if lease.given_after > revoked.told {
                broken
                    .add(10, format!("{id}: delivered under lease {number} after it was revoked"));
            }
            // A report that is sent again is answered as it was before.
            let begun = lease.reports.iter().map(|report| report.asked).min();
            let counts = lease.reports.iter().any(|report| report.accepted().is_some());
            if counts && begun.is_some_and(|begun| begun > revoked.told) {
                broken.add(
                    10,
                    format!("{id}: a report under lease {number} counted after it was revoked"),
                );
            }
        }
        let succeeded = |seen: &&crate::history::reading::Seen<'_>| {
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
