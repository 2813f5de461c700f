//! Promise 13.

use super::*;

/// Two tasks are leased to one worker, and the first has begun.
fn in_company() -> Script {
    let mut script = Script::new();
    script.created(task("poison")).created(task("a"));
    script.deliver(WORKER, "poison", 1).deliver(WORKER, "a", 2).accepted(
        WORKER,
        "poison",
        1,
        started(),
    );
    script
}

/// The worker is lost, and its lease time over; the other one is there all the time.
fn lose(script: &mut Script) {
    script.push(WORKER, Event::Disconnected);
    script.pass(LEASE_MS).alive(OTHER);
}

fn again(id: &str, lease: u64, deliveries: u32, attempt: u32) -> wire::Delivery {
    wire::Delivery { deliveries, attempt, ..delivery(id, lease) }
}

fn worker_lost(id: &str) -> wire::TaskInfo {
    let error = wire::TaskError { kind: "worker_lost".into(), ..Default::default() };
    wire::TaskInfo { state: TaskState::Failure.into(), errors: vec![error], ..info(id) }
}

fn at_most(max_attempts: u32) -> wire::Task {
    let policy = wire::RetryPolicy { max_attempts: Some(max_attempts), ..Default::default() };
    wire::Task { retry: Some(policy), ..task("a") }
}

fn once() -> wire::Task {
    wire::Task { early_ack: true, ..task("a") }
}

#[test]
fn what_begins_once_does_not_begin_again() {
    let mut begun = Script::new();
    begun.created(once()).deliver(WORKER, "a", 1).accepted(WORKER, "a", 1, started());
    let mut failed = begun.clone();
    failed.accepted(WORKER, "a", 1, fail(false));
    failed
        .deliver_as(OTHER, again("a", 2, 2, 2))
        .breaks(13, "attempt 2 under lease 2, and 1 may begin");
    let mut released = begun.clone();
    released.accepted(WORKER, "a", 1, release());
    released.deliver_as(OTHER, again("a", 2, 2, 1)).accepted(OTHER, "a", 2, started());
    released.breaks(13, "2 attempts have begun with lease 2, and 1 may");
    begun.accepted(
        WORKER,
        "a",
        1,
        wire::task_report::Report::Release(wire::Release { not_begun: true, lost: false }),
    );
    begun.deliver_as(OTHER, again("a", 2, 1, 1)).accepted(OTHER, "a", 2, started()).is_good();
}

#[test]
fn what_was_settled_does_not_run_again() {
    let settle = || wire::task_report::Report::Settle(wire::Settle {});
    let mut settled = Script::new();
    settled.created(task("a")).deliver(WORKER, "a", 1);
    let mut unanswered = settled.clone();
    unanswered.report(WORKER, "a", 1, settle());
    lose(&mut unanswered);
    unanswered.deliver_as(OTHER, again("a", 2, 2, 2)).is_good();
    settled.accepted(WORKER, "a", 1, settle());
    let mut unbegun = settled.clone();
    unbegun.accepted(
        WORKER,
        "a",
        1,
        wire::task_report::Report::Release(wire::Release { not_begun: true, lost: false }),
    );
    unbegun.deliver_as(OTHER, again("a", 2, 1, 1)).is_good();
    lose(&mut settled);
    settled
        .deliver_as(OTHER, again("a", 2, 2, 2))
        .breaks(13, "settled under lease 1, and given again under 2");
}

#[test]
fn a_lease_that_never_began_is_not_charged_for_its_worker() {
    let mut script = in_company();
    lose(&mut script);
    script.deliver_as(OTHER, again("poison", 3, 2, 2));
    let mut charged = script.clone();
    script.deliver_as(OTHER, again("a", 4, 1, 1)).alive(OTHER);
    script.is_good();
    charged.deliver_as(OTHER, again("a", 4, 2, 1)).alive(OTHER);
    charged.breaks(13, "charged for lease 2, which never began");
}

#[test]
fn a_lease_that_has_started_is_charged() {
    let mut script = in_company();
    lose(&mut script);
    script.deliver_as(OTHER, again("poison", 3, 1, 2));
    script.breaks(4, "lost under lease 1, and not counted");
}

#[test]
fn what_was_given_out_alone_may_be_charged() {
    let mut script = Script::new();
    script.created(task("a")).deliver(WORKER, "a", 1);
    lose(&mut script);
    script.deliver_as(OTHER, again("a", 2, 2, 1)).alive(OTHER);
    script.is_good();
}

#[test]
fn company_that_had_ended_is_none() {
    let mut script = Script::new();
    script.created(task("b")).created(task("a"));
    script
        .deliver(WORKER, "b", 1)
        .accepted(WORKER, "b", 1, complete("result"))
        .deliver(WORKER, "a", 2);
    lose(&mut script);
    script.deliver_as(OTHER, again("a", 3, 2, 1)).alive(OTHER);
    script.is_good();
}

