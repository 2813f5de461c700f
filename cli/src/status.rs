//! `celeriac status`: what is known of tasks, now.

use clap::Args;

use crate::arguments::Global;
use crate::connection::{connect, failure};
use crate::exit::{Exit, Failure};
use crate::output::Output;
use crate::submit::parse_id;
use crate::task_document::TaskDocument;
use crate::task_view::{HEADINGS, details, exists, row};
use crate::time::now_ms;

/// The arguments of `status`.
#[derive(Args)]
pub(crate) struct Status {
    /// The ids of the tasks
    #[arg(required = true, value_parser = parse_id, value_name = "ID")]
    ids: Vec<String>,
}

/// Shows one task in full, several as a table. An id without a task is shown as UNKNOWN and makes
/// the exit code 4.
pub(crate) async fn run(
    status: Status,
    global: &Global,
    output: &mut Output,
) -> Result<Exit, Failure> {
    let client = connect(global).await?;
    let tasks = client.info(&status.ids).await.map_err(failure)?;
    client.close().await;
    let now_ms = now_ms();
    match tasks.as_slice() {
        tasks if output.json => {
            tasks.iter().try_for_each(|task| output.document(&TaskDocument::new(task)))?
        }
        [task] => output.details(&details(task, now_ms))?,
        tasks => {
            let rows: Vec<_> = tasks.iter().map(|task| row(task, now_ms)).collect();
            output.table(HEADINGS, &rows)?;
        }
    }
    Ok(tasks.iter().map(exists).fold(Exit::Success, Exit::and))
}
