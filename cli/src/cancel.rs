//! `celeriac cancel`: asks that tasks do not run, or stop.

use std::time::Duration;

use celeriac_client::{CancelMode, CancelOutcome};
use clap::Args;
use serde::Serialize;

use crate::arguments::Global;
use crate::connection::{connect, failure};
use crate::exit::{Exit, Failure};
use crate::output::{Output, clean};
use crate::submit::parse_id;
use crate::time::parse_span;

/// The arguments of `cancel`.
#[derive(Args)]
pub(crate) struct Cancel {
    /// The ids of the tasks
    #[arg(required = true, value_parser = parse_id, value_name = "ID")]
    ids: Vec<String>,

    /// Stop running handlers without asking them; otherwise they are told and may finish
    #[arg(long)]
    force: bool,

    /// With --force: how long a handler is given to end before the broker revokes its task [default: 10s]
    #[arg(long, value_parser = parse_span, value_name = "SPAN", requires = "force")]
    grace: Option<Duration>,
}

/// What a program reads about one id.
#[derive(Serialize)]
struct Document<'a> {
    id: &'a str,
    outcome: &'a str,
}

/// Cancels each task. A task that had already ended is no failure: it is not going to run.
pub(crate) async fn run(cancel: Cancel, global: &Global, output: &mut Output) -> Result<Exit, Failure> {
    let client = connect(global).await?;
    let mode = if cancel.force { CancelMode::Force { grace: cancel.grace } } else { CancelMode::Cooperative };
    let outcomes = client.cancel(&cancel.ids, mode).await.map_err(failure)?;
    client.close().await;
    let mut exit = Exit::Success;
    for cancelled in &outcomes {
        let (one, name, sentence) = match cancelled.outcome {
            CancelOutcome::Revoked => (Exit::Success, "revoked", "revoked"),
            CancelOutcome::Signalled => (Exit::Success, "signalled", "is running and was told to stop"),
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
