//! Outcomes that clients put: from the wire to [`TaskOutcome`].

use celeriac_machine::command::{Ask, OutcomeKind, Produce, TaskOutcome};
use celeriac_proto::TaskId;
use celeriac_proto::wire;

use super::{Checked, batch, body, failure, invalid, short, span};

/// The states that end a task. Any other state is a progress.
const SUCCESS: &str = "SUCCESS";
const FAILURE: &str = "FAILURE";
const REVOKED: &str = "REVOKED";

pub(super) fn put_outcome(put: wire::PutOutcome) -> Checked<Ask> {
    batch(put.outcomes.len())?;
    Ok(Ask::Produce(Produce::PutOutcome(put.outcomes.into_iter().map(outcome).collect())))
}

fn outcome(outcome: wire::TaskOutcome) -> Checked<TaskOutcome> {
    Ok(TaskOutcome {
        id: TaskId::parse(outcome.id)?,
        lease: outcome.lease,
        kind: kind(outcome.state, outcome.error)?,
        body: body(outcome.body, outcome.content_type)?,
        result_ttl_ms: span("result_ttl_ms", outcome.result_ttl_ms, 0)?,
    })
}

fn kind(state: String, error: Option<wire::TaskError>) -> Checked<OutcomeKind> {
    let state = short("state", state)?;
    Ok(match (&*state, error) {
        ("", _) => return Err(invalid("a state must not be empty")),
        (SUCCESS, Some(_)) => {
            return Err(invalid("an outcome with the state SUCCESS has no error"));
        }
        (SUCCESS, None) => OutcomeKind::Success,
        (FAILURE, error) => OutcomeKind::Failure(failure(error)),
        (REVOKED, error) => OutcomeKind::Revoked(error.map(|error| failure(Some(error)))),
        (_, error) => {
            let error = error.map(|error| failure(Some(error)));
            OutcomeKind::Progress { state, error }
        }
    })
}
