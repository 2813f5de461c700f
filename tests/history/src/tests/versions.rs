//! Promise 11.

use super::*;

fn created() -> Script {
    let mut script = Script::new();
    script.created(wire::Task { countdown_ms: Some(0), ..task("a") });
    script
}

/// Watched from its second version on.
fn watched() -> Script {
    let mut script = created();
    script.watch(PRODUCER, at("a", 2, TaskState::Queued));
    script
}

fn forget(script: &mut Script) {
    let asked = script.request(PRODUCER, RequestItem::Forget { id: "a".into() });
    script.answer(asked, Answer::Forget(ErrorCode::Unspecified));
}

#[test]
fn a_version_that_names_two_states_is_found() {
    let mut script = created();
    script.read_as(at("a", 2, TaskState::Queued)).read_as(at("a", 2, TaskState::Queued));
    script.is_good();
    script.read_as(at("a", 2, TaskState::Leased));
    script.breaks(11, "generation 1 version 2 was QUEUED");
}

#[test]
fn a_version_names_one_state_over_restarts_too() {
    let mut script = created();
    script.pushed(PRODUCER, at("a", 2, TaskState::Queued)).restart();
    script.connect(9, "producer again", &[]);
    script.watch(9, at("a", 1, TaskState::Queued)).pushed(9, at("a", 2, TaskState::Leased));
    script.breaks(11, "generation 1 version 2 was QUEUED");
}

#[test]
fn a_version_names_one_lease_of_one_worker() {
    let leased =
        |worker: &str| wire::TaskInfo { worker: worker.into(), ..at("a", 3, TaskState::Leased) };
    let mut script = created();
    script.read_as(leased("one")).restart().read_as(leased("other"));
    script.breaks(11, "version 3 was LEASED");
}

#[test]
fn a_version_of_another_generation_is_another() {
    let mut script = created();
    script.read_as(at("a", 3, TaskState::Success));
    script.deliver(WORKER, "a", 1).report(WORKER, "a", 1, complete("result"));
    let again = script.submit(task("a"));
    script.told(again, Kind::NewGeneration, 2);
    script.read_as(wire::TaskInfo { generation: 2, ..at("a", 1, TaskState::Queued) });
    assert!(script.broken().iter().all(|found| found.promise != 11), "{:?}", script.broken());
}

#[test]
fn a_version_that_falls_is_found() {
    let mut script = created();
    script.read_as(at("a", 2, TaskState::Queued)).restart().read_as(at("a", 1, TaskState::Queued));
    script.breaks(11, "fell to generation 1 version 1 after 1 version 2 was shown");
}

#[test]
fn what_was_asked_before_a_higher_version_was_told_may_be_older() {
    let mut script = created();
    let asked = script.request(PRODUCER, RequestItem::Read { id: "a".into(), with_result: false });
    script.watch(OTHER, at("a", 2, TaskState::Queued));
    script.answer(asked, Answer::Read(Box::new(at("a", 1, TaskState::Scheduled))));
    // And so may be what was pushed: it was on its way.
    script.watch(WORKER, at("a", 2, TaskState::Queued)).read_as(at("a", 4, TaskState::Started));
    script.pushed(WORKER, at("a", 3, TaskState::Leased));
    script.is_good();
}

#[test]
fn a_watcher_that_would_drop_a_state_is_found() {
    let mut script = watched();
    script
        .pushed(PRODUCER, at("a", 3, TaskState::Leased))
        .pushed(PRODUCER, at("a", 2, TaskState::Started));
    script.breaks(11, "a watcher at generation 1 version 3 drops 1 version 2");
}

#[test]
fn a_watcher_that_was_not_told_what_others_saw_is_found() {
    let mut script = watched();
    script.read_as(at("a", 3, TaskState::Leased));
    let mut told = script.clone();
    script.pushed(PRODUCER, at("a", 4, TaskState::Started));
    script.breaks(11, "a watcher was not told of generation 1 version 3");
    told.pushed(PRODUCER, at("a", 3, TaskState::Leased))
        .pushed(PRODUCER, at("a", 4, TaskState::Started));
    told.is_good();
}

#[test]
fn a_watcher_need_not_know_what_was_between_its_connections_or_what_nobody_saw() {
    let mut script = watched();
    script.read_as(at("a", 3, TaskState::Leased)).watch(PRODUCER, at("a", 4, TaskState::Started));
    script.pushed(PRODUCER, at("a", 6, TaskState::Retry));
    script.is_good();
}

#[test]
fn a_listing_shows_versions_too() {
    let mut script = watched();
    let asked = script.request(PRODUCER, RequestItem::List);
    script.answer(asked, Answer::List(vec![at("a", 2, TaskState::Leased)]));
    script.breaks(11, "generation 1 version 2 was QUEUED");
}

#[test]
fn the_life_of_an_id_ends_when_it_is_forgotten() {
    let mut script = created();
    script.deliver(WORKER, "a", 1).accepted(WORKER, "a", 1, complete("result"));
    script.read_as(at("a", 4, TaskState::Success));
    let mut kept = script.clone();
    forget(&mut script);
    script.created(task("a")).read_as(at("a", 1, TaskState::Queued)).read_as(at(
        "a",
        4,
        TaskState::Failure,
    ));
    assert!(script.broken().iter().all(|found| found.promise != 11), "{:?}", script.broken());
    // Not before, and not if no client submitted it again.
    kept.read_as(at("a", 1, TaskState::Queued));
    kept.breaks(11, "fell to generation 1 version 1");
}

#[test]
fn an_id_whose_result_time_is_over_has_another_life() {
    let mut script = Script::new();
    script.created(wire::Task { result_ttl_ms: Some(100), ..task("a") });
    script.deliver(WORKER, "a", 1).accepted(WORKER, "a", 1, complete("result"));
    script.read_as(wire::TaskInfo { result: "result".into(), ..at("a", 4, TaskState::Success) });
    script.pass(100).created(task("a")).read_as(at("a", 1, TaskState::Queued));
    script.is_good();
}

#[test]
fn a_submit_without_an_answer_may_have_begun_another_life() {
    let mut script = created();
    script.deliver(WORKER, "a", 1).accepted(WORKER, "a", 1, complete("result"));
    script.read_as(wire::TaskInfo { result: "result".into(), ..at("a", 3, TaskState::Success) });
    forget(&mut script);
    script.submit(task("a"));
    script.read_as(at("a", 3, TaskState::Started));
    assert!(script.broken().iter().all(|found| found.promise != 11), "{:?}", script.broken());
}
