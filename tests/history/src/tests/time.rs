//! Promises 8 and 10.

use super::*;

fn brief() -> wire::Task {
    wire::Task { result_ttl_ms: Some(100), ..task("a") }
}

fn done(task: wire::Task) -> Script {
    let mut script = Script::new();
    script.created(task).deliver(WORKER, "a", 1).accepted(WORKER, "a", 1, complete("result"));
    script
}

fn revoked() -> Script {
    let mut script = Script::new();
    script.created(task("a")).cancel("a", cancel_outcome::Kind::Revoked);
    script
}

#[test]
fn a_result_that_is_forgotten_too_early_is_found() {
    let mut script = done(brief());
    script.pass(99).read("a", TaskState::Unknown);
    script.breaks(8, "shown as Unknown before its time was over");
}

#[test]
fn a_result_that_is_kept_too_long_is_found() {
    let mut script = done(brief());
    script.pass(101).read_as(success("a", "result"));
    script.breaks(8, "after its time was over");
}

#[test]
fn a_result_is_kept_for_its_time_and_then_gone() {
    let mut script = done(brief());
    script.pass(99).read_as(success("a", "result")).pass(1).read("a", TaskState::Unknown);
    script.is_good();
}

#[test]
fn a_result_that_was_forgotten_on_request_is_not_missed() {
    let mut script = done(brief());
    script.request(PRODUCER, RequestItem::Forget { id: "a".into() });
    script.read("a", TaskState::Unknown);
    script.is_good();
}

#[test]
fn a_clock_that_was_set_ends_the_time_of_a_result() {
    let mut script = done(brief());
    script.now.wall_ms += 3_600_000;
    script.push(0, Event::ClockSet);
    script.read("a", TaskState::Unknown);
    script.is_good();
}

#[test]
fn a_completed_task_that_waits_again_is_found() {
    let mut script = done(task("a"));
    script.read("a", TaskState::Queued);
    script.breaks(8, "ended as Success, and was shown as Queued");
}

#[test]
fn an_end_that_changes_is_found() {
    let mut script = Script::new();
    script.created(task("a")).deliver(WORKER, "a", 1);
    script.report(WORKER, "a", 1, fail(true));
    script.read("a", TaskState::Failure).read("a", TaskState::Queued);
    script.breaks(8, "ended as Failure, and then was Queued");
}

#[test]
fn a_push_that_comes_late_tells_of_the_past() {
    let mut script = good();
    script.read_as(success("a", "result"));
    let late = wire::TaskInfo { state: TaskState::Started.into(), ..info("a") };
    script.push(PRODUCER, Event::Pushed(Box::new(late)));
    script.is_good();
}

#[test]
fn a_start_before_the_eta_is_found() {
    let eta = |script: &Script, ms: i64| wire::Task {
        eta_at_ms: Some(script.now.wall_ms + ms),
        ..task("a")
    };
    let mut script = Script::new();
    let later = eta(&script, 100);
    script.created(later).pass(99).deliver(WORKER, "a", 1);
    script.breaks(10, "1 ms before its eta");
    let mut script = Script::new();
    let later = eta(&script, 100);
    script.created(later).pass(100).deliver(WORKER, "a", 1);
    script.is_good();
}

#[test]
fn a_countdown_begins_when_the_broker_may_have_taken_it_in() {
    let counting = || wire::Task { countdown_ms: Some(100), ..task("a") };
    let mut script = Script::new();
    let asked = script.submit(counting());
    script.pass(50);
    script.told(asked, Kind::Created, 1);
    let mut early = script.clone();
    early.pass(49).deliver(WORKER, "a", 1);
    early.breaks(10, "1 ms before its eta");
    script.pass(50).deliver(WORKER, "a", 1);
    script.is_good();
}

