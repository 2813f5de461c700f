//! A task as a program submits it.
//!
//! The names are those of a line of `submit --lines` of the command line.

use std::collections::BTreeMap;
use std::num::NonZeroU32;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use celeriac_client::{OnConflict, RetryPolicy, Submission, SubmitKind, Submitted};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;

use crate::time::{Moment, parse_moment, parse_moment_or_span, parse_span};

/// A task to run. Only `name` is required. Its payload is `args` and `kwargs` in the form of all
/// clients, or `payload` with its `content_type`.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(title = "Submission")]
pub struct SubmissionDocument {
    /// The name of the task to run, such as `songs.cluster`.
    #[schema(max_length = 255, example = "songs.cluster")]
    name: String,
    /// The positional arguments.
    #[schema(value_type = Option<Vec<serde_json::Value>>)]
    args: Option<Box<RawValue>>,
    /// The named arguments.
    #[schema(value_type = Option<Object>)]
    kwargs: Option<Box<RawValue>>,
    /// Bytes in base64, in place of `args` and `kwargs`.
    payload: Option<String>,
    /// What the bytes are, such as `audio/flac`.
    content_type: Option<String>,
    /// The id of the task; by default a new UUID.
    #[schema(max_length = 255)]
    id: Option<String>,
    /// The queue in which the task waits; by default `default`.
    #[schema(max_length = 255)]
    queue: Option<String>,
    /// A name for people.
    shadow: Option<String>,
    /// 0 to 9; tasks with 9 run first.
    #[schema(maximum = 9)]
    priority: Option<u8>,
    /// The earliest start: a time with its offset, or `now+10m`.
    eta: Option<String>,
    /// The earliest start as a span from now: `10s`, or a number of seconds.
    countdown: Option<Span>,
    /// The time after which no attempt begins: a span from now, or a time with its offset.
    expires: Option<Span>,
    /// How long the ended task is kept.
    result_ttl: Option<Span>,
    /// How many times the task may run, including the first time.
    #[schema(value_type = Option<u32>, minimum = 1)]
    max_attempts: Option<NonZeroU32>,
    /// How many times workers may be lost with the task before it fails.
    #[schema(value_type = Option<u32>, minimum = 1)]
    max_deliveries: Option<NonZeroU32>,
    /// The time after which a run is stopped.
    time_limit: Option<Span>,
    /// The time after which a run is asked to stop.
    soft_time_limit: Option<Span>,
    /// Headers for the worker.
    #[serde(default)]
    headers: BTreeMap<String, String>,
    /// Labels to find the task by.
    #[serde(default)]
    tags: Vec<String>,
    /// The first task of the tree to which this task belongs.
    root_id: Option<String>,
    /// The task that submits this one.
    parent_id: Option<String>,
    /// What to do if a task with this id exists.
    #[serde(default)]
    on_conflict: ConflictDocument,
}

/// A span as text, such as `10s`, or a number of seconds.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(untagged)]
enum Span {
    Text(String),
    Seconds(f64),
}

impl Span {
    fn into_text(self) -> String {
        match self {
            Self::Text(text) => text,
            Self::Seconds(seconds) => seconds.to_string(),
        }
    }
}

/// What a submit does if a task with its id exists.
#[derive(Debug, Clone, Copy, Default, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum ConflictDocument {
    /// Run an ended task again, join an unfinished one.
    #[default]
    RunAgainIfFinished,
    /// Refuse the submit.
    Reject,
    /// Cancel the present run, then start a new one.
    Replace,
    /// Run an ended task again, and an unfinished one once more after its end.
    RunAgainAfter,
    /// Run an ended task again; beside an unfinished one, run this one under an id of its own.
    Beside,
}

impl From<ConflictDocument> for OnConflict {
    fn from(conflict: ConflictDocument) -> Self {
        match conflict {
            ConflictDocument::RunAgainIfFinished => Self::RunAgainIfFinished,
            ConflictDocument::Reject => Self::Reject,
            ConflictDocument::Replace => Self::Replace,
            ConflictDocument::RunAgainAfter => Self::RunAgainAfter,
            ConflictDocument::Beside => Self::Beside,
        }
    }
}

