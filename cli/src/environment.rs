//! The `CELERIAC_` variables of the environment: an empty variable counts as not set, and an error
//! names the variable that has the wrong value.
//!
//! clap reads the variables; `token.rs` reads the one of the token, which has no flag.

use std::ffi::{OsStr, OsString};

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, Command};

/// The command and its subcommands without the variables that are empty.
pub(crate) fn without_empty(command: Command) -> Command {
    let is_empty = |name: &OsStr| std::env::var_os(name).is_some_and(|value| value.is_empty());
    command
        .mut_args(|argument| match argument.get_env().is_some_and(is_empty) {
            true => argument.env(None::<&'static str>),
            false => argument,
        })
        .mut_subcommands(without_empty)
}

/// The text of clap's error. It names the variable in place of the flag if the value comes from
/// the environment.
pub(crate) fn text_of(error: &clap::Error, mut command: Command) -> String {
    let text = error.render().to_string();
    if error.kind() == ErrorKind::InvalidUtf8 {
        return not_unicode().unwrap_or(text);
    }
    let Some(ContextValue::String(shown)) = error.get(ContextKind::InvalidArg) else { return text };
    // Only a command that is built can show its arguments.
    command.build();
    match variable(&command, shown) {
        Some(name) => text.replace(&format!("'{shown}'"), &name),
        None => text,
    }
}

/// The sentence about a variable that is not text. Without such a variable a flag is not text.
fn not_unicode() -> Option<String> {
    let mut names: Vec<OsString> = std::env::vars_os()
        .filter(|(name, value)| {
            name.as_encoded_bytes().starts_with(b"CELERIAC_") && value.to_str().is_none()
        })
        .map(|(name, _)| name)
        .collect();
    names.sort();
    let name = names.first()?.to_string_lossy().into_owned();
    Some(format!("{name}: the value is not text in UTF-8"))
}

/// The variable from which the argument, as clap shows it, has its value.
fn variable(command: &Command, shown: &str) -> Option<String> {
    let found = command.get_arguments().find(|argument| argument.to_string() == shown);
    if let Some(argument) = found
        && let Some(name) = argument.get_env()
        && std::env::var_os(name).is_some()
        && !is_on_command_line(argument)
    {
        return Some(name.to_string_lossy().into_owned());
    }
    command.get_subcommands().find_map(|command| variable(command, shown))
}

fn is_on_command_line(argument: &Arg) -> bool {
    let Some(flag) = argument.get_long() else { return true };
    let flag = format!("--{flag}");
    std::env::args_os().any(|word| {
        let word = word.to_string_lossy();
        word.strip_prefix(&flag).is_some_and(|rest| rest.is_empty() || rest.starts_with('='))
    })
}