#[test]
fn a_clock_that_was_set_makes_tasks_due() {
    let mut script = Script::new();
    let eta = Some(script.now.wall_ms + 3_600_000);
    script.created(wire::Task { eta_at_ms: eta, ..task("a") });
    script.now.wall_ms += 3_600_000;
    script.deliver(WORKER, "a", 1);
    script.is_good();
    // Also when it was set back before the delivery came.
    let mut script = Script::new();
    script.created(wire::Task { eta_at_ms: eta, ..task("a") });
    script.now.wall_ms += 3_600_000;
    script.push(0, Event::ClockSet);
    script.now.wall_ms -= 3_600_000;
    script.deliver(WORKER, "a", 1);
    script.is_good();
}

#[test]
fn a_delivery_after_the_expiry_is_found() {
    let expiring = || wire::Task { expires_in_ms: Some(100), ..task("a") };
    let mut script = Script::new();
    script.created(expiring()).pass(101);
    script.connect(9, "third", &[]);
    let mut late = script.clone();
    late.deliver(9, "a", 1);
    late.breaks(10, "delivered under lease 1 after its expiry");
    // What came on an older connection was perhaps given in time.
    script.deliver(WORKER, "a", 1);
    script.is_good();
}

#[test]
fn a_start_after_the_expiry_is_found() {
    let mut script = Script::new();
    script.created(wire::Task { expires_in_ms: Some(100), ..task("a") }).deliver(WORKER, "a", 1);
    let mut late = script.clone();
    late.pass(101).accepted(WORKER, "a", 1, started());
    late.breaks(10, "begun under lease 1 after its expiry");
    script.accepted(WORKER, "a", 1, started()).pass(101).accepted(
        WORKER,
        "a",
        1,
        complete("result"),
    );
    script.is_good();
}

#[test]
fn a_retry_after_the_expiry_is_found() {
    let expiring = || wire::Task { expires_in_ms: Some(100), ..task("a") };
    let second = || wire::Delivery { attempt: 2, ..delivery("a", 2) };
    let mut script = Script::new();
    script
        .created(expiring())
        .deliver(WORKER, "a", 1)
        .accepted(WORKER, "a", 1, fail(false))
        .deliver_as(WORKER, second());
    let mut late = script.clone();
    late.pass(101).accepted(WORKER, "a", 2, started());
    late.breaks(10, "begun under lease 2 after its expiry");
    script.accepted(WORKER, "a", 2, started()).pass(101).accepted(
        WORKER,
        "a",
        2,
        complete("result"),
    );
    script.is_good();
}

#[test]
fn a_dead_task_that_is_run_again_has_no_expiry() {
    let mut script = Script::new();
    script.created(wire::Task { expires_in_ms: Some(100), ..task("a") }).deliver(WORKER, "a", 1);
    script.accepted(WORKER, "a", 1, fail(true)).pass(101);
    script.done(RequestItem::Dead { ids: Vec::new(), again: true });
    script.deliver_as(WORKER, wire::Delivery { generation: 2, ..delivery("a", 2) }).accepted(
        WORKER,
        "a",
        2,
        started(),
    );
    script.is_good();
}

#[test]
fn a_span_may_be_measured_by_either_clock() {
    for jump_ms in [-3_600_000, 3_600_000] {
        let mut script = Script::new();
        script.created(wire::Task {
            countdown_ms: Some(100),
            expires_in_ms: Some(200),
            ..task("a")
        });
        script.now.wall_ms += jump_ms;
        script.push(0, Event::ClockSet);
        script.pass(150).deliver(WORKER, "a", 1).accepted(WORKER, "a", 1, started());
        script.is_good();
    }
    // But nothing is early or late by both.
    let mut script = Script::new();
    script.created(wire::Task { countdown_ms: Some(100), ..task("a") });
    script.now.wall_ms -= 3_600_000;
    script.push(0, Event::ClockSet);
    script.pass(99).deliver(WORKER, "a", 1);
    script.breaks(10, "1 ms before its eta");
}

#[test]
fn a_revoked_task_that_is_delivered_is_found() {
    let mut script = revoked();
    script.connect(9, "third", &[]);
    script.deliver(9, "a", 1);
    script.breaks(10, "delivered under lease 1 after it was revoked");
}

