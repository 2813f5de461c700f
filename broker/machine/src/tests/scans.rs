//! Scans: requests that look at many tasks. They are done in slices, are fair among connections,
//! and are answered at their end.

use std::sync::Arc;

use celeriac_proto::{QueueName, TaskId};
use celeriac_record::State;

use super::crowd::{Crowd, MANY, TICKS_MAX, cancel, list, list_page, purge, submission, worker};
use crate::command::{
    Answer, Ask, CancelMode, CancelOutcome, CancelTarget, Code, Command, Dead, Filter, Message,
    Observe, OnConflict, Operate, Outlines, Patterns, Produce, Scope, Submission, Work,
};

#[test]
fn a_cancel_by_tag_reaches_every_task_and_lists_as_many_as_a_batch_has() {
    let mut crowd = Crowd::new();
    crowd.submit("a", MANY, "night");
    crowd.ask(1, cancel("night"));
    assert!(!crowd.is_answered(1), "the scan takes more than one slice");
    crowd.tick_until_idle();
    let answers = crowd.answers(1);
    let [Message::Answer(_, Answer::Cancelled(outcomes))] = answers[..] else {
        panic!("{answers:?}")
    };
    assert_eq!(outcomes.len(), 10_000);
    assert!(outcomes.iter().all(|(_, outcome)| *outcome == CancelOutcome::Revoked));
    assert_eq!(
        crowd.states((0..MANY).map(|number| format!("a{number}"))),
        [Some(State::Revoked)].into()
    );
}

#[test]
fn no_step_changes_more_than_some_hundred_tasks() {
    let mut crowd = Crowd::new();
    crowd.submit("a", MANY, "night");
    for _ in 0..20 {
        crowd.ask(1, cancel("night"));
        crowd.ask(2, purge());
    }
    let begun = crowd.stored.len();
    assert!(begun < 2_000, "{begun} changes by requests between two ticks");
    while crowd.machine.next_deadline().1 == Some(0) {
        crowd.stored.clear();
        crowd.tick();
        assert!(crowd.stored.len() < 2_000, "{} changes in one tick", crowd.stored.len());
    }
}

#[test]
fn a_thousand_requests_of_one_connection_do_not_hold_up_the_one_of_another() {
    let mut crowd = Crowd::new();
    crowd.submit("a", MANY, "night");
    for _ in 0..1_000 {
        crowd.ask(1, cancel("day"));
    }
    crowd.ask(2, list("nothing"));
    let ticks = (0..TICKS_MAX).take_while(|_| {
        crowd.tick();
        !crowd.is_answered(2)
    });
    assert!(ticks.count() < 20, "every second slice is for this scan");
    assert!(crowd.answers(1).len() < 100, "there is much left to do");
    crowd.tick_until_idle();
    assert_eq!(crowd.answers(1).len(), 1_000);
}

#[test]
fn requests_of_one_connection_see_what_it_asked_for_before() {
    let mut crowd = Crowd::new();
    crowd.submit("a", MANY, "night");
    let last = || vec![TaskId::parse(format!("a{}", MANY - 1)).expect("an id")];
    crowd.ask(1, cancel("night"));
    crowd.ask(
        1,
        Ask::Observe(Observe::Get { ids: last(), with_results: false, with_payloads: false }),
    );
    crowd.ask(1, purge());
    crowd.ask(1, Ask::Produce(Produce::Forget(last())));
    let beat = crowd.ask(1, Ask::Heartbeat { memory_bytes: 0 });
    let answers = crowd.answers(1);
    assert!(
        matches!(answers[..], [Message::Answer(request, Answer::Heartbeat { .. })] if *request == beat),
        "{answers:?}"
    );
    crowd.tick_until_idle();
    let answers = crowd.answers(1);
    let [
        _,
        Message::Answer(_, Answer::Cancelled(_)),
        Message::Show(_, Outlines::Got { tasks }),
        Message::Answer(_, Answer::Count(0)),
        forgot,
    ] = &answers[..]
    else {
        panic!("{answers:?}")
    };
    assert_eq!(tasks[0].task.as_ref().map(|task| task.state), Some(State::Revoked));
    assert!(
        matches!(forgot, Message::Answer(_, Answer::Forgot(outcomes)) if outcomes[..] == [Ok(())]),
        "{forgot:?}"
    );
}

