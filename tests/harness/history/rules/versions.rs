//! Promise 11: (id, generation, version), once shown to any client, names one state and never
//! another, over restarts of the broker too; a watcher that drops every message whose (generation,
//! version) does not rise misses nothing that others saw.

use std::collections::BTreeMap;
use std::ops::Bound::Excluded;

use celeriac_proto::wire::{self, TaskState};

use super::Findings;
use crate::history::event::{ConnectionId, Mark};
use crate::history::reading::{Reading, Seen, Task};

/// Generation and version.
type Number = (u32, u32);

/// A state that somebody was shown.
#[derive(Clone, Copy)]
struct Sight<'h> {
    number: Number,
    /// It was so at some moment between these two.
    from: Mark,
    told: Mark,
    info: &'h wire::TaskInfo,
}

pub(super) fn a_version_names_one_state(reading: &Reading<'_>, broken: &mut Findings) {
    for (id, task) in &reading.tasks {
        let mut watching = BTreeMap::new();
        let sights: Vec<Sight<'_>> =
            task.seen.iter().filter_map(|seen| sight(reading, seen, &mut watching)).collect();
        each_names_one(reading, id, task, &sights, broken);
        none_falls(reading, id, task, &sights, broken);
        watchers_miss_nothing(reading, id, task, &sights, broken);
    }
}

/// What is pushed may have been on its way for long; but it was so after the watch was asked for.
fn sight<'h>(
    reading: &Reading<'_>,
    seen: &Seen<'h>,
    watching: &mut BTreeMap<ConnectionId, Mark>,
) -> Option<Sight<'h>> {
    let connecting = reading.connections.get(&seen.connection).map_or(0, |known| known.connecting);
    let from = seen.asked.or(watching.get(&seen.connection).copied()).unwrap_or(connecting);
    if seen.is_watched {
        watching.entry(seen.connection).or_insert(from);
    }
    // An id that nobody has names no version.
    let is_numbered = seen.info.state() != TaskState::Unknown && seen.info.version > 0;
    let number = (seen.info.generation, seen.info.version);
    is_numbered.then_some(Sight { number, from, told: seen.told, info: seen.info })
}

/// Whether both may have been shown of one life of the id.
fn is_one_life(reading: &Reading<'_>, task: &Task<'_>, one: &Sight<'_>, other: &Sight<'_>) -> bool {
    !reading.may_have_another_life(task, one.from.min(other.from), one.told.max(other.told))
}

fn each_names_one(
    reading: &Reading<'_>,
    id: &str,
    task: &Task<'_>,
    sights: &[Sight<'_>],
    broken: &mut Findings,
) {
    let mut first: BTreeMap<Number, &Sight<'_>> = BTreeMap::new();
    for sight in sights {
        let known = *first.entry(sight.number).or_insert(sight);
        let (was, is) = (named(known.info), named(sight.info));
        if was == is {
            continue;
        }
        if is_one_life(reading, task, known, sight) {
            let (generation, version) = sight.number;
            broken.add(
                11,
                format!("{id}: generation {generation} version {version} was {was}, and then {is}"),
            );
            return;
        }
        first.insert(sight.number, sight);
    }
}

/// What a version names: the state, with all that makes one state of a kind another than the next.
fn named(info: &wire::TaskInfo) -> String {
    let wire::TaskInfo {
        attempts,
        deliveries,
        worker,
        leased_at_ms,
        started_at_ms,
        finished_at_ms,
        ..
    } = info;
    let at = [leased_at_ms, started_at_ms, finished_at_ms]
        .map(|at| at.map_or("-".into(), |at| at.to_string()));
    let at = at.join("/");
    let reason = &info.revoked_reason;
    let asked_to_stop = if info.cancel_requested { ", asked to stop" } else { "" };
    let state = info.state().as_str_name().trim_start_matches("TASK_STATE_");
    format!(
        "{state}{asked_to_stop} ({attempts} attempts, {deliveries} deliveries, `{worker}`, `{reason}`, {at})"
    )
}

/// Whoever asks after somebody was told is not told of what was before.
fn none_falls(
    reading: &Reading<'_>,
    id: &str,
    task: &Task<'_>,
    sights: &[Sight<'_>],
    broken: &mut Findings,
) {
    // The highest of all that was told up to each sight.
    let mut highest: Vec<&Sight<'_>> = Vec::with_capacity(sights.len());
    for sight in sights {
        let told_before = sights.partition_point(|known| known.told < sight.from);
        let high = told_before.checked_sub(1).map(|last| highest[last]);
        if let Some(high) = high
            .filter(|high| high.number > sight.number && is_one_life(reading, task, high, sight))
        {
            let ((generation, version), (was, had)) = (sight.number, high.number);
            let fell = format!(
                "fell to generation {generation} version {version} after {was} version {had} was shown"
            );
            broken.add(11, format!("{id}: {fell}"));
            return;
        }
        let highest_so_far = highest.last().copied().filter(|last| last.number >= sight.number);
        highest.push(highest_so_far.unwrap_or(sight));
    }
}

/// What a watch tells comes in order, and between two of its messages lies nothing that others were
/// shown.
fn watchers_miss_nothing(
    reading: &Reading<'_>,
    id: &str,
    task: &Task<'_>,
    sights: &[Sight<'_>],
    broken: &mut Findings,
) {
    let shown: BTreeMap<Number, &Sight<'_>> =
        sights.iter().map(|sight| (sight.number, sight)).collect();
    let of_told: BTreeMap<Mark, &Sight<'_>> =
        sights.iter().map(|sight| (sight.told, sight)).collect();
    let mut latest: BTreeMap<ConnectionId, &Sight<'_>> = BTreeMap::new();
    for seen in task.seen.iter().filter(|seen| seen.is_watched) {
        let Some(sight) = of_told.get(&seen.told).copied().filter(|_| seen.info.version > 0) else {
            // Gone, and perhaps another task from now on.
            latest.remove(&seen.connection);
            continue;
        };
        let Some(before) = latest.insert(seen.connection, sight) else { continue };
        if sight.number < before.number && is_one_life(reading, task, before, sight) {
            let ((generation, version), (was, had)) = (sight.number, before.number);
            let drops = format!(
                "a watcher at generation {was} version {had} drops {generation} version {version}"
            );
            broken.add(11, format!("{id}: {drops}, {}", named(sight.info)));
            return;
        }
        if seen.asked.is_some() || sight.number <= before.number {
            continue;
        }
        let missed = shown.range((Excluded(before.number), Excluded(sight.number))).next();
        if let Some((number, missed)) = missed
            && is_one_life(reading, task, before, sight)
            && is_one_life(reading, task, before, missed)
            && is_one_life(reading, task, missed, sight)
        {
            let (generation, version) = *number;
            let misses =
                format!("a watcher was not told of generation {generation} version {version}");
            broken.add(11, format!("{id}: {misses}, {}", named(missed.info)));
            return;
        }
    }
}
