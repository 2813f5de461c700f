//! The values of settings of `serve` that are spans or sizes, with their units: `15s`, `8MiB`.

use serde::Deserializer;
use serde::de::{Error, Visitor};

use crate::byte_size::parse_bytes;
use crate::time::{parse_span, whole_ms};

/// Parses a span of a flag or a variable, in milliseconds.
pub(super) fn parse_ms(text: &str) -> Result<u64, String> {
    parse_span(text).map(whole_ms)
}

/// Parses a span of the file. A number in the file needs the exact name, because the reader of the
/// file could not tell whether it is seconds or milliseconds.
pub(super) fn span<'de, D: Deserializer<'de>>(file: D) -> Result<Option<u64>, D::Error> {
    let text = file.deserialize_str(Quoted { expected: "a span in quotes, such as \"15s\"" })?;
    parse_ms(&text).map(Some).map_err(D::Error::custom)
}

/// Parses a size of the file.
pub(super) fn size<'de, D: Deserializer<'de>>(file: D) -> Result<Option<u64>, D::Error> {
    let text = file.deserialize_str(Quoted { expected: "a size in quotes, such as \"8MiB\"" })?;
    parse_bytes(&text).map(Some).map_err(D::Error::custom)
}

/// Text in quotes, with the sentence for everything else.
struct Quoted {
    expected: &'static str,
}

impl Visitor<'_> for Quoted {
    type Value = String;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.expected)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<String, E> {
        Ok(text.to_owned())
    }
}
