//! Promise 3: two valid leases on one task never overlap, and lease numbers rise strictly, over
//! restarts too.

use std::collections::BTreeSet;

use super::Findings;
use crate::event::Position;
use crate::index::{Connection, Index};

pub(super) fn leases_never_overlap_and_rise(index: &Index<'_>, broken: &mut Findings) {
    leases_rise(index, broken);
    a_lease_is_of_one_task_and_one_session(index, broken);
    a_report_counts_only_until_the_next_lease(index, broken);
    for connection in index.connections.values() {
        kept_leases_are_current(index, connection, broken);
    }
}

fn leases_rise(index: &Index<'_>, broken: &mut Findings) {
    if let Some(lease) = index.leases.get(&0) {
        broken.add(3, format!("{}: delivered with lease 0", lease.delivery.id));
    }
    let mut later: Option<(u64, Position)> = None;
    for (number, lease) in &index.leases {
        // A higher lease was seen before a lower one was given.
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

fn a_lease_is_of_one_task_and_one_session(index: &Index<'_>, broken: &mut Findings) {
    for (number, lease) in &index.leases {
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
            .filter_map(|(_, connection)| index.session_of(*connection))
            .collect();
        if sessions.len() > 1 {
            broken.add(3, format!("{id}: lease {number} was given to {} sessions", sessions.len()));
        }
    }
}

/// Only the latest lease is valid: a report under the lease before it, sent after the latest was
/// seen, must not count.
fn a_report_counts_only_until_the_next_lease(index: &Index<'_>, broken: &mut Findings) {
    for (id, task) in &index.tasks {
        for pair in task.leases.windows(2) {
            let (lease, next) = (&index.leases[&pair[0]], &index.leases[&pair[1]]);
            let late = lease.reports.iter().find(|report| {
                let is_late = report.accepted().is_some() && report.asked > next.first_seen();
                is_late && !report.is_of_the_waiting_run()
            });
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

/// The leases that Welcome lists are held by this session and by no other.
fn kept_leases_are_current(index: &Index<'_>, connection: &Connection<'_>, broken: &mut Findings) {
    let Some((_, welcome)) = connection.welcome else { return };
    let connecting = connection.connecting;
    for number in &welcome.leases {
        let Some(lease) = index.leases.get(number) else { continue };
        let id = &lease.delivery.id;
        let is_of_another = lease.sights.iter().filter_map(|(_, other)| index.session_of(*other));
        if is_of_another.into_iter().any(|session| session != welcome.session_id) {
            broken.add(3, format!("{id}: lease {number} is kept for a session that never had it"));
        }
        let leases = index.tasks.get(&**id).map_or(&[][..], |task| &task.leases);
        let next = leases
            .iter()
            .find(|other| *other > number)
            .map(|other| index.leases[other].first_seen());
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
