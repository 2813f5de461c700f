//! The binary `celeriac`: `serve` runs the broker, and every other command is a client of a broker.
//!
//! This file parses the arguments, runs the command, and turns its outcome into an exit code. The
//! files in `commands` do the work. Nothing in this crate knows the wire format or the store.

use std::borrow::Cow;
use std::io::{self, IsTerminal};
use std::process::ExitCode;

use celeriac_web::printable::{clean, clean_lines};
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::parser::ValueSource;
use clap::{ArgMatches, CommandFactory, FromArgMatches, Parser};
use rustix::stdio::{stderr, stdout};

use crate::arguments::SharedOptions;
use crate::commands::Command;
use crate::commands::{
    backup, cancel, check, completions, dead, drain, forget, info, log, manual, queues, restore,
    result, serve, show, stats, status, submit, tasks, token as token_command, top, watch, web,
    work, workers,
};
use crate::descriptor::write_all;
use crate::exit::{EXIT_CODES, Exit, Failure};
use crate::output::{Format, Output, print_to_stderr};

mod absence;
mod allocator;
mod apart;
mod arguments;
mod broker_view;
mod byte_size;
mod checking;
mod commands;
mod confirm;
mod connection;
mod descriptor;
mod draining;
mod environment;
mod exit;
mod filter;
mod help;
mod http_tls;
mod json;
mod line;
mod logging;
mod looked;
mod output;
mod queue_view;
mod reader;
#[cfg(test)]
mod screens;
mod signals;
mod stats_view;
mod table;
mod task_columns;
mod task_count;
mod task_history;
mod task_list;
mod task_result;
mod task_view;
mod time;
mod token;
mod unknown_host;
mod worker_view;

#[global_allocator]
static ALLOCATOR: allocator::Allocator = allocator::Allocator;

/// A durable task queue: the broker, and the commands that talk to it.
#[derive(Parser)]
#[command(name = "celeriac", version, arg_required_else_help = true)]
#[command(after_help = FIRST_STEPS, after_long_help = format!("{FIRST_STEPS}\n\n{EXIT_CODES}"))]
struct Arguments {
    #[command(flatten, next_help_heading = "Shared options")]
    shared: SharedOptions,
    #[command(subcommand)]
    command: Command,
}

/// The end of the short help: the way from nothing to the result of a task.
const FIRST_STEPS: &str = "\
First steps, in three terminals:
  celeriac serve --data ./data
  celeriac work --name hello --queue default -- echo Hello
  celeriac submit hello --wait

`celeriac help COMMAND` explains a command. `celeriac --help` has the flags of every command \
(--url, --token-file, --timeout, --json, --color), and the exit codes.";

/// The command line with its help.
fn command_line() -> clap::Command {
    help::complete(Arguments::command())
}

fn main() -> ExitCode {
    if let Some(ended) = work::run_as_guard() {
        return ended;
    }
    let matches = match environment::without_empty(command_line()).try_get_matches() {
        Ok(matches) => matches,
        Err(error) => return print_clap(error),
    };
    let arguments = match Arguments::from_arg_matches(&matches) {
        Ok(arguments) => arguments,
        Err(error) => return print_clap(error),
    };
    match run(arguments, &matches) {
        Ok(exit) => exit.into(),
        // The reader has read enough, as in `celeriac queues | head -1`.
        Err(Failure::ReaderGone) => Exit::Success.into(),
        Err(Failure::Sentence { exit, sentence }) => {
            print_to_stderr(&clean(&sentence));
            exit.into()
        }
    }
}

