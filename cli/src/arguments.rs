//! The command line as a whole: the options every command shares, and the list of commands.
//!
//! The options of one command are in the file of that command. Doc comments here are what `--help`
//! shows.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use crate::time::parse_span;
use crate::{
    backup, cancel, check, completions, dead, forget, queues, result, settings, show, status,
    submit, tasks, top, watch, workers,
};

/// Shown at the end of every command's help.
pub(crate) const EXIT_CODES: &str = "\
Exit codes:
  0  success
  1  any other error; stderr has the sentence
  2  wrong usage or configuration
  3  the broker cannot be reached, or did not answer in time
  4  no such task, queue or worker
  5  the task ended as FAILURE
  6  the task was REVOKED
  7  the task has not ended, or not in the time given; or tasks of the queue still run
  22 there is no more memory for this process";

/// A durable task queue: the broker, and the commands that talk to one.
#[derive(Parser)]
#[command(name = "celeriac", version, after_help = EXIT_CODES, arg_required_else_help = false)]
pub(crate) struct Arguments {
    #[command(flatten, next_help_heading = "Shared options")]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What every client command needs to know.
// Its texts are for `--help`, where brackets are no links.
#[allow(rustdoc::broken_intra_doc_links)]
#[derive(Args)]
pub(crate) struct Global {
    /// Where the broker is: celeriac://[token@]host:port [default: celeriac://127.0.0.1:23537]
    ///
    /// A token in a command line can be seen by other users of the machine: prefer the environment
    /// variable, or --token-file.
    #[arg(long, global = true, env = "CELERIAC_URL", hide_env_values = true, value_name = "URL")]
    pub(crate) url: Option<String>,

    /// Read the token from this file
    ///
    /// `serve` demands it of every client; the other commands name it to the broker when the URL
    /// has none. CELERIAC_TOKEN holds the token itself.
    #[arg(long, global = true, env = "CELERIAC_TOKEN_FILE", value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,

    /// Print JSON for programs, one document per line
    #[arg(long, global = true)]
    pub(crate) json: bool,

    /// Give up when the broker has not answered by then, in seconds or as 500ms, 2m [default: 10]
    #[arg(long, global = true, env = "CELERIAC_TIMEOUT", value_parser = parse_span, value_name = "SECONDS")]
    pub(crate) timeout: Option<Duration>,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Run the broker
    #[command(after_help = settings::EXIT_CODES)]
    Serve(Box<settings::Serve>),
    /// Submit a task
    #[command(after_help = EXIT_CODES)]
    Submit(Box<submit::Submit>),
    /// Show the state of tasks
    #[command(after_help = EXIT_CODES)]
    Status(status::Status),
    /// Show the whole history of a task
    #[command(after_help = EXIT_CODES)]
    Show(show::Show),
    /// List tasks
    #[command(after_help = EXIT_CODES)]
    Tasks(Box<tasks::Tasks>),
    /// Print what a task returned
    #[command(after_help = EXIT_CODES)]
    Result(result::ResultOf),
    /// Follow tasks until they have ended
    #[command(after_help = EXIT_CODES)]
    Watch(watch::Watch),
    /// Drop ended tasks and their results
    #[command(after_help = EXIT_CODES)]
    Forget(forget::Forget),
    /// Cancel tasks
    #[command(after_help = EXIT_CODES)]
    Cancel(cancel::Cancel),
    /// List the queues, pause and empty them, set their bounds
    #[command(after_help = EXIT_CODES)]
    Queues(queues::Queues),
    /// Look at tasks that failed for good, run them again, or drop them
    #[command(after_help = EXIT_CODES)]
    Dead(Box<dead::Dead>),
    /// List the workers, and give them orders
    #[command(after_help = EXIT_CODES)]
    Workers(workers::Workers),
    /// Watch rates, queues and workers live
    #[command(after_help = EXIT_CODES)]
    Top(top::Top),
    /// Copy what a running broker stores into a new folder
    #[command(after_help = EXIT_CODES)]
    Backup(backup::Backup),
    /// Say whether a data folder that no broker uses is sound
    #[command(after_help = check::EXIT_CODES)]
    Check(check::Check),
    /// Print the script that teaches a shell the command line
    Completions(completions::Completions),
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_free_of_contradictions() {
        Arguments::command().debug_assert();
    }
}
