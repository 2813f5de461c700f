//! Answers to outcomes that clients put.

use celeriac_proto::wire::server_frame::Body;
use celeriac_proto::wire::{ErrorCode, PutOutcomeReply, ServerFrame, StoredOutcome, TaskState};

use super::{error, vector};
use crate::Vector;

pub(super) fn outcomes() -> Vec<Vector<ServerFrame>> {
    let stored =
        |state: TaskState| StoredOutcome { state: state.into(), generation: 1, error: None };
    let stale = StoredOutcome {
        state: TaskState::Started.into(),
        generation: 0,
        error: Some(error(
            ErrorCode::StaleLease,
            "the lease is not the current lease of the task",
            None,
        )),
    };
    vec![
        vector(
            "put-outcome-reply/success",
            "The result is on disk.",
            10,
            Body::PutOutcomeReply(PutOutcomeReply { outcomes: vec![stored(TaskState::Success)] }),
        ),
        vector(
            "put-outcome-reply/batch",
            "The first is kept, and the second was of another lease.",
            11,
            Body::PutOutcomeReply(PutOutcomeReply {
                outcomes: vec![stored(TaskState::Failure), stale],
            }),
        ),
    ]
}
