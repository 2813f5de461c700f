//! Outcomes that clients put, and their answers.

use celeriac_proto::TaskId;
use celeriac_record::{Body, Lease, State};

use super::{Failure, Refusal};

/// The outcome of a task, or its progress, as a client puts it.
#[derive(Debug)]
pub struct TaskOutcome {
    pub id: TaskId,
    /// The lease of the run that the outcome is of; 0: of no run.
    pub lease: Lease,
    pub kind: OutcomeKind,
    pub body: Body,
    /// In place of the task's own.
    pub result_ttl_ms: Option<u64>,
}

/// What an outcome says.
#[derive(Debug)]
pub enum OutcomeKind {
    Success,
    Failure(Failure),
    Revoked(Option<Failure>),
    /// The task goes on. The state has a name of the client's choice.
    Progress {
        state: Box<str>,
        error: Option<Failure>,
    },
}

/// The state and the generation of the task after its outcome was put, or the reason of the refusal
/// and the state of the task.
pub type StoredOutcome = Result<(State, u32), (Refusal, Option<State>)>;

/// The name of the state with which a run says that it will run again.
const RETRY: &str = "RETRY";

/// Whether a progress of this state tells of a task that will run again.
pub fn tells_of_retry(state: &str) -> bool {
    state == RETRY
}

impl OutcomeKind {
    /// Whether the outcome ends its task.
    pub fn is_end(&self) -> bool {
        !matches!(self, OutcomeKind::Progress { .. })
    }

    /// Whether the task will run again.
    pub fn is_retry(&self) -> bool {
        matches!(self, OutcomeKind::Progress { state, .. } if tells_of_retry(state))
    }

    /// The state of an ended task with this outcome. A task that shows a progress, and that nothing
    /// will run, has ended as SUCCESS.
    pub fn end_state(&self) -> State {
        match self {
            OutcomeKind::Success | OutcomeKind::Progress { .. } => State::Success,
            OutcomeKind::Failure(_) => State::Failure,
            OutcomeKind::Revoked(_) => State::Revoked,
        }
    }

    pub fn into_error(self) -> Option<Failure> {
        match self {
            OutcomeKind::Success => None,
            OutcomeKind::Failure(error) => Some(error),
            OutcomeKind::Revoked(error) | OutcomeKind::Progress { error, .. } => error,
        }
    }
}
