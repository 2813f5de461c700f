//! The commands, one file or folder each: its arguments, and what it does.
//!
//! A command uses the modules beside this one. It never uses another command: code that two
//! commands need moves to a module that both can use.

use clap::Subcommand;

use crate::exit::EXIT_CODES;

pub(crate) mod backup;
pub(crate) mod cancel;
pub(crate) mod check;
pub(crate) mod completions;
pub(crate) mod dead;
pub(crate) mod forget;
pub(crate) mod queues;
pub(crate) mod result;
pub(crate) mod serve;
pub(crate) mod show;
pub(crate) mod status;
pub(crate) mod submit;
pub(crate) mod tasks;
pub(crate) mod top;
pub(crate) mod watch;
pub(crate) mod workers;

/// A command with its arguments. The doc comments are the help texts.
#[derive(Subcommand)]
pub(crate) enum Command {
    /// Run the broker
    #[command(after_help = serve::SETTINGS_HELP)]
    Serve(Box<serve::ServeArguments>),
    /// Submit a task
    #[command(after_help = EXIT_CODES)]
    Submit(Box<submit::SubmitArguments>),
    /// Show the state of tasks
    #[command(after_help = EXIT_CODES)]
    Status(status::StatusArguments),
    /// Show one task with its whole history
    #[command(after_help = EXIT_CODES)]
    Show(show::ShowArguments),
    /// List tasks
    #[command(after_help = EXIT_CODES)]
    Tasks(Box<tasks::TasksArguments>),
    /// Print the result of a task
    #[command(after_help = EXIT_CODES)]
    Result(result::ResultArguments),
    /// Print each transition of tasks until they have ended
    #[command(after_help = EXIT_CODES)]
    Watch(watch::WatchArguments),
    /// Drop ended tasks with their results
    #[command(after_help = EXIT_CODES)]
    Forget(forget::ForgetArguments),
    /// Cancel tasks
    #[command(after_help = EXIT_CODES)]
    Cancel(cancel::CancelArguments),
    /// List the queues, pause them, empty them, or set their bounds
    #[command(after_help = EXIT_CODES)]
    Queues(queues::QueuesArguments),
    /// List dead tasks, run them again, or drop them
    #[command(after_help = EXIT_CODES)]
    Dead(Box<dead::DeadArguments>),
    /// List the workers, or give them orders
    #[command(after_help = EXIT_CODES)]
    Workers(workers::WorkersArguments),
    /// Show rates, queues and workers live
    #[command(after_help = EXIT_CODES)]
    Top(top::TopArguments),
    /// Copy the data of a running broker into a new folder
    #[command(after_help = EXIT_CODES)]
    Backup(backup::BackupArguments),
    /// Check whether a data folder that no broker uses is sound
    #[command(after_help = check::EXIT_CODES)]
    Check(check::CheckArguments),
    /// Print a completion script for a shell
    Completions(completions::CompletionsArguments),
}
