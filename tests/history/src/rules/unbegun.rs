//! Promise 12: a task that is leased and has not begun does not begin after a pause, a purge, a
//! delete, a drain or an expiry was answered or shown, and neither a paused queue nor a drained
//! broker delivers anything. Promise 10 covers a cancel that was answered.

use celeriac_proto::wire::TaskState;

use super::Findings;
use crate::event::Position;
use crate::index::{Index, Lease, QueueOperation, Seen, Task};

pub(super) fn what_is_held_back_does_not_begin(index: &Index<'_>, broken: &mut Findings) {
    let pauses = index.pauses.iter().filter_map(|pause| Paused::of(index, pause));
    let drains = index.drains.iter().filter_map(|drain| Paused::of_a_drain(index, drain));
    for paused in pauses.chain(drains) {
        index.leases.values().for_each(|lease| nothing_begins_in_a_pause(&paused, lease, broken));
    }
    for (id, task) in &index.tasks {
        for purge in &index.purges {
            what_was_purged_does_not_begin(index, id, task, purge, broken);
        }
        what_was_shown_as_revoked_does_not_begin(index, id, task, broken);
        what_was_called_off_does_not_begin(index, id, task, broken);
    }
}

/// After a worker was asked to announce the end of a task, the task is not given to begin, and it
/// does not end otherwise.
fn what_was_called_off_does_not_begin(
    index: &Index<'_>,
    id: &str,
    task: &Task<'_>,
    broken: &mut Findings,
) {
    if index.may_name_two_tasks(task) {
        return;
    }
    let leases = || task.leases.iter().map(|number| &index.leases[number]);
    for lease in leases().filter(|lease| lease.is_announcement()) {
        let (number, generation) = (lease.delivery.lease, lease.delivery.generation);
        let again = leases().find(|later| {
            let is_of_it = later.delivery.generation == generation && !later.is_announcement();
            is_of_it && later.delivery.lease > number
        });
        if let Some(again) = again {
            let again = again.delivery.lease;
            broken.add(
                12,
                format!("{id}: called off under lease {number}, and given under lease {again}"),
            );
        }
        let is_end = |seen: &&Seen<'_>| {
            seen.info.generation == generation
                && matches!(seen.info.state(), TaskState::Success | TaskState::Failure)
        };
        if let Some(seen) = task.seen.iter().find(is_end) {
            let state = seen.info.state();
            broken.add(12, format!("{id}: called off under lease {number}, and then {state:?}"));
        }
    }
}

/// A queue, or in a drain every queue, that certainly delivers nothing between two entries.
struct Paused<'h> {
    queue: Option<&'h str>,
    from: Position,
    to: Position,
}

impl<'h> Paused<'h> {
    /// The pause lasts from its answer until a client asks to resume the queue, unless an earlier
    /// request to resume it may have taken effect later.
    fn of(index: &Index<'h>, pause: &QueueOperation<'h>) -> Option<Self> {
        let ends: Vec<_> = index.resumes.iter().filter(|end| end.queue == pause.queue).collect();
        let paused = Self::between(index, pause, &ends)?;
        Some(Self { queue: Some(pause.queue), ..paused })
    }

    /// A drain also ends with the broker process.
    fn of_a_drain(index: &Index<'h>, drain: &QueueOperation<'h>) -> Option<Self> {
        let ends: Vec<_> = index.ends_of_drains.iter().collect();
        let drained = Self::between(index, drain, &ends)?;
        let next_down = index.downs.partition_point(|down| *down < drain.asked);
        let to = index.downs.get(next_down).map_or(drained.to, |down| drained.to.min(*down));
        (drained.from < to).then_some(Self { to, ..drained })
    }

