//! Answers about outcomes that clients put, and about chords.

use celeriac_machine::command::{ChordState, StoredOutcome};
use celeriac_proto::wire;

use super::{error, state};

pub(super) fn stored(outcome: StoredOutcome) -> wire::StoredOutcome {
    match outcome {
        Ok((now, generation)) => {
            wire::StoredOutcome { state: state(now) as i32, generation, error: None }
        }
        Err((refusal, now)) => wire::StoredOutcome {
            state: now.map_or(wire::TaskState::Unknown, state) as i32,
            generation: 0,
            error: Some(error(refusal)),
        },
    }
}

pub(super) fn chord(state: ChordState) -> wire::ChordReply {
    wire::ChordReply {
        count: state.count,
        size: state.size,
        added: state.added,
        lease: state.lease,
        done: state.is_done,
        parts: state.parts.into_iter().map(String::from).collect(),
        parts_left: state.parts_left,
    }
}
