//! What the broker says of a task, as values of this crate: states, times, progress, errors, and
//! how a result is taken out of them. Asking for it is done in `client` and `handle`.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use celeriac_proto::wire;
use serde::de::DeserializeOwned;

use crate::error::Error;

/// Where a task stands. Printed in capitals, as in `SUCCESS`.
///
/// For eyes used to Celery: Unknown, Scheduled, Queued and Leased are its PENDING.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum State {
    /// The broker knows no such task; an answer of its own, not a kind of waiting.
    Unknown,
    /// Waits for its eta.
    Scheduled,
    /// Waits for a worker.
    Queued,
    /// Handed to a worker that has not begun it.
    Leased,
    /// Its handler runs.
    Started,
    /// Failed, and waits for its next attempt.
    Retry,
    /// Ended with a result.
    Success,
    /// Ended without a result; kept as dead.
    Failure,
    /// Cancelled or expired before it ended.
    Revoked,
}

impl State {
    /// Success, Failure and Revoked: nothing changes any more within this generation.
    pub fn is_ended(self) -> bool {
        matches!(self, State::Success | State::Failure | State::Revoked)
    }

    pub(crate) fn to_wire(self) -> wire::TaskState {
        match self {
            State::Unknown => wire::TaskState::Unknown,
            State::Scheduled => wire::TaskState::Scheduled,
            State::Queued => wire::TaskState::Queued,
            State::Leased => wire::TaskState::Leased,
            State::Started => wire::TaskState::Started,
            State::Retry => wire::TaskState::Retry,
            State::Success => wire::TaskState::Success,
            State::Failure => wire::TaskState::Failure,
            State::Revoked => wire::TaskState::Revoked,
        }
    }
}

impl From<wire::TaskState> for State {
    fn from(state: wire::TaskState) -> Self {
        match state {
            wire::TaskState::Unknown => State::Unknown,
            wire::TaskState::Scheduled => State::Scheduled,
            wire::TaskState::Queued => State::Queued,
            wire::TaskState::Leased => State::Leased,
            wire::TaskState::Started => State::Started,
            wire::TaskState::Retry => State::Retry,
            wire::TaskState::Success => State::Success,
            wire::TaskState::Failure => State::Failure,
            wire::TaskState::Revoked => State::Revoked,
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.to_wire().as_str_name().trim_start_matches("TASK_STATE_"))
    }
}

/// Why a task that waits is not running.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum WaitingFor {
    /// It does not wait.
    Nothing,
    /// Its turn: the workers are busy.
    Turn,
    /// Its eta, or its next attempt.
    Time,
    /// A worker that serves the queue and knows the task's name.
    Worker,
    /// The queue to be resumed.
    Queue,
}

impl From<wire::WaitingFor> for WaitingFor {
    fn from(waiting_for: wire::WaitingFor) -> Self {
        match waiting_for {
            wire::WaitingFor::Nothing => WaitingFor::Nothing,
            wire::WaitingFor::Turn => WaitingFor::Turn,
            wire::WaitingFor::Time => WaitingFor::Time,
            wire::WaitingFor::Worker => WaitingFor::Worker,
            wire::WaitingFor::Queue => WaitingFor::Queue,
        }
    }
}

/// What a handler last said of its progress.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Progress {
    /// The handler's own name for where it is; `PROGRESS` when it gave none.
    pub state: String,
    /// What it said about that: JSON from this crate's workers, otherwise whatever its worker
    /// writes.
    pub meta: Bytes,
    /// When it said so.
    pub at: SystemTime,
}

impl Progress {
    /// The meta as a value.
    ///
    /// # Errors
    /// When it is not JSON, or not of this type.
    pub fn meta<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        serde_json::from_slice(if self.meta.is_empty() { b"null" } else { &self.meta })
    }
}

/// Why one attempt of a task failed.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TaskError {
    /// The kind of error, e.g. `ValueError`, `panic`, `time_limit`, `worker_lost`.
    pub kind: String,
    /// What the handler said.
    pub message: String,
    /// Where it happened, as text; may be empty.
    pub traceback: String,
    /// When it failed.
    pub at: SystemTime,
    /// Which attempt it was, from 1.
    pub attempt: u32,
}

