//! A task as the broker describes it, in the types of this crate: state, times, progress, errors,
//! and the result. `client` and `handle` ask the broker for it.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use celeriac_proto::wire;
use serde::de::DeserializeOwned;

use crate::error::Error;

/// The state of a task. `Display` writes it in capitals, as in `SUCCESS`.
///
/// Celery's PENDING corresponds to four states here: Unknown, Scheduled, Queued and Leased.
///
/// ```
/// use celeriac_client::State;
///
/// assert_eq!(State::Success.to_string(), "SUCCESS");
/// assert!(State::Success.is_ended() && !State::Retry.is_ended());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum State {
    /// The broker knows no such task. This is an answer of its own, and no kind of waiting.
    Unknown,
    /// The task waits for its ETA.
    Scheduled,
    /// The task waits for a worker.
    Queued,
    /// The broker delivered the task to a worker that has not begun it.
    Leased,
    /// The task's handler runs.
    Started,
    /// The task failed and waits for its next attempt.
    Retry,
    /// The task ended with a result.
    Success,
    /// The task ended without a result. The broker keeps it as a dead task.
    Failure,
    /// The task was cancelled, was replaced, or expired before it ended.
    Revoked,
}

impl State {
    /// True for Success, Failure and Revoked: such a task does not change within its generation.
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

/// What a waiting task waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum WaitingFor {
    /// The task does not wait.
    Nothing,
    /// A free worker: the workers that can run it are busy.
    Turn,
    /// Its ETA, or its next attempt.
    Time,
    /// A worker that serves its queue and has a handler for its name.
    Worker,
    /// Its queue, which is paused.
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

/// The newest progress report of a task's handler.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Progress {
    /// The state that the handler named; `PROGRESS` when it named none.
    pub state: String,
    /// The details: JSON from workers of this project, otherwise what the worker writes.
    pub meta: Bytes,
    /// When the handler reported it.
    pub at: SystemTime,
}

impl Progress {
    /// Decodes the details.
    ///
    /// ```
    /// # fn example(task: &celeriac_client::TaskInfo) -> Result<(), serde_json::Error> {
    /// if let Some(progress) = &task.progress {
    ///     println!("{}: {} lines", progress.state, progress.meta::<u64>()?);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// When the details are not JSON, or not of the type `T`.
    pub fn meta<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        serde_json::from_slice(if self.meta.is_empty() { b"null" } else { &self.meta })
    }
}

/// Why one attempt of a task failed.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TaskError {
    /// The kind of error, for example `ValueError`, `panic`, `time_limit` or `worker_lost`.
    pub kind: String,
    /// The handler's message.
    pub message: String,
    /// The traceback, as text; may be empty.
    pub traceback: String,
    /// When the attempt failed.
    pub at: SystemTime,
    /// The number of the attempt, from 1.
    pub attempt: u32,
    /// When the attempt was handed to its worker. None when no worker had the task, and from a
    /// broker that does not tell it.
    pub leased_at: Option<SystemTime>,
    /// When the attempt began.
    pub started_at: Option<SystemTime>,
    /// The instance of the worker that had the attempt; may be empty.
    pub worker: String,
}