#[test]
fn what_is_submitted_after_the_request_stays_as_it_is() {
    let mut crowd = Crowd::new();
    crowd.submit("a", MANY, "night");
    crowd.ask(1, cancel("night"));
    crowd.ask(2, purge());
    crowd.submit("b", 10, "night");
    // Two slots are used again: the scan has looked at one of them, and not at the other.
    let replace =
        |id: &str| Submission { on_conflict: OnConflict::Replace, ..submission(id, "night") };
    let replaced = ["a0".to_owned(), format!("a{}", MANY - 1)];
    crowd
        .ask(1, Ask::Produce(Produce::Submit(replaced.iter().map(|id| Ok(replace(id))).collect())));
    crowd.tick_until_idle();
    let stay = (0..10).map(|number| format!("b{number}")).chain(replaced);
    assert_eq!(crowd.states(stay), [Some(State::Queued)].into());
    assert_eq!(
        crowd.states((1..MANY - 1).map(|number| format!("a{number}"))),
        [Some(State::Revoked)].into()
    );
}

#[test]
fn what_a_lost_connection_began_is_done_to_its_end_and_the_rest_is_not_begun() {
    let mut crowd = Crowd::new();
    crowd.submit("a", MANY, "night");
    crowd.submit("b", 10, "day");
    crowd.ask(1, cancel("night"));
    crowd.ask(1, cancel("day"));
    crowd.ask(2, list("nothing"));
    for connection in [1, 2] {
        crowd.apply(Command::Disconnect { connection, reason: None });
    }
    crowd.tick_until_idle();
    assert_eq!(
        crowd.states((0..MANY).map(|number| format!("a{number}"))),
        [Some(State::Revoked)].into()
    );
    assert_eq!(
        crowd.states((0..10).map(|number| format!("b{number}"))),
        [Some(State::Queued)].into()
    );
}

