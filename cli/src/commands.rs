//! The commands, one file or folder each: its arguments, and what it does.
//!
//! A command uses the modules beside this one. It never uses another command: code that two
//! commands need moves to a module that both can use.

use clap::Subcommand;

use crate::help::{example, long_help};

pub(crate) mod backup;
pub(crate) mod cancel;
pub(crate) mod check;
pub(crate) mod completions;
pub(crate) mod dead;
pub(crate) mod drain;
pub(crate) mod forget;
pub(crate) mod info;
pub(crate) mod log;
pub(crate) mod manual;
pub(crate) mod queues;
pub(crate) mod restore;
pub(crate) mod result;
pub(crate) mod serve;
pub(crate) mod show;
pub(crate) mod stats;
pub(crate) mod status;
pub(crate) mod submit;
pub(crate) mod tasks;
pub(crate) mod token;
pub(crate) mod top;
pub(crate) mod watch;
pub(crate) mod web;
pub(crate) mod work;
pub(crate) mod workers;

/// A command with its arguments. The doc comments are the help texts.
#[derive(Subcommand)]
pub(crate) enum Command {
    /// Run the broker
    #[command(override_usage = SERVE_USAGE)]
    #[command(after_help = example(SERVE), after_long_help = long_help(SERVE, serve::SETTINGS_HELP))]
    Serve(Box<serve::ServeArguments>),
    /// Show the broker: version, uptime, disk, memory, connections, tasks and limits
    #[command(after_help = example(INFO))]
    Info(info::InfoArguments),
    /// Submit a task
    #[command(after_help = example(SUBMIT), override_usage = SUBMIT_USAGE)]
    Submit(Box<submit::SubmitArguments>),
    /// Show the state of tasks, or without an id that of the broker
    #[command(after_help = example(STATUS))]
    Status(status::StatusArguments),
    /// Show one task with its whole history
    #[command(after_help = example(SHOW))]
    Show(show::ShowArguments),
    /// List tasks
    #[command(after_help = example(TASKS))]
    Tasks(Box<tasks::TasksArguments>),
    /// Print the result of a task
    #[command(after_help = example(RESULT))]
    Result(result::ResultArguments),
    /// Print each transition of tasks until they have ended
    #[command(after_help = example(WATCH))]
    Watch(watch::WatchArguments),
    /// Drop ended tasks with their results
    #[command(after_help = example(FORGET))]
    Forget(forget::ForgetArguments),
    /// Cancel tasks
    #[command(after_help = example(CANCEL), override_usage = CANCEL_USAGE)]
    Cancel(cancel::CancelArguments),
    /// List the queues, pause them, empty them, or set their bounds
    #[command(after_help = example(QUEUES))]
    Queues(queues::QueuesArguments),
    /// Show what the queues and the broker have counted since its start
    #[command(after_help = example(STATS))]
    Stats(stats::StatsArguments),
    /// List dead tasks, run them again, or drop them
    #[command(after_help = example(DEAD))]
    Dead(Box<dead::DeadArguments>),
    /// List the workers, or give them orders
    #[command(after_help = example(WORKERS))]
    Workers(workers::WorkersArguments),
    /// Run a command for each task: a worker without code
    #[command(after_help = example(WORK))]
    Work(work::WorkArguments),
    /// Show rates, queues and workers live
    #[command(after_help = example(TOP))]
    Top(top::TopArguments),
    /// Serve the dashboard, health, metrics and the JSON API of a broker that runs elsewhere
    #[command(after_help = example(WEB))]
    Web(Box<web::WebArguments>),
    /// Let workers finish what they run: the broker delivers nothing more
    #[command(after_help = example(DRAIN))]
    Drain(drain::DrainArguments),
    /// Show or change what a running broker logs
    #[command(after_help = example(LOG))]
    Log(log::LogArguments),
    /// Copy the data of a running broker into a new folder
    #[command(after_help = example(BACKUP))]
    Backup(backup::BackupArguments),
    /// Check whether a data folder that no broker uses is sound
    #[command(after_help = example(CHECK), after_long_help = long_help(CHECK, check::EXIT_CODES))]
    Check(check::CheckArguments),
    /// Make tokens for an access file, or check the file
    #[command(after_help = example(TOKEN))]
    Token(token::TokenArguments),
    /// Copy a backup into an empty data folder and check it
    #[command(after_help = example(RESTORE))]
    #[command(after_long_help = long_help(RESTORE, restore::EXIT_CODES))]
    Restore(restore::RestoreArguments),
    /// Print a completion script for a shell
    #[command(after_help = example(COMPLETIONS), override_usage = COMPLETIONS_USAGE)]
    Completions(completions::CompletionsArguments),
    /// Write the manual pages of all commands, for `man`
    #[command(after_help = example(MANUAL))]
    Manual(manual::ManualArguments),
}

// What a user types first, for the help of each command.
const SERVE: &str = "celeriac serve --data ./data";
const INFO: &str = "celeriac info";
const SUBMIT: &str = "celeriac submit songs.cluster --args '[\"Dynamite\"]' --queue songs --wait";
const STATUS: &str = "celeriac status song-7\n  celeriac status";
const SHOW: &str = "celeriac show song-7";
const TASKS: &str = "celeriac tasks --queue songs --state started";
const RESULT: &str = "celeriac result song-7 --wait 10m";
const WATCH: &str = "celeriac watch song-7";
const FORGET: &str = "celeriac forget song-7";
const CANCEL: &str = "celeriac cancel song-7";
const QUEUES: &str = "celeriac queues\n  celeriac queues pause songs";
const STATS: &str = "celeriac stats\n  celeriac stats songs\n  celeriac stats --broker";
const DEAD: &str = "celeriac dead list --newer-than 1d\n  celeriac dead replay --queue songs";
const WORKERS: &str = "celeriac workers\n  celeriac workers quiet worker-1";
const WORK: &str = "celeriac work --name songs.preprocess --queue songs -- ./analyse {0}";
const TOP: &str = "celeriac top";
const WEB: &str = "celeriac web --url celeriac://broker.example";
const DRAIN: &str = "celeriac drain --timeout 5m\n  celeriac drain --off";
const LOG: &str = "celeriac log info,celeriac_broker=debug";
const BACKUP: &str = "celeriac backup /var/backups/celeriac/monday";
const CHECK: &str = "celeriac check /var/lib/celeriac";
const TOKEN: &str = "celeriac token new --name web --role producer --queue 'songs*'\n  celeriac token check access.toml";
const RESTORE: &str = "celeriac restore /var/backups/celeriac/monday /var/lib/celeriac";
const COMPLETIONS: &str = "celeriac completions bash > /etc/bash_completion.d/celeriac";
const MANUAL: &str = "celeriac manual /usr/local/share/man/man1";

// The usages where clap would not say what is required, or say it in one long line.
const SERVE_USAGE: &str = "\
celeriac serve [OPTIONS] --data <DIR>
       celeriac serve [OPTIONS] --config <FILE>";
const SUBMIT_USAGE: &str = "\
celeriac submit [OPTIONS] <NAME>
       celeriac submit [OPTIONS] --lines <FILE> [NAME]";
const CANCEL_USAGE: &str = "\
celeriac cancel [OPTIONS] <ID>...
       celeriac cancel [OPTIONS] --root <ID>
       celeriac cancel [OPTIONS] --tag <TAG>";
const COMPLETIONS_USAGE: &str = "celeriac completions <SHELL>";
