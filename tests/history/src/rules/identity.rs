//! Promise 7: an id has one generation at a time, and joins and conflicts follow the policy.
//! Promise 9: a request without an answer happened once or not at all.

use std::collections::{BTreeMap, BTreeSet};

use celeriac_proto::wire::submit_outcome::Kind;
use celeriac_proto::wire::{ErrorCode, OnConflict, TaskState, task_report};

use super::Findings;
use crate::event::Position;
use crate::index::{Index, Submit, Task};
use crate::task_lifetime::is_ended;

pub(super) fn one_id_has_one_generation_at_a_time(index: &Index<'_>, broken: &mut Findings) {
    for (id, task) in &index.tasks {
        let is_unsure = index.may_name_two_tasks(task);
        for submit in &task.submits {
            answer_follows_the_policy(index, id, task, submit, is_unsure, broken);
        }
        if !is_unsure {
            no_generation_is_made_twice(id, task, broken);
            one_key_makes_one_generation(id, task, broken);
            the_older_generation_is_over(index, id, task, broken);
        }
    }
}

fn answer_follows_the_policy(
    index: &Index<'_>,
    id: &str,
    task: &Task<'_>,
    submit: &Submit<'_>,
    is_unsure: bool,
    broken: &mut Findings,
) {
    let Some((answered, outcome)) = submit.answered else { return };
    let policy = submit.task.on_conflict();
    let others = || task.submits.iter().filter(|other| other.asked != submit.asked);
    let was_there =
        others().filter_map(|other| other.confirmed()).any(|(position, _)| position < submit.asked);
    let may_be_there = others().any(|other| other.asked < answered && other.code().is_none());
    let generation = outcome.generation;
    match outcome.kind() {
        Kind::Refused
            if submit.code() == Some(ErrorCode::TaskExists)
                && policy != OnConflict::Beside
                && (policy != OnConflict::Reject || !may_be_there) =>
        {
            broken.add(7, format!("{id}: refused as a task that exists under {policy:?}"));
        }
        Kind::Created if was_there && !index.may_be_gone(task, answered) => {
            broken.add(7, format!("{id}: created although it was there"));
        }
        Kind::Created if submit.task.id != id => is_beside_another(index, id, submit, broken),
        // The broker knows a submit that comes again by its key.
        Kind::Joined if others().any(|other| is_sent_before(other, submit)) => {}
        // The run that asked was over already, or its task was revoked.
        Kind::Joined if policy == OnConflict::Supersede && may_be_there => {}
        Kind::Joined => {
            if policy != OnConflict::RunAgainIfFinished
                || !may_be_there
                || is_ended(outcome.state())
            {
                let state = outcome.state();
                broken.add(7, format!("{id}: joined in the state {state:?} under {policy:?}"));
            } else if !is_unsure && has_ended(index, task, generation, submit.asked) {
                broken.add(7, format!("{id}: generation {generation} was joined after its end"));
            }
        }
        Kind::NewGeneration => {
            let before = generation.saturating_sub(1);
            if policy == OnConflict::Reject || !may_be_there {
                broken.add(7, format!("{id}: got generation {generation} under {policy:?}"));
            } else if matches!(policy, OnConflict::RunAgainIfFinished | OnConflict::Beside)
                && !is_unsure
                && index.may_have_ended(task, Some(before), answered).is_none()
            {
                broken.add(
                    7,
                    format!("{id}: generation {generation} was made, and {before} had not ended"),
                );
            }
        }
        _ => {}
    }
}

/// Whether one submit is an earlier try of another.
fn is_sent_before(one: &Submit<'_>, other: &Submit<'_>) -> bool {
    let (key, other_key) = (&one.task.submit_key, &other.task.submit_key);
    one.asked < other.asked && !key.is_empty() && key == other_key
}

/// A task has an id of its own only because another task has the id that was submitted.
fn is_beside_another(index: &Index<'_>, id: &str, submit: &Submit<'_>, broken: &mut Findings) {
    let plain = &*submit.task.id;
    let told = submit.answered.map_or(Position::MAX, |(told, _)| told);
    let may_be_there = index.tasks.get(plain).is_some_and(|task| {
        task.submits.iter().any(|other| other.asked < told && other.code().is_none())
    });
    if submit.task.on_conflict() != OnConflict::Beside || id != submit.id_beside() {
        let policy = submit.task.on_conflict();
        broken.add(7, format!("{id}: made by a submit of {plain} under {policy:?}"));
    } else if !may_be_there {
        broken.add(7, format!("{id}: made beside {plain}, which nobody submitted"));
    }
}