impl SubmissionDocument {
    /// The submission that the document describes.
    ///
    /// # Errors
    /// The field that cannot be used, and why.
    pub fn into_submission(self) -> Result<Submission, String> {
        let of = |field: &str| {
            let field = field.to_owned();
            move |sentence: String| format!("{field}: {sentence}")
        };
        let span = |field: &str, span: Option<Span>| {
            span.map(|span| parse_span(&span.into_text()).map_err(of(field))).transpose()
        };
        let mut it = Submission::new(self.name).on_conflict(self.on_conflict.into());
        it = with_payload(it, self.args, self.kwargs, self.payload, self.content_type)?;
        it = match (self.eta, span("countdown", self.countdown)?) {
            (Some(_), Some(_)) => return Err("eta and countdown are both set, keep one".into()),
            (Some(eta), None) => match parse_moment(&eta).map_err(of("eta"))? {
                Moment::At(time) => it.eta(time),
                Moment::In(span) => it.countdown(span),
            },
            (None, Some(span)) => it.countdown(span),
            (None, None) => it,
        };
        it = match self.expires.map(Span::into_text) {
            None => it,
            Some(text) => match parse_moment_or_span(&text).map_err(of("expires"))? {
                Moment::At(time) => it.expires_at(time),
                Moment::In(span) => it.expires_in(span),
            },
        };
        it = optional(it, self.id, Submission::task_id);
        it = optional(it, self.queue, Submission::queue);
        it = optional(it, self.shadow, Submission::shadow);
        it = optional(it, self.priority, |it, priority| it.priority(priority.into()));
        it = optional(it, span("result_ttl", self.result_ttl)?, Submission::result_ttl);
        it = optional(it, span("time_limit", self.time_limit)?, Submission::time_limit);
        let soft = span("soft_time_limit", self.soft_time_limit)?;
        it = optional(it, soft, Submission::soft_time_limit);
        it = optional(it, self.max_attempts, |it, attempts| {
            it.retry(RetryPolicy::new().max_attempts(attempts.get()))
        });
        it = optional(it, self.max_deliveries, |it, most| it.max_deliveries(most.get()));
        it = optional(it, self.root_id, Submission::root_id);
        it = optional(it, self.parent_id, Submission::parent_id);
        for (key, value) in self.headers {
            it = it.header(key, value);
        }
        for tag in self.tags {
            it = it.tag(tag);
        }
        Ok(it)
    }
}

/// Adds the arguments in the form of all clients, `[args, kwargs]`, both unchanged, or the bytes.
fn with_payload(
    submission: Submission,
    args: Option<Box<RawValue>>,
    kwargs: Option<Box<RawValue>>,
    payload: Option<String>,
    content_type: Option<String>,
) -> Result<Submission, String> {
    if let Some(payload) = payload {
        if args.is_some() || kwargs.is_some() {
            return Err("payload stands in place of args and kwargs: keep one".into());
        }
        let content_type = content_type.ok_or("payload needs its content_type")?;
        let bytes =
            STANDARD.decode(payload).map_err(|error| format!("payload is not base64: {error}"))?;
        return Ok(submission.payload(bytes, content_type));
    }
    if content_type.is_some() {
        return Err("content_type belongs to payload, which is not there".into());
    }
    let args = args.as_deref().map_or("[]", RawValue::get);
    let kwargs = kwargs.as_deref().map_or("{}", RawValue::get);
    if !args.starts_with('[') {
        return Err("args has to be an array".into());
    }
    if !kwargs.starts_with('{') {
        return Err("kwargs has to be an object".into());
    }
    Ok(submission.payload(format!("[{args}, {kwargs}]"), "application/json"))
}

fn optional<T>(
    submission: Submission,
    value: Option<T>,
    set: impl FnOnce(Submission, T) -> Submission,
) -> Submission {
    match value {
        Some(value) => set(submission, value),
        None => submission,
    }
}

/// What became of a submission.
#[derive(Debug, Serialize, ToSchema)]
#[schema(title = "Submitted")]
pub struct SubmittedDocument<'a> {
    id: &'a str,
    /// `created`, `joined`: an unfinished task of this id goes on, or `new_generation`.
    outcome: &'static str,
    generation: u32,
    state: String,
}

impl<'a> SubmittedDocument<'a> {
    /// The document of what the broker has answered.
    pub fn new(submitted: &'a Submitted) -> Self {
        let outcome = match submitted.kind {
            SubmitKind::Created => "created",
            SubmitKind::Joined => "joined",
            SubmitKind::NewGeneration => "new_generation",
            _ => "accepted",
        };
        let Submitted { id, generation, state, .. } = submitted;
        Self { id, outcome, generation: *generation, state: state.to_string() }
    }

    /// What became of the submission, in a word.
    pub fn outcome(&self) -> &'static str {
        self.outcome
    }

    /// Whether no run was added: an unfinished task of this id goes on.
    pub fn is_joined(&self) -> bool {
        self.outcome == "joined"
    }
}