/// All that the broker knows of a task.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct TaskInfo {
    /// Its id.
    pub id: String,
    /// Where it stands. With [`State::Unknown`] all other fields are empty.
    pub state: State,
    /// How often a task was run under this id, from 1. An id whose task has ended may be submitted
    /// again.
    pub generation: u32,
    /// Rises with every transition within a generation, progress included.
    pub version: u32,
    /// What it runs.
    pub name: String,
    /// Where it waits or waited.
    pub queue: String,
    /// Its name for people, when its producer gave one.
    pub shadow: String,
    /// 0 to 9, 9 first.
    pub priority: u32,
    /// As its producer set them.
    pub headers: BTreeMap<String, Bytes>,
    /// As its producer set them.
    pub tags: Vec<String>,
    /// The first task of the tree that this one belongs to; may be empty.
    pub root_id: String,
    /// The task whose handler submitted this one; may be empty.
    pub parent_id: String,
    /// Why it is not running.
    pub waiting_for: WaitingFor,
    /// When this generation was submitted.
    pub submitted_at: Option<SystemTime>,
    /// When it is due: the eta, or the next attempt.
    pub eta: Option<SystemTime>,
    /// No attempt begins after it.
    pub expires_at: Option<SystemTime>,
    /// Of the latest delivery.
    pub leased_at: Option<SystemTime>,
    /// Of the latest attempt.
    pub started_at: Option<SystemTime>,
    /// When it ended.
    pub finished_at: Option<SystemTime>,
    /// When the ended task will be dropped.
    pub forget_at: Option<SystemTime>,
    /// The instance that holds or held it.
    pub worker: String,
    /// Runs of the handler that have begun.
    pub attempts: u32,
    /// How many there may be.
    pub attempts_max: u32,
    /// How often it was handed to a worker.
    pub deliveries: u32,
    /// What its handler last said.
    pub progress: Option<Progress>,
    /// The last few, oldest first; the last one is why a Failure ended.
    pub errors: Vec<TaskError>,
    /// With Success, and only when results were asked for.
    pub result: Bytes,
    /// `application/json`, or what the worker says it is.
    pub result_content_type: String,
    /// Why it was revoked, e.g. `expired`, `cancelled`, `replaced`.
    pub revoked_reason: String,
    /// Who made the latest transition: the instance of a worker or a client, or `broker`; empty
    /// while there was none since the submit.
    pub actor: String,
    /// It runs and was asked to stop.
    pub cancel_requested: bool,
}

impl TaskInfo {
    /// False when the broker knows no task of this id. A task that is there may be
    /// [`State::Unknown`] too, where a later broker tells a state that this crate does not
    /// know: then ask again.
    pub fn is_there(&self) -> bool {
        self.state != State::Unknown || self.generation > 0
    }

    /// The name to show to people: the shadow, or else the name.
    pub fn title(&self) -> &str {
        if self.shadow.is_empty() { &self.name } else { &self.shadow }
    }

    /// The result as a value, or what became of the task instead.
    ///
    /// # Errors
    /// [`Error::TaskFailed`], [`Error::TaskRevoked`], [`Error::NotFound`], [`Error::Decode`], and
    /// [`Error::Refused`] with `not_finished` for a task that has not ended.
    pub fn output<T: DeserializeOwned>(&self) -> Result<T, Error> {
        match self.state {
            State::Success => self.decode(),
            State::Failure => Err(self.failure()),
            State::Revoked => {
                Err(Error::TaskRevoked { id: self.id.clone(), reason: self.revoked_reason.clone() })
            }
            _ if !self.is_there() => Err(Error::NotFound { id: self.id.clone() }),
            state => Err(Error::refused(
                wire::ErrorCode::NotFinished,
                format!("task {} is {state}", self.id),
            )),
        }
    }

    fn decode<T: DeserializeOwned>(&self) -> Result<T, Error> {
        let wrong = |message: String| Error::Decode { id: self.id.clone(), message };
        if !matches!(self.result_content_type.as_str(), "" | "application/json") {
            return Err(wrong(format!(
                "it is {} and not JSON; read the bytes instead",
                self.result_content_type
            )));
        }
        let json: &[u8] = if self.result.is_empty() { b"null" } else { &self.result };
        serde_json::from_slice(json).map_err(|error| wrong(error.to_string()))
    }

    fn failure(&self) -> Error {
        let (kind, message, traceback) = match self.errors.last() {
            Some(error) => (error.kind.clone(), error.message.clone(), error.traceback.clone()),
            None => {
                ("unknown".to_owned(), "the broker keeps no error of it".to_owned(), String::new())
            }
        };
        Error::TaskFailed { id: self.id.clone(), kind, message, traceback, attempts: self.attempts }
    }
}

impl From<wire::TaskInfo> for TaskInfo {
    fn from(task: wire::TaskInfo) -> Self {
        let state = State::from(task.state());
        let known = state != State::Unknown || task.generation > 0;
        Self {
            state,
            waiting_for: task.waiting_for().into(),
            submitted_at: known.then(|| time(task.submitted_at_ms)),
            eta: task.eta_at_ms.map(time),
            expires_at: task.expires_at_ms.map(time),
            leased_at: task.leased_at_ms.map(time),
            started_at: task.started_at_ms.map(time),
            finished_at: task.finished_at_ms.map(time),
            forget_at: task.forget_at_ms.map(time),
            id: task.id,
            generation: task.generation,
            version: task.version,
            name: task.name,
            queue: task.queue,
            shadow: task.shadow,
            priority: task.priority,
            headers: task
                .headers
                .into_iter()
                .map(|(name, value)| (name, detached(value)))
                .collect(),
            tags: task.tags,
            root_id: task.root_id,
            parent_id: task.parent_id,
            worker: task.worker,
            attempts: task.attempts,
            attempts_max: task.attempts_max,
            deliveries: task.deliveries,
            progress: task.progress.map(Progress::from),
            errors: task.errors.into_iter().map(TaskError::from).collect(),
            result: detached(task.result),
            result_content_type: task.result_content_type,
            revoked_reason: task.revoked_reason,
            actor: task.actor,
            cancel_requested: task.cancel_requested,
        }
    }
}

