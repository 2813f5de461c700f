//! `celeriac submit`: submits one task by its name, with JSON arguments. `submit::lines` submits the
//! tasks of a file.

use std::path::PathBuf;
use std::time::Duration;

use celeriac_client::{
    Client, OnConflict, RetryPolicy, State, Submission, SubmitKind, Submitted, TaskInfo, Watch,
};
use celeriac_proto::{QueueName, TaskName};
use clap::{Args, ValueEnum};
use serde::Serialize;

use crate::arguments::{FOREVER, SharedOptions, parse_id, parse_name, parse_queue};
use crate::connection::{connect, failure};
use crate::exit::{Exit, Failure};
use crate::json::{parse_args, parse_kwargs, read_stdin};
use crate::output::Output;
use crate::printable::clean;
use crate::task_result::{print_result, wait_and_print, waiting};
use crate::time::{Moment, parse_moment, parse_moment_or_span, parse_span};

mod lines;

/// The arguments of `submit`.
#[derive(Args, Clone)]
pub(crate) struct SubmitArguments {
    /// The name of the task to run, such as songs.cluster
    #[arg(value_parser = parse_name, required_unless_present = "lines")]
    name: Option<TaskName>,

    /// Submit a task for each line of this file, a JSON object such as {"id": "a", "args": [1]};
    /// `-` reads stdin. What a line leaves out comes from the other flags
    #[arg(long, value_name = "FILE", conflicts_with_all = ["id", "wait"])]
    lines: Option<PathBuf>,

    /// The positional arguments, a JSON array; `-` reads them from stdin
    #[arg(long, default_value = "[]", value_name = "JSON", allow_hyphen_values = true)]
    args: String,

    /// The named arguments, a JSON object; `-` reads them from stdin
    #[arg(long, default_value = "{}", value_name = "JSON", allow_hyphen_values = true)]
    kwargs: String,

    /// The id of the task [default: a new UUID]
    #[arg(long, value_parser = parse_id)]
    id: Option<String>,

    /// The queue in which the task waits [default: the queue `default`]
    #[arg(long, value_parser = parse_queue)]
    queue: Option<QueueName>,

    /// The earliest start: a time with its offset, or now+10m
    #[arg(long, value_parser = parse_moment, value_name = "TIME")]
    eta: Option<Moment>,

    /// The earliest start, as a span from now
    #[arg(long, value_parser = parse_span, value_name = "SPAN", conflicts_with = "eta")]
    countdown: Option<Duration>,

    /// The time after which no attempt begins and the task is revoked: a span from now, or a time
    /// with its offset
    #[arg(long, value_parser = parse_moment_or_span, value_name = "SPAN|TIME")]
    expires: Option<Moment>,

    /// The priority, 0 to 9; tasks with 9 run first [default: 4]
    #[arg(long, value_parser = clap::value_parser!(u8).range(0..=9), value_name = "0-9")]
    priority: Option<u8>,

    /// A name for people, shown in place of the name of the task
    #[arg(long, value_name = "TEXT")]
    shadow: Option<String>,

    /// How long the ended task and its result are kept; 0 drops them at once [default: the
    /// setting of the queue, or one day]
    #[arg(long, value_parser = parse_span, value_name = "SPAN")]
    result_ttl: Option<Duration>,

    /// How many times the task may run, including the first time [default: 4]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..), value_name = "COUNT")]
    max_attempts: Option<u32>,

    /// A header for the worker; may be given several times
    #[arg(long = "header", value_parser = parse_header, value_name = "KEY=VALUE")]
    headers: Vec<Header>,

    /// A label to find the task by; may be given several times
    #[arg(long = "tag", value_name = "TAG")]
    tags: Vec<String>,

    /// What to do if a task with this id exists
    #[arg(long, value_enum, default_value_t = Conflict::RunAgainIfFinished, value_name = "POLICY")]
    on_conflict: Conflict,

    /// Wait for the end and print the result, as `celeriac result --wait` does; without a value
    /// there is no limit
    #[arg(long, num_args = 0..=1, default_missing_value = FOREVER)]
    #[arg(value_parser = parse_span, value_name = "SECONDS")]
    wait: Option<Duration>,
}