#[test]
fn a_delivery_that_was_under_way_when_its_task_was_revoked_is_no_start() {
    let mut script = revoked();
    script.deliver(WORKER, "a", 1);
    let late = script.report(WORKER, "a", 1, started());
    script.reported(late, ErrorCode::StaleLease);
    script.is_good();
}

#[test]
fn a_report_that_counts_after_the_revocation_is_found() {
    let mut script = revoked();
    script.deliver(WORKER, "a", 1).accepted(WORKER, "a", 1, started());
    script.breaks(10, "counted after it was revoked");
}

#[test]
fn a_lease_that_was_taken_back_may_be_released_after_the_revocation() {
    let mut script = revoked();
    script.deliver(WORKER, "a", 1).accepted(WORKER, "a", 1, release());
    script.is_good();
}

#[test]
fn a_worker_that_stores_the_end_of_a_revoked_task_has_not_begun_it() {
    let mut script = revoked();
    script.deliver(WORKER, "a", 1).read("a", TaskState::Revoked);
    let stored = script.put(WORKER, "a", 1, Report::Reject(wire::Reject { error: None }));
    let mut ran = script.clone();
    script.reported_as(stored, TaskState::Revoked);
    script.is_good();
    ran.reported_as(stored, TaskState::Failure);
    ran.breaks(10, "counted after it was revoked");
}

/// The worker of a task that has expired and is forgotten may still put the outcome of its run.
#[test]
fn an_outcome_of_a_task_that_is_gone_may_make_another_one() {
    let mut script = Script::new();
    script.created(wire::Task { expires_in_ms: Some(50), ..brief() }).deliver(WORKER, "a", 1);
    let expired = wire::TaskInfo {
        state: TaskState::Revoked.into(),
        revoked_reason: "expired".into(),
        ..info("a")
    };
    script.pass(60).read_as(expired);
    let mut at_once = script.clone();
    let stored = at_once.put(WORKER, "a", 1, complete("result"));
    at_once.reported_as(stored, TaskState::Success);
    at_once.read_as(success("a", "result"));
    at_once.breaks(8, "ended as Revoked, and then was Success");
    script.pass(200);
    let stored = script.put(WORKER, "a", 1, complete("result"));
    script.reported_as(stored, TaskState::Success);
    script.read_as(success("a", "result"));
    script.is_good();
}

#[test]
fn a_revoked_task_that_becomes_a_success_is_found() {
    let mut script = Script::new();
    script.created(task("a")).deliver(WORKER, "a", 1);
    script.report(WORKER, "a", 1, complete("result"));
    script.cancel("a", cancel_outcome::Kind::Revoked).read_as(success("a", "result"));
    script.breaks(10, "was revoked and became SUCCESS");
}

#[test]
fn a_cancel_that_was_never_answered_promises_nothing() {
    let mut script = Script::new();
    script.created(task("a"));
    script.request(PRODUCER, RequestItem::Cancel { id: "a".into(), force: false });
    script.connect(9, "third", &[]);
    script.deliver(9, "a", 1).accepted(9, "a", 1, complete("result"));
    script.is_good();
}

/// A broker that starts while the clock is set measures by what it shows then, also after the clock
/// is right again.
#[test]
fn a_clock_that_was_set_over_a_restart_moves_the_time_of_a_result() {
    for (ahead_ms, shown) in [(3_600_000, TaskState::Unknown), (-3_600_000, TaskState::Success)] {
        let mut script = done(brief());
        script.now.wall_ms += ahead_ms;
        script.push(0, Event::ClockSet);
        script.restart();
        script.now.wall_ms -= ahead_ms;
        script.push(0, Event::ClockSet);
        match shown {
            TaskState::Success => script.pass(10_000).read_as(success("a", "result")),
            _ => script.read("a", shown),
        };
        script.is_good();
    }
}
