//! Promise 2: no task appears that nobody submitted, and no byte of a payload or a result changes.

use std::collections::BTreeMap;

use bytes::Bytes;
use celeriac_proto::wire::{self, TaskState, task_report};

use super::Findings;
use crate::event::Position;
use crate::index::{ChordAsk, Index, Lease, Seen, Submit, Task};

pub(super) fn nothing_appears_and_nothing_changes(index: &Index<'_>, broken: &mut Findings) {
    let parts = parts_of_chords(index);
    for (id, task) in &index.tasks {
        let submitted = task.submits.iter().map(|submit| submit.asked);
        let put = task.reports.iter().filter(|put| put.is_put).map(|put| put.asked);
        let part = parts.get(*id);
        let sent = part.and_then(|sent| sent.first()).map(|(asked, _)| *asked);
        let first = submitted.chain(put).chain(sent).min().unwrap_or(Position::MAX);
        let seen = task.seen.iter().filter(|seen| seen.info.state() != TaskState::Unknown);
        let shown = seen.map(|seen| seen.told).min();
        let delivered = task.leases.iter().map(|lease| index.leases[lease].first_seen()).min();
        for (what, position) in [("shown", shown), ("delivered", delivered)] {
            if position.is_some_and(|position| position < first) {
                broken.add(2, format!("{id}: {what}, and nobody submitted it"));
            }
        }
        if task.submits.is_empty() {
            parts_are_as_sent(id, task, part.map_or(&[], Vec::as_slice), broken);
            continue;
        }
        let is_unsure = index.may_name_two_tasks(task);
        for number in &task.leases {
            delivered_as_submitted(id, task, &index.leases[number], is_unsure, broken);
        }
        results_are_those_of_workers(index, id, task, is_unsure, broken);
    }
}

/// Each part of a chord by the id of the ended task that keeps it, in the order of the requests.
fn parts_of_chords<'h>(index: &Index<'h>) -> BTreeMap<String, Vec<(Position, &'h Bytes)>> {
    let mut parts: BTreeMap<String, Vec<(Position, &Bytes)>> = BTreeMap::new();
    for request in index.chords.values().flatten() {
        if let ChordAsk::Part(part) = &request.ask {
            let place = part.index.map_or_else(|| "-".to_owned(), |place| place.to_string());
            let id = format!("{}/{place}/{}", part.group, part.member);
            parts.entry(id).or_default().push((request.asked, &part.body));
        }
    }
    parts
}

fn parts_are_as_sent(
    id: &str,
    task: &Task<'_>,
    sent: &[(Position, &Bytes)],
    broken: &mut Findings,
) {
    let is_shown = |seen: &&Seen<'_>| {
        seen.with_result && seen.info.state() == TaskState::Success && !sent.is_empty()
    };
    // Somebody may have put another outcome in the place of the part.
    if !task.reports.is_empty() {
        return;
    }
    for seen in task.seen.iter().filter(is_shown) {
        let result = &seen.info.result;
        if !sent.iter().any(|(asked, body)| *asked < seen.told && *body == result) {
            broken.add(2, format!("{id}: a part of {} bytes that nobody sent", result.len()));
        }
    }
}

fn delivered_as_submitted(
    id: &str,
    task: &Task<'_>,
    lease: &Lease<'_>,
    is_unsure: bool,
    broken: &mut Findings,
) {
    let makers = match is_unsure {
        true => task.submits.iter().collect(),
        false => task.makers(lease.delivery.generation),
    };
    for delivery in
        std::iter::once(lease.delivery).chain(lease.otherwise.iter().map(|(_, delivery)| *delivery))
    {
        let is_of = |submit: &&Submit<'_>| submit.task.payload == delivery.payload;
        // Another promise says that a request must have made this generation.
        if !makers.is_empty() && !makers.iter().any(is_of) {
            broken.add(
                2,
                format!("{id}: delivered under lease {} with another payload", delivery.lease),
            );
        } else if !makers.is_empty() && !makers.iter().any(|submit| is_same(submit.task, delivery))
        {
            broken.add(
                2,
                format!("{id}: delivered under lease {} with other fields", delivery.lease),
            );
        }
    }
}

fn is_same(task: &wire::Task, delivery: &wire::Delivery) -> bool {
    let queue = if task.queue.is_empty() { "default" } else { &task.queue };
    task.name == delivery.name
        && queue == delivery.queue
        && task.priority.unwrap_or(4) == delivery.priority
        && task.headers == delivery.headers
        && task.tags == delivery.tags
}

fn results_are_those_of_workers(
    index: &Index<'_>,
    id: &str,
    task: &Task<'_>,
    is_unsure: bool,
    broken: &mut Findings,
) {
    for seen in task.seen.iter().filter(|seen| seen.info.state() == TaskState::Success) {
        let generation = seen.info.generation;
        let of_generation = |lease: u64| {
            is_unsure
                || index
                    .leases
                    .get(&lease)
                    .is_none_or(|lease| lease.delivery.generation == generation)
        };
        let reports = || {
            let reports = task.reports.iter();
            reports.filter(|report| report.asked < seen.told && of_generation(report.lease))
        };
        // Reports after the end of a run change nothing.
        let over = reports()
            .filter(|report| report.ends_the_lease())
            .filter_map(|report| report.accepted())
            .min()
            .unwrap_or(Position::MAX);
        let sent: Vec<(&Bytes, bool)> = reports()
            .filter_map(|report| match report.what {
                task_report::Report::Complete(complete) => {
                    let is_sure = report.accepted().is_some() && report.asked < over;
                    Some((&complete.result, is_sure))
                }
                _ => None,
            })
            .collect();
        let is_confirmed = !is_unsure && sent.iter().any(|(_, accepted)| *accepted);
        let result = &seen.info.result;
        if sent.is_empty() {
            broken.add(
                2,
                format!("{id}: generation {generation} is SUCCESS, and no worker completed it"),
            );
        } else if seen.with_result && !sent.iter().any(|(sent, _)| *sent == result) {
            broken.add(
                2,
                format!("{id}: has a result of {} bytes that no worker sent", result.len()),
            );
        } else if seen.with_result
            && is_confirmed
            && !sent.iter().any(|(sent, sure)| *sure && *sent == result)
        {
            broken.add(2, format!("{id}: shows another result than the confirmed one"));
        }
    }
}
