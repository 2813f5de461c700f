//! Bytes of tasks inside JSON, and numbers that JavaScript would round.

use std::time::SystemTime;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Serialize, Serializer};
use serde_json::value::{RawValue, to_raw_value};
use utoipa::openapi::schema::{OneOfBuilder, SchemaType};
use utoipa::openapi::{ObjectBuilder, RefOr, Schema, Type};
use utoipa::{PartialSchema, ToSchema};

use crate::time::{ms, rfc3339};

/// Bytes as a JSON value. JSON stays unchanged, other text becomes a string, and other bytes become
/// `{"base64": "…"}`. No bytes at all are null, as for the client.
pub fn embed(bytes: &[u8], content_type: &str) -> Box<RawValue> {
    let is_json = matches!(content_type, "" | "application/json");
    if is_json && bytes.is_empty() {
        return RawValue::NULL.to_owned();
    }
    let text = std::str::from_utf8(bytes);
    if let Ok(text) = text
        && is_json
        // A line break in valid JSON is white space between two parts: strings have it escaped.
        && let Ok(value) = RawValue::from_string(text.replace(['\n', '\r'], " "))
    {
        return value;
    }
    match text {
        Ok(text) => to_raw_value(text),
        Err(_) => to_raw_value(&serde_json::json!({ "base64": STANDARD.encode(bytes) })),
    }
    .expect("a string is always valid JSON")
}

/// A time as text, by RFC 3339, in UTC to the millisecond. Each one stands beside the same time in
/// milliseconds.
#[derive(Debug, Clone, Copy, ToSchema)]
#[schema(value_type = String, format = DateTime)]
pub struct Rfc3339(pub(crate) SystemTime);

impl Serialize for Rfc3339 {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&rfc3339(ms(self.0)))
    }
}

/// A count. JavaScript reads each number as a float, so that it would round a number above 2^53:
/// such a count is text.
#[derive(Debug, Clone, Copy)]
pub struct Count(pub(crate) u64);

impl PartialSchema for Count {
    fn schema() -> RefOr<Schema> {
        let of = |kind| ObjectBuilder::new().schema_type(SchemaType::new(kind));
        OneOfBuilder::new().item(of(Type::Integer)).item(of(Type::String)).into()
    }
}

impl ToSchema for Count {}

impl Serialize for Count {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        const EXACT_MAX: u64 = 1 << 53;
        match self.0 {
            count @ ..=EXACT_MAX => serializer.serialize_u64(count),
            count => serializer.collect_str(&count),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_embedded_as_what_they_are_on_one_line() {
        assert_eq!(embed(b"[1,\n2]", "").get(), "[1, 2]");
        assert_eq!(embed(b"", "").get(), "null");
        assert_eq!(embed(b"[1]", "text/plain").get(), "\"[1]\"");
        assert_eq!(embed(b"not\njson", "application/json").get(), "\"not\\njson\"");
        assert_eq!(embed(&[0xff, 0x00], "").get(), "{\"base64\":\"/wA=\"}");
    }

    #[test]
    fn o27_counts_that_a_float_does_not_hold_are_text() {
        let text = |count| serde_json::to_string(&Count(count)).expect("JSON");
        assert_eq!(text(1 << 53), "9007199254740992");
        assert_eq!(text((1 << 53) + 1), "\"9007199254740993\"");
    }

    #[test]
    fn json_nested_a_hundred_thousand_deep_does_no_harm() {
        let _ = embed("[".repeat(100_000).as_bytes(), "");
    }

    #[test]
    fn json_is_passed_on_digit_by_digit() {
        let text = "[12345678901234567890123, 0.10000000000000000001]";
        assert_eq!(embed(text.as_bytes(), "").get(), text);
    }
}
