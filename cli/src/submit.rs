//! `celeriac submit`: one task, by name, with JSON arguments.

use std::time::Duration;

use celeriac_client::{
    Client, OnConflict, RetryPolicy, State, Submission, SubmitKind, Submitted, TaskInfo, Watch,
};
use celeriac_proto::{QueueName, TaskId, TaskName};
use clap::{Args, ValueEnum};
use serde::Serialize;

use crate::arguments::Global;
use crate::connection::{connect, failure};
use crate::exit::{Exit, Failure};
use crate::json::{parse_args, parse_kwargs, read_stdin};
use crate::output::{Output, clean};
use crate::result::{FOREVER, print_result, wait_and_print};
use crate::time::{Moment, parse_moment, parse_moment_or_span, parse_span};

/// The arguments of `submit`.
#[derive(Args)]
pub(crate) struct Submit {
    /// What to run, e.g. songs.cluster
    #[arg(value_parser = parse_name)]
    name: TaskName,

    /// Positional arguments, a JSON array; `-` reads them from stdin
    #[arg(long, default_value = "[]", value_name = "JSON", allow_hyphen_values = true)]
    args: String,

    /// Named arguments, a JSON object; `-` reads them from stdin
    #[arg(long, default_value = "{}", value_name = "JSON", allow_hyphen_values = true)]
    kwargs: String,

    /// The id of the task [default: a new UUID]
    #[arg(long, value_parser = parse_id)]
    id: Option<String>,

    /// Where it waits [default: the queue `default`]
    #[arg(long, value_parser = parse_queue)]
    queue: Option<QueueName>,

    /// The earliest start: a time with its offset, or now+10m
    #[arg(long, value_parser = parse_moment, value_name = "TIME")]
    eta: Option<Moment>,

    /// The earliest start, counted from now
    #[arg(long, value_parser = parse_span, value_name = "SPAN", conflicts_with = "eta")]
    countdown: Option<Duration>,

    /// No attempt begins after it, and the task is revoked: a span from now, or a time with its
    /// offset
    #[arg(long, value_parser = parse_moment_or_span, value_name = "SPAN|TIME")]
    expires: Option<Moment>,

    /// 0 to 9, 9 first [default: 4]
    #[arg(long, value_parser = clap::value_parser!(u8).range(0..=9), value_name = "0-9")]
    priority: Option<u8>,

    /// A name for people, shown in place of the task's own
    #[arg(long, value_name = "TEXT")]
    shadow: Option<String>,

    /// How long the ended task and its result are kept; 0 drops them at once [default: the
    /// queue's, or one day]
    #[arg(long, value_parser = parse_span, value_name = "SPAN")]
    result_ttl: Option<Duration>,

    /// How often it may run in all, the first time included [default: 4]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..), value_name = "COUNT")]
    max_attempts: Option<u32>,

    /// A header for the worker to see; may be given several times
    #[arg(long = "header", value_parser = parse_header, value_name = "KEY=VALUE")]
    headers: Vec<(String, String)>,

    /// A label to find the task by; may be given several times
    #[arg(long = "tag", value_name = "TAG")]
    tags: Vec<String>,

    /// What to do when a task of this id exists
    #[arg(long, value_enum, default_value_t = Conflict::RunAgainIfFinished, value_name = "POLICY")]
    on_conflict: Conflict,

    /// Wait for the end and print the result, as `celeriac result --wait` does; without a value as
    /// long as it takes
    #[arg(long, num_args = 0..=1, value_parser = parse_span, default_missing_value = FOREVER, value_name = "SECONDS")]
    wait: Option<Duration>,
}

/// What a submit of an id that exists does.
#[derive(Clone, Copy, ValueEnum)]
enum Conflict {
    /// An ended task runs again, an unfinished one is joined
    RunAgainIfFinished,
    /// Refuse the submit
    Reject,
    /// Cancel the present run, then start a new one
    Replace,
    /// An ended task runs again, an unfinished one once more after its end
    RunAgainAfter,
}

impl From<Conflict> for OnConflict {
    fn from(conflict: Conflict) -> Self {
        match conflict {
            Conflict::RunAgainIfFinished => Self::RunAgainIfFinished,
            Conflict::Reject => Self::Reject,
            Conflict::Replace => Self::Replace,
            Conflict::RunAgainAfter => Self::RunAgainAfter,
        }
    }
}

