//! The help of every command: its own flags, an example, and where the shared flags are.
//!
//! clap makes the help from the arguments of the command. This file adds the end of it, and hides
//! the shared flags from the commands for which they mean nothing.

use clap::builder::Resettable::Reset;
use clap::{Arg, Command};

use crate::exit::EXIT_CODES;

/// The end of the short help of a client command.
// clap breaks it to the width of the terminal.
const SHARED: &str = "`--help` has more: the flags of every command (--url, --token-file, \
                      --timeout, --json, --color), and the exit codes.";

/// The beginning of the end of a help: what a user types first.
pub(crate) fn example(lines: &str) -> String {
    format!("Example:\n  {lines}")
}

/// The end of a long help.
pub(crate) fn long_help(example_lines: &str, more: &str) -> String {
    format!("{}\n\n{more}", example(example_lines))
}

/// The command line with the complete help of each command.
pub(crate) fn complete(root: Command) -> Command {
    let is_shared = |argument: &&Arg| argument.is_global_set();
    let shared: Vec<Arg> = root.get_arguments().filter(is_shared).cloned().collect();
    root.mut_subcommands(|command| complete_command(command, &shared))
}

fn complete_command(command: Command, shared: &[Arg]) -> Command {
    // Neither the commands about tokens nor their group ask a broker.
    if command.get_name() == "token" {
        let ids = ["url", "timeout", "token_file"];
        let command = command.mut_subcommands(|command| hide(command, shared, &ids));
        return hide(command, shared, &ids);
    }
    let command = command.mut_subcommands(|command| complete_command(command, shared));
    match command.get_name() {
        // The token's file is a setting of the broker.
        "serve" => {
            let command = hide(command, shared, &["url", "timeout", "json"]);
            let of_token = shared.iter().find(|argument| argument.get_id() == "token_file");
            command.args(of_token.map(|argument| argument.clone().hide_short_help(false)))
        }
        "check" | "restore" => hide(command, shared, &["url", "timeout", "token_file"]),
        "drain" => with_end(waits(command, shared, DRAIN_TIMEOUT)),
        "backup" => with_end(waits(command, shared, BACKUP_TIMEOUT)),
        "completions" | "manual" => {
            hide(command, shared, &["url", "timeout", "token_file", "json", "color"])
        }
        _ => with_end(command),
    }
}

/// What `--timeout` means for a command that waits longer than for an answer.
const DRAIN_TIMEOUT: &str = "End after this long, such as 30, 5m or 2h, although tasks are still \
                             leased; the drain goes on [default: when no task is leased]";
const BACKUP_TIMEOUT: &str = "End after this long, such as 30, 5m or 2h; the broker goes on with \
                              the backup [default: when the backup is complete]";

/// Gives a command that waits its own words for `--timeout`, also in its short help. The variable
/// for all commands does not count for it.
fn waits(command: Command, shared: &[Arg], words: &'static str) -> Command {
    let of_time = shared.iter().find(|argument| argument.get_id() == "timeout");
    let own = |argument: &Arg| {
        argument.clone().hide_short_help(false).hide_env(true).help(words).help_heading(Reset)
    };
    command.args(of_time.map(own))
}

/// Hides shared flags. A command that has a flag of its own does not get the shared one.
fn hide(command: Command, shared: &[Arg], ids: &[&str]) -> Command {
    let hidden = shared.iter().filter(|argument| ids.contains(&argument.get_id().as_str()));
    command.args(hidden.map(|argument| argument.clone().hide(true)))
}

/// Adds what every client command has in common. The example is there already.
fn with_end(command: Command) -> Command {
    let before = command.get_after_help().map(|example| format!("{example}\n\n"));
    let before = before.unwrap_or_default();
    let end = |more: &str| format!("{before}{more}");
    let (short, long) = (end(SHARED), end(EXIT_CODES));
    command.after_help(short).after_long_help(long)
}
