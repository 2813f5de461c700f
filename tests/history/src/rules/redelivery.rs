//! Promise 4: every redelivery has a cause, and none exceeds its limit. Promise 5: after a
//! confirmed completion a task is never delivered again.

use std::collections::BTreeSet;

use celeriac_proto::wire::ErrorCode;
use celeriac_proto::wire::task_report::Report;

use super::Findings;
use crate::event::Position;
use crate::index::{Index, Lease, Reported, Task};
use crate::task_lifetime::{ATTEMPTS_MAX, DELIVERIES_MAX};

pub(super) fn every_redelivery_has_a_cause(index: &Index<'_>, broken: &mut Findings) {
    for lease in index.leases.values().filter(|lease| lease.began.len() > 1) {
        let (id, number) = (&lease.delivery.id, lease.delivery.lease);
        broken.add(
            4,
            format!("{id}: a handler began {} times under lease {number}", lease.began.len()),
        );
    }
    for (id, task) in &index.tasks {
        if index.may_name_two_tasks(task) {
            continue;
        }
        let leases = task.leases.iter().map(|number| &index.leases[number]);
        for lease in leases.filter(|lease| !lease.is_announcement()) {
            within_limits(id, task, lease, broken);
        }
        for pair in task.leases.windows(2) {
            let (lease, next) = (&index.leases[&pair[0]], &index.leases[&pair[1]]);
            let is_announced = lease.is_announcement() || next.is_announcement();
            if lease.delivery.generation == next.delivery.generation && !is_announced {
                judge_pair(index, id, lease, next, broken);
                after_the_last_attempt(id, task, lease, next, broken);
            }
        }
    }
}

fn judge_pair(
    index: &Index<'_>,
    id: &str,
    lease: &Lease<'_>,
    next: &Lease<'_>,
    broken: &mut Findings,
) {
    let at = next.first_seen();
    let (number, another) = (lease.delivery.lease, next.delivery.lease);
    if !next.delivery.redelivered {
        broken.add(4, format!("{id}: lease {another} follows lease {number} and is no redelivery"));
    }
    let handed_back = lease.reports.iter().any(|report| hands_back(report, at));
    let has_started =
        lease.reports.iter().any(|report| report.accepted().is_some() && !report.is_release());
    let left = left_by(index, lease, at);
    let taken_back = !has_started && (may_be_taken_back(index, lease, at) || left);
    if !handed_back && !taken_back && !left && !was_lost(index, lease, at) {
        broken.add(4, format!("{id}: given under lease {another} while lease {number} was held"));
    }
    let (count, after) = (lease.delivery.deliveries, next.delivery.deliveries);
    // Only a task that has started is certainly counted.
    if after < count || (after == count && has_started && !handed_back) {
        broken.add(
            4,
            format!(
                "{id}: lost under lease {number}, and not counted: {count} deliveries, then {after}"
            ),
        );
    }
    let released = lease.reports.iter().any(|report| report.is_release() && !is_refused(report));
    let least = lease.delivery.attempt + u32::from(has_started && !released);
    if next.delivery.attempt < least {
        let attempt = next.delivery.attempt;
        broken.add(
            4,
            format!(
                "{id}: attempt {attempt} under lease {another}, and {least} is due after {number}"
            ),
        );
    }
}

/// Whether a report is a failure or a release that was not refused.
fn hands_back(report: &Reported<'_>, by: Position) -> bool {
    let back = matches!(report.what, Report::Fail(_) | Report::Retry(_) | Report::Release(_));
    back && report.asked < by && !is_refused(report)
}

fn is_refused(report: &Reported<'_>) -> bool {
    report.answered.is_some_and(|(_, outcome)| outcome.code() != ErrorCode::Unspecified)
}

/// Whether the worker of the lease said goodbye.
fn left_by(index: &Index<'_>, lease: &Lease<'_>, by: Position) -> bool {
    let mut sessions =
        lease.sights.iter().filter_map(|(_, connection)| index.session_of(*connection));
    sessions.any(|session| index.sessions[session].goodbye.is_some_and(|goodbye| goodbye < by))
}

/// Whether the broker had not heard of the worker for the lease time.
fn was_lost(index: &Index<'_>, lease: &Lease<'_>, by: Position) -> bool {
    let Some(session) =
        lease.sights.first().and_then(|(_, connection)| index.session_of(*connection))
    else {
        return true;
    };
    let session = &index.sessions[session];
    let before = session.signs.partition_point(|sign| *sign < by);
    let Some(heard) = before.checked_sub(1).map(|last| session.signs[last]) else { return true };
    let silence_ms = index.clocks.mono(by).saturating_sub(index.clocks.mono(heard));
    silence_ms + index.promises.clock_ms >= session.lease_ms
}

