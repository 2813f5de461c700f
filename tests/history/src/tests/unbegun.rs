//! Promise 12.

use super::*;

fn pause() -> RequestItem {
    RequestItem::Pause { queue: "q".into(), paused: true }
}

fn resume() -> RequestItem {
    RequestItem::Pause { queue: "q".into(), paused: false }
}

/// A task is leased, and not begun.
fn leased() -> Script {
    let mut script = Script::new();
    script.created(task("a")).deliver(WORKER, "a", 1);
    script
}

fn refuse(script: &mut Script, lease: u64) {
    let late = script.report(WORKER, "a", lease, started());
    script.reported(late, ErrorCode::StaleLease);
}

#[test]
fn a_start_after_a_pause_was_answered_is_found() {
    let mut script = leased();
    script.done(pause());
    let mut refused = script.clone();
    refuse(&mut refused, 1);
    refused.is_good();
    script.accepted(WORKER, "a", 1, started());
    script.breaks(12, "begun under lease 1 after the queue q was paused");
}

#[test]
fn an_outcome_implies_a_start() {
    let mut script = leased();
    script.done(pause()).accepted(WORKER, "a", 1, complete("result"));
    script.breaks(12, "begun under lease 1");
}

#[test]
fn a_lease_that_a_pause_took_back_is_void_after_the_resume_too() {
    let mut script = leased();
    script.done(pause()).done(resume()).accepted(WORKER, "a", 1, started());
    script.breaks(12, "begun under lease 1");
}

#[test]
fn what_had_begun_or_was_said_before_the_answer_goes_on() {
    let mut script = leased();
    script.accepted(WORKER, "a", 1, started()).done(pause()).accepted(
        WORKER,
        "a",
        1,
        complete("result"),
    );
    script.is_good();
    let mut script = leased();
    let early = script.report(WORKER, "a", 1, started());
    script.done(pause());
    script.reported(early, ErrorCode::Unspecified);
    script.is_good();
}

#[test]
fn a_lease_that_is_handed_back_after_a_pause_is_no_start() {
    let mut script = leased();
    script.done(pause()).accepted(WORKER, "a", 1, release());
    script.is_good();
}

#[test]
fn a_pause_that_was_never_answered_promises_nothing() {
    let mut script = leased();
    script.request(PRODUCER, pause());
    script.accepted(WORKER, "a", 1, started());
    script.is_good();
}

#[test]
fn a_delivery_in_a_pause_is_found() {
    let mut script = Script::new();
    script.done(pause()).created(task("a"));
    let mut resumed = script.clone();
    script.deliver(WORKER, "a", 1);
    script.breaks(12, "delivered under lease 1 while the queue q was paused");
    resumed.request(PRODUCER, resume());
    resumed.deliver(WORKER, "a", 1).accepted(WORKER, "a", 1, started());
    resumed.is_good();
}

#[test]
fn a_delivery_that_was_on_its_way_is_none() {
    let mut script = Script::new();
    script.created(task("a")).done(pause()).deliver(WORKER, "a", 1);
    refuse(&mut script, 1);
    script.is_good();
    script.connect(9, "third", &[]);
    script.deliver_as(9, delivery("a", 2));
    script.breaks(12, "delivered under lease 2 while the queue q was paused");
}

#[test]
fn another_queue_is_not_paused() {
    let mut script = leased();
    script.done(RequestItem::Pause { queue: "other".into(), paused: true }).accepted(
        WORKER,
        "a",
        1,
        started(),
    );
    script.is_good();
}

#[test]
fn a_resume_without_an_answer_may_come_late_but_not_after_a_restart() {
    let mut script = leased();
    script.request(PRODUCER, resume());
    let mut down = script.clone();
    script.done(pause()).accepted(WORKER, "a", 1, started());
    script.is_good();
    down.restart().done(pause()).accepted(WORKER, "a", 1, started());
    down.breaks(12, "begun under lease 1");
}

#[test]
fn a_queue_that_is_deleted_is_not_paused_any_more() {
    let mut script = Script::new();
    script.done(pause()).done(RequestItem::Delete { queue: "q".into() });
    script.created(task("a")).deliver(WORKER, "a", 1).accepted(WORKER, "a", 1, complete("result"));
    script.is_good();
}

#[test]
fn a_queue_that_was_shown_as_paused_is_paused() {
    let mut script = leased();
    let asked = script.request(PRODUCER, RequestItem::Queues);
    let shown = wire::QueueInfo { name: "q".into(), paused: true, ..Default::default() };
    script.answer(asked, Answer::Queues(vec![shown]));
    script.accepted(WORKER, "a", 1, started());
    script.breaks(12, "begun under lease 1");
}

#[test]
fn a_start_after_a_purge_or_a_delete_was_answered_is_found() {
    for sweep in
        [RequestItem::Purge { queue: "q".into() }, RequestItem::Delete { queue: "q".into() }]
    {
        let mut script = leased();
        script.done(sweep);
        let mut refused = script.clone();
        refuse(&mut refused, 1);
        refused.is_good();
        script.accepted(WORKER, "a", 1, started());
        script.breaks(12, "begun under lease 1");
    }
}

#[test]
fn a_delivery_after_a_purge_was_answered_is_found() {
    let mut script = Script::new();
    script.created(task("a")).done(RequestItem::Purge { queue: "q".into() });
    script.connect(9, "third", &[]);
    script.deliver(9, "a", 1);
    script.breaks(12, "delivered under lease 1");
}

#[test]
fn what_ran_when_its_queue_was_purged_is_tried_again() {
    let mut script = leased();
    script.accepted(WORKER, "a", 1, started()).done(RequestItem::Purge { queue: "q".into() });
    script.accepted(WORKER, "a", 1, fail(false));
    let again = wire::Delivery { attempt: 2, ..delivery("a", 2) };
    script.deliver_as(WORKER, again).accepted(WORKER, "a", 2, started());
    script.is_good();
}

