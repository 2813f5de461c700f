//! Promise 14.

use super::*;

const SIZE: u32 = 2;

fn part(member: &str, index: u32) -> RequestItem {
    RequestItem::ChordPart(Box::new(wire::ChordPart {
        group: "g".into(),
        member: member.into(),
        index: Some(index),
        size: Some(SIZE),
        lease_ms: Some(1_000),
        ..wire::ChordPart::default()
    }))
}

fn claim() -> RequestItem {
    RequestItem::ChordExtend(Box::new(wire::ChordExtend {
        group: "g".into(),
        claim: true,
        lease_ms: Some(1_000),
        ..wire::ChordExtend::default()
    }))
}

fn reply(count: u32, lease: u64) -> wire::ChordReply {
    wire::ChordReply { count, size: Some(SIZE), lease, ..wire::ChordReply::default() }
}

impl Script {
    fn chord(
        &mut self,
        caller: ConnectionId,
        item: RequestItem,
        reply: wire::ChordReply,
    ) -> &mut Self {
        let asked = self.request(caller, item);
        self.answer(asked, Answer::Chord(Box::new(reply)));
        self
    }

    fn chord_done(&mut self, caller: ConnectionId, lease: u64) -> &mut Self {
        let done = wire::ChordDone { group: "g".into(), lease, result_ttl_ms: None };
        let asked = self.request(caller, RequestItem::ChordDone(done));
        self.answer(asked, Answer::Done);
        self
    }
}

/// A chord whose second part gave lease 5 to a worker.
fn given() -> Script {
    let mut script = Script::new();
    script.chord(WORKER, part("a", 0), reply(1, 0)).chord(WORKER, part("b", 1), reply(2, 5));
    script
}

#[test]
fn a_chord_that_is_counted_and_sent_once_is_accepted() {
    let mut script = given();
    script.chord(OTHER, part("a", 0), reply(2, 0)).chord(OTHER, claim(), reply(2, 0));
    script.chord_done(WORKER, 5);
    let over = wire::ChordReply { done: true, ..wire::ChordReply::default() };
    script.chord(OTHER, claim(), over);
    script.is_good();
}

#[test]
fn a_part_that_counts_twice_is_found() {
    let mut script = Script::new();
    script.chord(WORKER, part("a", 0), reply(1, 0)).chord(OTHER, part("a", 0), reply(2, 7));
    script.breaks(14, "counts 2 parts, and 1 were sent");
}

#[test]
fn a_part_without_an_answer_may_count() {
    let mut script = Script::new();
    script.request(OTHER, part("a", 0));
    script.chord(WORKER, part("b", 1), reply(2, 7));
    script.is_good();
}

#[test]
fn a_lease_that_is_given_before_all_parts_are_there_is_found() {
    let mut script = Script::new();
    script.chord(WORKER, part("a", 0), reply(1, 7));
    script.breaks(14, "gave lease 7 with 1 parts of 2");
    let mut script = Script::new();
    script.chord(WORKER, part("a", 0), wire::ChordReply { size: None, ..reply(1, 7) });
    script.breaks(14, "gave lease 7 with 1 parts of an unknown number");
}

#[test]
fn two_callers_with_the_lease_are_found() {
    let mut script = given();
    script.chord(OTHER, claim(), reply(2, 6));
    script.breaks(14, "gave lease 6 while another caller had lease 5");
    let mut script = given();
    script.chord(OTHER, claim(), reply(2, 5));
    script.breaks(14, "gave lease 5 to two callers");
}

#[test]
fn the_lease_goes_on_when_its_time_is_over_or_its_caller_or_the_broker_is_gone() {
    let mut script = given();
    script.pass(1_000).chord(OTHER, claim(), reply(2, 6));
    script.is_good();
    let mut script = given();
    script.push(WORKER, Event::Disconnected);
    script.chord(OTHER, claim(), reply(2, 6));
    script.is_good();
    let mut script = given();
    script.restart().chord(OTHER, claim(), reply(2, 6));
    script.is_good();
}

#[test]
fn a_lease_after_the_body_was_sent_is_found() {
    let mut script = given();
    script.chord_done(WORKER, 5).chord(OTHER, claim(), reply(2, 6));
    script.breaks(14, "its body was sent under lease 5, then it gave 6");
}

#[test]
fn a_body_that_was_sent_under_an_old_lease_is_found() {
    let mut script = given();
    script.pass(1_000).chord(OTHER, claim(), reply(2, 6)).chord_done(WORKER, 5);
    script.breaks(14, "lease 5 sent the body although 6 was given");
}

#[test]
fn a_chord_that_may_have_been_forgotten_or_begun_anew_tells_nothing() {
    let mut script = given();
    script.chord_done(WORKER, 5).pass(60_000).chord(OTHER, part("a", 0), reply(1, 0));
    script.is_good();
    let mut script = given();
    script.chord_done(WORKER, 5);
    let anew = wire::ChordExtend { group: "g".into(), size: Some(2), ..Default::default() };
    script.chord(OTHER, RequestItem::ChordExtend(Box::new(anew)), reply(0, 0));
    script.is_good();
}
