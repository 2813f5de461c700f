//! `celeriac check`: whether a data folder that no broker uses is sound. It reads the folder itself
//! and asks no broker.

use std::path::PathBuf;

use clap::Args;

use crate::checking::{run_apart, show};
use crate::exit::{Exit, Failure};
use crate::output::Output;

/// The end of the help of this command.
pub(crate) const EXIT_CODES: &str = "\
Exit codes:
  0  the folder is sound
  1  any other error, or a signal ended the check; stderr has the sentence
  2  wrong usage
 11  a broker uses the folder
 12  a newer Celeriac wrote the folder
 13  the folder is damaged; the sentence says where
 14  there is no room for the copy that the check reads
 15  the disk failed
 17  the folder is no data folder, or cannot be read";

/// The arguments of `check`.
#[derive(Args)]
pub(crate) struct CheckArguments {
    /// A data folder or a backup that no broker uses
    ///
    /// The command does not change the folder. It reads a copy, which it makes in the folder for
    /// temporary files. TMPDIR names another folder for the copy.
    #[arg(value_name = "DIR")]
    folder: PathBuf,
}

/// Reads the whole folder. A folder that is not sound is a failure, with the same exit code that
/// `serve` would end with.
pub(crate) fn run(arguments: &CheckArguments, output: &mut Output) -> Result<Exit, Failure> {
    let folder = arguments.folder.clone();
    let report = run_apart(
        move |tell| celeriac_broker::check_telling(&folder, tell),
        "the check before the whole folder was read; nothing is known about it",
    )?;
    show(&arguments.folder, "is sound", &report, output)?;
    Ok(Exit::Success)
}
