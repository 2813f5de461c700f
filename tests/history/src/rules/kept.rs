//! Promise 1: a confirmed submit is never lost: the task has ended, or it is listed.

use celeriac_proto::wire::{ErrorCode, TaskState, cancel_outcome};

use super::Findings;
use crate::event::Position;
use crate::index::{Index, Task};
use crate::task_lifetime::{Due, is_ended};

pub(super) fn nothing_confirmed_is_lost(index: &Index<'_>, broken: &mut Findings) {
    for (id, task) in &index.tasks {
        if let Some(confirmed) = task.first_confirmed() {
            is_known_ever_after(index, id, task, confirmed, broken);
            has_ended_in_the_end(index, id, task, broken);
        }
        ended_for_a_reason(index, id, task, broken);
    }
}

/// A client that asks after the confirmation is not told that there is no such task.
fn is_known_ever_after(
    index: &Index<'_>,
    id: &str,
    task: &Task<'_>,
    confirmed: Position,
    broken: &mut Findings,
) {
    let unknown = task.seen.iter().filter(|seen| seen.info.state() == TaskState::Unknown);
    let read = unknown.filter_map(|seen| Some((seen.asked?, seen.told, "read")));
    let cancelled = task.cancels.iter().filter_map(|cancel| match cancel.answered? {
        (told, cancel_outcome::Kind::NotFound) => Some((cancel.asked, told, "cancelled")),
        _ => None,
    });
    let forgotten = task.forgets.iter().filter_map(|forget| match forget.answered? {
        (told, ErrorCode::NotFound) => Some((forget.asked, told, "forgotten")),
        _ => None,
    });
    let reported = task.reports.iter().filter_map(|report| match report.answered? {
        (told, outcome) if outcome.code() == ErrorCode::NotFound => {
            Some((report.asked, told, "reported on"))
        }
        _ => None,
    });
    let mut missed = read.chain(cancelled).chain(forgotten).chain(reported);
    let lost =
        missed.find(|(asked, told, _)| *asked > confirmed && !index.may_be_gone(task, *told));
    if let Some((_, _, how)) = lost {
        broken.add(1, format!("{id}: confirmed, and unknown when it was {how}"));
    }
}

/// When all tasks had time to end, none waits or is leased.
fn has_ended_in_the_end(index: &Index<'_>, id: &str, task: &Task<'_>, broken: &mut Findings) {
    let Some(settled) = index.settled else { return };
    let in_the_end = task.seen.iter().rfind(|seen| seen.asked.is_some_and(|asked| asked > settled));
    let Some(seen) = in_the_end else {
        broken.add(1, format!("{id}: confirmed, and never looked at in the end"));
        return;
    };
    let state = seen.info.state();
    let late = index.promises.late_ms as i64;
    let wall = index.clocks.earliest(seen.told, seen.told) - late;
    let may_wait = |due: &Due| index.late_ms(due, seen.told, seen.told) <= late;
    let is_for_later = seen.info.eta_at_ms.is_some_and(|eta| eta > wall)
        && task
            .submits
            .iter()
            .any(|submit| index.eta(submit, seen.told).is_some_and(|due| may_wait(&due)));
    if !is_ended(state) && state != TaskState::Unknown && !is_for_later {
        broken.add(1, format!("{id}: confirmed, and in the end {state:?}"));
    }
}

/// A task ends only by a request or by its time.
fn ended_for_a_reason(index: &Index<'_>, id: &str, task: &Task<'_>, broken: &mut Findings) {
    for seen in
        task.seen.iter().filter(|seen| is_ended(seen.info.state()) && !task.submits.is_empty())
    {
        if index.may_have_ended(task, Some(seen.info.generation), seen.told).is_none() {
            let state = seen.info.state();
            broken.add(
                1,
                format!(
                    "{id}: generation {} is {state:?}, and nothing ended it",
                    seen.info.generation
                ),
            );
            return;
        }
    }
}
