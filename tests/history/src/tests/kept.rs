//! Promise 1.

use super::*;

#[test]
fn a_confirmed_task_that_is_gone_is_found() {
    let mut script = Script::new();
    script.created(task("a")).read("a", TaskState::Unknown);
    script.breaks(1, "unknown when it was read");
}

#[test]
fn a_confirmed_task_that_nobody_finds_to_cancel_is_found() {
    let mut script = Script::new();
    script.created(task("a")).cancel("a", cancel_outcome::Kind::NotFound);
    script.breaks(1, "unknown when it was cancelled");
}

#[test]
fn a_report_on_a_task_that_is_gone_is_found() {
    let mut script = Script::new();
    script.created(task("a")).deliver(WORKER, "a", 1);
    let report = script.report(WORKER, "a", 1, started());
    script.reported(report, ErrorCode::NotFound);
    script.breaks(1, "unknown when it was reported on");
}

#[test]
fn an_unknown_submit_may_be_unknown_to_the_broker() {
    let mut script = Script::new();
    script.submit(task("a"));
    script.read("a", TaskState::Unknown).settled().read("a", TaskState::Unknown);
    script.is_good();
}

#[test]
fn a_read_that_was_asked_before_the_confirmation_proves_nothing() {
    let mut script = Script::new();
    let submit = script.submit(task("a"));
    let read = script.request(PRODUCER, RequestItem::Read { id: "a".into(), with_result: false });
    script.told(submit, Kind::Created, 1);
    script.answer(read, Answer::Read(Box::new(info("a"))));
    script.is_good();
}

#[test]
fn a_task_that_may_have_been_forgotten_may_be_gone() {
    let mut script = good();
    script.request(PRODUCER, RequestItem::Forget { id: "a".into() });
    script.read("a", TaskState::Unknown);
    script.is_good();
}

#[test]
fn a_task_that_may_have_ended_is_gone_after_its_time_and_not_before() {
    let brief = || wire::Task { result_ttl_ms: Some(100), ..task("a") };
    let mut script = Script::new();
    script.created(brief()).deliver(WORKER, "a", 1);
    script.report(WORKER, "a", 1, complete("result"));
    script.pass(50).read("a", TaskState::Unknown);
    script.breaks(1, "unknown when it was read");
    let mut script = Script::new();
    script.created(brief()).deliver(WORKER, "a", 1);
    script.report(WORKER, "a", 1, complete("result"));
    script.pass(100).read("a", TaskState::Unknown);
    script.is_good();
}

#[test]
fn a_task_that_never_ends_is_found_when_all_had_time_to() {
    let mut script = Script::new();
    script.created(task("a")).deliver(WORKER, "a", 1).read("a", TaskState::Leased);
    script.is_good();
    script.settled().read("a", TaskState::Leased);
    script.breaks(1, "in the end Leased");
}

#[test]
fn a_task_whose_time_is_yet_to_come_may_wait_in_the_end() {
    let mut script = Script::new();
    let eta = Some(script.now.wall_ms + 1_000);
    script.created(wire::Task { eta_at_ms: eta, ..task("a") }).settled();
    script.read_as(wire::TaskInfo {
        state: TaskState::Scheduled.into(),
        eta_at_ms: eta,
        ..info("a")
    });
    script.is_good();
    script.pass(2_000);
    script.read_as(wire::TaskInfo {
        state: TaskState::Scheduled.into(),
        eta_at_ms: eta,
        ..info("a")
    });
    script.breaks(1, "in the end Scheduled");
}

#[test]
fn a_confirmed_task_that_was_never_read_in_the_end_is_found() {
    let mut script = Script::new();
    script.created(task("a")).settled();
    script.breaks(1, "never looked at");
}

#[test]
fn an_end_without_a_reason_is_found() {
    let mut script = Script::new();
    script.created(task("a")).read("a", TaskState::Revoked);
    script.breaks(1, "nothing ended it");
    let mut script = Script::new();
    script.created(task("a"));
    script.request(PRODUCER, RequestItem::Cancel { id: "a".into(), force: false });
    script.read("a", TaskState::Revoked);
    script.is_good();
}

#[test]
fn an_expiry_is_a_reason_only_when_its_time_has_come() {
    let expiring = || wire::Task { expires_in_ms: Some(100), ..task("a") };
    let mut script = Script::new();
    script.created(expiring()).pass(50).read("a", TaskState::Revoked);
    script.breaks(1, "nothing ended it");
    let mut script = Script::new();
    script.created(expiring()).pass(100).read("a", TaskState::Revoked);
    script.is_good();
}
