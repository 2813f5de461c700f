//! Whether the verdict over this very history could have been another one. Copies of a clean
//! history are edited, so that each shows a fault which a broker or a drop-in could have, and each
//! must be found.

use std::collections::BTreeSet;

use celeriac_history::{
    Answer, ConnectionId, Entry, Event, Promises, RequestItem, broken_promises,
};
use celeriac_proto::wire::task_report::Report;
use celeriac_proto::wire::{ErrorCode, TaskInfo, TaskState};

use super::runs::{self, Run, Runs};

/// A copy of the entries that shows a fault. None when there is nothing from which to make it.
type Edit = fn(&[Entry]) -> Option<Vec<Entry>>;

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
        match edit(entries) {
            None => missed.push(format!("the load had nothing from which to make {what}")),
            Some(edited) => {
                let broken = broken_promises(&edited, promises);
                if !broken.iter().any(|one| one.promise == promise) {
                    missed.push(format!("the checker does not notice {what}"));
                }
            }
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

/// The entries with another last look at a task that succeeded.
fn with_last_success(entries: &[Entry], change: fn(&mut TaskInfo)) -> Option<Vec<Entry>> {
    let mut edited = entries.to_vec();
    let looks = edited.iter_mut().rev().filter_map(|entry| match &mut entry.event {
        Event::Answered { answer: Answer::Read(info), .. } => Some(info),
        _ => None,
    });
    let is_one = |info: &&mut Box<TaskInfo>| {
        info.state() == TaskState::Success && info.deliveries > 0 && !info.result.is_empty()
    };
    change(looks.into_iter().find(is_one)?);
    Some(edited)
}

/// The entries, and more of them at the end.
fn with_more(entries: &[Entry], more: Vec<(ConnectionId, Event)>) -> Option<Vec<Entry>> {
    let at = entries.last()?.at;
    let more = more.into_iter().map(|(connection, event)| Entry { at, connection, event });
    Some(entries.iter().cloned().chain(more).collect())
}

fn forget_an_end(entries: &[Entry]) -> Option<Vec<Entry>> {
    with_last_success(entries, |info| info.set_state(TaskState::Leased))
}

fn change_a_result(entries: &[Entry]) -> Option<Vec<Entry>> {
    with_last_success(entries, |info| {
        let mut bytes = info.result.to_vec();
        bytes[0] ^= 1;
        info.result = bytes.into();
    })
}

fn begin_twice(entries: &[Entry]) -> Option<Vec<Entry>> {
    let began = entries.iter().find(|entry| matches!(entry.event, Event::Began { .. }))?;
    with_more(entries, vec![(began.connection, began.event.clone())])
}

/// The lease whose completion was the first to be confirmed.
fn completed_lease(entries: &[Entry]) -> Option<u64> {
    entries.iter().find_map(|entry| {
        let Event::Answered { item, answer: Answer::Report(outcome) } = &entry.event else {
            return None;
        };
        match &entries[*item].event {
            Event::Asked(RequestItem::Report(report) | RequestItem::Put(report))
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
fn deliver_again(entries: &[Entry]) -> Option<Vec<Entry>> {
    let completed = completed_lease(entries)?;
    let deliveries = || {
        entries.iter().filter_map(|entry| match &entry.event {
            Event::Delivered(delivery) => Some((entry.connection, delivery)),
            _ => None,
        })
    };
    let highest = deliveries().map(|(_, delivery)| delivery.lease).max()?;
    let (connection, delivery) = deliveries().find(|(_, one)| one.lease == completed)?;
    let mut again = delivery.clone();
    (again.lease, again.redelivered) = (highest + 1, true);
    again.deliveries += 1;
    with_more(entries, vec![(connection, Event::Delivered(again))])
}

fn give_a_chord_twice(entries: &[Entry]) -> Option<Vec<Entry>> {
    let (item, answer) = entries.iter().find_map(|entry| match &entry.event {
        Event::Answered { item, answer: answer @ Answer::Chord(reply) } if reply.lease > 0 => {
            Some((*item, answer.clone()))
        }
        _ => None,
    })?;
    // A caller of its own asks the same and gets the same lease.
    let caller = entries.iter().map(|entry| entry.connection).max()? + 1;
    let asked = (caller, entries[item].event.clone());
    let answered = (caller, Event::Answered { item: entries.len(), answer });
    with_more(entries, vec![asked, answered])
}
