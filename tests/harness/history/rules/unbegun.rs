//! Promise 12: what is leased and not begun does not begin after a pause, a purge, a delete or an
//! expiry was answered or shown, and a paused queue hands nothing out. A cancel that was answered
//! is promise 10.

use celeriac_proto::wire::TaskState;

use super::Findings;
use crate::history::event::Mark;
use crate::history::reading::{Lease, Reading, Swept, Task};

pub(super) fn what_is_held_back_does_not_begin(reading: &Reading<'_>, broken: &mut Findings) {
    for pause in &reading.pauses {
        if let Some(paused) = Paused::of(reading, pause) {
            reading
                .leases
                .values()
                .for_each(|lease| nothing_begins_in_a_pause(&paused, lease, broken));
        }
    }
    for (id, task) in &reading.tasks {
        for purge in &reading.purges {
            what_was_purged_does_not_begin(reading, id, task, purge, broken);
        }
        what_was_shown_as_revoked_does_not_begin(reading, id, task, broken);
    }
}

/// A queue that surely hands nothing out between two entries.
struct Paused<'h> {
    queue: &'h str,
    from: Mark,
    to: Mark,
}

impl<'h> Paused<'h> {
    /// From the answer until somebody asks for the end of it; unless an end that was asked for
    /// before may have come after.
    fn of(reading: &Reading<'h>, pause: &Swept<'h>) -> Option<Self> {
        let from = pause.told?;
        let ends = || reading.resumes.iter().filter(|end| end.queue == pause.queue);
        let is_open =
            ends().any(|end| end.asked < from && took_effect_by(reading, end) > pause.asked);
        let to =
            ends().map(|end| end.asked).filter(|asked| *asked > from).min().unwrap_or(Mark::MAX);
        (!is_open).then_some(Self { queue: pause.queue, from, to })
    }
}

/// What was never answered took effect before the broker's process was gone, or never.
fn took_effect_by(reading: &Reading<'_>, swept: &Swept<'_>) -> Mark {
    let next_down = reading.downs.partition_point(|down| *down < swept.asked);
    swept.told.or(reading.downs.get(next_down).copied()).unwrap_or(Mark::MAX)
}

fn nothing_begins_in_a_pause(paused: &Paused<'_>, lease: &Lease<'_>, broken: &mut Findings) {
    let (id, number, queue) = (&lease.delivery.id, lease.delivery.lease, paused.queue);
    if lease.delivery.queue != queue {
        return;
    }
    if lease.given_after > paused.from && lease.first_seen() < paused.to {
        broken.add(
            12,
            format!("{id}: delivered under lease {number} while the queue {queue} was paused"),
        );
    }
    let Some(counted) = begun_and_counted_after(lease, paused.from) else { return };
    // It was there before the pause, and so it is taken back for good; or all of it happened in the
    // pause.
    if lease.first_seen() < paused.from || counted < paused.to {
        broken.add(
            12,
            format!("{id}: begun under lease {number} after the queue {queue} was paused"),
        );
    }
}

/// When it counted that a handler began, if the worker said so only after this entry.
fn begun_and_counted_after(lease: &Lease<'_>, mark: Mark) -> Option<Mark> {
    lease.begun().filter(|begun| *begun > mark)?;
    lease
        .reports
        .iter()
        .filter(|report| !report.is_release())
        .filter_map(|report| report.accepted())
        .min()
}

/// All that waited is revoked: what had been confirmed before the purge and did not run.
fn what_was_purged_does_not_begin(
    reading: &Reading<'_>,
    id: &str,
    task: &Task<'_>,
    purge: &Swept<'_>,
    broken: &mut Findings,
) {
    let Some(told) = purge.told else { return };
    let was_there = |generation: u32| {
        let mut confirmed = task.submits.iter().filter_map(|submit| submit.confirmed());
        confirmed
            .find(|(mark, known)| *known == generation && *mark < purge.asked)
            .map(|(mark, _)| mark)
    };
    let leases = || task.leases.iter().map(|number| &reading.leases[number]);
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
    // Who joined a task may have named another queue.
    for lease in leases().filter(|lease| lease.delivery.queue == purge.queue) {
        let (generation, number) = (lease.delivery.generation, lease.delivery.lease);
        let Some(confirmed) = was_there(generation).filter(|_| !may_have_run(generation)) else {
            continue;
        };
        let begun = begun_and_counted_after(lease, told);
        let given = (lease.given_after > told).then(|| lease.first_seen());
        let how = if begun.is_some() { "begun" } else { "delivered" };
        if begun.or(given).is_some_and(|mark| !reading.may_have_another_life(task, confirmed, mark))
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

/// Whoever was shown the end may rely on it.
fn what_was_shown_as_revoked_does_not_begin(
    reading: &Reading<'_>,
    id: &str,
    task: &Task<'_>,
    broken: &mut Findings,
) {
    for seen in task.seen.iter().filter(|seen| seen.info.state() == TaskState::Revoked) {
        let of_it = task.leases.iter().map(|number| &reading.leases[number]);
        for lease in of_it.filter(|lease| lease.delivery.generation == seen.info.generation) {
            let counted = begun_and_counted_after(lease, seen.told);
            let from = seen.asked.unwrap_or(0);
            if counted.is_some_and(|counted| !reading.may_have_another_life(task, from, counted)) {
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
