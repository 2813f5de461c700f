//! Arguments and results as a page shows them: JSON with line breaks and every digit as it is,
//! other text as it is, and other bytes in base64. What is long is cut, with a sentence that says
//! so.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use maud::{Markup, html};
use serde_json::value::RawValue;

use super::show::{bytes, text};
use crate::printable::{clean_json, clean_lines};

/// The most that is shown of one value.
const SHOWN_BYTES_MAX: usize = 64 * 1024;
/// JSON that is nested more deeply is not indented further.
const INDENT_MAX: usize = 32;

/// A value with the word above it.
pub(super) fn value(word: &str, value: &[u8], content_type: &str) -> Markup {
    let is_json = matches!(content_type, "" | "application/json");
    let (cut, is_cut) = cut(value);
    let shown = match std::str::from_utf8(cut) {
        Ok(json) if is_json && !is_cut && is_valid(json) => {
            clean_json(&indented(json)).into_owned()
        }
        Ok(text) => clean_lines(text),
        Err(_) => STANDARD.encode(cut),
    };
    let kind = match content_type {
        "" => "application/json",
        other => other,
    };
    html! {
        h3 { (word) " " span.dim { (bytes(value.len() as u64)) ", " (text(kind)) } }
        @if is_cut {
            p.notice { "The first " (bytes(cut.len() as u64)) " of it. The command line has all." }
        }
        @if value.is_empty() { p.dim { "nothing" } }
        @else { pre.copy tabindex="0" { (shown) } }
    }
}

/// The payload of a task: its arguments in the form of all clients, or what it is.
pub(super) fn payload(payload: &[u8], content_type: &str) -> Markup {
    let parts = matches!(content_type, "" | "application/json")
        .then(|| serde_json::from_slice::<[&RawValue; 2]>(payload).ok())
        .flatten()
        .filter(|[args, kwargs]| args.get().starts_with('[') && kwargs.get().starts_with('{'));
    match parts {
        Some([args, kwargs]) => html! {
            (value("Arguments", args.get().as_bytes(), ""))
            @if kwargs.get().len() > 2 { (value("Named arguments", kwargs.get().as_bytes(), "")) }
        },
        None => value("Payload", payload, content_type),
    }
}

/// The beginning of these bytes, up to the end of a character, and whether there is more.
fn cut(value: &[u8]) -> (&[u8], bool) {
    if value.len() <= SHOWN_BYTES_MAX {
        return (value, false);
    }
    let mut end = SHOWN_BYTES_MAX;
    while end > SHOWN_BYTES_MAX - 4 && value[end] & 0xc0 == 0x80 {
        end -= 1;
    }
    (&value[..end], true)
}

fn is_valid(json: &str) -> bool {
    serde_json::from_str::<&RawValue>(json).is_ok()
}

/// JSON with a line for each value. Its texts and numbers stay as they are, digit by digit.
fn indented(json: &str) -> String {
    let mut shown = String::with_capacity(json.len() * 2);
    let (mut depth, mut in_text, mut is_escaped) = (0_usize, false, false);
    let mut before = '\0';
    for character in json.chars() {
        if in_text {
            shown.push(character);
            in_text = character != '"' || is_escaped;
            is_escaped = character == '\\' && !is_escaped;
            before = character;
            continue;
        }
        match character {
            ' ' | '\n' | '\r' | '\t' => continue,
            '}' | ']' => {
                depth = depth.saturating_sub(1);
                if !matches!(before, '{' | '[') {
                    break_line(&mut shown, depth);
                }
            }
            _ if matches!(before, '{' | '[') => break_line(&mut shown, depth),
            _ => {}
        }
        shown.push(character);
        match character {
            '{' | '[' => depth += 1,
            ',' => break_line(&mut shown, depth),
            ':' => shown.push(' '),
            '"' => in_text = true,
            _ => {}
        }
        before = character;
    }
    shown
}

fn break_line(shown: &mut String, depth: usize) {
    shown.push('\n');
    shown.extend(std::iter::repeat_n("  ", depth.min(INDENT_MAX)));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_gets_lines_and_keeps_its_digits_and_texts() {
        assert_eq!(
            indented(r#"{"a":[1, 12345678901234567890.10,[]], "b\"{,":{},"c": null}"#),
            "{\n  \"a\": [\n    1,\n    12345678901234567890.10,\n    []\n  ],\n  \"b\\\"{,\": {},\n  \
             \"c\": null\n}"
        );
        assert_eq!(indented("[\"\\\\\", 1]"), "[\n  \"\\\\\",\n  1\n]");
        assert_eq!(indented("7"), "7");
        assert!(indented(&"[".repeat(10_000)).len() < 1_000_000);
    }

    #[test]
    fn arguments_are_shown_apart_and_other_bytes_as_what_they_are() {
        let shown = payload(b"[[\"<b>\"], {\"x\": 1}]", "").into_string();
        assert!(shown.contains("Arguments") && shown.contains("Named arguments"), "{shown}");
        assert!(shown.contains("&lt;b&gt;") && !shown.contains("<b>\""), "{shown}");
        assert!(payload(&[0xff, 0], "audio/flac").into_string().contains("/wA="));
        assert!(payload(b"not json", "").into_string().contains("not json"));
        assert!(payload(b"[1]", "").into_string().contains("Payload"));
    }

    #[test]
    fn what_is_long_is_cut_at_the_end_of_a_character() {
        let long = "ü".repeat(SHOWN_BYTES_MAX);
        let shown = value("Result", long.as_bytes(), "text/plain").into_string();
        assert!(shown.contains("The first 64 KiB of it"), "{}", &shown[..200]);
        assert!(shown.len() < SHOWN_BYTES_MAX + 500);
        let odd = format!("x{long}");
        assert!(value("", odd.as_bytes(), "text/plain").into_string().contains("xüü"));
    }
}
