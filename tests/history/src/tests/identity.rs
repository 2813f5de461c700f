//! Promises 7 and 9.

use super::*;

fn with_policy(policy: wire::OnConflict) -> wire::Task {
    wire::Task { on_conflict: policy.into(), ..task("a") }
}

#[test]
fn a_conflict_that_runs_twice_is_found() {
    let mut script = Script::new();
    script.created(task("a"));
    let again = script.submit(task("a"));
    script.told(again, Kind::NewGeneration, 2);
    script.breaks(7, "generation 2 was made, and 1 had not ended");
}

#[test]
fn an_ended_id_runs_again_and_an_unfinished_one_is_joined() {
    let mut script = Script::new();
    script.created(task("a"));
    let joined = script.submit(task("a"));
    script.told(joined, Kind::Joined, 1);
    script.deliver(WORKER, "a", 1);
    script.report(WORKER, "a", 1, complete("result"));
    let again = script.submit(task("a"));
    script.told(again, Kind::NewGeneration, 2);
    script.is_good();
}

#[test]
fn a_join_after_the_end_is_found() {
    let mut script = good();
    let joined = script.submit(task("a"));
    script.told(joined, Kind::Joined, 1);
    script.breaks(7, "joined after its end");
}

#[test]
fn a_join_against_the_policy_is_found() {
    for policy in [wire::OnConflict::Reject, wire::OnConflict::Replace] {
        let mut script = Script::new();
        script.created(task("a"));
        let joined = script.submit(with_policy(policy));
        script.told(joined, Kind::Joined, 1);
        script.breaks(7, "joined in the state");
    }
}

#[test]
fn a_rejection_against_the_policy_or_of_nothing_is_found() {
    let mut script = Script::new();
    script.created(task("a"));
    let rejected = script.submit(task("a"));
    script.refused(rejected, ErrorCode::TaskExists);
    script.breaks(7, "refused as a task that exists");
    let mut script = Script::new();
    let rejected = script.submit(with_policy(wire::OnConflict::Reject));
    script.refused(rejected, ErrorCode::TaskExists);
    script.breaks(7, "refused as a task that exists");
}

#[test]
fn a_first_try_that_was_never_answered_may_be_what_exists() {
    let mut script = Script::new();
    script.submit(with_policy(wire::OnConflict::Reject));
    let again = script.submit(with_policy(wire::OnConflict::Reject));
    script.refused(again, ErrorCode::TaskExists);
    script.is_good();
}

#[test]
fn a_rejected_submit_that_runs_is_found() {
    let mut script = good();
    let again = script.submit(with_policy(wire::OnConflict::Reject));
    script.told(again, Kind::NewGeneration, 2);
    script.breaks(7, "got generation 2 under Reject");
}

#[test]
fn an_id_that_is_created_twice_is_found() {
    let mut script = Script::new();
    script.created(task("a")).created(task("a"));
    script.breaks(7, "created although it was there");
    script.breaks(7, "generation 1 was made 2 times");
}

#[test]
fn an_id_that_was_forgotten_may_be_created_again() {
    let mut script = good();
    let forget = script.request(PRODUCER, RequestItem::Forget { id: "a".into() });
    script.answer(forget, Answer::Forget(ErrorCode::Unspecified));
    script.created(task("a")).deliver(WORKER, "a", 2).accepted(WORKER, "a", 2, complete("other"));
    script.read_as(success("a", "other"));
    script.is_good();
}

#[test]
fn an_older_generation_that_goes_on_is_found() {
    let mut script = Script::new();
    script.created(task("a")).deliver(WORKER, "a", 1);
    let again = script.submit(with_policy(wire::OnConflict::Replace));
    script.told(again, Kind::NewGeneration, 2);
    let mut counted = script.clone();
    counted.accepted(WORKER, "a", 1, started());
    counted.breaks(7, "a report on generation 1 counted");
    let mut shown = script.clone();
    shown.read("a", TaskState::Leased);
    shown.breaks(7, "generation 1 was shown");
    let late = script.report(WORKER, "a", 1, complete("result"));
    script.reported(late, ErrorCode::StaleLease);
    script.is_good();
}

#[test]
fn an_older_generation_that_is_given_again_is_found() {
    let mut script = Script::new();
    script.created(task("a"));
    let again = script.submit(with_policy(wire::OnConflict::Replace));
    script.told(again, Kind::NewGeneration, 2);
    script.connect(9, "third", &[]);
    script.deliver(9, "a", 1);
    script.breaks(7, "generation 1 was given");
}

#[test]
fn a_generation_that_no_request_can_have_made_is_found() {
    let mut script = Script::new();
    script.created(task("a"));
    script.read_as(wire::TaskInfo { generation: 2, state: TaskState::Queued.into(), ..info("a") });
    script.breaks(9, "has generation 2, and 1 requests");
}

#[test]
fn an_unknown_submit_happened_once_or_not_at_all() {
    let mut script = good();
    script.submit(task("a"));
    script.read_as(wire::TaskInfo { generation: 2, state: TaskState::Queued.into(), ..info("a") });
    script.is_good();
    script.read_as(wire::TaskInfo { generation: 3, state: TaskState::Queued.into(), ..info("a") });
    script.breaks(9, "has generation 3, and 2 requests");
}

#[test]
fn a_request_that_was_refused_as_a_whole_made_nothing() {
    let mut script = Script::new();
    let refused = script.submit(task("a"));
    script.push(PRODUCER, Event::Refused { item: refused, code: ErrorCode::InvalidArgument });
    script.deliver(WORKER, "a", 1);
    script.breaks(2, "nobody submitted it");
}

