//! JSON that the command line takes, and bytes that it shows to people.
//!
//! JSON is checked and then passed on unchanged. A number with more digits than a float holds keeps
//! all its digits.

use std::io::Read;

use bytes::Bytes;
use serde_json::value::RawValue;

use crate::exit::Failure;
use celeriac_web::printable::clean;

/// The positional arguments of a task: an array.
pub(crate) fn parse_args(text: &str) -> Result<Box<RawValue>, Failure> {
    parse("--args", text, Container::Array)
}

/// The named arguments of a task: an object.
pub(crate) fn parse_kwargs(text: &str) -> Result<Box<RawValue>, Failure> {
    parse("--kwargs", text, Container::Object)
}

/// The text of a program as JSON: unchanged if it is JSON, else as a string. No text at all is
/// null.
pub(crate) fn of_text(text: &str) -> Bytes {
    if text.is_empty() {
        return Bytes::from_static(b"null");
    }
    match serde_json::from_str::<&RawValue>(text) {
        Ok(_) => Bytes::copy_from_slice(text.as_bytes()),
        Err(_) => serde_json::Value::from(text).to_string().into(),
    }
}

/// The kind of JSON value that a flag takes.
#[derive(Clone, Copy)]
enum Container {
    Array,
    Object,
}

impl Container {
    fn opening(self) -> char {
        match self {
            Self::Array => '[',
            Self::Object => '{',
        }
    }

    fn example(self) -> &'static str {
        match self {
            Self::Array => "a JSON array, such as '[\"title\", 3]'",
            Self::Object => "a JSON object, such as '{\"title\": \"Dynamite\"}'",
        }
    }
}

fn parse(flag: &str, text: &str, wanted: Container) -> Result<Box<RawValue>, Failure> {
    let value: Box<RawValue> = serde_json::from_str(text)
        .map_err(|error| Failure::usage(not_json(flag, text, wanted, &error)))?;
    if value.get().starts_with(wanted.opening()) {
        return Ok(value);
    }
    Err(Failure::usage(format!("{flag} has to be {}", wanted.example())))
}

/// The sentence for a text that is not JSON. It shows what came: a shell may have taken the quotes.
fn not_json(flag: &str, text: &str, wanted: Container, error: &serde_json::Error) -> String {
    const CHARACTERS_MAX: usize = 60;
    let shown: String = clean(text).chars().take(CHARACTERS_MAX).collect();
    let cut = if text.chars().count() > CHARACTERS_MAX { "…" } else { "" };
    format!("{flag} is not JSON: {error}; it is `{shown}{cut}` and has to be {}", wanted.example())
}

/// Reads stdin to its end, for a flag with the value `-`.
pub(crate) fn read_stdin(flag: &str) -> Result<String, Failure> {
    let mut text = String::new();
    match std::io::stdin().lock().read_to_string(&mut text) {
        Ok(_) => Ok(text),
        Err(error) => Err(Failure::usage(format!("{flag}: cannot read stdin: {error}"))),
    }
}

/// Bytes as one line of text for people.
pub(crate) fn shown(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => clean(text),
        Err(_) => format!("{} bytes that are not text", bytes.len()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sentence<T: std::fmt::Debug>(outcome: Result<T, Failure>) -> String {
        match outcome.expect_err("refused") {
            Failure::Sentence { sentence, .. } => sentence,
            Failure::ReaderGone => unreachable!("nothing was written"),
        }
    }

    #[test]
    fn bad_json_is_refused_with_its_position() {
        assert_eq!(
            sentence(parse_args("[1, 2")),
            "--args is not JSON: EOF while parsing a list at line 1 column 5; it is `[1, 2` and \
             has to be a JSON array, such as '[\"title\", 3]'"
        );
        assert_eq!(
            sentence(parse_args("{}")),
            "--args has to be a JSON array, such as '[\"title\", 3]'"
        );
        assert!(sentence(parse_kwargs("[]")).starts_with("--kwargs has to be a JSON object"));
        assert!(sentence(parse_args("[] []")).contains("line 1 column 4"));
    }

    #[test]
    fn json_nested_a_hundred_thousand_deep_does_no_harm() {
        let _ = parse_args(&"[".repeat(100_000));
    }

    #[test]
    fn json_is_passed_on_digit_by_digit() {
        let text = "[12345678901234567890123, 0.10000000000000000001]";
        assert_eq!(parse_args(text).expect("valid").get(), text);
    }
}