/// Whether the broker may have taken the lease back before the task began. It tells the worker so,
/// and the signal may be lost.
fn may_be_taken_back(index: &Index<'_>, lease: &Lease<'_>, by: Position) -> bool {
    let may_have_missed_it = lease.sights.iter().any(|(_, connection)| {
        let connection = index.connections.get(connection);
        connection.is_none_or(|connection| {
            connection.gone.is_some() || connection.last_answered.is_none_or(|asked| asked < by)
        })
    });
    lease.taken_back.is_some() || may_have_missed_it
}

/// Deliveries and attempts are counted separately, and each has its limit.
fn within_limits(id: &str, task: &Task<'_>, lease: &Lease<'_>, broken: &mut Findings) {
    let (number, generation) = (lease.delivery.lease, lease.delivery.generation);
    let makers = task.makers(generation);
    let limit =
        makers.iter().map(|submit| submit.task.max_deliveries.unwrap_or(DELIVERIES_MAX)).max();
    if limit.is_some_and(|limit| lease.delivery.deliveries > limit) {
        broken.add(
            4,
            format!("{id}: handed out {} times under lease {number}", lease.delivery.deliveries),
        );
    }
    let begun = task
        .reports
        .iter()
        .filter(|report| !report.is_release() && report.asked < lease.first_seen());
    let begun: BTreeSet<u64> =
        begun.map(|report| report.lease).filter(|earlier| *earlier < number).collect();
    let attempt = lease.delivery.attempt as usize;
    if attempt > 1 + begun.len() {
        broken.add(
            4,
            format!(
                "{id}: attempt {attempt} under lease {number}, and {} were begun before",
                begun.len()
            ),
        );
    }
}

/// A task is not delivered again after a failure of its last attempt or a final failure.
fn after_the_last_attempt(
    id: &str,
    task: &Task<'_>,
    lease: &Lease<'_>,
    next: &Lease<'_>,
    broken: &mut Findings,
) {
    let policies =
        task.makers(lease.delivery.generation).into_iter().map(|submit| submit.task.retry.as_ref());
    let limit = policies
        .map(|policy| policy.and_then(|policy| policy.max_attempts).unwrap_or(ATTEMPTS_MAX))
        .max();
    let is_last = limit.is_some_and(|limit| lease.delivery.attempt >= limit);
    let for_good = lease.reports.iter().any(|report| {
        let is_final = match report.what {
            Report::Reject(_) => true,
            Report::Fail(fail) => fail.r#final || is_last,
            Report::Retry(_) => is_last,
            _ => false,
        };
        is_final && report.accepted().is_some()
    });
    if for_good {
        let (number, another) = (lease.delivery.lease, next.delivery.lease);
        broken.add(
            4,
            format!("{id}: failed for good under lease {number}, and given again under {another}"),
        );
    }
}

pub(super) fn what_was_completed_is_not_delivered_again(index: &Index<'_>, broken: &mut Findings) {
    for (id, task) in &index.tasks {
        let is_unsure = index.may_name_two_tasks(task);
        for number in &task.leases {
            let lease = &index.leases[number];
            let Some(completed) = lease.reports.iter().filter_map(completed).min() else {
                continue;
            };
            let generation = lease.delivery.generation;
            let mut later = task.leases.iter().filter(|other| *other > number);
            let again = later.find(|other| index.leases[other].delivery.generation == generation);
            if let Some(again) = again.filter(|_| !is_unsure) {
                broken.add(
                    5,
                    format!(
                        "{id}: delivered under lease {again} after it was completed under {number}"
                    ),
                );
            }
            let connecting =
                |connection| index.connections.get(connection).map_or(0, |known| known.connecting);
            if lease.sights.iter().any(|(_, connection)| connecting(connection) > completed) {
                broken.add(
                    5,
                    format!("{id}: lease {number} was delivered again after it was completed"),
                );
            }
        }
    }
}

/// When the worker was told that its completion counts. A completion whose result is too large ends
/// the task too.
fn completed(report: &Reported<'_>) -> Option<Position> {
    let (told, outcome) = report.answered?;
    let counts = matches!(outcome.code(), ErrorCode::Unspecified | ErrorCode::ResultTooLarge);
    (matches!(report.what, Report::Complete(_)) && counts).then_some(told)
}
