//! Promise 14: a chord counts each part once. It gives its lease only when all parts are there, to
//! one caller at a time, and to none after the broker was told that the body was sent.

use std::collections::BTreeSet;

use celeriac_proto::wire;

use super::Findings;
use crate::event::Position;
use crate::index::{ChordAsk, ChordRequest, Index};

/// How long a caller may take if it does not say.
const LEASE_MS: u64 = 30_000;

/// A request about a chord with its reply.
struct Told<'h> {
    asked: Position,
    told: Position,
    request: &'h ChordRequest<'h>,
    reply: &'h wire::ChordReply,
}

pub(super) fn a_chord_is_counted_and_sent_once(index: &Index<'_>, broken: &mut Findings) {
    for (group, requests) in &index.chords {
        let replies: Vec<Told<'_>> = requests.iter().filter_map(told).collect();
        for told in &replies {
            counts_each_part_once(group, requests, told, broken);
            is_complete_where_it_is_given(group, told, broken);
        }
        // A chord that is done begins anew with a size, and one that is forgotten with any request.
        if !may_begin_anew(index, requests) {
            gives_one_lease_at_a_time(index, group, &replies, broken);
            gives_none_after_the_body(group, requests, &replies, broken);
        }
    }
}

fn told<'h>(request: &'h ChordRequest<'h>) -> Option<Told<'h>> {
    let (told, reply) = request.answered?;
    Some(Told { asked: request.asked, told, request, reply: reply? })
}

fn part<'h>(request: &ChordRequest<'h>) -> Option<&'h wire::ChordPart> {
    match request.ask {
        ChordAsk::Part(part) => Some(part),
        _ => None,
    }
}

fn counts_each_part_once(
    group: &str,
    requests: &[ChordRequest<'_>],
    told: &Told<'_>,
    broken: &mut Findings,
) {
    let sent = requests.iter().filter(|request| request.asked < told.told).filter_map(part);
    let sent: BTreeSet<_> = sent.map(|part| (&*part.member, part.index)).collect();
    let (count, sent) = (told.reply.count, sent.len());
    if count as usize > sent {
        broken.add(14, format!("{group}: counts {count} parts, and {sent} were sent"));
    }
}

fn is_complete_where_it_is_given(group: &str, told: &Told<'_>, broken: &mut Findings) {
    let wire::ChordReply { lease, count, size, added, .. } = told.reply;
    let members = size.map(|size| size.saturating_add(*added));
    if *lease > 0 && members.is_none_or(|members| *count < members) {
        let members = members.map_or("an unknown number".into(), |members| members.to_string());
        broken.add(14, format!("{group}: gave lease {lease} with {count} parts of {members}"));
    }
}

/// Whether the history may have more than one chord of this name.
fn may_begin_anew(index: &Index<'_>, requests: &[ChordRequest<'_>]) -> bool {
    let by_default = index.promises.result_ttl_ms;
    let ttl = |request: &ChordRequest<'_>| match request.ask {
        ChordAsk::Part(part) => part.result_ttl_ms.unwrap_or(by_default),
        ChordAsk::Extend(extend) => extend.result_ttl_ms.unwrap_or(by_default),
        ChordAsk::Done(done) => done.result_ttl_ms.unwrap_or(by_default),
    };
    let least = requests.iter().map(ttl).min().unwrap_or(by_default);
    let (first, last) = (requests.first(), requests.last());
    let span_ms = first.zip(last).map_or(0, |(first, last)| {
        index.clocks.mono(last.asked).saturating_sub(index.clocks.mono(first.asked))
    });
    let is_sized = |request: &ChordRequest<'_>| matches!(request.ask, ChordAsk::Extend(extend) if extend.size.is_some());
    let done = requests.iter().find(|request| matches!(request.ask, ChordAsk::Done(_)));
    let done = done.map_or(Position::MAX, |done| done.asked);
    span_ms >= least
        || requests.iter().any(|request| {
            is_sized(request) && request.answered.is_none_or(|(told, _)| told > done)
        })
}

fn lease_ms(request: &ChordRequest<'_>) -> u64 {
    match request.ask {
        ChordAsk::Part(part) => part.lease_ms.unwrap_or(LEASE_MS),
        ChordAsk::Extend(extend) => extend.lease_ms.unwrap_or(LEASE_MS),
        ChordAsk::Done(_) => 0,
    }
}

/// A caller has the lease until its time is over, its connection is gone, or the broker is.
fn gives_one_lease_at_a_time(
    index: &Index<'_>,
    group: &str,
    replies: &[Told<'_>],
    broken: &mut Findings,
) {
    let given: Vec<&Told<'_>> = replies.iter().filter(|told| told.reply.lease > 0).collect();
    for (one, other) in given.iter().flat_map(|one| given.iter().map(move |other| (one, other))) {
        let (lease, next) = (one.reply.lease, other.reply.lease);
        let (holder, caller) = (one.request.connection, other.request.connection);
        if lease == next && holder != caller {
            broken.add(14, format!("{group}: gave lease {lease} to two callers"));
        }
        if one.told > other.asked || holder == caller {
            continue;
        }
        if next < lease {
            broken.add(14, format!("{group}: gave lease {next} after lease {lease}"));
        }
        let gone = index.connections.get(&holder).and_then(|connection| connection.gone);
        let was_gone = gone.is_some_and(|gone| gone < other.told);
        let was_down = index.downs.iter().any(|down| (one.asked..other.told).contains(down));
        let passed_ms = index.clocks.mono(other.told).saturating_sub(index.clocks.mono(one.asked));
        let in_time = passed_ms + index.promises.clock_ms < lease_ms(one.request);
        if in_time && !was_gone && !was_down {
            broken.add(
                14,
                format!("{group}: gave lease {next} while another caller had lease {lease}"),
            );
        }
    }
}

fn gives_none_after_the_body(
    group: &str,
    requests: &[ChordRequest<'_>],
    replies: &[Told<'_>],
    broken: &mut Findings,
) {
    let dones = requests.iter().filter_map(|request| match request.ask {
        ChordAsk::Done(done) => Some((request.asked, request.answered?.0, done.lease)),
        _ => None,
    });
    for (asked, told, lease) in dones {
        let later = replies.iter().find(|reply| reply.asked > told);
        if let Some(later) = later.filter(|later| later.reply.lease > 0 || !later.reply.done) {
            let next = later.reply.lease;
            broken.add(
                14,
                format!("{group}: its body was sent under lease {lease}, then it gave {next}"),
            );
        }
        let newer = replies.iter().find(|reply| reply.told < asked && reply.reply.lease > lease);
        if let Some(newer) = newer {
            let newer = newer.reply.lease;
            broken.add(
                14,
                format!("{group}: lease {lease} sent the body although {newer} was given"),
            );
        }
    }
}
