//! The command line of the kit.

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use celeriac_conformance::{Plan, Role, Script, play, scripts};
use clap::Parser;

/// Plays the broker's side of the Celeriac protocol to test a client in any language. The README of
/// the kit says how to use it.
#[derive(Debug, Parser)]
#[command(name = "celeriac-conformance")]
struct Arguments {
    /// Only the scripts whose name contains this; may be given several times
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
    /// Only the scripts of this role
    #[arg(long)]
    role: Option<Role>,
    /// List the scripts and what each one tests
    #[arg(long)]
    list: bool,
    /// Show each frame and each line
    #[arg(long, short)]
    verbose: bool,
    /// How long each step of a script may take, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 10_000)]
    patience: u64,
    /// The subject, with its arguments
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "COMMAND")]
    command: Vec<String>,
}

impl Arguments {
    fn wants(&self, script: &Script) -> bool {
        let is_named = self.only.is_empty()
            || self.only.iter().any(|name| script.name.contains(name.as_str()));
        is_named && self.role.is_none_or(|role| role == script.role())
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    match run(Arguments::parse()).await {
        // The reader, such as `head`, has what it wants. Not all scripts were played.
        Err(error) if is_closed_pipe(&error) => Ok(ExitCode::FAILURE),
        ended => ended,
    }
}

async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let scripts: Vec<Script> = scripts()
        .map_err(anyhow::Error::msg)?
        .into_iter()
        .filter(|script| arguments.wants(script))
        .collect();
    anyhow::ensure!(!scripts.is_empty(), "no script has this name: `--list` names them");
    let mut output = io::stdout();
    if arguments.list {
        for script in &scripts {
            if let Err(error) = writeln!(output, "{:<34}  {}", script.name, script.about) {
                let is_closed = error.kind() == io::ErrorKind::BrokenPipe;
                return if is_closed { Ok(ExitCode::SUCCESS) } else { Err(error.into()) };
            }
        }
        return Ok(ExitCode::SUCCESS);
    }
    anyhow::ensure!(
        !arguments.command.is_empty(),
        "the command that starts the subject is missing: see --help"
    );
    let patience = Duration::from_millis(arguments.patience);
    let plan = Plan { command: arguments.command, patience, verbose: arguments.verbose };
    let mut failed = 0;
    for script in &scripts {
        match play(script, &plan).await {
            Ok(()) => writeln!(output, "ok    {:<34}  {}", script.name, script.about)?,
            Err(failure) => {
                failed += 1;
                writeln!(output, "FAIL  {:<34}  {}\n{failure}", script.name, script.about)?;
            }
        }
    }
    writeln!(output, "{} passed, {failed} failed", scripts.len() - failed)?;
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn is_closed_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}