fn keyed(policy: wire::OnConflict, key: &str) -> wire::Task {
    wire::Task { submit_key: key.into(), ..with_policy(policy) }
}

/// The outcome of a submit whose task got an id of its own.
fn told_beside(script: &mut Script, submit: Position, id: &str) {
    let outcome =
        wire::SubmitOutcome { kind: Kind::Created.into(), id: id.into(), ..Default::default() };
    script.answer(submit, Answer::Submit(outcome));
}

#[test]
fn a_task_beside_another_is_a_task_of_its_own() {
    let mut script = Script::new();
    script.created(task("a"));
    let beside = script.submit(keyed(wire::OnConflict::Beside, "k"));
    told_beside(&mut script, beside, "a~k");
    script.deliver(WORKER, "a", 1).deliver(OTHER, "a~k", 2);
    script.accepted(OTHER, "a~k", 2, complete("other")).accepted(WORKER, "a", 1, complete("one"));
    let mut lost = script.clone();
    lost.read("a~k", TaskState::Unknown);
    lost.breaks(1, "a~k: confirmed, and unknown");
    script.settled().read_as(success("a~k", "other")).read_as(success("a", "one"));
    script.is_good();
}

#[test]
fn a_submit_without_an_answer_may_have_made_a_task_beside_another() {
    let mut script = Script::new();
    script.created(task("a"));
    script.submit(keyed(wire::OnConflict::Beside, "k"));
    script.deliver(WORKER, "a~k", 2).deliver(WORKER, "a", 3);
    script.is_good();
    script.deliver(WORKER, "a~other", 4);
    script.breaks(2, "a~other: delivered, and nobody submitted it");
}

#[test]
fn a_task_beside_nothing_or_under_a_strange_id_is_found() {
    let mut script = Script::new();
    let beside = script.submit(keyed(wire::OnConflict::Beside, "k"));
    told_beside(&mut script, beside, "a~k");
    script.breaks(7, "made beside a, which nobody submitted");
    let mut script = Script::new();
    script.created(task("a"));
    let beside = script.submit(keyed(wire::OnConflict::Beside, "k"));
    told_beside(&mut script, beside, "b");
    script.breaks(7, "b: made by a submit of a under Beside");
}

#[test]
fn a_submit_that_was_to_run_beside_and_was_joined_is_found() {
    let mut script = Script::new();
    script.created(task("a"));
    let joined = script.submit(keyed(wire::OnConflict::Beside, "k"));
    script.told(joined, Kind::Joined, 1);
    script.breaks(7, "joined in the state");
}

#[test]
fn a_submit_that_comes_again_is_joined_by_its_key() {
    for policy in [wire::OnConflict::Reject, wire::OnConflict::Beside, wire::OnConflict::Replace] {
        let mut script = Script::new();
        script.created(keyed(policy, "k"));
        let again = script.submit(keyed(policy, "k"));
        let mut twice = script.clone();
        script.told(again, Kind::Joined, 1);
        script.is_good();
        twice.told(again, Kind::NewGeneration, 2);
        twice.breaks(9, "one key made the generations 1 and 2");
    }
}

/// What Celery stores for a run that asked for the next one.
fn retry_of_the_next() -> Report {
    let state = "RETRY".to_owned();
    Report::Progress(wire::ProgressReport { state, ..wire::ProgressReport::default() })
}

#[test]
fn a_run_that_was_superseded_counts_no_more() {
    let mut script = Script::new();
    script.created(task("a")).deliver(WORKER, "a", 1).accepted(WORKER, "a", 1, started());
    let next = script.submit(keyed(wire::OnConflict::Supersede, "k"));
    script.told(next, Kind::NewGeneration, 2);
    let mut counted = script.clone();
    counted.accepted(WORKER, "a", 1, complete("result"));
    counted.breaks(7, "a report on generation 1 counted");
    let mut shown = script.clone();
    shown.read_as(success("a", "result"));
    shown.breaks(7, "generation 1 was shown");
    let late = script.report(WORKER, "a", 1, complete("result"));
    script.reported(late, ErrorCode::StaleLease);
    let told = script.put(WORKER, "a", 1, retry_of_the_next());
    script.reported_as(told, TaskState::Retry);
    let mut handed_out = script.clone();
    let told = handed_out.put(WORKER, "a", 1, retry_of_the_next());
    handed_out.reported_as(told, TaskState::Leased);
    handed_out.is_good();
    let mut while_it_runs = script.clone();
    let told = while_it_runs.put(WORKER, "a", 1, retry_of_the_next());
    while_it_runs.reported_as(told, TaskState::Started);
    while_it_runs.breaks(7, "a report on generation 1 counted");
    // A worker's own report is none of an outcome.
    let mut reported = script.clone();
    let told = reported.report(WORKER, "a", 1, retry_of_the_next());
    reported.reported_as(told, TaskState::Retry);
    reported.breaks(7, "a report on generation 1 counted");
    // The first run may be so late that the second has asked for a third.
    let mut later = script.clone();
    later.deliver_as(OTHER, wire::Delivery { generation: 2, ..delivery("a", 2) });
    let third = later.submit(keyed(wire::OnConflict::Supersede, "l"));
    later.told(third, Kind::NewGeneration, 3);
    let told = later.put(WORKER, "a", 1, retry_of_the_next());
    later.reported_as(told, TaskState::Scheduled);
    later.is_good();
    let joined = script.submit(keyed(wire::OnConflict::Supersede, "j"));
    script.told(joined, Kind::Joined, 2);
    script.is_good();
}
