//! One task as its producer describes it, and what the broker made of it. Sending is done in
//! `submitting`.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use celeriac_proto::wire::{self, ErrorCode};
use celeriac_proto::{QueueName, TaskId, TaskName, limits};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::error::{Error, Refusal};
use crate::info::{State, at_ms, span_ms};
use crate::json;
use crate::minting::new_id;
use crate::retry::RetryPolicy;
use crate::task::TaskOptions;

/// A task to be submitted, by name. Everything but the name may be left out.
///
/// The id, unless [`Submission::task_id`] chooses one, is made at once: a clone of a submission
/// that timed out may be submitted again and means the same task.
///
/// ```
/// use celeriac_client::Submission;
/// use serde_json::json;
///
/// let submission = Submission::new("songs.preprocess")
///     .args(json!(["Dynamite"]))
///     .kwarg("quality", "high")
///     .queue("songs");
/// ```
#[derive(Debug, Clone)]
#[must_use = "a submission does nothing until a client submits it"]
pub struct Submission {
    /// In a box: each option moves the submission.
    task: Box<wire::Task>,
    /// Whether this crate made the id, so that nobody else can have used it.
    minted: bool,
    /// A JSON array.
    args: Vec<u8>,
    kwargs: Map<String, Value>,
    raw: bool,
    /// On the wire an empty name means the default.
    names_queue: bool,
    /// Why the arguments cannot be written; told when it is submitted.
    problem: Option<String>,
}

/// What a submit of an id does whose task exists already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum OnConflict {
    /// An ended task gets a new generation; an unfinished one is joined.
    #[default]
    RunAgainIfFinished,
    /// Refused with `task_exists`.
    Reject,
    /// The present generation is cancelled and a new one begun.
    Replace,
    /// An ended task gets a new generation; an unfinished one runs once more after its end, with
    /// what this submit says. At most one run waits: another submit joins it.
    RunAgainAfter,
}

/// Who submits: set on tasks that a handler submits.
#[derive(Debug)]
pub(crate) struct Lineage {
    pub(crate) root_id: String,
    pub(crate) parent_id: String,
}

