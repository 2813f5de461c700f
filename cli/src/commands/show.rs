//! `celeriac show`: one task with its whole history, as far as the broker keeps it.

use clap::Args;

use crate::arguments::{SharedOptions, parse_id};
use crate::connection::connect;
use crate::draining;
use crate::exit::{Exit, Failure};
use crate::output::Output;
use crate::task_history::TaskHistory;
use crate::task_view::exit_if_unknown;

/// The arguments of `show`.
#[derive(Args)]
pub(crate) struct ShowArguments {
    /// The id of the task
    #[arg(value_parser = parse_id, value_name = "ID")]
    id: String,

    /// Print only the arguments, as they were submitted, byte by byte
    #[arg(long, conflicts_with = "json")]
    raw: bool,
}

/// Shows the task. An id without a task is shown as UNKNOWN, and the exit code is 4.
pub(crate) async fn run(
    arguments: ShowArguments,
    shared: &SharedOptions,
    output: &mut Output,
) -> Result<Exit, Failure> {
    let client = connect(shared).await?;
    let history = TaskHistory::fetch(&client, &arguments.id).await?;
    if arguments.raw && history.task.is_there() {
        history.print_payload(output)?;
    } else {
        history.print(output)?;
        draining::tell(&client, draining::one_waits(&[&history.task]), output).await;
    }
    client.close().await;
    Ok(exit_if_unknown(&history.task))
}
