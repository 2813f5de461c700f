//! Promise 3.

use super::*;

/// Lost by the first worker, and given to the second.
fn lost() -> Script {
    let mut script = Script::new();
    script.created(task("a")).deliver(WORKER, "a", 1).pass(LEASE_MS);
    script.deliver_as(OTHER, wire::Delivery { deliveries: 2, ..delivery("a", 2) });
    script
}

#[test]
fn a_lease_of_two_tasks_is_found() {
    let mut script = Script::new();
    script.created(task("a")).created(task("b")).deliver(WORKER, "a", 5).deliver(OTHER, "b", 5);
    script.breaks(3, "lease 5 was given to a and to b");
}

#[test]
fn a_lease_of_two_workers_is_found() {
    let mut script = Script::new();
    script.created(task("a")).deliver(WORKER, "a", 1).deliver(OTHER, "a", 1);
    script.breaks(3, "to 2 sessions");
}

#[test]
fn a_lease_that_is_sent_again_to_its_own_session_is_the_same() {
    let mut script = Script::new();
    script.created(task("a")).deliver(WORKER, "a", 1);
    script.push(WORKER, Event::Disconnected);
    script.connect(9, "worker", &[1]);
    script.deliver(9, "a", 1).accepted(9, "a", 1, complete("result"));
    script.is_good();
}

#[test]
fn a_lease_that_is_sent_again_with_other_counts_is_found() {
    let mut script = Script::new();
    script.created(task("a")).deliver(WORKER, "a", 1);
    script.deliver_as(WORKER, wire::Delivery { deliveries: 2, ..delivery("a", 1) });
    script.breaks(3, "with other counts");
}

#[test]
fn a_lease_that_falls_over_a_restart_is_found() {
    let mut script = Script::new();
    script.created(task("a")).deliver(WORKER, "a", 5);
    script.push(0, Event::BrokerDown);
    script.push(0, Event::BrokerUp);
    script.created(task("b")).deliver(OTHER, "b", 2);
    script.breaks(3, "lease 5, and 2 was given later");
}

#[test]
fn a_lower_lease_that_is_seen_late_was_perhaps_given_early() {
    let mut script = Script::new();
    script.created(task("a")).created(task("b")).deliver(WORKER, "a", 5).deliver(OTHER, "b", 2);
    script.is_good();
}

#[test]
fn a_report_that_counts_after_the_next_lease_was_given_is_found() {
    let mut script = lost();
    script.accepted(WORKER, "a", 1, started());
    script.breaks(3, "a report under lease 1 counted after 2");
    let mut script = lost();
    let report = script.report(WORKER, "a", 1, started());
    script.reported(report, ErrorCode::StaleLease);
    script.is_good();
}

#[test]
fn a_lease_that_is_kept_after_the_next_was_given_is_found() {
    let mut script = lost();
    script.connect(9, "worker", &[1]);
    script.breaks(3, "lease 1 is kept although a later one was given");
}

#[test]
fn a_lease_that_is_kept_after_its_confirmed_end_is_found() {
    let mut script = good();
    script.connect(9, "worker", &[1]);
    script.breaks(3, "lease 1 is kept although its end was confirmed");
}

#[test]
fn a_lease_that_is_kept_for_another_session_is_found() {
    let mut script = Script::new();
    script.created(task("a")).deliver(WORKER, "a", 1);
    script.connect(9, "other", &[1]);
    script.breaks(3, "kept for a session that never had it");
}
