//! `celeriac backup`: has a running broker copy what it stores into a new folder on its own
//! machine.

use clap::Args;
use serde::Serialize;

use crate::arguments::Global;
use crate::connection::{connect, failure};
use crate::exit::{Exit, Failure};
use crate::output::{Output, clean};

/// The arguments of `backup`.
#[derive(Args)]
pub(crate) struct Backup {
    /// A folder on the broker's machine, as an absolute path; it must not exist, or be empty
    ///
    /// It gets everything that was confirmed so far, while the broker serves. `celeriac serve
    /// --data DIR` starts from it.
    #[arg(value_name = "DIR")]
    folder: String,
}

/// What a program reads about a complete backup.
#[derive(Serialize)]
struct Document<'a> {
    folder: &'a str,
    tasks: u64,
    bytes: u64,
}

/// Waits until the copy is complete; `--timeout`, if it is given, ends the waiting and not the
/// copying.
pub(crate) async fn run(
    backup: Backup,
    global: &Global,
    output: &mut Output,
) -> Result<Exit, Failure> {
    let client = connect(global).await?;
    let copying = client.backup(&backup.folder);
    let copied = match global.timeout {
        None => copying.await,
        Some(timeout) => tokio::time::timeout(timeout, copying).await.map_err(|_| {
            Failure::new(
                Exit::Unreachable,
                format!("the backup was not complete within {timeout:?}; it goes on"),
            )
        })?,
    };
    let copied = copied.map_err(failure)?;
    client.close().await;
    let (folder, tasks, bytes) = (backup.folder.as_str(), copied.tasks, copied.bytes);
    match output.json {
        true => output.document(&Document { folder, tasks, bytes })?,
        false => output.line(&format!("{}  {tasks} tasks, {bytes} bytes", clean(folder)))?,
    }
    Ok(Exit::Success)
}
