//! Whether the verdict over this very history could have been another one. Copies of a clean
//! history are edited, so that each shows a fault which a broker or a drop-in could have, and each
//! must be found.

use std::collections::BTreeSet;

use celeriac_history::{Answer, Entry, Event, Promises, RequestItem, broken_promises};
use celeriac_proto::wire::task_report::Report;
use celeriac_proto::wire::{ErrorCode, TaskState};

use super::runs::{self, Run, Runs};

/// The copy has nothing to edit: the load had no such event.
struct NothingToEdit;

/// Edits entries so that they show a fault.
type Edit = fn(&mut Vec<Entry>) -> Result<(), NothingToEdit>;

/// What the edit shows, the promise that it breaks, and the edit.
const EDITS: [(&str, u8, Edit); 5] = [
    ("an acknowledgement that the broker forgot", 1, forget_an_end),
    ("a result with another byte", 2, change_a_result),
    ("a handler that began twice", 4, begin_twice),
    ("a delivery after the end", 5, deliver_again),
    ("a chord that is given to two callers", 14, give_a_chord_twice),
];

/// A sentence for each fault that the verdict would miss.
pub(super) fn unnoticed(
    entries: &[Entry],
    promises: &Promises,
    runs: &Runs,
    twice: &BTreeSet<String>,
) -> Vec<String> {
    let mut missed = Vec::new();
    for (what, promise, edit) in EDITS {
        let mut edited = entries.to_vec();
        if edit(&mut edited).is_err() {
            missed.push(format!("the load had nothing from which to make {what}"));
        } else if !broken_promises(&edited, promises).iter().any(|one| one.promise == promise) {
            missed.push(format!("the checker does not notice {what}"));
        }
    }
    let mut all = runs.all();
    if let Some(run) = all.first().cloned() {
        // A call may be one of two, so it is made three.
        let again = |more| Run { lease: run.lease + more, ..run.clone() };
        all.extend([again(1), again(2)]);
        if runs::judge(&all, entries, twice).is_empty() {
            missed.push("the judge of runs does not notice more runs than calls".to_owned());
        }
    }
    missed
}

/// The last look at a task that succeeded.
fn last_success(entries: &mut [Entry]) -> Result<&mut Entry, NothingToEdit> {
    let is_one = |entry: &&mut Entry| match &entry.event {
        Event::Answered { answer: Answer::Read(info), .. } => {
            info.state() == TaskState::Success && info.deliveries > 0 && !info.result.is_empty()
        }
        _ => false,
    };
    entries.iter_mut().rev().find(is_one).ok_or(NothingToEdit)
}

fn forget_an_end(entries: &mut Vec<Entry>) -> Result<(), NothingToEdit> {
    if let Event::Answered { answer: Answer::Read(info), .. } = &mut last_success(entries)?.event {
        info.set_state(TaskState::Leased);
    }
    Ok(())
}

fn change_a_result(entries: &mut Vec<Entry>) -> Result<(), NothingToEdit> {
    if let Event::Answered { answer: Answer::Read(info), .. } = &mut last_success(entries)?.event {
        let mut bytes = info.result.to_vec();
        bytes[0] ^= 1;
        info.result = bytes.into();
    }
    Ok(())
}

fn begin_twice(entries: &mut Vec<Entry>) -> Result<(), NothingToEdit> {
    let began = entries.iter().find(|entry| matches!(entry.event, Event::Began { .. }));
    let again = Entry { at: last_moment(entries), ..began.ok_or(NothingToEdit)?.clone() };
    entries.push(again);
    Ok(())
}

/// The lease whose completion was the first to be confirmed.
fn completed_lease(entries: &[Entry]) -> Option<u64> {
    entries.iter().find_map(|entry| {
        let Event::Answered { item, answer: Answer::Report(outcome) } = &entry.event else {
            return None;
        };
        match &entries[*item].event {
            Event::Asked(RequestItem::Report(report))
                if outcome.code() == ErrorCode::Unspecified
                    && report.lease > 0
                    && matches!(report.report, Some(Report::Complete(_))) =>
            {
                Some(report.lease)
            }
            _ => None,
        }
    })
}

/// The broker does not know the end any more, and hands the task out under a new lease.
fn deliver_again(entries: &mut Vec<Entry>) -> Result<(), NothingToEdit> {
    let completed = completed_lease(entries).ok_or(NothingToEdit)?;
    let deliveries = entries.iter().filter_map(|entry| match &entry.event {
        Event::Delivered(delivery) => Some((entry.connection, delivery)),
        _ => None,
    });
    let highest = deliveries.clone().map(|(_, delivery)| delivery.lease).max().unwrap_or(0);
    let found = deliveries.into_iter().find(|(_, delivery)| delivery.lease == completed);
    let (connection, delivery) = found.ok_or(NothingToEdit)?;
    let mut again = delivery.clone();
    (again.lease, again.redelivered) = (highest + 1, true);
    again.deliveries += 1;
    let at = last_moment(entries);
    entries.push(Entry { at, connection, event: Event::Delivered(again) });
    Ok(())
}

fn give_a_chord_twice(entries: &mut Vec<Entry>) -> Result<(), NothingToEdit> {
    let is_given = |entry: &&Entry| matches!(&entry.event, Event::Answered { answer: Answer::Chord(reply), .. } if reply.lease > 0);
    let given = entries.iter().find(is_given).ok_or(NothingToEdit)?.clone();
    let Event::Answered { item, answer } = given.event else { return Err(NothingToEdit) };
    // A caller of its own asks the same and gets the same lease.
    let connection = entries.iter().map(|entry| entry.connection).max().unwrap_or(0) + 1;
    let (at, event) = (last_moment(entries), entries[item].event.clone());
    let item = entries.len();
    entries.push(Entry { at, connection, event });
    entries.push(Entry { at, connection, event: Event::Answered { item, answer } });
    Ok(())
}

fn last_moment(entries: &[Entry]) -> celeriac_history::Moment {
    entries.last().map(|entry| entry.at).unwrap_or_default()
}
