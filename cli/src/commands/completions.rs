//! `celeriac completions`: a script with which a shell completes the command line. It needs no
//! broker.

use clap::Args;
use clap_complete::Shell;

use crate::exit::{Exit, Failure};
use crate::output::Output;

/// The arguments of `completions`.
#[derive(Args)]
pub(crate) struct CompletionsArguments {
    /// The shell that reads the script
    shell: Shell,
}

/// Prints the script for the command line `root`. The shell reads it when it starts.
pub(crate) fn run(
    arguments: &CompletionsArguments,
    mut root: clap::Command,
    output: &mut Output,
) -> Result<Exit, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut root, "celeriac", &mut script);
    output.bytes(&script)?;
    Ok(Exit::Success)
}
