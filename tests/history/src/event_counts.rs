//! How often a history has the events that the rules are about. A rule that finds nothing proves
//! something only if there was something to find.

use std::collections::{BTreeMap, BTreeSet};

use celeriac_proto::wire::submit_outcome::Kind;
use celeriac_proto::wire::{ErrorCode, TaskState, cancel_outcome};

use super::event::{Answer, Entry, Event, Position, RequestItem};

/// How often each event occurs that the rules are about.
pub(super) fn event_counts(entries: &[Entry]) -> BTreeMap<&'static str, u64> {
    const KINDS: [&str; 16] = [
        "submits without an answer",
        "joined ids",
        "ids run again",
        "rejected ids",
        "revoked ids",
        "signalled ids",
        "forgotten ids",
        "results that were read",
        "expired tasks",
        "pauses that were answered",
        "purges that were answered",
        "tasks that were gone",
        "deliveries after a loss",
        "deliveries after a failure",
        "deliveries that had a time",
        "leases kept over a lost connection",
    ];
    let mut counts: BTreeMap<&'static str, u64> = KINDS.iter().map(|kind| (*kind, 0)).collect();
    let mut open: BTreeSet<Position> = BTreeSet::new();
    for (position, entry) in entries.iter().enumerate() {
        match &entry.event {
            Event::Asked(RequestItem::Submit(_)) => {
                open.insert(position);
            }
            Event::Answered { item, .. } | Event::Refused { item, .. } => {
                open.remove(item);
            }
            _ => {}
        }
        if let Event::Answered { item, .. } = &entry.event {
            counts
                .entry("pauses that were answered")
                .and_modify(|count| *count += u64::from(is_pause(entries, *item)));
            counts
                .entry("purges that were answered")
                .and_modify(|count| *count += u64::from(is_purge(entries, *item)));
        }
        for kind in kinds(&entry.event) {
            *counts.get_mut(kind).expect("it is one of the kinds") += 1;
        }
    }
    counts.insert(KINDS[0], open.len() as u64);
    counts
}

fn is_pause(entries: &[Entry], item: Position) -> bool {
    matches!(entries[item].event, Event::Asked(RequestItem::Pause { paused: true, .. }))
}

fn is_purge(entries: &[Entry], item: Position) -> bool {
    matches!(
        entries[item].event,
        Event::Asked(RequestItem::Purge { .. } | RequestItem::Delete { .. })
    )
}

fn kinds(event: &Event) -> Vec<&'static str> {
    match event {
        Event::Answered { answer, .. } => kind_of_answer(answer).into_iter().collect(),
        Event::Delivered(delivery) => {
            let kinds = [
                (delivery.deliveries > 1, "deliveries after a loss"),
                (delivery.attempt > 1, "deliveries after a failure"),
                (delivery.eta_at_ms.is_some(), "deliveries that had a time"),
            ];
            kinds.into_iter().filter(|(is_one, _)| *is_one).map(|(_, kind)| kind).collect()
        }
        Event::Welcomed(welcome) if !welcome.leases.is_empty() => {
            vec!["leases kept over a lost connection"]
        }
        _ => Vec::new(),
    }
}

fn kind_of_answer(answer: &Answer) -> Option<&'static str> {
    match answer {
        Answer::Submit(outcome) => match outcome.kind() {
            Kind::Joined => Some("joined ids"),
            Kind::NewGeneration => Some("ids run again"),
            Kind::Refused => Some("rejected ids"),
            _ => None,
        },
        Answer::Cancel(cancel_outcome::Kind::Revoked) => Some("revoked ids"),
        Answer::Cancel(cancel_outcome::Kind::Signalled) => Some("signalled ids"),
        Answer::Forget(ErrorCode::Unspecified) => Some("forgotten ids"),
        Answer::Read(info) => match info.state() {
            TaskState::Success => Some("results that were read"),
            TaskState::Revoked if info.revoked_reason == "expired" => Some("expired tasks"),
            TaskState::Unknown => Some("tasks that were gone"),
            _ => None,
        },
        _ => None,
    }
}
