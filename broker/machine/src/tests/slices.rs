//! Between two slices of a scan tasks change, other scans run, and clients go on. A long listing
//! ends its pages before they are full.

use std::collections::BTreeMap;

use celeriac_record::State;

use super::crowd::{Crowd, MANY, cancel, list_page};
use crate::command::{
    Answer, Ask, Cursor, Dead, Filter, Message, Operate, Outlines, Page, Produce, TaskOutline,
};

fn tagged(tag: &str) -> Dead {
    Dead::Matching(Filter { tag: Some(tag.into()), ..Filter::default() })
}

fn count(crowd: &Crowd, connection: u64) -> u64 {
    match crowd.answers(connection)[..] {
        [Message::Answer(_, Answer::Count(count))] => *count,
        ref other => panic!("{other:?}"),
    }
}

/// How many tasks of a stem are in each state.
fn states(crowd: &mut Crowd, stem: &str, tasks: usize) -> BTreeMap<Option<State>, usize> {
    let mut counts = BTreeMap::new();
    for number in 0..tasks {
        let slot = crowd.machine.tasks.find(&format!("{stem}{number}"));
        let state = slot.map(|slot| crowd.machine.tasks.task(slot).state);
        *counts.entry(state).or_default() += 1;
    }
    counts
}

#[test]
fn a_replay_and_a_discard_at_once_settle_each_dead_task_once() {
    let mut crowd = Crowd::new();
    crowd.submit("a", MANY, "night");
    let leases = crowd.lease(MANY as u32);
    crowd.fail(leases);
    crowd.ask(1, Ask::Operate(Operate::ReplayDead(tagged("night"))));
    crowd.ask(2, Ask::Operate(Operate::DiscardDead(tagged("night"))));
    crowd.tick_until_idle();
    let (replayed, discarded) = (count(&crowd, 1) as usize, count(&crowd, 2) as usize);
    assert!(replayed > 0 && discarded > 0);
    let expected = [(Some(State::Queued), replayed), (None, discarded)];
    assert_eq!(states(&mut crowd, "a", MANY), expected.into());
    assert_eq!(replayed + discarded, MANY);
}

#[test]
fn two_cancels_of_one_tag_at_once_revoke_each_task_once() {
    let mut crowd = Crowd::new();
    crowd.submit("a", MANY, "night");
    crowd.ask(1, cancel("night"));
    crowd.ask(2, cancel("night"));
    crowd.tick_until_idle();
    assert_eq!(states(&mut crowd, "a", MANY), [(Some(State::Revoked), MANY)].into());
    assert_eq!(crowd.stored.len(), MANY, "each task has one change");
    assert!(crowd.is_answered(1) && crowd.is_answered(2));
}

#[test]
fn what_dies_after_the_request_stays_dead() {
    let mut crowd = Crowd::new();
    crowd.submit("a", MANY, "night");
    let leases = crowd.lease(MANY as u32);
    crowd.fail(leases);
    crowd.submit("b", 10, "night");
    let leases = crowd.lease(10);
    crowd.ask(1, Ask::Operate(Operate::DiscardDead(tagged("night"))));
    assert!(!crowd.is_answered(1), "the scan takes more than one slice");
    crowd.now.wall += 1;
    crowd.now.mono += 1;
    crowd.fail(leases);
    crowd.tick_until_idle();
    assert_eq!(count(&crowd, 1), MANY as u64);
    assert_eq!(states(&mut crowd, "b", 10), [(Some(State::Failure), 10)].into());
}

#[test]
fn a_discard_whose_connection_is_lost_is_done_to_its_end() {
    let mut crowd = Crowd::new();
    crowd.submit("a", MANY, "night");
    let leases = crowd.lease(MANY as u32);
    crowd.fail(leases);
    crowd.ask(1, Ask::Operate(Operate::DiscardDead(tagged("night"))));
    assert!(!crowd.is_answered(1), "the scan takes more than one slice");
    crowd.apply(crate::command::Command::Disconnect { connection: 1, reason: None });
    crowd.tick_until_idle();
    assert_eq!(states(&mut crowd, "a", MANY), [(None, MANY)].into());
}

