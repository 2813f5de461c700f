//! The command of a worker: where the arguments of a task go into its words.
//!
//! A placeholder is a word of its own, or the value of an option such as `--title={title}`. A word
//! never goes through a shell, so the text of an argument cannot become a command.

use std::collections::BTreeMap;

use celeriac_worker::{Payload, TaskFailure};
use serde_json::value::RawValue;

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

    /// The program that runs for every task.
    pub(super) fn program(&self) -> &str {
        &self.program
    }

    /// Puts the arguments of a task into the places of the placeholders.
    ///
    /// # Errors
    /// The task lacks an argument. Another attempt would lack it too.
    pub(super) fn fill(&self, payload: &Payload<'_>) -> Result<Command, TaskFailure> {
        // A command that reads its stdin alone gets any payload as it is.
        let takes_single = |word: &Word| {
            matches!(word.placeholder, Some(Placeholder::Positional(_) | Placeholder::Named(_)))
        };
        let arguments = match self.words.iter().any(takes_single) {
            true => Arguments::of(payload)?,
            false => Arguments::default(),
        };
        let words = self.words.iter().map(|word| word.fill(payload, &arguments));
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

    fn fill(
        &self,
        payload: &Payload<'_>,
        arguments: &Arguments<'_>,
    ) -> Result<String, TaskFailure> {
        let Some(placeholder) = &self.placeholder else { return Ok(self.text.clone()) };
        let value = match placeholder {
            Placeholder::All => std::str::from_utf8(payload.bytes())
                .map_err(|_| invalid("the payload is not text; read it from stdin"))?
                .to_owned(),
            Placeholder::Positional(place) => match arguments.positional.get(*place) {
                Some(value) => plain(value)?,
                None => {
                    return Err(invalid(format!("the task has no positional argument {place}")));
                }
            },
            Placeholder::Named(name) => match arguments.named.get(name) {
                Some(value) => plain(value)?,
                None => return Err(invalid(format!("the task has no argument named {name}"))),
            },
        };
        if value.contains('\0') {
            return Err(invalid("an argument of a command cannot hold a NUL character"));
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

/// A value as a word of a command: a text without quotes, anything else as the JSON that the
/// producer wrote. A number keeps all of its digits.
fn plain(value: &RawValue) -> Result<String, TaskFailure> {
    let json = value.get();
    match json.starts_with('"') {
        true => serde_json::from_str(json)
            .map_err(|error| invalid(format!("an argument is not Unicode text: {error}"))),
        false => Ok(json.to_owned()),
    }
}

/// The failure of a task whose arguments do not fit. Another attempt would have the same ones.
fn invalid(what: impl Into<String>) -> TaskFailure {
    TaskFailure::fatal("invalid_arguments", what)
}

/// The single arguments of a task, each in the JSON of its producer.
#[derive(Debug, Default)]
struct Arguments<'a> {
    positional: Vec<&'a RawValue>,
    named: BTreeMap<String, &'a RawValue>,
}

impl<'a> Arguments<'a> {
    /// Reads a payload. One that is said to be no JSON has no single arguments.
    fn of(payload: &'a Payload<'_>) -> Result<Self, TaskFailure> {
        let (positional, named) = match payload.content_type() {
            "" | "application/json" => {
                serde_json::from_slice(payload.bytes()).map_err(|error| {
                    invalid(format!("the payload is not [args, kwargs] in JSON: {error}"))
                })?
            }
            _ => Default::default(),
        };
        Ok(Self { positional, named })
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn filled(words: &[&str], payload: &'static str) -> Result<Vec<String>, String> {
        let words = words.iter().map(|word| (*word).to_owned()).collect();
        let template = CommandTemplate::parse(words).expect("it has a program");
        let bytes = Bytes::from_static(payload.as_bytes());
        let filled = template.fill(&Payload::new(&bytes, ""));
        filled.map(|command| command.arguments).map_err(message)
    }

    fn message(failure: TaskFailure) -> String {
        format!("{}: {}", failure.kind(), failure.message())
    }

    const PAYLOAD: &str = r#"[["Dyna mite", 3], {"title": "a\"b", "deep": {"x": null}}]"#;

    #[test]
    fn placeholders_take_all_one_or_a_named_argument() {
        let words = ["run", "{}", "{0}", "{1}", "{title}", "--deep={deep}", "-x={0}"];
        let expected = [PAYLOAD, "Dyna mite", "3", "a\"b", "--deep={\"x\": null}", "-x=Dyna mite"];
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
        let wrong = filled(&["run", "{0}"], "{}").expect_err("no arguments");
        assert!(wrong.starts_with("invalid_arguments: the payload is not [args, kwargs]"));
        let nul = filled(&["run", "{0}"], r#"[["\u0000"], {}]"#).expect_err("no word has a NUL");
        assert!(nul.contains("NUL"), "{nul}");
    }

    #[test]
    fn a_number_keeps_the_digits_of_its_producer() {
        const NUMBERS: [&str; 4] =
            ["12345678901234567890123456789", "0.10000000000000000555", "1e400", "-0.0"];
        let payload: &'static str = Box::leak(
            format!("[[{}], {{\"n\": {}}}]", NUMBERS.join(","), NUMBERS[0]).into_boxed_str(),
        );
        let words = filled(&["run", "{0}", "{1}", "{2}", "{3}", "{n}"], payload);
        assert_eq!(words.expect("all are there"), [&NUMBERS[..], &NUMBERS[..1]].concat());
    }

    #[test]
    fn only_what_a_placeholder_takes_has_to_be_readable() {
        let deep: &'static str =
            Box::leak(format!("[[{}{}], {{}}]", "[".repeat(500), "]".repeat(500)).into_boxed_str());
        for payload in [r#"[["\ud800", 1], {}]"#, "[[1e400, 1], {}]", deep, "not JSON", "{}"] {
            assert_eq!(filled(&["run", "{}"], payload).expect("a text"), [payload]);
            assert!(filled(&["run", "-x"], payload).is_ok(), "{payload}");
        }
        assert_eq!(filled(&["run", "{1}"], r#"[["\ud800", 1], {}]"#).expect("it is there"), ["1"]);
        let broken = filled(&["run", "{0}"], r#"[["\ud800", 1], {}]"#).expect_err("no text");
        assert!(broken.starts_with("invalid_arguments: an argument is not Unicode"), "{broken}");
    }

    #[test]
    fn a_command_needs_a_program() {
        assert!(CommandTemplate::parse(vec![String::new()]).is_err());
        assert!(CommandTemplate::parse(Vec::new()).is_err());
    }
}
