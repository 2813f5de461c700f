//! `celeriac cancel`: revokes waiting tasks, and asks running tasks to stop.

use std::time::Duration;

use celeriac_client::{
    CancelMode, CancelOutcome, Client, Error, ErrorCode, State, TaskFilter, TaskInfo,
};
use clap::builder::NonEmptyStringValueParser;
use clap::{ArgGroup, Args};
use serde::Serialize;

use crate::arguments::{SharedOptions, parse_id};
use crate::confirm::ConfirmOptions;
use crate::connection::{connect, failure};
use crate::exit::{Exit, Failure};
use crate::output::{Format, Output};
use crate::task_count::{TaskCount, count};
use crate::time::parse_span;
use celeriac_web::printable::clean;

/// The states of a task that a cancel changes.
const UNFINISHED: [State; 5] =
    [State::Scheduled, State::Queued, State::Leased, State::Started, State::Retry];

/// The arguments of `cancel`.
#[derive(Args)]
#[command(group(ArgGroup::new("which").args(["ids", "root", "tag"]).required(true)))]
pub(crate) struct CancelArguments {
    /// The ids of the tasks
    #[arg(value_parser = parse_id, value_name = "ID")]
    ids: Vec<String>,

    /// Cancel every unfinished task of the tree that began with this task; asks before
    #[arg(long, value_parser = parse_id, value_name = "ID")]
    root: Option<String>,

    /// Cancel every unfinished task with this tag; asks before
    #[arg(long, value_parser = NonEmptyStringValueParser::new())]
    tag: Option<String>,

    /// Stop running handlers; without it handlers are only asked to stop, and may finish
    #[arg(long)]
    force: bool,

    /// Leave running handlers alone; their tasks do not run again after them
    #[arg(long, conflicts_with = "force")]
    waiting: bool,

    /// With --force: the time that a handler has to end, before the broker revokes its task
    /// [default: 10s]
    #[arg(long, value_parser = parse_span, value_name = "SPAN", requires = "force")]
    grace: Option<Duration>,

    #[command(flatten)]
    confirm: ConfirmOptions,
}

/// The outcome for one id, for programs.
#[derive(Serialize)]
struct Document<'a> {
    id: &'a str,
    outcome: &'a str,
}

/// The outcome for one id in all its forms.
struct Report {
    exit: Exit,
    /// For programs.
    outcome: &'static str,
    /// For people.
    sentence: &'static str,
}

/// Cancels each task. A task that has already ended is no failure: it will not run.
pub(crate) async fn run(
    arguments: CancelArguments,
    shared: &SharedOptions,
    output: &mut Output,
) -> Result<Exit, Failure> {
    output.outlive_reader();
    let mode = match (arguments.force, arguments.waiting) {
        (true, _) => CancelMode::Force { grace: arguments.grace },
        (false, true) => CancelMode::Waiting,
        (false, false) => CancelMode::Cooperative,
    };
    // Ids are given one by one. A root or a tag may mean more tasks than the user thinks.
    let consent = match Many::of(&arguments) {
        Some(many) => Some((many, arguments.confirm.consent("a cancel by root or tag")?)),
        None => None,
    };
    let client = connect(shared).await?;
    if let Some((many, consent)) = consent
        && consent.is_to_be_asked()
    {
        let count = many.count(&client).await?;
        if count == TaskCount::Exactly(0) {
            // Without a question nothing may be cancelled, whatever was submitted since.
            print_that_none_matches(&client, &arguments, output).await?;
            client.close().await;
            return Ok(Exit::Success);
        }
        let count = count.in_brackets();
        consent.ask(&format!("Cancel every unfinished task {}{count}?", many.in_words())).await?;
    }
    let cancelled = match (&arguments.root, &arguments.tag) {
        (Some(root), _) => client.cancel_tree(root, mode).await,
        (None, Some(tag)) => client.cancel_tagged(tag, mode).await,
        (None, None) => client.cancel(&arguments.ids, mode).await,
    };
    let cancelled = cancelled.map_err(failure)?;
    if cancelled.is_empty() {
        print_that_none_matches(&client, &arguments, output).await?;
    }
    client.close().await;
    let mut exit = Exit::Success;
    for task in &cancelled {
        let report = report(task.outcome);
        exit = exit.and(report.exit);
        match output.format {
            Format::Json => output.document(&Document { id: &task.id, outcome: report.outcome })?,
            Format::Text => output.line(&format!("{}  {}", clean(&task.id), report.sentence))?,
        }
    }
    Ok(exit)
}

