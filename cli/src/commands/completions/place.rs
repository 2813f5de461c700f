//! Which value of the command line is being typed, and of which kind it is.
//!
//! The words go to clap only when they are complete; here the last one is not, and others may be
//! missing. So this file walks over them by itself. It takes what it knows from clap's command: an
//! argument is an id, a queue or a worker by the name of its value in the help.

use std::path::PathBuf;

use celeriac_client::State;
use clap::{Arg, ArgAction, Command};

/// What may stand in a place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    /// Ids of tasks that are in one of these states; no state means all of them.
    Task(&'static [State]),
    Queue,
    Worker,
    /// One of these words, which the command line itself knows.
    Word(Vec<String>),
}

/// The value that is being typed.
#[derive(Debug, PartialEq)]
pub(super) struct Place {
    pub(super) kind: Kind,
    /// What has been typed of it.
    pub(super) prefix: String,
    /// The broker that the line names.
    pub(super) url: Option<String>,
    pub(super) token_file: Option<PathBuf>,
}

/// What stands between the words of a list.
const DELIMITER: char = ',';

const DEAD: &[State] = &[State::Failure];
const ENDED: &[State] = &[State::Success, State::Failure, State::Revoked];
const UNFINISHED: &[State] =
    &[State::Scheduled, State::Queued, State::Leased, State::Started, State::Retry];

impl Place {
    /// The place of the last word, if the broker knows what may stand there.
    pub(super) fn find(mut root: Command, words: &[String]) -> Option<Self> {
        root.build();
        let (last, before) = words.get(1..)?.split_last()?;
        let mut walk = Walk::new(&root);
        for word in before {
            walk.pass(word);
        }
        let (argument, prefix) = walk.argument_of(last)?;
        let kind = match is_list(argument) {
            true => Kind::Word(next_of_list(argument, prefix)),
            false => kind(argument, &walk.path)?,
        };
        let prefix = prefix.to_owned();
        Some(Self { kind, prefix, url: walk.url, token_file: walk.token_file.map(PathBuf::from) })
    }
}

/// Whether this command may know values of this argument.
pub(super) fn is_known(argument: &Arg) -> bool {
    is_list(argument)
        || value_name(argument).is_some_and(|name| ["ID", "QUEUE", "INSTANCE"].contains(&name))
}

/// Whether the value is a list of words. The generated scripts know only its first word.
pub(super) fn is_list(argument: &Arg) -> bool {
    argument.get_value_delimiter() == Some(DELIMITER) && !argument.get_possible_values().is_empty()
}

/// The list as it was typed, with each word that may come next in the place of the last one.
fn next_of_list(argument: &Arg, typed: &str) -> Vec<String> {
    let before = typed.rfind(DELIMITER).map_or("", |at| &typed[..=at]);
    let is_taken = |word: &str| before.split(DELIMITER).any(|taken| taken == word);
    let words = argument.get_possible_values();
    let left = words.iter().map(|word| word.get_name()).filter(|word| !is_taken(word));
    left.map(|word| format!("{before}{word}")).collect()
}

fn value_name(argument: &Arg) -> Option<&str> {
    Some(argument.get_value_names()?.first()?.as_str())
}

/// The kind of an argument's value, by its name in the help.
fn kind(argument: &Arg, path: &[&str]) -> Option<Kind> {
    match (value_name(argument)?, path) {
        // The id of a task that does not exist yet.
        ("ID", ["submit"]) => None,
        ("ID", ["dead", ..]) if argument.is_positional() => Some(Kind::Task(DEAD)),
        ("ID", ["forget"]) => Some(Kind::Task(ENDED)),
        ("ID", ["cancel"]) if argument.is_positional() => Some(Kind::Task(UNFINISHED)),
        ("ID", _) => Some(Kind::Task(&[])),
        ("QUEUE", _) => Some(Kind::Queue),
        ("INSTANCE", _) => Some(Kind::Worker),
        _ => None,
    }
}

/// What the words so far have said.
struct Walk<'a> {
    command: &'a Command,
    /// The names of the commands, without the program's.
    path: Vec<&'a str>,
    /// The flag whose value is the next word.
    flag: Option<&'a Arg>,
    positionals: usize,
    /// After `--` no word is a flag or a command.
    is_escaped: bool,
    url: Option<String>,
    token_file: Option<String>,
}

impl<'a> Walk<'a> {
    fn new(command: &'a Command) -> Self {
        Self {
            command,
            path: Vec::new(),
            flag: None,
            positionals: 0,
            is_escaped: false,
            url: None,
            token_file: None,
        }
    }

    /// Goes past a complete word.
    fn pass(&mut self, word: &str) {
        if let Some(flag) = self.flag.take() {
            return self.keep(flag, word);
        }
        if self.is_escaped {
            self.positionals += 1;
        } else if word == "--" {
            self.is_escaped = true;
        } else if let Some(flag) = word.strip_prefix("--") {
            match flag.split_once('=') {
                Some((flag, value)) => {
                    if let Some(flag) = self.flag_named(flag) {
                        self.keep(flag, value);
                    }
                }
                None => self.flag = self.flag_named(flag),
            }
        } else if let Some(command) = self.command.find_subcommand(word) {
            self.command = command;
            self.path.push(command.get_name());
            self.positionals = 0;
        } else if !word.starts_with('-') {
            self.positionals += 1;
        }
    }

    fn keep(&mut self, flag: &Arg, value: &str) {
        match flag.get_id().as_str() {
            "url" => self.url = Some(value.to_owned()),
            "token_file" => self.token_file = Some(value.to_owned()),
            _ => {}
        }
    }

    /// The flag of this name, if it takes a value.
    fn flag_named(&self, name: &str) -> Option<&'a Arg> {
        let mut flags = self.command.get_arguments();
        flags.find(|flag| flag.get_long() == Some(name) && flag.get_action().takes_values())
    }

    /// The argument that this word, which is not complete, belongs to, and what it has of its
    /// value.
    fn argument_of<'w>(&self, word: &'w str) -> Option<(&'a Arg, &'w str)> {
        if let Some(flag) = self.flag {
            return Some((flag, word));
        }
        if let Some(flag) = word.strip_prefix("--").filter(|_| !self.is_escaped) {
            let (flag, value) = flag.split_once('=')?;
            return Some((self.flag_named(flag)?, value));
        }
        let mut positionals = self.command.get_positionals();
        let argument = positionals.nth(self.positionals).or_else(|| {
            // The last argument may take any number of words.
            let last = self.command.get_positionals().last()?;
            matches!(last.get_action(), ArgAction::Append).then_some(last)
        })?;
        // `work` has a command after `--` that is not ours.
        (!argument.is_last_set()).then_some((argument, word))
    }
}