impl Submission {
    /// A task of this name, without arguments.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            task: Box::new(wire::Task { id: new_id(), name: name.into(), ..Default::default() }),
            minted: true,
            args: Vec::new(),
            kwargs: Map::new(),
            raw: false,
            names_queue: false,
            problem: None,
        }
    }

    /// The id under which it will be submitted.
    pub fn id(&self) -> &str {
        &self.task.id
    }

    /// The positional arguments: a tuple, a list, or a JSON array.
    pub fn args(mut self, args: impl Serialize) -> Self {
        match json::to_vec_inside(1, &args) {
            // How serde writes the tuple of nothing.
            Ok(json) if json == b"null" => self.args = Vec::new(),
            Ok(json) if json.first() == Some(&b'[') => self.args = json,
            Ok(_) => self.wrong(
                "the arguments are not a tuple or a list; one argument is written `(value,)`",
            ),
            Err(error) => self.wrong(format!("the arguments cannot be written as JSON: {error}")),
        }
        self
    }

    /// The named arguments: a JSON object, or anything that serialises as one. Added to those that
    /// are there.
    pub fn kwargs(mut self, kwargs: impl Serialize) -> Self {
        match json::to_value_inside(1, &kwargs) {
            Ok(Value::Object(map)) => self.kwargs.extend(map),
            Ok(Value::Null) => {}
            Ok(_) => self.wrong("the named arguments are not an object"),
            Err(error) => {
                self.wrong(format!("the named arguments cannot be written as JSON: {error}"))
            }
        }
        self
    }

    /// One named argument.
    pub fn kwarg(mut self, name: impl Into<String>, value: impl Serialize) -> Self {
        let name = name.into();
        match json::to_value_inside(2, &value) {
            Ok(value) => drop(self.kwargs.insert(name, value)),
            Err(error) => {
                self.wrong(format!("the argument `{name}` cannot be written as JSON: {error}"))
            }
        }
        self
    }

    /// Bytes instead of arguments, with what they are, e.g. `application/msgpack`.
    pub fn payload(mut self, payload: impl Into<Bytes>, content_type: impl Into<String>) -> Self {
        self.task.payload = payload.into();
        self.task.content_type = content_type.into();
        self.raw = true;
        self
    }

    /// The key under which state and result are found, also by others: 1 to 255 bytes.
    pub fn task_id(mut self, id: impl Into<String>) -> Self {
        self.task.id = id.into();
        self.minted = false;
        self
    }

    /// Shown in place of the name in logs and listings.
    pub fn shadow(mut self, shadow: impl Into<String>) -> Self {
        self.task.shadow = shadow.into();
        self
    }

    /// Where it waits; `default` by default. A queue is created on first use.
    pub fn queue(mut self, queue: impl Into<String>) -> Self {
        self.task.queue = queue.into();
        self.names_queue = true;
        self
    }

    /// 0 to 9, 9 first; 4 by default.
    pub fn priority(mut self, priority: u32) -> Self {
        self.task.priority = Some(priority);
        self
    }

    /// Not before this time.
    pub fn eta(mut self, eta: SystemTime) -> Self {
        self.task.eta_at_ms = Some(at_ms(eta));
        self.task.countdown_ms = None;
        self
    }

    /// Not before so long from now, on the broker's clock.
    pub fn countdown(mut self, span: Duration) -> Self {
        self.task.countdown_ms = Some(span_ms(span));
        self.task.eta_at_ms = None;
        self
    }

    /// No attempt begins after it, retries included: the task is then revoked as `expired`. How
    /// long the result is kept is said with [`Submission::result_ttl`].
    pub fn expires_at(mut self, time: SystemTime) -> Self {
        self.task.expires_at_ms = Some(at_ms(time));
        self.task.expires_in_ms = None;
        self
    }

    /// As [`Submission::expires_at`], counted from the submit on the broker's clock.
    pub fn expires_in(mut self, span: Duration) -> Self {
        self.task.expires_in_ms = Some(span_ms(span));
        self.task.expires_at_ms = None;
        self
    }

    /// How long the ended task and its result are kept; 1 day by default.
    pub fn result_ttl(mut self, span: Duration) -> Self {
        self.task.result_ttl_ms = Some(span_ms(span));
        self
    }

    /// Nothing is kept once it has ended.
    pub fn ignore_result(self) -> Self {
        self.result_ttl(Duration::ZERO)
    }

    /// When it runs again after a failure.
    pub fn retry(mut self, policy: RetryPolicy) -> Self {
        self.task.retry = Some(policy.to_wire());
        self
    }

    /// Bytes for the worker and for listings.
    pub fn header(mut self, name: impl Into<String>, value: impl Into<Bytes>) -> Self {
        self.task.headers.insert(name.into(), value.into());
        self
    }

    /// A label to find and to cancel it by.
    pub fn tag(mut self, tag: impl Into<String>) -> Self {
        self.task.tags.push(tag.into());
        self
    }

    /// What happens when a task of this id exists.
    pub fn on_conflict(mut self, on_conflict: OnConflict) -> Self {
        self.task.on_conflict = match on_conflict {
            OnConflict::RunAgainIfFinished => wire::OnConflict::RunAgainIfFinished,
            OnConflict::Reject => wire::OnConflict::Reject,
            OnConflict::Replace => wire::OnConflict::Replace,
            OnConflict::RunAgainAfter => wire::OnConflict::RunAgainAfter,
        }
        .into();
        self
    }

    /// From the start of each attempt: after that it fails as `time_limit`.
    pub fn time_limit(mut self, span: Duration) -> Self {
        self.task.time_limit_ms = Some(span_ms(span));
        self
    }

    /// From the start of each attempt: after that its handler is told to come to an end.
    pub fn soft_time_limit(mut self, span: Duration) -> Self {
        self.task.soft_time_limit_ms = Some(span_ms(span));
        self
    }

    /// How often it may be begun without an outcome; 20 by default.
    pub fn max_deliveries(mut self, deliveries: u32) -> Self {
        self.task.max_deliveries = Some(deliveries);
        self
    }

    /// For work that must not run twice: once started, a lost worker means Failure.
    pub fn early_ack(mut self) -> Self {
        self.task.early_ack = true;
        self
    }

    /// The first task of the tree it belongs to.
    pub fn root_id(mut self, id: impl Into<String>) -> Self {
        self.task.root_id = id.into();
        self
    }

    /// The task whose handler submits it.
    pub fn parent_id(mut self, id: impl Into<String>) -> Self {
        self.task.parent_id = id.into();
        self
    }

    /// Puts a definition's defaults beneath what is set.
    pub(crate) fn defaults(mut self, options: TaskOptions) -> Self {
        let task = &mut self.task;
        if let (true, Some(queue)) = (task.queue.is_empty(), options.queue) {
            task.queue = queue.to_owned();
        }
        task.priority = task.priority.or(options.priority);
        task.retry = task.retry.or(options.retry.map(RetryPolicy::to_wire));
        task.soft_time_limit_ms = task.soft_time_limit_ms.or(options.soft_time_limit.map(span_ms));
        task.time_limit_ms = task.time_limit_ms.or(options.time_limit.map(span_ms));
        task.max_deliveries = task.max_deliveries.or(options.max_deliveries);
        task.result_ttl_ms = task.result_ttl_ms.or(options.result_ttl.map(span_ms));
        if let (None, None, Some(span)) =
            (task.expires_at_ms, task.expires_in_ms, options.expires_in)
        {
            expire_after_due(task, span_ms(span));
        }
        task.early_ack |= options.early_ack;
        self
    }

    /// Whether the arguments could be written, for callers that tell this apart from other
    /// refusals.
    pub(crate) fn check_encoding(&self) -> Result<(), Error> {
        match &self.problem {
            Some(problem) => Err(Error::Encode(problem.clone())),
            None => Ok(()),
        }
    }

    fn wrong(&mut self, problem: impl Into<String>) {
        self.problem.get_or_insert(problem.into());
    }

    /// Checks it and makes the message of it. True: this crate made the id.
    pub(crate) fn into_wire(
        self,
        lineage: Option<&Arc<Lineage>>,
        payload_bytes_max: u64,
    ) -> Result<(Box<wire::Task>, bool), Refusal> {
        let refused = |message: String| Refusal::local(ErrorCode::InvalidArgument, message);
        let Self { mut task, minted, args, kwargs, raw, names_queue, problem } = self;
        if let Some(problem) = problem {
            return Err(refused(problem));
        }
        if !minted {
            TaskId::check(&task.id).map_err(|error| refused(error.to_string()))?;
        }
        TaskName::check(&task.name).map_err(|error| refused(error.to_string()))?;
        if names_queue || !task.queue.is_empty() {
            QueueName::check(&task.queue).map_err(|error| refused(error.to_string()))?;
        }
        if let Some(priority) = task.priority.filter(|priority| *priority > limits::PRIORITY_MAX) {
            return Err(refused(format!(
                "a priority is 0 to {}, this one is {priority}",
                limits::PRIORITY_MAX
            )));
        }
        if !raw {
            task.payload =
                json_payload(&args, kwargs).map_err(|error| refused(error.to_string()))?;
        }
        if task.payload.len() as u64 > payload_bytes_max {
            let message = format!(
                "a payload of {} bytes, and {payload_bytes_max} are allowed",
                task.payload.len()
            );
            return Err(Refusal::local(ErrorCode::PayloadTooLarge, message));
        }
        if let Some(lineage) = lineage {
            if task.root_id.is_empty() {
                task.root_id.clone_from(&lineage.root_id);
            }
            if task.parent_id.is_empty() {
                task.parent_id.clone_from(&lineage.parent_id);
            }
        }
        Ok((task, minted))
    }
}