/// Everything that the broker knows of a task. Made by [`Client::info`](crate::Client::info), by
/// [`Client::tasks`](crate::Client::tasks), and by a [`Watch`](crate::Watch).
///
/// ```no_run
/// # async fn example(client: celeriac_client::Client) -> Result<(), celeriac_client::Error> {
/// let task = client.result::<u64>("user-4711").info().await?;
/// println!("{} is {} after {} attempts", task.title(), task.state, task.attempts);
/// for error in &task.errors {
///     println!("attempt {}: {}: {}", error.attempt, error.kind, error.message);
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct TaskInfo {
    /// The id of the task.
    pub id: String,
    /// The state of the task. With [`State::Unknown`] all other fields are empty.
    pub state: State,
    /// The number of this run under its id, from 1. An id whose task has ended may be submitted
    /// again.
    pub generation: u32,
    /// A number that rises with every transition within a generation, progress included.
    pub version: u32,
    /// The name of the task, by which a worker finds its handler.
    pub name: String,
    /// The queue in which the task waits or waited.
    pub queue: String,
    /// The text that is shown in place of the name; empty when the producer set none.
    pub shadow: String,
    /// The priority, 0 to 9; the broker delivers 9 first.
    pub priority: u32,
    /// The headers that the producer set.
    pub headers: BTreeMap<String, Bytes>,
    /// The labels that the producer set.
    pub tags: Vec<String>,
    /// The id of the first task of the tree to which this task belongs; may be empty.
    pub root_id: String,
    /// The id of the task whose handler submitted this task; may be empty.
    pub parent_id: String,
    /// What the task waits for.
    pub waiting_for: WaitingFor,
    /// When this generation was submitted.
    pub submitted_at: Option<SystemTime>,
    /// When the task is due: its ETA, or its next attempt.
    pub eta: Option<SystemTime>,
    /// No attempt begins after this time.
    pub expires_at: Option<SystemTime>,
    /// When the broker last delivered the task to a worker.
    pub leased_at: Option<SystemTime>,
    /// When the latest attempt began.
    pub started_at: Option<SystemTime>,
    /// When the task ended.
    pub finished_at: Option<SystemTime>,
    /// When the broker will drop the ended task.
    pub forget_at: Option<SystemTime>,
    /// The instance of the worker that holds or held the task.
    pub worker: String,
    /// The number of runs of the handler that have begun.
    pub attempts: u32,
    /// The most attempts that the retry policy allows.
    pub attempts_max: u32,
    /// How many times the task was handed out without an outcome, the present delivery included.
    pub deliveries: u32,
    /// The number of such deliveries with which the task fails; 0 from a broker that does not tell
    /// it.
    pub deliveries_max: u32,
    /// The newest progress report of the handler.
    pub progress: Option<Progress>,
    /// The errors of the latest attempts, oldest first. Of a Failure the last one is the reason.
    pub errors: Vec<TaskError>,
    /// The result. Empty unless the state is Success and the request asked for results.
    pub result: Bytes,
    /// The content type of the result: `application/json`, or what the worker says.
    pub result_content_type: String,
    /// The arguments of the task as they were submitted. Empty unless the request asked for
    /// payloads ([`Client::info_with_payloads`](crate::Client::info_with_payloads)), and for an
    /// ended task whose payload was too large to be kept beside its end.
    pub payload: Bytes,
    /// The content type of the payload, as it was submitted. Empty means JSON: `[args, kwargs]`.
    pub payload_content_type: String,
    /// Why the task was revoked, for example `expired`, `cancelled` or `replaced`.
    pub revoked_reason: String,
    /// Who made the latest transition: the instance of a worker or a client, or `broker`. Empty
    /// while there was none after the submit.
    pub actor: String,
    /// Whether the task runs and its handler was asked to stop.
    pub cancel_requested: bool,
    /// When the handler was first asked to stop.
    pub cancel_requested_at: Option<SystemTime>,
}

impl TaskInfo {
    /// False when the broker knows no task of this id. A task that exists can be
    /// [`State::Unknown`] too, when a later broker reports a state that this crate does not know:
    /// then ask again.
    pub fn is_there(&self) -> bool {
        self.state != State::Unknown || self.generation > 0
    }

    /// The text to show to people: the shadow, or the name when there is no shadow.
    pub fn title(&self) -> &str {
        if self.shadow.is_empty() { &self.name } else { &self.shadow }
    }

    /// Decodes the result of a task that succeeded. The request must have asked for results.
    ///
    /// # Errors
    /// [`Error::TaskFailed`] for a Failure, [`Error::TaskRevoked`] for a revoked task,
    /// [`Error::NotFound`] for one that does not exist, [`Error::Refused`] with `not_finished` for
    /// one that has not ended, and [`Error::Decode`] when the result is not a `T`.
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
                "the result is {} and not JSON; read its bytes instead",
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
            cancel_requested_at: task.cancel_requested_at_ms.map(time),
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
            deliveries_max: task.deliveries_max,
            progress: task.progress.map(Progress::from),
            errors: task.errors.into_iter().map(TaskError::from).collect(),
            result: detached(task.result),
            result_content_type: task.result_content_type,
            payload: detached(task.payload),
            payload_content_type: task.content_type,
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
        Self {
            kind: error.kind,
            message: error.message,
            traceback: error.traceback,
            at: time(error.at_ms),
            attempt: error.attempt,
            leased_at: error.leased_at_ms.map(time),
            started_at: error.started_at_ms.map(time),
            worker: error.worker,
        }
    }
}

/// Copies the bytes: as received, a value keeps the whole receive buffer alive.
fn detached(bytes: Bytes) -> Bytes {
    Bytes::copy_from_slice(&bytes)
}

/// Converts milliseconds since 1970. A time that the platform cannot represent becomes 1970.
pub(crate) fn time(at_ms: i64) -> SystemTime {
    let span = Duration::from_millis(at_ms.unsigned_abs());
    let epoch = SystemTime::UNIX_EPOCH;
    let time = if at_ms < 0 { epoch.checked_sub(span) } else { epoch.checked_add(span) };
    time.unwrap_or(epoch)
}

/// Converts a time to milliseconds since 1970.
pub(crate) fn at_ms(time: SystemTime) -> i64 {
    let millis = |span: Duration| i64::try_from(span.as_millis()).unwrap_or(i64::MAX);
    match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(since) => millis(since),
        Err(before) => -millis(before.duration()),
    }
}

/// Converts a span to milliseconds, rounded up: only an empty span becomes 0.
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
        let said = TaskInfo::from(revoked).output::<()>();
        assert!(matches!(said, Err(Error::TaskRevoked { reason, .. }) if reason == "expired"));
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
