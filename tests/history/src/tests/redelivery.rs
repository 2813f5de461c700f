//! Promises 4 and 5.

use super::*;

fn again(lease: u64, deliveries: u32, attempt: u32) -> wire::Delivery {
    wire::Delivery { deliveries, attempt, ..delivery("a", lease) }
}

/// One worker has begun.
fn begun() -> Script {
    let mut script = Script::new();
    script.created(task("a")).deliver(WORKER, "a", 1).accepted(WORKER, "a", 1, started());
    script
}

#[test]
fn a_second_delivery_without_a_cause_is_found() {
    let mut script = begun();
    script.pass(LEASE_MS).alive(WORKER).pass(LEASE_MS - 1).deliver_as(OTHER, again(2, 2, 2));
    script.breaks(4, "while lease 1 was held");
}

#[test]
fn a_silent_worker_is_a_cause() {
    let mut script = begun();
    script.pass(LEASE_MS).alive(WORKER).pass(LEASE_MS).deliver_as(OTHER, again(2, 2, 2));
    script.is_good();
}

#[test]
fn a_heartbeat_that_was_never_answered_was_perhaps_never_heard() {
    let mut script = begun();
    script.pass(LEASE_MS);
    script.request(WORKER, RequestItem::Other);
    script.deliver_as(OTHER, again(2, 2, 2));
    script.is_good();
}

#[test]
fn a_failure_and_a_release_and_a_goodbye_are_causes() {
    let mut failed = begun();
    failed.accepted(WORKER, "a", 1, fail(false)).deliver_as(OTHER, again(2, 1, 2));
    failed.is_good();
    let mut released = begun();
    released.accepted(WORKER, "a", 1, release()).deliver_as(OTHER, again(2, 1, 1));
    released.is_good();
    let mut left = begun();
    left.request(WORKER, RequestItem::Goodbye);
    left.deliver_as(OTHER, again(2, 2, 2));
    left.is_good();
}

#[test]
fn a_report_that_was_refused_is_no_cause() {
    let mut script = begun();
    let report = script.report(WORKER, "a", 1, fail(false));
    script.reported(report, ErrorCode::StaleLease);
    script.deliver_as(OTHER, again(2, 2, 2));
    script.breaks(4, "while lease 1 was held");
}

#[test]
fn what_has_not_begun_may_be_taken_back_when_its_worker_is_told() {
    let mut script = Script::new();
    script.created(task("a")).deliver(WORKER, "a", 1).deliver_as(OTHER, again(2, 1, 1));
    // The word may still be under way.
    script.is_good();
    let mut untold = script.clone();
    untold.alive(WORKER);
    untold.breaks(4, "while lease 1 was held");
    script.push(WORKER, Event::Signalled { lease: 1, kind: wire::cancel_signal::Kind::TakenBack });
    script.alive(WORKER);
    script.is_good();
}

#[test]
fn a_lost_lease_that_is_not_counted_is_found() {
    let mut script = begun();
    script.pass(LEASE_MS).deliver_as(OTHER, again(2, 1, 2));
    script.breaks(4, "not counted: 1 deliveries, then 1");
}

#[test]
fn an_attempt_that_is_not_counted_is_found() {
    let mut script = begun();
    script.accepted(WORKER, "a", 1, fail(false));
    script.push(0, Event::BrokerDown);
    script.push(0, Event::BrokerUp);
    script.deliver_as(OTHER, again(2, 1, 1));
    script.breaks(4, "attempt 1 under lease 2, and 2 is due");
}

#[test]
fn an_attempt_that_nobody_began_is_found() {
    let mut script = Script::new();
    script
        .created(task("a"))
        .deliver(WORKER, "a", 1)
        .pass(LEASE_MS)
        .deliver_as(OTHER, again(2, 2, 2));
    script.breaks(4, "0 were begun before");
}

#[test]
fn too_many_deliveries_are_found() {
    let mut script = Script::new();
    script
        .created(wire::Task { max_deliveries: Some(2), ..task("a") })
        .deliver_as(WORKER, again(1, 3, 1));
    script.breaks(4, "handed out 3 times");
    let mut script = Script::new();
    script.created(task("a")).deliver_as(WORKER, again(1, 21, 1));
    script.breaks(4, "handed out 21 times");
}

#[test]
fn an_attempt_after_the_last_one_is_found() {
    let policy = wire::RetryPolicy { max_attempts: Some(1), ..Default::default() };
    let mut script = Script::new();
    script.created(wire::Task { retry: Some(policy), ..task("a") }).deliver(WORKER, "a", 1);
    script.accepted(WORKER, "a", 1, fail(false)).deliver_as(OTHER, again(2, 1, 2));
    script.breaks(4, "failed for good");
    let mut script = begun();
    script.accepted(WORKER, "a", 1, fail(true)).deliver_as(OTHER, again(2, 1, 2));
    script.breaks(4, "failed for good");
}

#[test]
fn a_handler_that_begins_twice_under_one_lease_is_found() {
    let mut script = Script::new();
    script.created(task("a")).deliver(WORKER, "a", 1);
    let began =
        || Event::Began { id: "a".into(), generation: 1, lease: 1, deliveries: 1, attempt: 1 };
    script.push(WORKER, began());
    script.is_good();
    script.push(WORKER, began());
    script.breaks(4, "began 2 times");
}

#[test]
fn a_delivery_after_the_confirmed_completion_is_found() {
    let mut script = good();
    script.pass(LEASE_MS).deliver_as(OTHER, again(2, 2, 2));
    script.breaks(5, "after it was completed");
}

#[test]
fn a_completion_that_was_never_confirmed_may_be_lost() {
    let mut script = begun();
    script.report(WORKER, "a", 1, complete("result"));
    script.pass(LEASE_MS).deliver_as(OTHER, again(2, 2, 2));
    script.is_good();
}

#[test]
fn a_completed_lease_that_is_sent_again_is_found() {
    let mut script = good();
    script.connect(9, "worker", &[]);
    script.deliver(9, "a", 1);
    script.breaks(5, "delivered again after it was completed");
}