/// Checks an id and leaves it the text that the client wants.
pub(crate) fn parse_id(text: &str) -> Result<String, String> {
    TaskId::parse(text).map(String::from).map_err(|error| error.to_string())
}

pub(crate) fn parse_name(text: &str) -> Result<TaskName, String> {
    TaskName::parse(text).map_err(|error| error.to_string())
}

pub(crate) fn parse_queue(text: &str) -> Result<QueueName, String> {
    QueueName::parse(text).map_err(|error| error.to_string())
}

fn parse_header(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err(format!("`{text}` is not KEY=VALUE")),
    }
}

/// Submits the task, says what became of it, and waits for its result when asked to.
pub(crate) async fn run(
    submit: Submit,
    global: &Global,
    output: &mut Output,
) -> Result<Exit, Failure> {
    let wait = submit.wait;
    let submission = submission(submit)?;
    let client = connect(global).await?;
    // Watched before it exists: a task whose result is not kept may be gone at once.
    let watch = match wait {
        Some(_) => Some(client.watch_with_results(&[submission.id()]).await.map_err(failure)?),
        None => None,
    };
    let mut outcomes = client.submit_many([submission]).await.map_err(failure)?;
    let outcome =
        outcomes.pop().ok_or_else(|| Failure::error("the broker answered without an outcome"))?;
    let submitted = outcome.map_err(|refusal| failure(refusal.into()))?;
    if wait.is_none() || output.json {
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
    match tokio::time::timeout(span, end_of(watch, submitted.generation)).await {
        Ok(Some(task)) => print_result(&task, output),
        // The time is over, or the task was forgotten: the broker says how it stands.
        Ok(None) | Err(_) => wait_and_print(client, &submitted.id, Duration::ZERO, output).await,
    }
}

/// The task at its end; `None` when it is gone. Earlier generations of the id are somebody else's.
async fn end_of(mut watch: Watch, generation: u32) -> Option<TaskInfo> {
    // The state before the submit: unknown, an earlier generation, or the task that was joined.
    let mut task = watch.next().await?;
    while task.generation < generation || !task.state.is_ended() {
        task = watch.next().await?;
        if task.state == State::Unknown {
            return None;
        }
    }
    Some(task)
}

fn submission(submit: Submit) -> Result<Submission, Failure> {
    let payload = payload(&submit.args, &submit.kwargs)?;
    let mut submission = Submission::new(submit.name)
        .payload(payload, "application/json")
        .on_conflict(submit.on_conflict.into());
    submission = match submit.eta.or(submit.countdown.map(Moment::In)) {
        Some(Moment::At(time)) => submission.eta(time),
        Some(Moment::In(span)) => submission.countdown(span),
        None => submission,
    };
    submission = match submit.expires {
        Some(Moment::At(time)) => submission.expires_at(time),
        Some(Moment::In(span)) => submission.expires_in(span),
        None => submission,
    };
    submission = optional(submission, submit.id, Submission::task_id);
    submission = optional(submission, submit.queue, Submission::queue);
    submission = optional(submission, submit.priority, |submission, priority| {
        submission.priority(priority.into())
    });
    submission = optional(submission, submit.shadow, Submission::shadow);
    submission = optional(submission, submit.result_ttl, Submission::result_ttl);
    let retry = submit.max_attempts.map(|attempts| RetryPolicy::new().max_attempts(attempts));
    submission = optional(submission, retry, Submission::retry);
    submission = submit
        .headers
        .into_iter()
        .fold(submission, |submission, (key, value)| submission.header(key, value));
    Ok(submit.tags.into_iter().fold(submission, Submission::tag))
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

/// The payload as other clients write it: `[args, kwargs]`, each as it was given.
fn payload(args: &str, kwargs: &str) -> Result<String, Failure> {
    if args == "-" && kwargs == "-" {
        return Err(Failure::usage("--args and --kwargs cannot both be read from stdin"));
    }
    let read = |flag, text: &str| if text == "-" { read_stdin(flag) } else { Ok(text.to_owned()) };
    let args = parse_args(&read("--args", args)?)?;
    let kwargs = parse_kwargs(&read("--kwargs", kwargs)?)?;
    Ok(format!("[{args}, {kwargs}]"))
}

/// What a program reads about a submit.
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
    if output.json {
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
