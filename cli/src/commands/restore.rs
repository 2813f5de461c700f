//! `celeriac restore`: copies a backup into an empty data folder and checks it. It asks no broker.

use std::path::PathBuf;

use clap::Args;

use super::serve::keep_files_private;
use crate::checking::{run_apart, show};
use crate::exit::{Exit, Failure};
use crate::output::Output;

/// The end of the help of this command.
pub(crate) const EXIT_CODES: &str = "\
Exit codes:
  0  the folder is restored and sound
  1  any other error, or a signal ended the restore; stderr has the sentence
  2  wrong usage
 11  a broker uses the folder or the backup
 12  a newer Celeriac wrote the backup
 13  the backup is damaged; the sentence says where
 14  there is no room for the data, or for the copy that the check reads
 15  the disk failed
 17  the folder is not empty, the backup is none, or one of them cannot be
     read or written";

/// The arguments of `restore`.
#[derive(Args)]
pub(crate) struct RestoreArguments {
    /// A backup, or another data folder that no broker uses; nothing in it changes
    #[arg(value_name = "BACKUP")]
    backup: PathBuf,

    /// The folder for the data; it must be empty or not exist
    ///
    /// A broker refuses the folder until the restore is complete. A restore that was interrupted
    /// is begun again with the same command.
    #[arg(value_name = "DATA")]
    data: PathBuf,
}

/// Restores the backup. Without success the folder is as empty as before.
pub(crate) fn run(arguments: &RestoreArguments, output: &mut Output) -> Result<Exit, Failure> {
    keep_files_private();
    let (backup, data) = (arguments.backup.clone(), arguments.data.clone());
    let report = run_apart(
        move |tell| celeriac_broker::restore(&backup, &data, tell),
        "the restore before it was complete; no broker serves the folder until the same command \
         has succeeded",
    );
    let report = report.map_err(|failure| match failure {
        Failure::Sentence { exit: exit @ Exit::Broker(_), sentence } => {
            Failure::new(exit, format!("nothing is restored: {sentence}"))
        }
        failure => failure,
    })?;
    show(&arguments.data, "is restored and sound", &report, output)?;
    Ok(Exit::Success)
}
