//! Promise 11: an id, a generation and a version, once shown to any client, name one state and
//! never another, over restarts of the broker too. A watcher that drops every message whose
//! generation and version do not rise misses no state that other clients were shown.

use std::collections::BTreeMap;
use std::ops::Bound::Excluded;

use celeriac_proto::wire::{self, TaskState};

use super::Findings;
use crate::event::{ConnectionId, Position};
use crate::index::{Index, Seen, Task};

/// Generation and version.
type Number = (u32, u32);

/// A state that a client was shown.
#[derive(Clone, Copy)]
struct Sight<'h> {
    number: Number,
    /// The task had this state at some moment between these two positions.
    from: Position,
    told: Position,
    info: &'h wire::TaskInfo,
}

pub(super) fn a_version_names_one_state(index: &Index<'_>, broken: &mut Findings) {
    for (id, task) in &index.tasks {
        let mut watching = BTreeMap::new();
        let sights: Vec<Sight<'_>> =
            task.seen.iter().filter_map(|seen| sight(index, seen, &mut watching)).collect();
        each_names_one(index, id, task, &sights, broken);
        none_falls(index, id, task, &sights, broken);
        watchers_miss_nothing(index, id, task, &sights, broken);
    }
}

/// A push may have been on its way for long, but the state is later than the request to watch.
fn sight<'h>(
    index: &Index<'_>,
    seen: &Seen<'h>,
    watching: &mut BTreeMap<ConnectionId, Position>,
) -> Option<Sight<'h>> {
    let connecting = index.connections.get(&seen.connection).map_or(0, |known| known.connecting);
    let from = seen.asked.or(watching.get(&seen.connection).copied()).unwrap_or(connecting);
    if seen.is_watched {
        watching.entry(seen.connection).or_insert(from);
    }
    // An unknown id has no version.
    let is_numbered = seen.info.state() != TaskState::Unknown && seen.info.version > 0;
    let number = (seen.info.generation, seen.info.version);
    is_numbered.then_some(Sight { number, from, told: seen.told, info: seen.info })
}

/// Whether both states are certainly of the same task, and not of a later one with the same id.
fn is_same_task(index: &Index<'_>, task: &Task<'_>, one: &Sight<'_>, other: &Sight<'_>) -> bool {
    !index.may_name_another_task(task, one.from.min(other.from), one.told.max(other.told))
}

fn each_names_one(
    index: &Index<'_>,
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
        if is_same_task(index, task, known, sight) {
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

/// The state that a version names, with everything that distinguishes it from the next state of the
/// same kind.
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

/// A client that asks after another client was told a state is not told an earlier state.
fn none_falls(
    index: &Index<'_>,
    id: &str,
    task: &Task<'_>,
    sights: &[Sight<'_>],
    broken: &mut Findings,
) {
    // The highest number that was told up to each sight.
    let mut highest: Vec<&Sight<'_>> = Vec::with_capacity(sights.len());
    for sight in sights {
        let told_before = sights.partition_point(|known| known.told < sight.from);
        let high = told_before.checked_sub(1).map(|last| highest[last]);
        if let Some(high) =
            high.filter(|high| high.number > sight.number && is_same_task(index, task, high, sight))
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

/// The messages of a watch come in order, and other clients were shown no state between two of
/// them.
fn watchers_miss_nothing(
    index: &Index<'_>,
    id: &str,
    task: &Task<'_>,
    sights: &[Sight<'_>],
    broken: &mut Findings,
) {
    let shown: BTreeMap<Number, &Sight<'_>> =
        sights.iter().map(|sight| (sight.number, sight)).collect();
    let of_told: BTreeMap<Position, &Sight<'_>> =
        sights.iter().map(|sight| (sight.told, sight)).collect();
    let mut latest: BTreeMap<ConnectionId, &Sight<'_>> = BTreeMap::new();
    for seen in task.seen.iter().filter(|seen| seen.is_watched) {
        let Some(sight) = of_told.get(&seen.told).copied().filter(|_| seen.info.version > 0) else {
            // The task is gone. From now on the id may name another task.
            latest.remove(&seen.connection);
            continue;
        };
        let Some(before) = latest.insert(seen.connection, sight) else { continue };
        if sight.number < before.number && is_same_task(index, task, before, sight) {
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
            && is_same_task(index, task, before, sight)
            && is_same_task(index, task, before, missed)
            && is_same_task(index, task, missed, sight)
        {
            let (generation, version) = *number;
            let misses =
                format!("a watcher was not told of generation {generation} version {version}");
            broken.add(11, format!("{id}: {misses}, {}", named(missed.info)));
            return;
        }
    }
}
