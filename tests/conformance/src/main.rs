//! The command line of the kit.
#![expect(clippy::print_stdout, reason = "it talks to a person")]

use std::process::ExitCode;
use std::time::Duration;

use celeriac_conformance::{Plan, Role, Script, play, scripts};
use clap::Parser;

/// Plays the broker's side of the Celeriac protocol, to try a client in any language. The README of
/// the kit tells how.
#[derive(Debug, Parser)]
#[command(name = "celeriac-conformance")]
struct Arguments {
    /// Only the scripts whose name contains this; may be given several times
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
    /// Only the scripts of this role
    #[arg(long)]
    role: Option<Role>,
    /// List the scripts, and what each shows
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
    let arguments = Arguments::parse();
    let scripts: Vec<Script> = scripts()
        .map_err(anyhow::Error::msg)?
        .into_iter()
        .filter(|script| arguments.wants(script))
        .collect();
    anyhow::ensure!(!scripts.is_empty(), "no script is called so: see --list");
    if arguments.list {
        scripts.iter().for_each(|script| println!("{:<34}  {}", script.name, script.about));
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
            Ok(()) => println!("ok    {:<34}  {}", script.name, script.about),
            Err(failure) => {
                failed += 1;
                println!("FAIL  {:<34}  {}\n{failure}", script.name, script.about);
            }
        }
    }
    println!("{} passed, {failed} failed", scripts.len() - failed);
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