/// Whether a client was told, before this position, that this generation has ended.
fn has_ended(index: &Index<'_>, task: &Task<'_>, generation: u32, by: Position) -> bool {
    let is_of = |lease: u64| {
        index.leases.get(&lease).is_some_and(|lease| lease.delivery.generation == generation)
    };
    let completed = task.reports.iter().any(|report| {
        let complete = matches!(report.what, task_report::Report::Complete(_));
        complete && is_of(report.lease) && report.accepted().is_some_and(|told| told < by)
    });
    let revoked = !task.may_announce_end(generation)
        && index
            .revoked(task)
            .iter()
            .any(|revoked| revoked.told < by && revoked.generation == generation);
    let mut seen = task.seen.iter();
    let seen = seen.any(|seen| {
        seen.told < by && seen.info.generation == generation && is_ended(seen.info.state())
    });
    completed || revoked || seen
}

fn no_generation_is_made_twice(id: &str, task: &Task<'_>, broken: &mut Findings) {
    let mut made: BTreeMap<u32, usize> = BTreeMap::new();
    for generation in task.submits.iter().filter_map(|submit| submit.made()) {
        *made.entry(generation).or_default() += 1;
    }
    for (generation, times) in made.into_iter().filter(|(_, times)| *times > 1) {
        broken.add(7, format!("{id}: generation {generation} was made {times} times"));
    }
}

/// A submit that comes again is known by its key while its generation is the latest one.
fn one_key_makes_one_generation(id: &str, task: &Task<'_>, broken: &mut Findings) {
    let mut by_key: BTreeMap<&str, BTreeSet<u32>> = BTreeMap::new();
    for submit in task.submits.iter().filter(|submit| !submit.task.submit_key.is_empty()) {
        by_key.entry(&submit.task.submit_key).or_default().extend(submit.made());
    }
    for made in by_key.values() {
        if let Some(before) = made.iter().find(|before| made.contains(&(*before + 1))) {
            let after = before + 1;
            broken.add(9, format!("{id}: one key made the generations {before} and {after}"));
        }
    }
}

/// After a generation is confirmed, no older one is delivered, accepted or shown.
fn the_older_generation_is_over(
    index: &Index<'_>,
    id: &str,
    task: &Task<'_>,
    broken: &mut Findings,
) {
    let confirmed: Vec<(Position, u32)> =
        task.submits.iter().filter_map(|submit| submit.confirmed()).collect();
    let newest = |by: Position| {
        confirmed.iter().filter(|(told, _)| *told < by).map(|(_, generation)| *generation).max()
    };
    let is_over =
        |generation: u32, since: Position| newest(since).is_some_and(|newest| newest > generation);
    for number in &task.leases {
        let lease = &index.leases[number];
        let generation = lease.delivery.generation;
        if is_over(generation, lease.given_after) {
            broken.add(
                7,
                format!("{id}: generation {generation} was given although there was a newer one"),
            );
        }
        let counted = lease
            .reports
            .iter()
            .filter(|report| report.accepted().is_some() && !report.is_of_the_waiting_run());
        if counted.into_iter().any(|report| is_over(generation, report.asked)) {
            broken.add(7, format!("{id}: a report on generation {generation} counted although there was a newer one"));
        }
    }
    let known = task.seen.iter().filter(|seen| seen.info.state() != TaskState::Unknown);
    for seen in known {
        let generation = seen.info.generation;
        if seen.asked.is_some_and(|asked| is_over(generation, asked)) {
            broken.add(
                7,
                format!("{id}: generation {generation} was shown although there was a newer one"),
            );
            return;
        }
    }
}

pub(super) fn an_unknown_request_happened_once_or_not_at_all(
    index: &Index<'_>,
    broken: &mut Findings,
) {
    for (id, task) in &index.tasks {
        if task.submits.is_empty() || index.may_name_two_tasks(task) {
            continue;
        }
        let leases = task.leases.iter().map(|number| &index.leases[number]);
        let delivered = leases.map(|lease| (lease.delivery.generation, lease.first_seen()));
        let seen = task.seen.iter().map(|seen| (seen.info.generation, seen.told));
        let told = task
            .submits
            .iter()
            .filter_map(|submit| submit.confirmed())
            .map(|(position, known)| (known, position));
        let mut first: BTreeMap<u32, Position> = BTreeMap::new();
        for (generation, position) in delivered.chain(seen).chain(told) {
            let known = first.entry(generation).or_insert(position);
            *known = position.min(*known);
        }
        for (generation, position) in first {
            let asked = task.submits.iter().filter(|submit| submit.asked < position);
            let makers = asked.filter(|submit| match submit.answered {
                None => true,
                // Answers after this position count too.
                Some(_) => submit.made().is_some_and(|made| made <= generation),
            });
            let replays = task.replays.iter().filter(|asked| **asked < position);
            // An outcome may make a generation that never runs.
            let puts = task.reports.iter().filter(|put| put.is_put && put.asked < position);
            let makers = makers.count() + replays.count() + puts.count();
            if (makers as u64) < u64::from(generation) {
                broken.add(9, format!("{id}: has generation {generation}, and {makers} requests could have made one"));
                break;
            }
        }
    }
}
