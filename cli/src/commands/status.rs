//! `celeriac status`: the present state of tasks; without an id, that of the broker.

use celeriac_web::documents::TaskDocument;
use clap::Args;

use crate::arguments::{SharedOptions, parse_id};
use crate::broker_view;
use crate::connection::{connect, failure};
use crate::draining;
use crate::exit::{Exit, Failure};
use crate::output::Output;
use crate::task_columns::{USUAL, table};
use crate::task_view::{details, exit_if_unknown};
use crate::time::now_ms;

/// The arguments of `status`.
#[derive(Args)]
pub(crate) struct StatusArguments {
    /// The ids of the tasks [default: none; the command then does what `info` does]
    #[arg(value_parser = parse_id, value_name = "ID")]
    ids: Vec<String>,
}

/// Shows one task in detail, and several tasks as a table. An id without a task is shown as
/// UNKNOWN, and the exit code is 4.
pub(crate) async fn run(
    arguments: StatusArguments,
    shared: &SharedOptions,
    output: &mut Output,
) -> Result<Exit, Failure> {
    if arguments.ids.is_empty() {
        return broker_view::show(shared, output).await;
    }
    let client = connect(shared).await?;
    let tasks = client.info(&arguments.ids).await.map_err(failure)?;
    let now_ms = now_ms();
    match tasks.as_slice() {
        tasks if output.is_json() => {
            for task in tasks {
                output.document(&TaskDocument::new(task))?;
            }
        }
        [task] => output.details(&details(task, now_ms))?,
        tasks => output.table(&table(tasks, &USUAL, now_ms))?,
    }
    draining::tell(&client, draining::one_waits(&tasks), output).await;
    client.close().await;
    Ok(tasks.iter().map(exit_if_unknown).fold(Exit::Success, Exit::and))
}
