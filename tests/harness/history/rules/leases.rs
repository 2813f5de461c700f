//! Promise 3: two valid leases on one task never overlap; leases rise strictly, over restarts.

use std::collections::BTreeSet;

use super::Findings;
use crate::history::event::Mark;
use crate::history::reading::{Connection, Reading};

pub(super) fn leases_never_overlap_and_rise(reading: &Reading<'_>, broken: &mut Findings) {
    leases_rise(reading, broken);
    a_lease_is_of_one_task_and_one_session(reading, broken);
    a_report_counts_only_until_the_next_lease(reading, broken);
    for connection in reading.connections.values() {
        kept_leases_are_current(reading, connection, broken);
    }
}

fn leases_rise(reading: &Reading<'_>, broken: &mut Findings) {
    if let Some(lease) = reading.leases.get(&0) {
        broken.add(3, format!("{}: delivered with lease 0", lease.delivery.id));
    }
    let mut later: Option<(u64, Mark)> = None;
    for (number, lease) in &reading.leases {
        // A higher lease that was there before a lower one was given.
        if lease.lower_after > lease.first_seen() {
            let lower = later.map_or(0, |(lower, _)| lower);
            broken.add(
                3,
                format!("{}: lease {number}, and {lower} was given later", lease.delivery.id),
            );
        }
        if later.is_none_or(|(_, after)| lease.given_after > after) {
            later = Some((*number, lease.given_after));
        }
    }
}

fn a_lease_is_of_one_task_and_one_session(reading: &Reading<'_>, broken: &mut Findings) {
    for (number, lease) in &reading.leases {
        let (id, generation) = (&lease.delivery.id, lease.delivery.generation);
        for (_, other) in &lease.otherwise {
            if other.id != *id || other.generation != generation {
                broken.add(3, format!("lease {number} was given to {id} and to {}", other.id));
            } else if (other.deliveries, other.attempt)
                != (lease.delivery.deliveries, lease.delivery.attempt)
            {
                broken.add(3, format!("{id}: lease {number} was sent again with other counts"));
            }
        }
        let sessions: BTreeSet<&str> = lease
            .sights
            .iter()
            .filter_map(|(_, connection)| reading.session_of(*connection))
            .collect();
        if sessions.len() > 1 {
            broken.add(3, format!("{id}: lease {number} was given to {} sessions", sessions.len()));
        }
    }
}

/// Whoever has the next lease is alone: a report under the one before, sent after the next was
/// seen, must not count.
fn a_report_counts_only_until_the_next_lease(reading: &Reading<'_>, broken: &mut Findings) {
    for (id, task) in &reading.tasks {
        for pair in task.leases.windows(2) {
            let (lease, next) = (&reading.leases[&pair[0]], &reading.leases[&pair[1]]);
            let late = lease
                .reports
                .iter()
                .find(|report| report.accepted().is_some() && report.asked > next.first_seen());
            if late.is_some() {
                broken.add(
                    3,
                    format!(
                        "{id}: a report under lease {} counted after {} was given",
                        pair[0], pair[1]
                    ),
                );
            }
        }
    }
}

/// What Welcome lists is held by this session, and by nobody else.
fn kept_leases_are_current(
    reading: &Reading<'_>,
    connection: &Connection<'_>,
    broken: &mut Findings,
) {
    let Some((_, welcome)) = connection.welcome else { return };
    let connecting = connection.connecting;
    for number in &welcome.leases {
        let Some(lease) = reading.leases.get(number) else { continue };
        let id = &lease.delivery.id;
        let is_of_another = lease.sights.iter().filter_map(|(_, other)| reading.session_of(*other));
        if is_of_another.into_iter().any(|session| session != welcome.session_id) {
            broken.add(3, format!("{id}: lease {number} is kept for a session that never had it"));
        }
        let leases = reading.tasks.get(&**id).map_or(&[][..], |task| &task.leases);
        let next = leases
            .iter()
            .find(|other| *other > number)
            .map(|other| reading.leases[other].first_seen());
        if next.is_some_and(|next| next < connecting) {
            broken.add(3, format!("{id}: lease {number} is kept although a later one was given"));
        }
        let ended = lease
            .reports
            .iter()
            .filter(|report| report.ends_the_lease())
            .filter_map(|report| report.accepted());
        if ended.min().is_some_and(|ended| ended < connecting) {
            broken.add(3, format!("{id}: lease {number} is kept although its end was confirmed"));
        }
    }
}