#[test]
fn a_start_that_was_never_answered_may_have_counted() {
    let mut script = in_company();
    script.report(WORKER, "a", 2, started());
    lose(&mut script);
    script.deliver_as(OTHER, again("a", 3, 2, 2)).alive(OTHER);
    script.is_good();
}

#[test]
fn another_worker_that_was_lost_may_have_held_it_unseen() {
    let mut script = in_company();
    script.connect(9, "third", &[]);
    script.request(9, RequestItem::Credit(10));
    script.push(9, Event::Disconnected);
    lose(&mut script);
    script.deliver_as(OTHER, again("a", 4, 2, 1)).alive(OTHER);
    script.is_good();
}

#[test]
fn what_never_began_is_not_given_up_as_worker_lost() {
    let mut script = in_company();
    lose(&mut script);
    script.read_as(worker_lost("a"));
    // As long as the other worker is not heard of, it may have held it too.
    assert!(script.broken().iter().all(|found| found.promise != 13), "{:?}", script.broken());
    script.alive(OTHER);
    script.breaks(13, "FAILURE `worker_lost` after 1 leases of which none began, 0 alone");
    // What had begun may be, with its last attempt.
    let mut script = Script::new();
    script.created(at_most(1)).deliver(WORKER, "a", 1).accepted(WORKER, "a", 1, started());
    lose(&mut script);
    script.read_as(worker_lost("a"));
    script.is_good();
}

/// A worker whose machine went away before the task was submitted.
fn gone_before(silent_ms: u64) -> Script {
    let mut script = Script::new();
    script.push(WORKER, Event::Disconnected);
    script.pass(silent_ms).created(at_most(1)).alive(OTHER).pass(LEASE_MS);
    script.read_as(worker_lost("a")).alive(OTHER);
    script
}

#[test]
fn a_worker_that_is_gone_may_be_given_tasks_until_its_session_is_over() {
    gone_before(LEASE_MS / 2).is_good();
    let over = gone_before(LEASE_MS + 1);
    over.breaks(1, "a: generation 1 is Failure, and nothing ended it");
    over.breaks(13, "FAILURE `worker_lost` after 0 leases of which none began, 0 alone");
}

#[test]
fn what_was_lost_alone_too_often_may_be_given_up() {
    let mut script = Script::new();
    script.created(wire::Task { max_deliveries: Some(1), ..task("a") }).deliver(WORKER, "a", 1);
    lose(&mut script);
    script.read_as(worker_lost("a"));
    script.is_good();
}

#[test]
fn an_attempt_beyond_the_last_is_found() {
    let mut script = Script::new();
    script.created(at_most(1)).deliver(WORKER, "a", 1).accepted(WORKER, "a", 1, started());
    lose(&mut script);
    script.deliver_as(OTHER, again("a", 2, 2, 2));
    script.breaks(13, "attempt 2 under lease 2, and 1 may begin");
}

#[test]
fn starts_are_counted_whatever_the_deliveries_say() {
    let mut script = Script::new();
    script.created(at_most(1)).deliver(WORKER, "a", 1).accepted(WORKER, "a", 1, started());
    lose(&mut script);
    script.deliver_as(OTHER, again("a", 2, 2, 1)).accepted(OTHER, "a", 2, started());
    script.breaks(13, "2 attempts have begun with lease 2, and 1 may");
}

#[test]
fn a_release_takes_its_attempt_back() {
    let mut script = Script::new();
    script.created(at_most(1)).deliver(WORKER, "a", 1).accepted(WORKER, "a", 1, started());
    script.accepted(WORKER, "a", 1, release()).deliver_as(OTHER, again("a", 2, 1, 1));
    script.accepted(OTHER, "a", 2, started());
    script.is_good();
}

#[test]
fn a_listing_that_shows_too_many_attempts_is_found() {
    let mut script = Script::new();
    script.created(task("a")).read_as(wire::TaskInfo {
        attempts: 5,
        attempts_max: 4,
        ..at("a", 9, TaskState::Leased)
    });
    script.breaks(13, "shown with 5 attempts of 4");
}

#[test]
fn a_dead_task_that_is_run_again_begins_to_count_anew() {
    let mut script = Script::new();
    script.created(at_most(1)).deliver(WORKER, "a", 1).accepted(WORKER, "a", 1, fail(true));
    script.done(RequestItem::Dead { ids: vec!["a".into()], again: true });
    let second = wire::Delivery { generation: 2, ..delivery("a", 2) };
    script.deliver_as(WORKER, second).accepted(WORKER, "a", 2, started());
    script.is_good();
}
