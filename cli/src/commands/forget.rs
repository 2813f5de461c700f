//! `celeriac forget`: drops ended tasks before their time to live is over.

use celeriac_client::ErrorCode;
use celeriac_proto::code_name;
use clap::Args;
use serde::Serialize;

use crate::arguments::{SharedOptions, parse_id};
use crate::connection::{connect, failure, refused};
use crate::exit::{Exit, Failure};
use crate::output::{Format, Output};
use celeriac_web::printable::clean;

/// The arguments of `forget`.
#[derive(Args)]
pub(crate) struct ForgetArguments {
    /// The ids of ended tasks
    #[arg(required = true, value_parser = parse_id, value_name = "ID")]
    ids: Vec<String>,
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
    sentence: String,
}

/// Forgets each task. The exit code is the one of the first task that was not forgotten.
pub(crate) async fn run(
    arguments: ForgetArguments,
    shared: &SharedOptions,
    output: &mut Output,
) -> Result<Exit, Failure> {
    output.outlive_reader();
    let client = connect(shared).await?;
    let outcomes = client.forget(&arguments.ids).await.map_err(failure)?;
    client.close().await;
    let mut exit = Exit::Success;
    for (id, outcome) in arguments.ids.iter().zip(outcomes) {
        let report = report(outcome);
        exit = exit.and(report.exit);
        match output.format {
            Format::Json => output.document(&Document { id, outcome: report.outcome })?,
            Format::Text => output.line(&format!("{}  {}", clean(id), report.sentence))?,
        }
    }
    Ok(exit)
}

fn report(outcome: Result<(), ErrorCode>) -> Report {
    let (exit, outcome, sentence) = match outcome {
        Ok(()) => (Exit::Success, "forgotten", "forgotten".to_owned()),
        Err(ErrorCode::NotFound) => (Exit::NotFound, "not_found", "no such task".to_owned()),
        Err(ErrorCode::NotFinished) => {
            (Exit::Unfinished, "not_finished", "has not ended".to_owned())
        }
        Err(other) => (refused(other), "refused", format!("refused ({})", code_name(other))),
    };
    Report { exit, outcome, sentence }
}
