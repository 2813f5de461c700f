//! The task of a submit: the flags that describe it, the submission that they make, and the line
//! that says what became of it.

use std::time::Duration;

use celeriac_client::{OnConflict, RetryPolicy, Submission, SubmitKind, Submitted};
use celeriac_proto::{QueueName, TaskName};
use celeriac_web::documents::SubmittedDocument;
use clap::{Args, ValueEnum};

use crate::arguments::{parse_id, parse_name, parse_queue};
use crate::exit::Failure;
use crate::json::{parse_args, parse_kwargs, read_stdin};
use crate::output::Output;
use crate::time::{Moment, parse_moment, parse_moment_or_span, parse_span};
use celeriac_web::printable::clean;

/// The flags that describe a task.
#[derive(Args, Clone)]
pub(super) struct TaskArguments {
    /// The name of the task to run, such as songs.cluster
    #[arg(value_parser = parse_name, required_unless_present = "lines")]
    pub(super) name: Option<TaskName>,

    /// The positional arguments, a JSON array; `-` reads them from stdin
    #[arg(long, default_value = "[]", value_name = "JSON", allow_hyphen_values = true)]
    pub(super) args: String,

    /// The named arguments, a JSON object; `-` reads them from stdin
    #[arg(long, default_value = "{}", value_name = "JSON", allow_hyphen_values = true)]
    pub(super) kwargs: String,

    /// The id of the task [default: a new UUID]
    #[arg(long, value_parser = parse_id)]
    pub(super) id: Option<String>,

    /// The queue in which the task waits [default: the queue `default`]
    #[arg(long, value_parser = parse_queue)]
    pub(super) queue: Option<QueueName>,

    /// The earliest start: a time with its offset, or now+10m
    #[arg(long, value_parser = parse_moment, value_name = "TIME")]
    pub(super) eta: Option<Moment>,

    /// The earliest start, as a span from now
    #[arg(long, value_parser = parse_span, value_name = "SPAN", conflicts_with = "eta")]
    pub(super) countdown: Option<Duration>,

    /// The time after which no attempt begins and the task is revoked: a span from now, or a time
    /// with its offset
    #[arg(long, value_parser = parse_moment_or_span, value_name = "SPAN|TIME")]
    pub(super) expires: Option<Moment>,

    /// The priority, 0 to 9; tasks with 9 run first [default: 4]
    #[arg(long, value_parser = clap::value_parser!(u8).range(0..=9), value_name = "0-9")]
    pub(super) priority: Option<u8>,

    /// A name for people, shown in place of the name of the task
    #[arg(long, value_name = "TEXT")]
    pub(super) shadow: Option<String>,

    /// How long the ended task and its result are kept; 0 drops them at once [default: the
    /// setting of the queue, or one day]
    #[arg(long, value_parser = parse_span, value_name = "SPAN")]
    pub(super) result_ttl: Option<Duration>,

    /// How many times the task may run, including the first time [default: 4]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..), value_name = "COUNT")]
    pub(super) max_attempts: Option<u32>,

    /// How many times workers may be lost with the task before it fails [default: 20]
    ///
    /// A lost worker uses up an attempt too, so only a number below --max-attempts makes a
    /// difference.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..), value_name = "COUNT")]
    pub(super) max_deliveries: Option<u32>,

    /// A header for the worker; may be given several times
    #[arg(long = "header", value_parser = parse_header, value_name = "KEY=VALUE")]
    pub(super) headers: Vec<Header>,

    /// A label to find the task by; may be given several times
    #[arg(long = "tag", value_name = "TAG")]
    pub(super) tags: Vec<String>,

    /// What to do if a task with this id exists
    #[arg(long, value_enum, default_value_t = Conflict::RunAgainIfFinished, value_name = "POLICY")]
    pub(super) on_conflict: Conflict,
}

/// What a submit does if a task with its id exists.
#[derive(Clone, Copy, ValueEnum)]
pub(super) enum Conflict {
    /// Run an ended task again, join an unfinished one
    RunAgainIfFinished,
    /// Refuse the submit
    Reject,
    /// Cancel the present run, then start a new one
    Replace,
    /// Run an ended task again, and an unfinished one once more after its end
    RunAgainAfter,
    /// Run an ended task again; beside an unfinished one, run this one under an id of its own
    Beside,
}

