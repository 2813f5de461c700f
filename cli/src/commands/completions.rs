//! `celeriac completions`: a script with which a shell completes the command line. The scripts for
//! bash, zsh and fish ask this command for ids, queues and workers, which the broker knows.
//!
//! `place` finds what is being typed, `candidates` asks the broker. clap's generator writes the
//! rest of the scripts.

use std::ffi::OsString;

use clap::Args;
use clap_complete::Shell;

use crate::arguments::SharedOptions;
use crate::exit::{Exit, Failure};
use crate::output::Output;

mod candidates;
mod place;

use self::place::Place;

/// The arguments of `completions`.
#[derive(Args)]
pub(crate) struct CompletionsArguments {
    /// The shell that reads the script
    #[arg(required_unless_present = "values")]
    shell: Option<Shell>,

    /// Print the ids, queues or workers that may take the place of the last of these words
    #[arg(long, hide = true, conflicts_with = "shell")]
    values: bool,

    /// The command line up to the cursor
    #[arg(last = true, hide = true, requires = "values", value_name = "WORD")]
    words: Vec<OsString>,
}

/// Prints the script for the command line `root`, which the shell reads when it starts; or what the
/// script asks for, when a user completes a word.
pub(crate) fn run(
    arguments: &CompletionsArguments,
    root: clap::Command,
    shared: SharedOptions,
    output: &mut Output,
) -> Result<Exit, Failure> {
    match arguments.shell {
        Some(shell) => output.bytes(script(shell, root).as_bytes())?,
        None => print_values(&arguments.words, root, shared, output)?,
    }
    Ok(Exit::Success)
}

/// Prints one candidate on each line. When there is none for any reason, it prints nothing: a
/// sentence would appear in the middle of what the user types.
fn print_values(
    words: &[OsString],
    root: clap::Command,
    mut shared: SharedOptions,
    output: &mut Output,
) -> Result<(), Failure> {
    let words: Vec<String> = words.iter().map(|word| word.to_string_lossy().into_owned()).collect();
    let Some(place) = Place::find(root, &words) else { return Ok(()) };
    // The line that is being typed may name another broker than the environment.
    shared.url = place.url.clone().or(shared.url);
    shared.token_file = place.token_file.clone().or(shared.token_file);
    for candidate in candidates::ask(place, shared) {
        output.line(&candidate)?;
    }
    Ok(())
}

/// What asks for the candidates in each shell.
const BASH: &str = include_str!("completions/values.bash");
const ZSH: &str = include_str!("completions/values.zsh");
const FISH: &str = include_str!("completions/values.fish");

/// What the generated script of fish does for a value with the hint of a user's name.
const FISH_USERS: &str = "(__fish_complete_users)";
const FISH_VALUES: &str = "(__fish_celeriac_values)";

/// In zsh the generated functions change `words`, so the first of them keeps the words as they are.
const ZSH_BEGIN: &str = "_celeriac() {\n";
const ZSH_WORDS: &str =
    "    local -a celeriac_words=(\"${(@Q)words[1,CURRENT-1]}\" \"${(Q)PREFIX}\")\n";
/// What a generated function of zsh does for a value that it knows nothing about.
const ZSH_UNKNOWN: &str = ":_default'";
const ZSH_VALUES: &str = ":_celeriac_values'";

fn script(shell: Shell, root: clap::Command) -> String {
    let mut script = Vec::new();
    let mut root = match shell {
        Shell::Fish => with_open_lists(with_hints(root)),
        Shell::Zsh => with_open_lists(root),
        _ => root,
    };
    clap_complete::generate(shell, &mut root, "celeriac", &mut script);
    let script = String::from_utf8_lossy(&script);
    match shell {
        Shell::Bash => format!("{script}\n{BASH}"),
        Shell::Fish => format!("{}\n{FISH}", script.replace(FISH_USERS, FISH_VALUES)),
        Shell::Zsh => {
            let script = script.replace(ZSH_UNKNOWN, ZSH_VALUES);
            let begin = format!("{ZSH}\n{ZSH_BEGIN}{ZSH_WORDS}");
            script.replacen(ZSH_BEGIN, &begin, 1)
        }
        _ => script.into_owned(),
    }
}

/// The command line with a hint for each value that this command knows. No value of ours is the
/// name of a user, so this hint marks the place in the generated script.
fn with_hints(command: clap::Command) -> clap::Command {
    command
        .mut_args(|argument| match place::is_known(&argument) {
            true => argument.value_hint(clap::ValueHint::Username),
            false => argument,
        })
        .mut_subcommands(with_hints)
}

/// The command line without the words of lists, for which the script asks: the generators take a
/// list for one word.
fn with_open_lists(command: clap::Command) -> clap::Command {
    command
        .mut_args(|argument| match place::is_list(&argument) {
            true => argument.value_parser(clap::builder::ValueParser::string()),
            false => argument,
        })
        .mut_subcommands(with_open_lists)
}
