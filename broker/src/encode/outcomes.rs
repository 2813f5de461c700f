//! Answers about outcomes that clients put, about chords and about cancels.

use celeriac_machine::command::{CancelOutcome, ChordState, StoredOutcome};
use celeriac_proto::TaskId;
use celeriac_proto::wire::{self, server_frame::Body};

use super::{Limits, error, state};
use crate::size;

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

/// The outcomes of a cancel, with the ids if they have room.
pub(super) fn cancelled(outcomes: Vec<(TaskId, CancelOutcome)>, limits: &Limits) -> Body {
    let ids: usize = outcomes.iter().map(|(id, _)| id.len()).sum();
    let with_ids = ids + outcomes.len() * size::OUTCOME + size::FRAME
        <= limits.limits.frame_bytes_max as usize;
    let outcome = |(id, outcome): (TaskId, _)| wire::CancelOutcome {
        id: if with_ids { id.into() } else { String::new() },
        kind: cancel_kind(outcome) as i32,
    };
    Body::CancelReply(wire::CancelReply { outcomes: outcomes.into_iter().map(outcome).collect() })
}

fn cancel_kind(outcome: CancelOutcome) -> wire::cancel_outcome::Kind {
    match outcome {
        CancelOutcome::Revoked => wire::cancel_outcome::Kind::Revoked,
        CancelOutcome::Signalled => wire::cancel_outcome::Kind::Signalled,
        CancelOutcome::AlreadyEnded => wire::cancel_outcome::Kind::AlreadyEnded,
        CancelOutcome::NotFound => wire::cancel_outcome::Kind::NotFound,
        CancelOutcome::LeftRunning => wire::cancel_outcome::Kind::LeftRunning,
    }
}
