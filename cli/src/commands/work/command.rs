//! The command of a worker: where the arguments of a task go into its words.
//!
//! A placeholder is a word of its own, or the value of an option such as `--title={title}`. A word
//! never goes through a shell, so the text of an argument cannot become a command.

use bytes::Bytes;
use celeriac_worker::{Payload, TaskFailure};
use serde_json::{Map, Value};

/// A command with placeholders.
#[derive(Debug, PartialEq)]
pub(super) struct CommandTemplate {
    program: String,
    words: Vec<Word>,
}

/// A word of a command.
#[derive(Debug, PartialEq)]
struct Word {
    /// Text in front of the placeholder, or the whole word.
    text: String,
    placeholder: Option<Placeholder>,
}

/// What replaces a placeholder.
#[derive(Debug, PartialEq)]
enum Placeholder {
    /// All arguments, as JSON.
    All,
    /// A positional argument.
    Positional(usize),
    /// A named argument.
    Named(String),
}

/// A command that can be run.
#[derive(Debug, PartialEq)]
pub(super) struct Command {
    pub(super) program: String,
    pub(super) arguments: Vec<String>,
}

impl CommandTemplate {
    /// Reads the words after `--`.
    ///
    /// # Errors
    /// There is no program.
    pub(super) fn parse(words: Vec<String>) -> Result<Self, &'static str> {
        let mut words = words.into_iter();
        let program = words.next().filter(|program| !program.is_empty());
        let program = program.ok_or("the name of the command is empty")?;
        Ok(Self { program, words: words.map(Word::parse).collect() })
    }

    /// Puts the arguments of a task into the places of the placeholders.
    ///
    /// # Errors
    /// The task lacks an argument. Another attempt would lack it too.
    pub(super) fn fill(&self, arguments: &Arguments) -> Result<Command, TaskFailure> {
        let words = self.words.iter().map(|word| word.fill(arguments));
        Ok(Command { program: self.program.clone(), arguments: words.collect::<Result<_, _>>()? })
    }
}

impl Word {
    fn parse(word: String) -> Self {
        let at = match word.split_once('=') {
            Some((option, _)) if option.starts_with('-') => option.len() + 1,
            _ => 0,
        };
        let (text, rest) = word.split_at(at);
        match Placeholder::parse(rest) {
            Some(placeholder) => Self { text: text.to_owned(), placeholder: Some(placeholder) },
            None => Self { text: word, placeholder: None },
        }
    }

    fn fill(&self, arguments: &Arguments) -> Result<String, TaskFailure> {
        let Some(placeholder) = &self.placeholder else { return Ok(self.text.clone()) };
        let missing = |what: String| TaskFailure::fatal("invalid_arguments", what);
        let value = match placeholder {
            Placeholder::All => arguments.text()?.to_owned(),
            Placeholder::Positional(place) => {
                arguments.positional.get(*place).map(plain).ok_or_else(|| {
                    missing(format!("the task has no positional argument {place}"))
                })?
            }
            Placeholder::Named(name) => arguments
                .named
                .get(name)
                .map(plain)
                .ok_or_else(|| missing(format!("the task has no argument named {name}")))?,
        };
        if value.contains('\0') {
            return Err(missing("an argument of a command cannot hold a NUL character".to_owned()));
        }
        Ok(format!("{}{value}", self.text))
    }
}

impl Placeholder {
    fn parse(text: &str) -> Option<Self> {
        let name = text.strip_prefix('{')?.strip_suffix('}')?;
        if name.is_empty() {
            return Some(Self::All);
        }
        if name.bytes().all(|byte| byte.is_ascii_digit()) {
            return name.parse().ok().map(Self::Positional);
        }
        let is_name = |text: &str| {
            text.chars().all(|character| character.is_alphanumeric() || character == '_')
        };
        is_name(name).then(|| Self::Named(name.to_owned()))
    }
}

/// A value as a word of a command: a text without quotes, anything else as JSON.
fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        value => value.to_string(),
    }
}

/// The arguments of a task.
#[derive(Debug)]
pub(super) struct Arguments {
    payload: Bytes,
    positional: Vec<Value>,
    named: Map<String, Value>,
}

impl Arguments {
    /// Reads a payload. A payload that is not JSON goes to the command as it is, and has no single
    /// arguments.
    ///
    /// # Errors
    /// The payload is said to be JSON and is none.
    pub(super) fn of(payload: &Payload<'_>) -> Result<Self, TaskFailure> {
        let bytes = payload.bytes().clone();
        let (positional, named) = match payload.content_type() {
            "" | "application/json" => serde_json::from_slice(&bytes).map_err(|error| {
                let message = format!("the payload is not [args, kwargs] in JSON: {error}");
                TaskFailure::fatal("invalid_arguments", message)
            })?,
            _ => (Vec::new(), Map::new()),
        };
        Ok(Self { payload: bytes, positional, named })
    }

    fn text(&self) -> Result<&str, TaskFailure> {
        std::str::from_utf8(&self.payload).map_err(|_| {
            TaskFailure::fatal("invalid_arguments", "the payload is not text; read it from stdin")
        })
    }

    /// The payload for the standard input of the command.
    pub(super) fn into_stdin(self) -> Bytes {
        self.payload
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(words: &[&str], payload: &'static str) -> Result<Vec<String>, String> {
        let words = words.iter().map(|word| (*word).to_owned()).collect();
        let template = CommandTemplate::parse(words).expect("it has a program");
        let bytes = Bytes::from_static(payload.as_bytes());
        let arguments = Arguments::of(&Payload::new(&bytes, "")).map_err(message)?;
        template.fill(&arguments).map(|command| command.arguments).map_err(message)
    }

    fn message(failure: TaskFailure) -> String {
        format!("{}: {}", failure.kind(), failure.message())
    }

    const PAYLOAD: &str = r#"[["Dyna mite", 3], {"title": "a\"b", "deep": {"x": null}}]"#;

    #[test]
    fn placeholders_take_all_one_or_a_named_argument() {
        let words = ["run", "{}", "{0}", "{1}", "{title}", "--deep={deep}", "-x={0}"];
        let expected = [PAYLOAD, "Dyna mite", "3", "a\"b", "--deep={\"x\":null}", "-x=Dyna mite"];
        assert_eq!(filled(&words, PAYLOAD).expect("all are there"), expected);
    }

    #[test]
    fn text_that_only_looks_like_a_placeholder_stays() {
        let words = ["sh", "-c", "f() {}; f {0}", "{print $1}", "a{}", "{", "}", "{0", "a={0}"];
        assert_eq!(filled(&words, PAYLOAD).expect("all are text"), words[1..]);
    }

    #[test]
    fn an_argument_that_the_task_lacks_is_named() {
        let lacks = |word| filled(&["run", word], "[[], {}]").expect_err("it is not there");
        assert_eq!(lacks("{0}"), "invalid_arguments: the task has no positional argument 0");
        assert_eq!(lacks("{title}"), "invalid_arguments: the task has no argument named title");
        let wrong = filled(&["run"], "{}").expect_err("no arguments");
        assert!(wrong.starts_with("invalid_arguments: the payload is not [args, kwargs]"));
        let nul = filled(&["run", "{0}"], r#"[["\u0000"], {}]"#).expect_err("no word has a NUL");
        assert!(nul.contains("NUL"), "{nul}");
    }

    #[test]
    fn a_command_needs_a_program() {
        assert!(CommandTemplate::parse(vec![String::new()]).is_err());
        assert!(CommandTemplate::parse(Vec::new()).is_err());
    }
}