    fn between(
        index: &Index<'h>,
        begin: &QueueOperation<'h>,
        ends: &[&QueueOperation<'h>],
    ) -> Option<Self> {
        let from = begin.told?;
        let is_open =
            ends.iter().any(|end| end.asked < from && took_effect_by(index, end) > begin.asked);
        let later = ends.iter().map(|end| end.asked).filter(|asked| *asked > from);
        let to = later.min().unwrap_or(Position::MAX);
        (!is_open).then_some(Self { queue: None, from, to })
    }
}

/// A request that was never answered took effect before the broker process was gone, or never.
fn took_effect_by(index: &Index<'_>, operation: &QueueOperation<'_>) -> Position {
    let next_down = index.downs.partition_point(|down| *down < operation.asked);
    operation.told.or(index.downs.get(next_down).copied()).unwrap_or(Position::MAX)
}

fn nothing_begins_in_a_pause(paused: &Paused<'_>, lease: &Lease<'_>, broken: &mut Findings) {
    let (id, number) = (&lease.delivery.id, lease.delivery.lease);
    if paused.queue.is_some_and(|queue| lease.delivery.queue != queue) || lease.is_announcement() {
        return;
    }
    let what = match paused.queue {
        Some(queue) => format!("the queue {queue} was paused"),
        None => "the broker was drained".to_owned(),
    };
    if lease.given_after > paused.from && lease.first_seen() < paused.to {
        broken.add(12, format!("{id}: delivered under lease {number} while {what}"));
    }
    let Some(counted) = begun_and_counted_after(lease, paused.from) else { return };
    // The lease was given before the pause, so the broker took it back for good; or everything
    // happened during the pause.
    if lease.first_seen() < paused.from || counted < paused.to {
        broken.add(12, format!("{id}: begun under lease {number} after {what}"));
    }
}

/// When the start of a handler was accepted, if the worker reported it only after this entry.
fn begun_and_counted_after(lease: &Lease<'_>, position: Position) -> Option<Position> {
    lease.begun().filter(|begun| *begun > position)?;
    lease
        .reports
        .iter()
        .filter(|report| report.is_of_a_run())
        .filter_map(|report| report.accepted())
        .min()
}

/// A purge revokes all tasks that wait: every task that was confirmed before the purge and did not
/// run.
fn what_was_purged_does_not_begin(
    index: &Index<'_>,
    id: &str,
    task: &Task<'_>,
    purge: &QueueOperation<'_>,
    broken: &mut Findings,
) {
    let Some(told) = purge.told else { return };
    let was_there = |generation: u32| {
        let mut confirmed = task.submits.iter().filter_map(|submit| submit.confirmed());
        confirmed
            .find(|(position, known)| *known == generation && *position < purge.asked)
            .map(|(position, _)| position)
    };
    let leases = || task.leases.iter().map(|number| &index.leases[number]);
    let may_have_run = |generation: u32| {
        leases().filter(|lease| lease.delivery.generation == generation).any(|lease| {
            let ends = lease.reports.iter().filter(|report| report.ends_the_lease());
            let is_over = ends
                .filter_map(|report| report.accepted())
                .min()
                .is_some_and(|over| over < purge.asked);
            lease.begun().is_some_and(|begun| begun < told) && !is_over
        })
    };
    // A submit that joined the task may have named another queue.
    let is_given =
        |lease: &&Lease<'_>| lease.delivery.queue == purge.queue && !lease.is_announcement();
    for lease in leases().filter(is_given) {
        let (generation, number) = (lease.delivery.generation, lease.delivery.lease);
        let Some(confirmed) = was_there(generation).filter(|_| !may_have_run(generation)) else {
            continue;
        };
        let begun = begun_and_counted_after(lease, told);
        let given = (lease.given_after > told).then(|| lease.first_seen());
        let how = if begun.is_some() { "begun" } else { "delivered" };
        if begun
            .or(given)
            .is_some_and(|position| !index.may_name_another_task(task, confirmed, position))
        {
            let queue = purge.queue;
            broken.add(
                12,
                format!("{id}: {how} under lease {number} after the queue {queue} was purged"),
            );
            return;
        }
    }
}

/// A client that was shown the end may rely on it.
fn what_was_shown_as_revoked_does_not_begin(
    index: &Index<'_>,
    id: &str,
    task: &Task<'_>,
    broken: &mut Findings,
) {
    for seen in task.seen.iter().filter(|seen| seen.info.state() == TaskState::Revoked) {
        let of_it = task.leases.iter().map(|number| &index.leases[number]);
        for lease in of_it.filter(|lease| lease.delivery.generation == seen.info.generation) {
            let counted = begun_and_counted_after(lease, seen.told);
            let from = seen.asked.unwrap_or(0);
            if counted.is_some_and(|counted| !index.may_name_another_task(task, from, counted)) {
                let (number, reason) = (lease.delivery.lease, &seen.info.revoked_reason);
                broken.add(
                    12,
                    format!(
                        "{id}: begun under lease {number} after it was shown as revoked, `{reason}`"
                    ),
                );
                return;
            }
        }
    }
}
