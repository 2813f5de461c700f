//! `celeriac cancel`: revokes waiting tasks, and asks running tasks to stop.

use std::time::Duration;

use celeriac_client::{CancelMode, CancelOutcome, Client, TaskFilter, TaskInfo};
use clap::builder::NonEmptyStringValueParser;
use clap::{ArgGroup, Args};
use serde::Serialize;

use crate::arguments::{SharedOptions, parse_id};
use crate::confirm::ConfirmOptions;
use crate::connection::{connect, failure};
use crate::exit::{Exit, Failure};
use crate::output::{Format, Output};
use crate::printable::clean;
use crate::time::parse_span;

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
    if let Some(question) = question(&arguments) {
        arguments.confirm.consent("a cancel by root or tag")?.ask(&question).await?;
    }
    let client = connect(shared).await?;
    let cancelled = match (&arguments.root, &arguments.tag) {
        (Some(root), _) => client.cancel_tree(root, mode).await,
        (None, Some(tag)) => client.cancel_tagged(tag, mode).await,
        (None, None) => client.cancel(&arguments.ids, mode).await,
    };
    let cancelled = cancelled.map_err(failure)?;
    if cancelled.is_empty() {
        fail_if_none_is_known(&client, &arguments).await?;
        if !output.is_json() {
            output.line("no unfinished task matches")?;
        }
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
    match client.tasks(filter, 1, None).await.map_err(failure)?.tasks.is_empty() {
        true => Err(Failure::new(Exit::NotFound, sentence)),
        false => Ok(()),
    }
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

/// The question before a cancel by root or tag.
fn question(arguments: &CancelArguments) -> Option<String> {
    match (&arguments.root, &arguments.tag) {
        (Some(root), _) => {
            Some(format!("Cancel every unfinished task of the tree of {}?", clean(root)))
        }
        (None, Some(tag)) => {
            Some(format!("Cancel every unfinished task with the tag {}?", clean(tag)))
        }
        (None, None) => None,
    }
}
