//! One task as its producer describes it, and the broker's answer to its submit. The options are in
//! `options`; `batches` sends submissions.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use celeriac_proto::wire::{self, ErrorCode};
use celeriac_proto::{TaskId, TaskName, limits};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::error::{Error, Refusal};
use crate::info::State;
use crate::json;
use crate::minting::new_id;

/// A task to be submitted: a name, arguments, and the options that are documented below. Only the
/// name is required.
///
/// A submission has its id from the beginning: the client generates one unless
/// [`Submission::task_id`] chooses one. So a clone of a submission that timed out means the same
/// task, and submitting the clone does not run the task twice.
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
///
/// [`Client::submit`](crate::Client::submit) and
/// [`Client::submit_many`](crate::Client::submit_many) send a submission. The type parameter tells
/// it from an [`ApplyAsync`](crate::ApplyAsync), which also knows its client and the type of the
/// task's output.
#[derive(Clone)]
#[must_use = "a submission does nothing until a client submits it or `send` is called"]
pub struct Submission<C = ()> {
    /// In a box, because each option moves the submission.
    pub(crate) task: Box<wire::Task>,
    pub(crate) id_origin: IdOrigin,
    /// A JSON array; empty when there are no positional arguments.
    args: Vec<u8>,
    kwargs: Map<String, Value>,
    payload: PayloadSource,
    pub(crate) queue_name: QueueName,
    /// Why the arguments cannot be written. The submit reports it.
    problem: Option<String>,
    /// What a typed call knows beyond the submission itself.
    pub(crate) call: C,
}

/// Who chose a task's id. An id that this crate generated cannot belong to an earlier task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum IdOrigin {
    Generated,
    Chosen,
}

/// Whether the caller named a queue. On the wire an empty name means the default queue; from a
/// caller an empty name is an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum QueueName {
    Default,
    Given,
}

/// Where the payload of the message comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PayloadSource {
    Arguments,
    Bytes,
}

/// The task whose handler submits: set on the tasks that the handler submits.
#[derive(Debug)]
pub(crate) struct Lineage {
    pub(crate) root_id: String,
    pub(crate) parent_id: String,
}

/// A task that passed the checks of this crate and may be sent.
pub(crate) struct CheckedTask {
    pub(crate) task: Box<wire::Task>,
    pub(crate) id_origin: IdOrigin,
}

impl Submission {
    /// A task of this name, without arguments and with no option set. The client generates an id.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            task: Box::new(wire::Task { id: new_id(), name: name.into(), ..Default::default() }),
            id_origin: IdOrigin::Generated,
            args: Vec::new(),
            kwargs: Map::new(),
            payload: PayloadSource::Arguments,
            queue_name: QueueName::Default,
            problem: None,
            call: (),
        }
    }

    /// Sets the positional arguments: a tuple, a list, or a JSON array. A single argument is
    /// written as `(value,)`. Arguments that are no list, or that JSON cannot represent, are
    /// refused when the task is submitted.
    ///
    /// ```
    /// use celeriac_client::Submission;
    /// let submission = Submission::new("sums.add").args((1, 2));
    /// ```
    pub fn args(mut self, args: impl Serialize) -> Self {
        self.set_args(args);
        self
    }

    /// Sends these bytes in place of arguments. `content_type` says what they are, for example
    /// `application/msgpack`. The handler must be one that reads this content type.
    ///
    /// ```
    /// use celeriac_client::Submission;
    /// let submission = Submission::new("images.scale").payload(vec![0x89, 0x50], "image/png");
    /// ```
    pub fn payload(mut self, payload: impl Into<Bytes>, content_type: impl Into<String>) -> Self {
        self.task.payload = payload.into();
        self.task.content_type = content_type.into();
        self.payload = PayloadSource::Bytes;
        self
    }
}

impl<C> Submission<C> {
    /// The id of the task.
    pub fn id(&self) -> &str {
        &self.task.id
    }

    /// Adds named arguments: a JSON object, or any value that serialises as one. Python handlers
    /// take them as keyword arguments, `#[task]` functions by the names of their parameters.
    ///
    /// ```
    /// use celeriac_client::Submission;
    /// use serde_json::json;
    ///
    /// let submission = Submission::new("songs.cluster").kwargs(json!({"k": 2, "seed": 7}));
    /// ```
    pub fn kwargs(mut self, kwargs: impl Serialize) -> Self {
        match json::to_value_inside(1, &kwargs) {
            Ok(Value::Object(map)) => self.kwargs.extend(map),
            Ok(Value::Null) => {}
            Ok(_) => self.set_problem("the named arguments are not an object"),
            Err(error) => {
                self.set_problem(format!("the named arguments cannot be written as JSON: {error}"))
            }
        }
        self
    }