fn page(crowd: &mut Crowd, tag: &str, after: Option<Cursor>) -> Page<TaskOutline> {
    crowd.said.clear();
    crowd.ask(1, list_page(tag, false, after));
    crowd.tick_until_idle();
    match crowd.said.pop() {
        Some((1, Message::Show(_, Outlines::Page(page)))) => page,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_page_of_a_rare_filter_ends_early_and_says_where_to_go_on() {
    let mut crowd = Crowd::new();
    crowd.machine.scans.shorten(1_000);
    crowd.submit("a", MANY, "other");
    crowd.submit("b", 5, "wanted");
    let (mut after, mut pages, mut found, mut looked) = (None, 0, Vec::new(), 0);
    loop {
        let page = page(&mut crowd, "wanted", after);
        pages += 1;
        found.extend(page.tasks.into_iter().map(|(_, view)| view.id.to_string()));
        assert!(page.looked > looked && page.looked <= page.total, "{looked} {}", page.looked);
        (looked, after) = (page.looked, page.next);
        if after.is_none() {
            assert_eq!(looked, page.total);
            break;
        }
    }
    assert!((3..20).contains(&pages), "{pages} pages");
    assert_eq!(found, ["b0", "b1", "b2", "b3", "b4"]);
}

#[test]
fn a_listing_of_dead_tasks_looks_at_no_other() {
    let mut crowd = Crowd::new();
    crowd.submit("a", 30, "night");
    let leases = crowd.lease(30);
    crowd.fail(leases);
    crowd.submit("b", MANY, "night");
    let filter = Filter { states: vec![State::Failure], ..Filter::default() };
    let list = Operate::ListTasks {
        filter,
        limit: 10,
        newest_first: false,
        just_ended: false,
        after: None,
        with_tracebacks: false,
    };
    crowd.ask(1, Ask::Operate(list));
    let answers = crowd.answers(1);
    let [Message::Show(_, Outlines::Page(page))] = &answers[..] else { panic!("{answers:?}") };
    assert_eq!((page.tasks.len(), page.looked, page.total), (10, 10, 30));
}

#[test]
fn no_tick_hands_out_more_than_some_thousand_tasks() {
    let mut crowd = Crowd::new();
    crowd.submit("a", MANY, "night");
    crowd.connect(8, Some(super::crowd::worker()));
    crowd.ask(8, Ask::Work(crate::command::Work::Credit(MANY as u32)));
    let mut all = 0;
    for _ in 0..MANY {
        crowd.said.clear();
        crowd.tick();
        let handed_out = crowd.said.iter().map(|(_, said)| match said {
            Message::Deliver(deliveries) => deliveries.len(),
            _ => 0,
        });
        let handed_out = handed_out.sum::<usize>();
        assert!(handed_out <= 2_000, "{handed_out} in one tick");
        all += handed_out;
        if crowd.machine.next_deadline().1 != Some(0) {
            break;
        }
    }
    assert_eq!(all, MANY);
}

#[test]
fn a_task_that_is_submitted_again_meanwhile_is_another_task() {
    let mut crowd = Crowd::new();
    crowd.submit("a", MANY, "night");
    let leases = crowd.lease(MANY as u32);
    crowd.fail(leases);
    crowd.ask(1, Ask::Operate(Operate::DiscardDead(tagged("night"))));
    assert!(!crowd.is_answered(1), "the scan takes more than one slice");
    let last = format!("a{}", MANY - 1);
    let again = super::crowd::submission(&last, "night");
    crowd.ask(2, Ask::Produce(Produce::Submit(vec![Ok(again)])));
    crowd.tick_until_idle();
    assert_eq!(count(&crowd, 1), MANY as u64 - 1);
    let slot = crowd.machine.tasks.find(&last).expect("the task is there");
    assert_eq!(crowd.machine.tasks.task(slot).state, State::Queued);
}
