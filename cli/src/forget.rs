//! `celeriac forget`: drops ended tasks before their time is over.

use celeriac_client::ErrorCode;
use clap::Args;
use serde::Serialize;

use crate::arguments::Global;
use crate::connection::{connect, failure, refused};
use crate::exit::{Exit, Failure};
use crate::output::{Output, clean};
use crate::submit::parse_id;

/// The arguments of `forget`.
#[derive(Args)]
pub(crate) struct Forget {
    /// The ids of ended tasks
    #[arg(required = true, value_parser = parse_id, value_name = "ID")]
    ids: Vec<String>,
}

/// What a program reads about one id.
#[derive(Serialize)]
struct Document<'a> {
    id: &'a str,
    outcome: &'a str,
}

/// Forgets each task; the exit code is that of the first one that could not be forgotten.
pub(crate) async fn run(
    forget: Forget,
    global: &Global,
    output: &mut Output,
) -> Result<Exit, Failure> {
    let client = connect(global).await?;
    let outcomes = client.forget(&forget.ids).await.map_err(failure)?;
    client.close().await;
    let mut exit = Exit::Success;
    for (id, outcome) in forget.ids.iter().zip(outcomes) {
        let (one, outcome, sentence) = match outcome {
            Ok(()) => (Exit::Success, "forgotten".to_owned(), "forgotten".to_owned()),
            Err(ErrorCode::NotFound) => {
                (Exit::NotFound, "not_found".to_owned(), "no such task".to_owned())
            }
            Err(ErrorCode::NotFinished) => {
                (Exit::Unfinished, "not_finished".to_owned(), "has not ended".to_owned())
            }
            Err(other) => (refused(other), "refused".to_owned(), format!("refused: {other:?}")),
        };
        exit = exit.and(one);
        match output.json {
            true => output.document(&Document { id, outcome: &outcome })?,
            false => output.line(&format!("{}  {sentence}", clean(id)))?,
        }
    }
    Ok(exit)
}