    /// Adds one named argument. A second argument of the same name replaces the first.
    pub fn kwarg(mut self, name: impl Into<String>, value: impl Serialize) -> Self {
        let name = name.into();
        match json::to_value_inside(2, &value) {
            Ok(value) => {
                self.kwargs.insert(name, value);
            }
            Err(error) => self
                .set_problem(format!("the argument `{name}` cannot be written as JSON: {error}")),
        }
        self
    }

    pub(crate) fn set_args(&mut self, args: impl Serialize) {
        match json::to_vec_inside(1, &args) {
            // serde writes the empty tuple as `null`.
            Ok(json) if json == b"null" => self.args = Vec::new(),
            Ok(json) if json.first() == Some(&b'[') => self.args = json,
            Ok(_) => self.set_problem(
                "the arguments are not a tuple or a list; one argument is written `(value,)`",
            ),
            Err(error) => {
                self.set_problem(format!("the arguments cannot be written as JSON: {error}"))
            }
        }
    }

    /// Separates a submission from what its typed call knows, and gives it to another call.
    pub(crate) fn with_call<D>(self, call: D) -> (Submission<D>, C) {
        let Self { task, id_origin, args, kwargs, payload, queue_name, problem, call: before } =
            self;
        (Submission { task, id_origin, args, kwargs, payload, queue_name, problem, call }, before)
    }

    /// Fails when the arguments could not be written as JSON. Typed calls report this as
    /// [`Error::Encode`], and other refusals as [`Error::Refused`].
    pub(crate) fn check_encoding(&self) -> Result<(), Error> {
        match &self.problem {
            Some(problem) => Err(Error::Encode(problem.clone())),
            None => Ok(()),
        }
    }

    /// Keeps the first problem.
    fn set_problem(&mut self, problem: impl Into<String>) {
        self.problem.get_or_insert(problem.into());
    }

    /// Checks the submission and makes the message of it.
    pub(crate) fn into_checked(
        self,
        lineage: Option<&Arc<Lineage>>,
        payload_bytes_max: u64,
    ) -> Result<CheckedTask, Refusal> {
        let refused = |message: String| Refusal::local(ErrorCode::InvalidArgument, message);
        let Self { mut task, id_origin, args, kwargs, payload, queue_name, problem, .. } = self;
        if let Some(problem) = problem {
            return Err(refused(problem));
        }
        if id_origin == IdOrigin::Chosen {
            TaskId::check(&task.id).map_err(|error| refused(error.to_string()))?;
        }
        TaskName::check(&task.name).map_err(|error| refused(error.to_string()))?;
        if queue_name == QueueName::Given || !task.queue.is_empty() {
            celeriac_proto::QueueName::check(&task.queue)
                .map_err(|error| refused(error.to_string()))?;
        }
        if let Some(priority) = task.priority.filter(|priority| *priority > limits::PRIORITY_MAX) {
            return Err(refused(format!(
                "a priority is 0 to {}, this one is {priority}",
                limits::PRIORITY_MAX
            )));
        }
        if payload == PayloadSource::Arguments {
            task.payload =
                json_payload(&args, kwargs).map_err(|error| refused(error.to_string()))?;
        }
        if task.payload.len() as u64 > payload_bytes_max {
            let message = format!(
                "the payload has {} bytes, and {payload_bytes_max} are allowed",
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
        Ok(CheckedTask { task, id_origin })
    }
}

impl<C> fmt::Debug for Submission<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Submission")
            .field("task", &self.task)
            .field("id_origin", &self.id_origin)
            .field("kwargs", &self.kwargs)
            .field("problem", &self.problem)
            .finish_non_exhaustive()
    }
}

/// The payload `[args, kwargs]`, which workers in every language read.
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
    /// The broker created a new task.
    Created,
    /// An unfinished task of this id existed and goes on. This submit runs nothing new.
    Joined,
    /// An ended task of this id existed. This submit is its next run.
    NewGeneration,
}

/// A submit that the broker accepted: the broker has stored the task and does not lose it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Submitted {
    /// The id of the task. It differs from the id of the submit when the task runs beside another:
    /// see [`OnConflict::Beside`](crate::OnConflict::Beside).
    pub id: String,
    /// What the submit did.
    pub kind: SubmitKind,
    /// The number of this run under its id, from 1.
    pub generation: u32,
    /// The state of the task when the broker answered.
    pub state: State,
}

impl Submitted {
    pub(crate) fn from_wire(id: String, outcome: wire::SubmitOutcome) -> Result<Self, Refusal> {
        let id = if outcome.id.is_empty() { id } else { outcome.id.clone() };
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
