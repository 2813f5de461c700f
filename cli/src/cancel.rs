//! `celeriac cancel`: asks that tasks do not run, or stop.

use std::time::Duration;

use celeriac_client::{CancelMode, CancelOutcome};
use clap::builder::NonEmptyStringValueParser;
use clap::{ArgGroup, Args};
use serde::Serialize;

use crate::arguments::Global;
use crate::confirm::Confirm;
use crate::connection::{connect, failure};
use crate::exit::{Exit, Failure};
use crate::output::{Output, clean};
use crate::submit::parse_id;
use crate::time::parse_span;

/// The arguments of `cancel`.
#[derive(Args)]
#[command(group(ArgGroup::new("which").args(["ids", "root", "tag"]).required(true)))]
pub(crate) struct Cancel {
    /// The ids of the tasks
    #[arg(value_parser = parse_id, value_name = "ID")]
    ids: Vec<String>,

    /// Cancel every unfinished task of the tree that began with this one; asks before
    #[arg(long, value_parser = parse_id, value_name = "ID")]
    root: Option<String>,

    /// Cancel every unfinished task with this tag; asks before
    #[arg(long, value_parser = NonEmptyStringValueParser::new())]
    tag: Option<String>,

    /// Stop running handlers without asking them; otherwise they are told and may finish
    #[arg(long)]
    force: bool,

    /// With --force: how long a handler is given to end before the broker revokes its task
    /// [default: 10s]
    #[arg(long, value_parser = parse_span, value_name = "SPAN", requires = "force")]
    grace: Option<Duration>,

    #[command(flatten)]
    confirm: Confirm,
}

/// What a program reads about one id.
#[derive(Serialize)]
struct Document<'a> {
    id: &'a str,
    outcome: &'a str,
}

/// Cancels each task. A task that had already ended is no failure: it is not going to run.
pub(crate) async fn run(
    cancel: Cancel,
    global: &Global,
    output: &mut Output,
) -> Result<Exit, Failure> {
    let mode = if cancel.force {
        CancelMode::Force { grace: cancel.grace }
    } else {
        CancelMode::Cooperative
    };
    // Ids were written out one by one; a root or a tag may stand for more than one thinks.
    if let Some(question) = question(&cancel) {
        cancel.confirm.consent("a cancel by root or tag")?.ask(&question).await?;
    }
    let client = connect(global).await?;
    let outcomes = match (cancel.root, cancel.tag) {
        (Some(root), _) => client.cancel_tree(root, mode).await,
        (None, Some(tag)) => client.cancel_tagged(tag, mode).await,
        (None, None) => client.cancel(&cancel.ids, mode).await,
    };
    let outcomes = outcomes.map_err(failure)?;
    client.close().await;
    if outcomes.is_empty() && !output.json {
        output.line("no unfinished task matches")?;
    }
    let mut exit = Exit::Success;
    for cancelled in &outcomes {
        let (one, name, sentence) = match cancelled.outcome {
            CancelOutcome::Revoked => (Exit::Success, "revoked", "revoked"),
            CancelOutcome::Signalled => {
                (Exit::Success, "signalled", "is running and was told to stop")
            }
            CancelOutcome::AlreadyEnded => (Exit::Success, "already_ended", "had already ended"),
            CancelOutcome::NotFound => (Exit::NotFound, "not_found", "no such task"),
            _ => (Exit::Error, "unknown", "the broker's answer is not understood"),
        };
        exit = exit.and(one);
        match output.json {
            true => output.document(&Document { id: &cancelled.id, outcome: name })?,
            false => output.line(&format!("{}  {sentence}", clean(&cancelled.id)))?,
        }
    }
    Ok(exit)
}

/// What is asked before; `None` when every task was named.
fn question(cancel: &Cancel) -> Option<String> {
    let of_root =
        |root: &String| format!("Cancel every unfinished task of the tree of {}?", clean(root));
    let of_tag =
        |tag: &String| format!("Cancel every unfinished task with the tag {}?", clean(tag));
    cancel.root.as_ref().map(of_root).or(cancel.tag.as_ref().map(of_tag))
}
