//! Requests about chords: from the wire to [`ChordAsk`].

use celeriac_machine::command::{Ask, ChordAsk, ChordExtend, ChordPart, Produce};
use celeriac_proto::TaskId;
use celeriac_proto::limits::{BATCH_ITEMS_MAX, CHORD_PARTS_MAX};
use celeriac_proto::wire;

use super::{Checked, body, invalid, span};

/// The time for which a caller gets the lease of a chord, if it sets none.
const LEASE_MS_DEFAULT: u64 = 30_000;

pub(super) fn part(part: wire::ChordPart) -> Checked<Ask> {
    let ask = ChordAsk::Part(ChordPart {
        member: TaskId::parse(part.member)?,
        index: index(part.index)?,
        size: size(part.size)?,
        body: body(part.body, part.content_type)?,
        result_ttl_ms: span("result_ttl_ms", part.result_ttl_ms, 1)?,
        lease_ms: lease_ms(part.lease_ms)?,
    });
    of_group(part.group, ask)
}

pub(super) fn extend(extend: wire::ChordExtend) -> Checked<Ask> {
    if extend.added.len() > BATCH_ITEMS_MAX {
        let message = format!("one request adds at most {BATCH_ITEMS_MAX} members to a chord");
        return Err(invalid(message));
    }
    let ask = ChordAsk::Extend(ChordExtend {
        size: size(extend.size)?,
        added: extend.added.into_iter().map(TaskId::parse).collect::<Result<_, _>>()?,
        lease: extend.lease,
        claim: extend.claim,
        parts_from: extend.parts_from,
        result_ttl_ms: span("result_ttl_ms", extend.result_ttl_ms, 1)?,
        lease_ms: lease_ms(extend.lease_ms)?,
    });
    of_group(extend.group, ask)
}

pub(super) fn done(done: wire::ChordDone) -> Checked<Ask> {
    let result_ttl_ms = span("result_ttl_ms", done.result_ttl_ms, 1)?;
    of_group(done.group, ChordAsk::Done { lease: done.lease, result_ttl_ms })
}

fn of_group(group: String, ask: ChordAsk) -> Checked<Ask> {
    Ok(Ask::Produce(Produce::Chord { group: TaskId::parse(group)?, ask }))
}

/// The largest number stands for a part without an index.
fn index(index: Option<u32>) -> Checked<Option<u32>> {
    match index {
        Some(u32::MAX) => Err(invalid(format!("an index is less than {}", u32::MAX))),
        index => Ok(index),
    }
}

fn size(size: Option<u32>) -> Checked<Option<u32>> {
    match size {
        Some(size) if size == 0 || size as usize > CHORD_PARTS_MAX => {
            Err(invalid(format!("a chord has 1 to {CHORD_PARTS_MAX} members, and not {size}")))
        }
        size => Ok(size),
    }
}

fn lease_ms(lease_ms: Option<u64>) -> Checked<u64> {
    Ok(span("lease_ms", lease_ms, 1)?.unwrap_or(LEASE_MS_DEFAULT))
}
