//! Promise 2.

use super::*;

#[test]
fn a_task_nobody_submitted_is_found() {
    let mut script = Script::new();
    script.deliver(WORKER, "ghost", 1);
    script.breaks(2, "delivered, and nobody submitted it");
    let mut script = Script::new();
    script.read("ghost", TaskState::Queued);
    script.breaks(2, "shown, and nobody submitted it");
}

#[test]
fn a_task_that_was_delivered_before_it_was_submitted_is_found() {
    let mut script = Script::new();
    script.deliver(WORKER, "a", 1).created(task("a"));
    script.breaks(2, "delivered, and nobody submitted it");
}

#[test]
fn a_changed_payload_is_found() {
    let mut script = Script::new();
    script
        .created(task("a"))
        .deliver_as(WORKER, wire::Delivery { payload: "payloaf".into(), ..delivery("a", 1) });
    script.breaks(2, "another payload");
}

#[test]
fn a_payload_that_changes_when_it_is_sent_again_is_found() {
    let mut script = Script::new();
    script.created(task("a")).deliver(WORKER, "a", 1);
    script.deliver_as(WORKER, wire::Delivery { payload: "".into(), ..delivery("a", 1) });
    script.breaks(2, "another payload");
}

#[test]
fn a_changed_queue_or_priority_is_found() {
    let mut script = Script::new();
    script
        .created(task("a"))
        .deliver_as(WORKER, wire::Delivery { priority: 5, ..delivery("a", 1) });
    script.breaks(2, "other fields");
}

#[test]
fn the_payload_of_a_request_that_was_joined_is_never_delivered() {
    let mut script = Script::new();
    script.created(task("a"));
    let again = script.submit(wire::Task { payload: "dropped".into(), ..task("a") });
    script.told(again, Kind::Joined, 1);
    script.deliver_as(WORKER, wire::Delivery { payload: "dropped".into(), ..delivery("a", 1) });
    script.breaks(2, "another payload");
}

#[test]
fn either_payload_of_two_unknown_requests_may_be_delivered() {
    for payload in ["payload", "other"] {
        let mut script = Script::new();
        script.submit(task("a"));
        script.submit(wire::Task { payload: "other".into(), ..task("a") });
        script.deliver_as(WORKER, wire::Delivery { payload: payload.into(), ..delivery("a", 1) });
        script.is_good();
    }
}

#[test]
fn a_result_that_no_worker_sent_is_found() {
    let mut script = good();
    script.read_as(success("a", "resul"));
    script.breaks(2, "no worker sent");
    let mut script = Script::new();
    script.created(task("a")).deliver(WORKER, "a", 1).read_as(success("a", "result"));
    script.breaks(2, "no worker completed it");
}

#[test]
fn another_result_than_the_confirmed_one_is_found() {
    let mut script = Script::new();
    script.created(task("a")).deliver(WORKER, "a", 1);
    script.report(WORKER, "a", 1, complete("unknown"));
    script.pass(LEASE_MS).deliver_as(OTHER, wire::Delivery { deliveries: 2, ..delivery("a", 2) });
    let unconfirmed = script.clone();
    script.accepted(OTHER, "a", 2, complete("result")).read_as(success("a", "unknown"));
    script.breaks(2, "another result than the confirmed one");
    // As long as none is confirmed, either may count.
    let mut script = unconfirmed;
    script.report(OTHER, "a", 2, complete("result"));
    script.read_as(success("a", "result"));
    script.is_good();
}

#[test]
fn a_report_after_the_end_of_its_run_changes_nothing() {
    let mut script = good();
    script.accepted(WORKER, "a", 1, complete("later"));
    let mut changed = script.clone();
    changed.read_as(success("a", "later"));
    changed.breaks(2, "shows another result than the confirmed one");
    script.read_as(success("a", "result"));
    script.is_good();
}

#[test]
fn an_outcome_of_no_run_makes_what_nobody_submitted() {
    let mut script = Script::new();
    let stored = script.put(PRODUCER, "put", 0, complete("result"));
    script.reported(stored, ErrorCode::Unspecified);
    script.read_as(success("put", "result"));
    script.is_good();
    script.read_as(success("other", "result"));
    script.breaks(2, "other: shown, and nobody submitted it");
}

#[test]
fn a_part_of_a_chord_is_what_was_sent() {
    let part = RequestItem::ChordPart(Box::new(wire::ChordPart {
        group: "g".into(),
        member: "a".into(),
        index: Some(0),
        body: "part".into(),
        ..wire::ChordPart::default()
    }));
    let mut unsent = Script::new();
    unsent.read_as(success("g/0/a", "part"));
    unsent.breaks(2, "shown, and nobody submitted it");
    let mut script = Script::new();
    script.request(WORKER, part);
    let mut changed = script.clone();
    changed.read_as(success("g/0/a", "parT"));
    changed.breaks(2, "a part of 4 bytes that nobody sent");
    script.read_as(success("g/0/a", "part"));
    script.is_good();
}