/// What a submit does if a task with its id exists.
#[derive(Clone, Copy, ValueEnum)]
enum Conflict {
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

#[derive(Clone)]
struct Header {
    key: String,
    value: String,
}

fn parse_header(text: &str) -> Result<Header, String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => {
            Ok(Header { key: key.to_owned(), value: value.to_owned() })
        }
        _ => Err(format!("`{text}` is not KEY=VALUE")),
    }
}

/// Submits the task and prints the outcome. With `--wait` it waits for the result.
pub(crate) async fn run(
    arguments: SubmitArguments,
    shared: &SharedOptions,
    output: &mut Output,
) -> Result<Exit, Failure> {
    if let Some(file) = &arguments.lines {
        if arguments.args == "-" || arguments.kwargs == "-" {
            return Err(Failure::usage("--args and --kwargs of --lines are not read from stdin"));
        }
        let client = connect(shared).await?;
        let exit = lines::submit_lines(&client, file, &arguments, output).await;
        client.close().await;
        return exit;
    }
    let wait = arguments.wait;
    let submission = submission(arguments)?;
    let client = connect(shared).await?;
    // The watch begins before the submit: the broker forgets a task whose result is not kept as
    // soon as it ends.
    let watch = match wait {
        Some(_) => Some(client.watch_with_results(&[submission.id()]).await.map_err(failure)?),
        None => None,
    };
    let mut outcomes = client.submit_many([submission]).await.map_err(failure)?;
    let outcome = outcomes
        .pop()
        .ok_or_else(|| Failure::error("the answer of the broker does not have an outcome"))?;
    let submitted = outcome.map_err(|refusal| failure(refusal.into()))?;
    if wait.is_none() || output.is_json() {
        print(&submitted, output)?;
    }
    let exit = match watch.zip(wait) {
        Some((watch, span)) => wait_for_end(&client, watch, &submitted, span, output).await,
        None => Ok(Exit::Success),
    };
    client.close().await;
    exit
}

async fn wait_for_end(
    client: &Client,
    watch: Watch,
    submitted: &Submitted,
    span: Duration,
    output: &mut Output,
) -> Result<Exit, Failure> {
    let ended = async {
        let end = end_of(watch, submitted.generation);
        Ok(tokio::time::timeout(span, end).await.ok().flatten())
    };
    match waiting(client, &submitted.id, ended).await? {
        Some(task) => print_result(&task, output),
        // The time is over, or the broker has forgotten the task. Its present state is the answer.
        None => wait_and_print(client, &submitted.id, Duration::ZERO, output).await,
    }
}

/// Waits for the end of this generation of the task. `None` means that the broker has forgotten the
/// task. The end of an earlier generation does not count.
async fn end_of(mut watch: Watch, generation: u32) -> Option<TaskInfo> {
    // The first message has the state before the submit: unknown, an earlier generation, or the
    // task that the submit joined.
    let mut task = watch.next().await?;
    while task.generation < generation || !task.state.is_ended() {
        task = watch.next().await?;
        if task.state == State::Unknown {
            return None;
        }
    }
    Some(task)
}

fn submission(arguments: SubmitArguments) -> Result<Submission, Failure> {
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

/// The outcome of a submit, for programs.
#[derive(Serialize)]
struct Document<'a> {
    id: &'a str,
    outcome: &'a str,
    generation: u32,
    state: String,
}

fn print(submitted: &Submitted, output: &mut Output) -> Result<(), Failure> {
    let Submitted { id, kind, generation, state, .. } = submitted;
    let outcome = match kind {
        SubmitKind::Created => "created",
        SubmitKind::Joined => "joined",
        SubmitKind::NewGeneration => "new_generation",
        _ => "accepted",
    };
    if output.is_json() {
        return Ok(output.document(&Document {
            id,
            outcome,
            generation: *generation,
            state: state.to_string(),
        })?);
    }
    let sentence = match kind {
        SubmitKind::Joined => "joined the task of this id that has not ended yet".to_owned(),
        SubmitKind::NewGeneration => format!("runs again, generation {generation}"),
        _ => outcome.to_owned(),
    };
    Ok(output.line(&format!("{}  {state}  {sentence}", clean(id)))?)
}