/// A default does not overrule what the caller asks for: it begins when the task is due.
fn expire_after_due(task: &mut wire::Task, span_ms: u64) {
    match task.eta_at_ms {
        Some(eta) => {
            let due = eta.max(at_ms(SystemTime::now()));
            task.expires_at_ms =
                Some(due.saturating_add_unsigned(span_ms).min(limits::TIME_MS_MAX));
        }
        None => {
            let span_ms = span_ms.saturating_add(task.countdown_ms.unwrap_or(0));
            task.expires_in_ms = Some(span_ms.min(limits::SPAN_MS_MAX));
        }
    }
}

/// `[args, kwargs]`, which is what workers of every language read.
fn json_payload(args: &[u8], kwargs: Map<String, Value>) -> Result<Bytes, serde_json::Error> {
    if args.is_empty() && kwargs.is_empty() {
        return Ok(Bytes::from_static(b"[[],{}]"));
    }
    let mut payload = Vec::with_capacity(args.len() + 8);
    payload.push(b'[');
    payload.extend_from_slice(if args.is_empty() { b"[]" } else { args });
    payload.push(b',');
    serde_json::to_writer(&mut payload, &kwargs)?;
    payload.push(b']');
    Ok(payload.into())
}

/// How the broker took a submit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SubmitKind {
    /// A new task.
    Created,
    /// An unfinished task of this id was there and goes on; nothing new runs.
    Joined,
    /// An ended task of this id was there; this is its next run.
    NewGeneration,
}

/// A submit that the broker accepted: the task is stored and will not be lost.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Submitted {
    /// The task.
    pub id: String,
    /// What the submit did.
    pub kind: SubmitKind,
    /// How often a task was run under this id, this run included.
    pub generation: u32,
    /// Where the task stood when the broker answered.
    pub state: State,
}

impl Submitted {
    pub(crate) fn from_wire(id: String, outcome: wire::SubmitOutcome) -> Result<Self, Refusal> {
        let state = outcome.state().into();
        let kind = match outcome.kind() {
            wire::submit_outcome::Kind::Created => SubmitKind::Created,
            wire::submit_outcome::Kind::Joined => SubmitKind::Joined,
            wire::submit_outcome::Kind::NewGeneration => SubmitKind::NewGeneration,
            _ => return Err(outcome.error.unwrap_or_default().into()),
        };
        Ok(Self { id, kind, generation: outcome.generation, state })
    }
}

#[cfg(test)]
mod tests;