#[test]
fn the_newest_of_many_tasks_are_found_in_slices() {
    let mut crowd = Crowd::new();
    crowd.submit("a", 15, "wanted");
    crowd.submit("b", MANY, "other");
    crowd.submit("c", 7, "wanted");
    let (mut after, mut pages) = (None, Vec::new());
    loop {
        crowd.said.clear();
        crowd.ask(1, list_page("wanted", true, after));
        // Only the first page has to look at the tags of all tasks.
        assert_eq!(crowd.is_answered(1), after.is_some());
        crowd.tick_until_idle();
        let answers = crowd.answers(1);
        let [Message::Show(_, Outlines::Page(page))] = &answers[..] else { panic!("{answers:?}") };
        assert!(page.newest_first && page.looked == page.total);
        pages.push(page.tasks.iter().map(|(_, view)| view.id.to_string()).collect::<Vec<_>>());
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    let numbered = |stem: &str, count: u32| -> Vec<String> {
        (0..count).rev().map(|number| format!("{stem}{number}")).collect()
    };
    assert_eq!(pages.iter().map(Vec::len).collect::<Vec<_>>(), [10, 10, 2]);
    assert_eq!(pages.concat(), [numbered("c", 7), numbered("a", 15)].concat());
}

#[test]
fn a_page_shows_nothing_that_has_gone_while_it_was_made() {
    let mut crowd = Crowd::new();
    crowd.submit("a", 2, "wanted");
    crowd.submit("b", MANY, "other");
    crowd.ask(1, list("wanted"));
    assert!(!crowd.is_answered(1));
    let first = || vec![TaskId::parse("a0").expect("an id")];
    let target = CancelTarget::Ids(first());
    crowd.ask(
        3,
        Ask::Produce(Produce::Cancel {
            target,
            mode: CancelMode::Cooperative,
            grace_ms: 0,
            reason: "".into(),
        }),
    );
    crowd.ask(3, Ask::Produce(Produce::Forget(first())));
    crowd.ask(3, Ask::Produce(Produce::Submit(vec![Ok(submission("d", "wanted"))])));
    crowd.tick_until_idle();
    let answers = crowd.answers(1);
    let [Message::Show(_, Outlines::Page(page))] = &answers[..] else { panic!("{answers:?}") };
    assert_eq!(page.next, None);
    assert_eq!(page.tasks.iter().map(|(_, view)| view.id.as_str()).collect::<Vec<_>>(), ["a1"]);
}

#[test]
fn dead_tasks_are_replayed_and_discarded_in_slices_too() {
    let mut crowd = Crowd::new();
    crowd.submit("a", MANY, "night");
    let leases = crowd.lease(MANY as u32);
    assert_eq!(leases.len(), MANY);
    crowd.fail(leases);
    let all = || Dead::Matching(Filter { tag: Some("night".into()), ..Filter::default() });
    for (ask, state) in [
        (Ask::Operate(Operate::ReplayDead(all())), Some(State::Queued)),
        (Ask::Operate(Operate::DiscardDead(all())), None),
    ] {
        crowd.said.clear();
        crowd.ask(1, ask);
        assert!(state.is_none() || !crowd.is_answered(1), "the scan takes more than one slice");
        crowd.tick_until_idle();
        let count = if state.is_some() { MANY as u64 } else { 0 };
        assert!(
            matches!(crowd.answers(1)[..], [Message::Answer(_, Answer::Count(found))] if *found == count)
        );
        assert_eq!(
            crowd.states((0..MANY).map(|number| format!("a{number}"))),
            [Some(State::Queued)].into()
        );
    }
}

#[test]
fn a_pause_takes_back_thousands_with_few_messages_and_in_order() {
    let mut crowd = Crowd::new();
    for connection in [8, 9] {
        crowd.connect(connection, Some(worker()));
        crowd.ask(connection, Ask::Work(Work::Credit(MANY as u32 / 2)));
    }
    crowd.submit("a", MANY, "night");
    crowd.tick();
    crowd.tick_until_idle();
    crowd.said.clear();
    crowd.ask(
        1,
        Ask::Operate(Operate::PauseQueues { queues: vec![QueueName::default()], paused: true }),
    );
    assert!(!crowd.is_answered(1), "the scan takes more than one slice");
    crowd.tick_until_idle();
    let signals = |connection| crowd.answers(connection).len();
    assert!(
        signals(8) < 100 && signals(9) < 100,
        "a message for each lease would fill the send queue"
    );
    assert!(matches!(crowd.answers(1)[..], [Message::Answer(_, Answer::Done)]));
    assert_eq!(
        crowd.states((0..MANY).map(|number| format!("a{number}"))),
        [Some(State::Queued)].into()
    );
    crowd.ask(8, Ask::Work(Work::Credit(0)));
    crowd.ask(9, Ask::Work(Work::Credit(1)));
    crowd.said.clear();
    crowd.ask(
        1,
        Ask::Operate(Operate::PauseQueues { queues: vec![QueueName::default()], paused: false }),
    );
    crowd.tick();
    let answers = crowd.answers(9);
    let [Message::Deliver(deliveries)] = &answers[..] else { panic!("{answers:?}") };
    assert_eq!((deliveries[0].slot, deliveries[0].deliveries), (0, 1), "the first is first again");
}

#[test]
fn too_many_ids_behind_a_scan_are_refused_and_may_come_again() {
    let mut crowd = Crowd::new();
    crowd.submit("a", MANY, "night");
    crowd.ask(1, cancel("night"));
    let ids: Vec<TaskId> =
        (0..10_000).map(|number| TaskId::parse(format!("a{number}")).expect("an id")).collect();
    for _ in 0..3 {
        crowd.ask(
            1,
            Ask::Observe(Observe::Get {
                ids: ids.clone(),
                with_results: false,
                with_payloads: false,
            }),
        );
    }
    let answers = crowd.answers(1);
    assert!(
        matches!(&answers[..], [Message::Answer(_, Answer::Refused(refusal))] if refusal.code == Code::Overloaded)
    );
    crowd.tick_until_idle();
    let got = crowd
        .answers(1)
        .into_iter()
        .filter(|answer| matches!(answer, Message::Show(_, Outlines::Got { .. })));
    assert_eq!(got.count(), 2);
}

#[test]
fn a_page_within_a_scope_that_takes_many_slices_does_not_say_how_many_tasks_there_are() {
    let mut crowd = Crowd::new();
    crowd.submit("a", 1, "wanted");
    crowd.submit("b", MANY, "other");
    let queues = Patterns::of(["other", "default"]);
    let scope = Arc::new(Scope { queues, names: Patterns::All });
    crowd.connect_within(4, None, Some(scope));
    for newest in [false, true] {
        crowd.said.clear();
        crowd.ask(4, list_page("wanted", newest, None));
        assert!(!crowd.is_answered(4));
        crowd.tick_until_idle();
        let answers = crowd.answers(4);
        let [Message::Show(_, Outlines::Page(page))] = &answers[..] else { panic!("{answers:?}") };
        assert_eq!((page.looked, page.total, page.tasks.len()), (0, 0, 1));
    }
}