impl From<wire::Progress> for Progress {
    fn from(progress: wire::Progress) -> Self {
        Self { state: progress.state, meta: detached(progress.meta), at: time(progress.at_ms) }
    }
}

impl From<wire::TaskError> for TaskError {
    fn from(error: wire::TaskError) -> Self {
        let wire::TaskError { kind, message, traceback, at_ms, attempt } = error;
        Self { kind, message, traceback, at: time(at_ms), attempt }
    }
}

/// A copy of its own: as it came, a value keeps the whole buffer alive in which it was received.
fn detached(bytes: Bytes) -> Bytes {
    Bytes::copy_from_slice(&bytes)
}

/// Milliseconds since 1970 as a time; times that the platform cannot hold become 1970.
pub(crate) fn time(at_ms: i64) -> SystemTime {
    let span = Duration::from_millis(at_ms.unsigned_abs());
    let epoch = SystemTime::UNIX_EPOCH;
    let time = if at_ms < 0 { epoch.checked_sub(span) } else { epoch.checked_add(span) };
    time.unwrap_or(epoch)
}

/// A time as milliseconds since 1970.
pub(crate) fn at_ms(time: SystemTime) -> i64 {
    let millis = |span: Duration| i64::try_from(span.as_millis()).unwrap_or(i64::MAX);
    match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(since) => millis(since),
        Err(before) => -millis(before.duration()),
    }
}

/// A span in milliseconds, rounded up: a span that is not zero does not become zero.
pub(crate) fn span_ms(span: Duration) -> u64 {
    u64::try_from(span.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(state: wire::TaskState) -> wire::TaskInfo {
        wire::TaskInfo {
            id: "a".into(),
            state: state.into(),
            submitted_at_ms: 1,
            ..Default::default()
        }
    }

    #[test]
    fn states_are_printed_in_capitals() {
        assert_eq!(State::Success.to_string(), "SUCCESS");
        assert_eq!(format!("{:>8}", State::Retry), "   RETRY");
    }

    #[test]
    fn an_ended_task_gives_its_output_or_says_why_not() {
        let success = wire::TaskInfo { result: "[1,2]".into(), ..ended(wire::TaskState::Success) };
        assert_eq!(TaskInfo::from(success.clone()).output::<Vec<u8>>().expect("decodes"), [1, 2]);
        assert!(matches!(TaskInfo::from(success).output::<String>(), Err(Error::Decode { .. })));

        let error =
            wire::TaskError { kind: "panic".into(), message: "no".into(), ..Default::default() };
        let failure =
            wire::TaskInfo { errors: vec![error], attempts: 4, ..ended(wire::TaskState::Failure) };
        let said = TaskInfo::from(failure).output::<()>().expect_err("it failed");
        assert_eq!(said.to_string(), "task a failed: panic: no");

        let revoked =
            wire::TaskInfo { revoked_reason: "expired".into(), ..ended(wire::TaskState::Revoked) };
        assert!(
            matches!(TaskInfo::from(revoked).output::<()>(), Err(Error::TaskRevoked { reason, .. }) if reason == "expired")
        );
        assert!(matches!(
            TaskInfo::from(ended(wire::TaskState::Unknown)).output::<()>(),
            Err(Error::NotFound { .. })
        ));
        assert!(matches!(
            TaskInfo::from(ended(wire::TaskState::Queued)).output::<()>(),
            Err(Error::Refused { .. })
        ));
    }

    #[test]
    fn a_task_without_a_return_value_has_the_output_of_nothing() {
        TaskInfo::from(ended(wire::TaskState::Success)).output::<()>().expect("no bytes are null");
    }

    #[test]
    fn times_survive_the_way_there_and_back_and_absurd_ones_do_not_panic() {
        for ms in [0, 1, -1, 1_700_000_000_000] {
            assert_eq!(at_ms(time(ms)), ms);
        }
        time(i64::MAX);
        time(i64::MIN);
        assert_eq!(
            (span_ms(Duration::ZERO), span_ms(Duration::from_nanos(1)), span_ms(Duration::MAX)),
            (0, 1, u64::MAX)
        );
    }
}
