//! `celeriac completions`: a script that teaches a shell the command line. Needs no broker.

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use crate::arguments::Arguments;
use crate::exit::{Exit, Failure};
use crate::output::Output;

/// The arguments of `completions`.
#[derive(Args)]
pub(crate) struct Completions {
    /// The shell the script is for
    shell: Shell,
}

/// Prints the script, to be read by the shell at its start.
pub(crate) fn run(completions: &Completions, output: &mut Output) -> Result<Exit, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(completions.shell, &mut Arguments::command(), "celeriac", &mut script);
    output.bytes(&script)?;
    Ok(Exit::Success)
}