#[test]
fn what_waits_between_two_attempts_is_purged() {
    let mut script = leased();
    script.accepted(WORKER, "a", 1, fail(false)).done(RequestItem::Purge { queue: "q".into() });
    script.deliver_as(WORKER, wire::Delivery { attempt: 2, ..delivery("a", 2) }).accepted(
        WORKER,
        "a",
        2,
        started(),
    );
    script.breaks(12, "begun under lease 2");
}

#[test]
fn who_joined_a_task_under_the_name_of_another_queue_did_not_move_it() {
    let mut script = leased();
    let joined = script.submit(wire::Task { queue: "other".into(), ..task("a") });
    script.told(joined, Kind::Joined, 1);
    script.done(RequestItem::Purge { queue: "other".into() }).accepted(WORKER, "a", 1, started());
    script.is_good();
}

#[test]
fn what_comes_after_a_purge_runs() {
    let mut script = Script::new();
    script.done(RequestItem::Purge { queue: "q".into() });
    script.created(task("a")).deliver(WORKER, "a", 1).accepted(WORKER, "a", 1, started());
    script.is_good();
}

#[test]
fn a_delete_that_was_refused_because_tasks_run_may_have_purged() {
    let mut script = leased();
    let asked = script.request(PRODUCER, RequestItem::Delete { queue: "q".into() });
    script.push(PRODUCER, Event::Refused { item: asked, code: ErrorCode::NotFinished });
    script.read("a", TaskState::Revoked);
    script.is_good();
    let mut script = leased();
    let asked = script.request(PRODUCER, RequestItem::Delete { queue: "q".into() });
    script.push(PRODUCER, Event::Refused { item: asked, code: ErrorCode::NotFinished });
    script.accepted(WORKER, "a", 1, started());
    script.is_good();
}

#[test]
fn a_start_after_the_expiry_was_shown_is_found() {
    let expired =
        || wire::TaskInfo { revoked_reason: "expired".into(), ..at("a", 3, TaskState::Revoked) };
    let mut script = Script::new();
    script.created(wire::Task { expires_in_ms: Some(100), ..task("a") }).deliver(WORKER, "a", 1);
    script.pass(100).read_as(expired());
    let mut refused = script.clone();
    refuse(&mut refused, 1);
    refused.is_good();
    script.accepted(WORKER, "a", 1, started());
    script.breaks(12, "begun under lease 1 after it was shown as revoked, `expired`");
}

#[test]
fn a_cancel_of_many_says_whom_it_revoked() {
    let mut script = leased();
    let asked = script
        .request(PRODUCER, RequestItem::CancelMany { root_id: String::new(), tag: "tag".into() });
    let revoked =
        wire::CancelOutcome { id: "a".into(), kind: cancel_outcome::Kind::Revoked.into() };
    script.answer(asked, Answer::CancelMany(vec![revoked]));
    script.accepted(WORKER, "a", 1, started());
    script.breaks(10, "counted after it was revoked");
}

fn announced(id: &str, lease: u64) -> wire::Delivery {
    wire::Delivery { revoked_reason: "cancelled".into(), ..delivery(id, lease) }
}

fn rejected() -> Report {
    Report::Reject(wire::Reject::default())
}

/// A task that was cancelled, and whose end a worker announces.
fn called_off() -> Script {
    let mut script = Script::new();
    script.created(wire::Task { announce_end: true, ..task("a") });
    script.cancel("a", cancel_outcome::Kind::Revoked).deliver_as(WORKER, announced("a", 1));
    script
}

#[test]
fn a_worker_may_announce_the_end_of_what_was_revoked() {
    let mut script = called_off();
    script.accepted(WORKER, "a", 1, rejected()).settled().read("a", TaskState::Revoked);
    script.is_good();
}

#[test]
fn what_was_called_off_and_is_given_to_begin_is_found() {
    let mut script = called_off();
    script.deliver(OTHER, "a", 2);
    script.breaks(12, "called off under lease 1, and given under lease 2");
    let mut script = called_off();
    script.accepted(WORKER, "a", 1, complete("result")).read_as(success("a", "result"));
    script.breaks(12, "called off under lease 1, and then Success");
}

fn drain(draining: bool) -> RequestItem {
    RequestItem::Drain { draining }
}

#[test]
fn o22_a_start_after_a_drain_was_answered_is_found() {
    let mut script = leased();
    script.done(drain(true));
    let mut refused = script.clone();
    refuse(&mut refused, 1);
    refused.is_good();
    script.accepted(WORKER, "a", 1, started());
    script.breaks(12, "begun under lease 1 after the broker was drained");
}

#[test]
fn o22_what_had_begun_before_a_drain_goes_on() {
    let mut script = leased();
    script.accepted(WORKER, "a", 1, started()).done(drain(true));
    script.accepted(WORKER, "a", 1, complete("result"));
    script.is_good();
}

#[test]
fn o22_a_delivery_in_a_drain_is_found_in_every_queue() {
    let mut script = Script::new();
    script.done(drain(true)).created(task("a"));
    let mut over = script.clone();
    script.deliver(WORKER, "a", 1);
    script.breaks(12, "delivered under lease 1 while the broker was drained");
    over.request(PRODUCER, drain(false));
    over.deliver(WORKER, "a", 1).accepted(WORKER, "a", 1, started());
    over.is_good();
}

#[test]
fn o22_a_restart_ends_a_drain_in_a_history_too() {
    let mut script = Script::new();
    script.done(drain(true)).created(task("a")).restart();
    script.connect(9, "third", &[]);
    script.deliver_as(9, delivery("a", 1));
    script.is_good();
}