fn run(arguments: Arguments, matches: &ArgMatches) -> Result<Exit, Failure> {
    let Arguments { mut shared, command } = arguments;
    if matches.value_source("timeout") == Some(ValueSource::CommandLine) {
        shared.patience = shared.timeout;
    }
    descriptor::check_limit()?;
    let format = if shared.json { Format::Json } else { Format::Text };
    let output = &mut Output::new(format, shared.color);
    if !matches!(
        command,
        Command::Serve(_)
            | Command::Top(_)
            | Command::Check(_)
            | Command::Restore(_)
            | Command::Work(_)
            | Command::Web(_)
    ) {
        signals::end_as_first_process()?;
    }
    match command {
        Command::Serve(serve) => {
            refuse_client_flags(matches)?;
            serve::run(*serve, shared, matches, output)
        }
        Command::Info(info) => block_on(info::run(info, &shared, output)),
        Command::Submit(submit) => block_on(submit::run(*submit, &shared, output)),
        Command::Status(status) => block_on(status::run(status, &shared, output)),
        Command::Result(result) => block_on(result::run(result, &shared, output)),
        Command::Watch(watch) => block_on(watch::run(watch, &shared, output)),
        Command::Forget(forget) => block_on(forget::run(forget, &shared, output)),
        Command::Cancel(cancel) => block_on(cancel::run(cancel, &shared, output)),
        Command::Show(show) => block_on(show::run(show, &shared, output)),
        Command::Tasks(tasks) => block_on(tasks::run(*tasks, &shared, output)),
        Command::Queues(queues) => block_on(queues::run(queues, &shared, output)),
        Command::Stats(stats) => block_on(stats::run(stats, &shared, output)),
        Command::Dead(dead) => block_on(dead::run(*dead, &shared, output)),
        Command::Workers(workers) => block_on(workers::run(workers, &shared, output)),
        Command::Work(work) => block_on(work::run(work, &shared, output)),
        Command::Top(top) => block_on(top::run(&top, &shared, output)),
        Command::Web(web) => block_on(web::run(*web, &shared, output)),
        Command::Drain(drain) => block_on(drain::run(drain, &shared, output)),
        Command::Log(log) => block_on(log::run(log, &shared, output)),
        Command::Backup(backup) => block_on(backup::run(backup, &shared, output)),
        Command::Check(check) => check::run(&check, output),
        Command::Token(token) => token_command::run(token, output),
        Command::Restore(restore) => restore::run(&restore, output),
        Command::Completions(completions) => {
            completions::run(&completions, command_line(), shared, output)
        }
        Command::Manual(manual) => manual::run(&manual, command_line()),
    }
}

/// A client needs one thread only.
fn block_on(command: impl Future<Output = Result<Exit, Failure>>) -> Result<Exit, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::error(format!("cannot start: {error}")))?;
    runtime.block_on(command)
}

/// Refuses the flags that `serve` would ignore. Their environment variables are allowed: they may
/// be set for client commands that follow.
fn refuse_client_flags(matches: &ArgMatches) -> Result<(), Failure> {
    for (id, flag) in [("url", "--url"), ("timeout", "--timeout")] {
        if matches.value_source(id) == Some(ValueSource::CommandLine) {
            return Err(Failure::usage(format!(
                "{flag} is for client commands, `serve` does not use it"
            )));
        }
    }
    Ok(())
}

/// Prints the help, the version or the error of clap. Help and version go to stdout. An error goes
/// to stderr in the form of all commands.
fn print_clap(mut error: clap::Error) -> ExitCode {
    if matches!(
        error.kind(),
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand | ErrorKind::MissingSubcommand
    ) {
        // If stderr is closed there is no other place for the help.
        let help = named_command().render_help().to_string();
        let _ = write_all(stderr(), help.as_bytes());
        return Exit::Usage.into();
    }
    if let Some(tip) = command_of_a_group(&error) {
        print_to_stderr(&clean(&tip));
        return Exit::Usage.into();
    }
    if error.use_stderr() {
        if error.get(ContextKind::Usage).is_some() {
            // clap adds the flags that were given, and those whose variables are set.
            let usage = ContextValue::StyledStr(named_command().render_usage());
            error.insert(ContextKind::Usage, usage);
        }
        let text = environment::text_of(&error, command_line());
        let text = text.strip_prefix("error: ").unwrap_or(&text).trim_end();
        print_to_stderr(&clean_lines(&mask_tokens(&shortened(text))));
        return Exit::Usage.into();
    }
    let text = error.render();
    let text = match io::stdout().is_terminal() {
        true => text.ansi().to_string(),
        false => text.to_string(),
    };
    match write_all(stdout(), text.as_bytes())
        .map_err(|error| Failure::from(io::Error::from(error)))
    {
        Err(Failure::Sentence { exit, sentence }) => {
            print_to_stderr(&clean(&sentence));
            exit.into()
        }
        // A reader that closed stdout is no failure.
        Ok(()) | Err(Failure::ReaderGone) => Exit::Success.into(),
    }
}

/// The sentence for a command that only groups of commands have, such as `purge`.
fn command_of_a_group(error: &clap::Error) -> Option<String> {
    let Some(ContextValue::String(word)) = error.get(ContextKind::InvalidSubcommand) else {
        return None;
    };
    let command = command_line();
    if command.find_subcommand(word).is_some() {
        return None;
    }
    let groups = command.get_subcommands().filter(|group| group.find_subcommand(word).is_some());
    let full: Vec<String> =
        groups.map(|group| format!("`celeriac {} {word}`", group.get_name())).collect();
    let is_known = !full.is_empty();
    is_known.then(|| format!("there is no command `{word}`; did you mean {}?", full.join(" or ")))
}