async fn print_that_none_matches(
    client: &Client,
    arguments: &CancelArguments,
    output: &mut Output,
) -> Result<(), Failure> {
    fail_if_none_is_known(client, arguments).await?;
    if !output.is_json() {
        output.line("no unfinished task matches")?;
    }
    Ok(())
}

/// Fails if the broker knows no task of the tree or with the tag, ended tasks included.
async fn fail_if_none_is_known(
    client: &Client,
    arguments: &CancelArguments,
) -> Result<(), Failure> {
    let (filter, sentence) = match (&arguments.root, &arguments.tag) {
        (Some(root), _) => {
            let first = client.info(&[root]).await.map_err(failure)?;
            if first.iter().any(TaskInfo::is_there) {
                return Ok(());
            }
            (
                TaskFilter::new().root_id(root),
                format!("no task {}, and none of its tree", clean(root)),
            )
        }
        (None, Some(tag)) => {
            (TaskFilter::new().tag(tag), format!("no task with the tag {}", clean(tag)))
        }
        (None, None) => return Ok(()),
    };
    let is_known = match client.tasks(filter, 1, None).await {
        Ok(page) => !page.tasks.is_empty(),
        // This client may not list tasks. What it asked for is done: no such task is unfinished.
        // Of a root it knows that there is no such task.
        Err(Error::Refused { code: ErrorCode::Forbidden, .. }) => arguments.root.is_none(),
        Err(error) => return Err(failure(error)),
    };
    if is_known { Ok(()) } else { Err(Failure::new(Exit::NotFound, sentence)) }
}

fn report(outcome: CancelOutcome) -> Report {
    let (exit, outcome, sentence) = match outcome {
        CancelOutcome::Revoked => (Exit::Success, "revoked", "revoked"),
        CancelOutcome::Signalled => (Exit::Success, "signalled", "is running and was told to stop"),
        CancelOutcome::LeftRunning => {
            (Exit::Success, "left_running", "is running and goes on; it will not run again")
        }
        CancelOutcome::AlreadyEnded => (Exit::Success, "already_ended", "had already ended"),
        CancelOutcome::NotFound => (Exit::NotFound, "not_found", "no such task"),
        _ => (Exit::Error, "unknown", "the broker's answer is not understood"),
    };
    Report { exit, outcome, sentence }
}

/// Tasks that are not named one by one.
enum Many<'a> {
    OfTree(&'a str),
    WithTag(&'a str),
}

impl<'a> Many<'a> {
    fn of(arguments: &'a CancelArguments) -> Option<Self> {
        let tag = || arguments.tag.as_deref().map(Self::WithTag);
        arguments.root.as_deref().map(Self::OfTree).or_else(tag)
    }

    /// How many of them are unfinished at this moment.
    async fn count(&self, client: &Client) -> Result<TaskCount, Failure> {
        let (filter, first) = match self {
            // The first task of a tree names no root, so the filter does not find it.
            Self::OfTree(root) => (
                TaskFilter::new().root_id(*root),
                client.info(&[*root]).await.map_err(failure)?.pop(),
            ),
            Self::WithTag(tag) => (TaskFilter::new().tag(*tag), None),
        };
        let filter = UNFINISHED.iter().fold(filter, |filter, state| filter.state(*state));
        let count = count(client, &filter).await;
        let is_first_unfinished = first.is_some_and(|task| UNFINISHED.contains(&task.state));
        Ok(if is_first_unfinished { count.and_one() } else { count })
    }

    fn in_words(&self) -> String {
        match self {
            Self::OfTree(root) => format!("of the tree of {}", clean(root)),
            Self::WithTag(tag) => format!("with the tag {}", clean(tag)),
        }
    }
}
