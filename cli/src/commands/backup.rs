//! `celeriac backup`: makes a running broker copy its data into a new folder on its own machine.

use clap::Args;
use serde::Serialize;

use crate::arguments::SharedOptions;
use crate::connection::{connect, failure};
use crate::exit::{Exit, Failure};
use crate::output::{Format, Output};
use crate::task_count::counted;
use celeriac_web::printable::clean;

/// The arguments of `backup`.
#[derive(Args)]
pub(crate) struct BackupArguments {
    /// A folder on the broker's machine, as an absolute path; with an access file a name. It must
    /// be empty or not exist
    ///
    /// The folder gets everything that the broker has confirmed so far. The broker serves
    /// meanwhile. `celeriac serve --data DIR` starts from the copy.
    #[arg(value_name = "DIR")]
    folder: String,
}

/// A complete backup for programs.
#[derive(Serialize)]
struct Document<'a> {
    folder: &'a str,
    tasks: u64,
    bytes: u64,
}

/// Waits until the copy is complete. A given `--timeout` ends the waiting, and the broker goes on
/// copying.
pub(crate) async fn run(
    arguments: BackupArguments,
    shared: &SharedOptions,
    output: &mut Output,
) -> Result<Exit, Failure> {
    output.outlive_reader();
    let client = connect(shared).await?;
    let copying = client.backup(&arguments.folder);
    let copied = match shared.patience {
        None => copying.await,
        Some(timeout) => tokio::time::timeout(timeout, copying).await.map_err(|_| {
            Failure::new(
                Exit::Unreachable,
                format!(
                    "the backup was not complete within {timeout:?}; the broker goes on with it"
                ),
            )
        })?,
    };
    let copied = copied.map_err(failure)?;
    client.close().await;
    let (folder, tasks, bytes) = (arguments.folder.as_str(), copied.tasks, copied.bytes);
    match output.format {
        Format::Json => output.document(&Document { folder, tasks, bytes })?,
        Format::Text => {
            let tasks = counted(tasks, "task");
            // The broker has put a name alone below a folder of its own.
            let place = if folder.starts_with('/') { "" } else { " in the broker's backup_folder" };
            output.line(&format!("{}{place}  {tasks}, {bytes} bytes", clean(folder)))?;
        }
    }
    Ok(Exit::Success)
}