/// The command that the arguments name, as far as they do.
fn named_command() -> clap::Command {
    let mut command = command_line();
    command.build();
    for word in std::env::args_os().skip(1) {
        if let Some(named) = command.find_subcommand(&word) {
            command = named.clone();
        }
    }
    command
}

/// The sentence about an argument without the middle of it, if it is very long: a sentence repeats
/// the argument, and it may be a file that a shell has put into the line.
fn shortened(text: &str) -> Cow<'_, str> {
    const BYTES_MAX: usize = 4_000;
    const PART_BYTES: usize = 1_500;
    if text.len() <= BYTES_MAX {
        return Cow::Borrowed(text);
    }
    let beginning = &text[..text.floor_char_boundary(PART_BYTES)];
    let end = &text[text.ceil_char_boundary(text.len() - PART_BYTES)..];
    Cow::Owned(format!("{beginning}…{end}"))
}

/// Masks the text before an `@` in each word. That text may be the token of an address that
/// was given to another flag, with the scheme or without it.
fn mask_tokens(text: &str) -> String {
    const SCHEME_END: &str = "://";
    let mask = |word: &str| {
        let Some(at) = word.rfind('@') else { return word.to_owned() };
        let quote = usize::from(word.starts_with(['\'', '"']));
        let from = word[..at].find(SCHEME_END).map_or(quote, |end| end + SCHEME_END.len());
        if from == at { word.to_owned() } else { format!("{}***{}", &word[..from], &word[at..]) }
    };
    text.split_inclusive(char::is_whitespace).map(mask).collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn the_command_line_is_free_of_contradictions() {
        command_line().debug_assert();
    }

    /// Every document of the project, with its path.
    fn documents(folder: &Path, found: &mut Vec<(String, String)>) {
        for entry in std::fs::read_dir(folder).expect("a folder of the project") {
            let path = entry.expect("an entry").path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if path.is_dir() && !name.starts_with('.') && name != "target" {
                documents(&path, found);
            } else if name.ends_with(".md") {
                let text = std::fs::read_to_string(&path).expect("a document is text");
                found.push((path.display().to_string(), text));
            }
        }
    }

    /// Where a document has a command.
    #[derive(Clone, Copy, PartialEq)]
    enum Place {
        Block,
        Sentence,
    }

    /// The commands of this program in a document: the lines of its blocks of code, and the code
    /// within its sentences that has no placeholder.
    fn commands(document: &str) -> Vec<(Place, &str)> {
        let (blocks, sentences): (Vec<_>, Vec<_>) =
            document.split("```").enumerate().partition(|(place, _)| place % 2 == 1);
        let lines = blocks.into_iter().flat_map(|(_, block)| block.lines());
        let lines = lines.map(|line| line.trim_start_matches("$ ").trim());
        let code = sentences.into_iter().flat_map(|(_, text)| text.split('`').skip(1).step_by(2));
        let is_placeholder =
            |word: &str| word.len() > 1 && word.bytes().all(|byte| byte.is_ascii_uppercase());
        let is_whole = |code: &&str| {
            !code.contains(['…', '[', '|', '\n'])
                && !code.contains("...")
                && !code.split([' ', '=']).any(is_placeholder)
        };
        let lines = lines.map(|line| (Place::Block, line));
        lines
            .chain(code.filter(is_whole).map(|code| (Place::Sentence, code)))
            .filter(|(_, line)| line.starts_with("celeriac ") && !line.ends_with('\\'))
            .collect()
    }

    #[test]
    fn every_command_of_every_document_is_one_that_the_program_takes() {
        let (mut all, mut count) = (Vec::new(), 0);
        documents(&Path::new(env!("CARGO_MANIFEST_DIR")).join(".."), &mut all);
        for (path, text) in &all {
            for (place, line) in commands(text) {
                let line = line.split([';', '|', '>', '&']).next().unwrap_or_default();
                let words = shlex::split(line).unwrap_or_else(|| panic!("{path}: {line}"));
                if let Err(error) = command_line().try_get_matches_from(&words) {
                    // A sentence may name a command without its arguments.
                    let is_part = place == Place::Sentence
                        && error.kind() == ErrorKind::MissingRequiredArgument;
                    assert!(is_part || !error.use_stderr(), "{path}: {line}: {error}");
                }
                count += 1;
            }
        }
        assert!(count > 40, "{count} commands in {} documents", all.len());
    }
}