impl From<Conflict> for OnConflict {
    fn from(conflict: Conflict) -> Self {
        match conflict {
            Conflict::RunAgainIfFinished => Self::RunAgainIfFinished,
            Conflict::Reject => Self::Reject,
            Conflict::Replace => Self::Replace,
            Conflict::RunAgainAfter => Self::RunAgainAfter,
            Conflict::Beside => Self::Beside,
        }
    }
}

/// A header of a task.
#[derive(Clone)]
pub(super) struct Header {
    key: String,
    value: String,
}

impl Header {
    /// A key and a value.
    ///
    /// # Errors
    /// The key is empty.
    pub(super) fn new(key: String, value: String) -> Result<Self, String> {
        match key.is_empty() {
            true => Err("the key of a header must not be empty".to_owned()),
            false => Ok(Self { key, value }),
        }
    }
}

fn parse_header(text: &str) -> Result<Header, String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Header::new(key.to_owned(), value.to_owned()),
        _ => Err(format!("`{text}` is not KEY=VALUE")),
    }
}

/// The submission that the flags describe.
pub(super) fn submission(arguments: TaskArguments) -> Result<Submission, Failure> {
    let payload = payload(&arguments.args, &arguments.kwargs)?;
    let name = arguments.name.ok_or_else(|| Failure::usage("the task has no name"))?;
    let mut submission = Submission::new(name)
        .payload(payload, "application/json")
        .on_conflict(arguments.on_conflict.into());
    submission = match arguments.eta.or(arguments.countdown.map(Moment::In)) {
        Some(Moment::At(time)) => submission.eta(time),
        Some(Moment::In(span)) => submission.countdown(span),
        None => submission,
    };
    submission = match arguments.expires {
        Some(Moment::At(time)) => submission.expires_at(time),
        Some(Moment::In(span)) => submission.expires_in(span),
        None => submission,
    };
    submission = optional(submission, arguments.id, Submission::task_id);
    submission = optional(submission, arguments.queue, Submission::queue);
    submission = optional(submission, arguments.priority, |submission, priority| {
        submission.priority(priority.into())
    });
    submission = optional(submission, arguments.shadow, Submission::shadow);
    submission = optional(submission, arguments.result_ttl, Submission::result_ttl);
    let retry = arguments.max_attempts.map(|attempts| RetryPolicy::new().max_attempts(attempts));
    submission = optional(submission, retry, Submission::retry);
    submission = optional(submission, arguments.max_deliveries, Submission::max_deliveries);
    for Header { key, value } in arguments.headers {
        submission = submission.header(key, value);
    }
    for tag in arguments.tags {
        submission = submission.tag(tag);
    }
    Ok(submission)
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

/// The payload in the form of all clients: `[args, kwargs]`, both unchanged.
fn payload(args: &str, kwargs: &str) -> Result<String, Failure> {
    if args == "-" && kwargs == "-" {
        return Err(Failure::usage("--args and --kwargs cannot both be read from stdin"));
    }
    let read = |flag, text: &str| if text == "-" { read_stdin(flag) } else { Ok(text.to_owned()) };
    let args = parse_args(&read("--args", args)?)?;
    let kwargs = parse_kwargs(&read("--kwargs", kwargs)?)?;
    Ok(format!("[{args}, {kwargs}]"))
}

/// Prints what became of a submission.
pub(super) fn print(submitted: &Submitted, output: &mut Output) -> Result<(), Failure> {
    let document = SubmittedDocument::new(submitted);
    if output.is_json() {
        return Ok(output.document(&document)?);
    }
    let Submitted { id, kind, generation, state, .. } = submitted;
    let sentence = match kind {
        SubmitKind::Joined => "joined the task of this id that has not ended yet".to_owned(),
        SubmitKind::NewGeneration => format!("runs again, generation {generation}"),
        _ => document.outcome().to_owned(),
    };
    Ok(output.line(&format!("{}  {state}  {sentence}", clean(id)))?)
}
