//! The one binary, `celeriac`: `serve` runs the broker, every other command is a client of one.
//!
//! Here arguments are parsed, the command is chosen, and its outcome becomes an exit code. What a
//! command does is in the file of its name; nothing in this crate knows the wire or the store.

use std::io::Write;
use std::process::ExitCode;

use clap::parser::ValueSource;
use clap::{ArgMatches, CommandFactory, FromArgMatches};

use crate::arguments::{Arguments, Command};
use crate::exit::{Exit, Failure};
use crate::output::Output;
use crate::printable::{clean, clean_lines};

mod allocator;
mod arguments;
mod backup;
mod cancel;
mod check;
mod completions;
mod config_file;
mod confirm;
mod connection;
mod dead;
mod exit;
mod filter;
mod forget;
mod history;
mod json;
mod logging;
mod output;
mod printable;
mod queues;
mod result;
mod secret_file;
mod serve;
mod settings;
mod show;
mod signals;
mod status;
mod submit;
mod task_document;
mod task_view;
mod tasks;
mod time;
mod top;
mod watch;
mod workers;

#[global_allocator]
static ALLOCATOR: allocator::Allocator = allocator::Allocator;

fn main() -> ExitCode {
    let matches = match Arguments::command().try_get_matches() {
        Ok(matches) => matches,
        Err(error) => return usage(&error),
    };
    let arguments = match Arguments::from_arg_matches(&matches) {
        Ok(arguments) => arguments,
        Err(error) => return usage(&error),
    };
    match dispatch(arguments, &matches) {
        Ok(exit) => exit.into(),
        // The reader has what it wanted, as in `celeriac queues | head -1`.
        Err(Failure::ReaderGone) => Exit::Success.into(),
        Err(Failure::Sentence { exit, sentence }) => {
            complain(&clean(&sentence));
            exit.into()
        }
    }
}

fn dispatch(arguments: Arguments, matches: &ArgMatches) -> Result<Exit, Failure> {
    let global = arguments.global;
    let output = &mut Output::new(global.json);
    if !matches!(arguments.command, Command::Serve(_) | Command::Top(_) | Command::Check(_)) {
        signals::end_as_first_process()?;
    }
    match arguments.command {
        Command::Serve(serve) => {
            refuse_client_flags(matches)?;
            serve::run(*serve, global.token_file, matches, output)
        }
        Command::Submit(submit) => block_on(submit::run(*submit, &global, output)),
        Command::Status(status) => block_on(status::run(status, &global, output)),
        Command::Result(result) => block_on(result::run(result, &global, output)),
        Command::Watch(watch) => block_on(watch::run(watch, &global, output)),
        Command::Forget(forget) => block_on(forget::run(forget, &global, output)),
        Command::Cancel(cancel) => block_on(cancel::run(cancel, &global, output)),
        Command::Show(show) => block_on(show::run(show, &global, output)),
        Command::Tasks(tasks) => block_on(tasks::run(*tasks, &global, output)),
        Command::Queues(queues) => block_on(queues::run(queues, &global, output)),
        Command::Dead(dead) => block_on(dead::run(*dead, &global, output)),
        Command::Workers(workers) => block_on(workers::run(workers, &global, output)),
        Command::Top(top) => block_on(top::run(&top, &global, output)),
        Command::Backup(backup) => block_on(backup::run(backup, &global, output)),
        Command::Check(check) => check::run(&check, output),
        Command::Completions(completions) => completions::run(&completions, output),
    }
}

/// A client needs no more than one thread.
fn block_on(command: impl Future<Output = Result<Exit, Failure>>) -> Result<Exit, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::error(format!("cannot start: {error}")))?;
    runtime.block_on(command)
}

/// `serve` is nobody's client: a flag that would be ignored is a mistake. Their environment
/// variables may well be set for the commands that follow.
fn refuse_client_flags(matches: &ArgMatches) -> Result<(), Failure> {
    for (id, flag) in [("url", "--url"), ("timeout", "--timeout")] {
        if matches.value_source(id) == Some(ValueSource::CommandLine) {
            return Err(Failure::usage(format!(
                "{flag} is for client commands, `serve` has no use for it"
            )));
        }
    }
    Ok(())
}

/// Prints what clap has to say: help and the version to stdout, mistakes to stderr in our own form.
fn usage(error: &clap::Error) -> ExitCode {
    if error.use_stderr() {
        let text = error.render().to_string();
        complain(&clean_lines(&masked(text.strip_prefix("error: ").unwrap_or(&text).trim_end())));
        return Exit::Usage.into();
    }
    // A reader that has gone away is no reason to fail.
    let _ = error.print();
    Exit::Success.into()
}

/// The text without what stands before an `@` in a word: it may be the token of an address that
/// somebody gave to another flag, with its scheme or without.
fn masked(text: &str) -> String {
    const SCHEME_END: &str = "://";
    let mask = |word: &str| {
        let Some(at) = word.rfind('@') else { return word.to_owned() };
        let quote = usize::from(word.starts_with(['\'', '"']));
        let from = word[..at].find(SCHEME_END).map_or(quote, |end| end + SCHEME_END.len());
        if from == at { word.to_owned() } else { format!("{}***{}", &word[..from], &word[at..]) }
    };
    text.split_inclusive(char::is_whitespace).map(mask).collect()
}

/// Tells a person, in one voice for all commands.
pub(crate) fn complain(sentence: &str) {
    // Nobody is left to be told when stderr is closed.
    let _ = writeln!(std::io::stderr(), "celeriac: {sentence}");
}
