//! The text of the lines of the audit log: one object of JSON, in printable characters.

use std::fmt::Write as _;

use celeriac_machine::command::Now;
use celeriac_proto::limits::NAME_BYTES_MAX;

use crate::clock::moment;
use crate::lobby::Remote;

/// The bytes that one text takes in a line. Every name has room that needs no escapes.
const TEXT_BYTES_MAX: usize = NAME_BYTES_MAX;

/// Who did something.
#[derive(Debug, Clone, Copy)]
pub(super) struct Who<'a> {
    /// `None`: nobody that the broker knows.
    pub entry: Option<&'a str>,
    pub peer: Remote,
    pub at: Now,
}

/// The beginning of a line: what every line has. A line has no end yet.
pub(super) fn begin(who: Who<'_>, action: &str, outcome: &str) -> String {
    let mut line = format!("{{\"time\":\"{}\",\"entry\":", moment(who.at.wall));
    match who.entry {
        Some(entry) => add_text(&mut line, entry),
        None => line.push_str("null"),
    }
    let _ = write!(
        line,
        ",\"peer\":\"{}\",\"via\":\"{}\",\"action\":\"{action}\",\"outcome\":\"{outcome}\"",
        who.peer,
        who.peer.via.name()
    );
    line
}

pub(super) fn add_texts(line: &mut String, key: &str, texts: &[Box<str>]) {
    let _ = write!(line, ",\"{key}\":[");
    for (index, text) in texts.iter().enumerate() {
        line.push_str(if index == 0 { "" } else { "," });
        add_text(line, text);
    }
    line.push(']');
}

pub(super) fn add_named(line: &mut String, key: &str, text: &str) {
    let _ = write!(line, ",\"{key}\":");
    add_text(line, text);
}

pub(super) fn add_count(line: &mut String, key: &str, count: u64) {
    if count > 0 {
        let _ = write!(line, ",\"{key}\":{count}");
    }
}

/// Adds a text of JSON. A name may have any character, and as many as its client likes.
fn add_text(line: &mut String, text: &str) {
    line.push('"');
    let begin = line.len();
    for character in text.chars() {
        let before = line.len();
        match character {
            '"' | '\\' => line.extend(['\\', character]),
            character if is_plain(character) => line.push(character),
            character => {
                for unit in character.encode_utf16(&mut [0; 2]) {
                    let _ = write!(line, "\\u{unit:04x}");
                }
            }
        }
        if line.len() - begin > TEXT_BYTES_MAX {
            line.truncate(before);
            line.push('…');
            break;
        }
    }
    line.push('"');
}

/// Whether a character is shown as itself, and leaves the characters around it alone. Others are
/// controls, some of which turn the direction of the text around, and parts of other characters.
pub(super) fn is_plain(character: char) -> bool {
    matches!(character, '"' | '\'' | '\\') || character.escape_debug().len() == 1
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;
    use crate::lobby::Via;

    fn text(of: &str) -> String {
        let mut line = String::new();
        add_text(&mut line, of);
        line
    }

    #[test]
    fn o12_a_line_is_json_whatever_the_names_are() {
        let address = SocketAddr::from(([127, 0, 0, 1], 7));
        let peer = Remote { address, via: Via::Protocol };
        let who = Who { entry: Some("w"), peer, at: Now { wall: 0, mono: 0 } };
        assert_eq!(
            begin(who, "purge_queue", "allowed"),
            "{\"time\":\"1970-01-01T00:00:00.000Z\",\"entry\":\"w\",\"peer\":\"127.0.0.1:7\",\
             \"via\":\"protocol\",\"action\":\"purge_queue\",\"outcome\":\"allowed\""
        );
        let over_http = Who { peer: Remote { address, via: Via::Http }, ..who };
        assert_eq!(
            begin(over_http, "purge_queue", "allowed"),
            "{\"time\":\"1970-01-01T00:00:00.000Z\",\"entry\":\"w\",\"peer\":\"127.0.0.1\",\
             \"via\":\"http\",\"action\":\"purge_queue\",\"outcome\":\"allowed\""
        );
        let mut list = String::new();
        add_texts(&mut list, "queues", &["a\"b\\c'\n".into(), "ü 漢 😀".into()]);
        assert_eq!(list, ",\"queues\":[\"a\\\"b\\\\c'\\u000a\",\"ü 漢 😀\"]");
    }

    #[test]
    fn o12_a_character_that_hides_or_turns_text_is_escaped() {
        for hidden in ['\u{202e}', '\u{2066}', '\u{200b}', '\u{feff}', '\u{7f}', '\u{85}', '\u{ad}']
        {
            assert_eq!(text(&format!("a{hidden}b")), format!("\"a\\u{:04x}b\"", hidden as u32));
        }
        // A character beyond 16 bits has two units.
        assert_eq!(text("\u{e0001}"), "\"\\udb40\\udc01\"");
    }

    #[test]
    fn o12_a_text_takes_a_bounded_part_of_a_line() {
        let longest = "x".repeat(NAME_BYTES_MAX);
        assert_eq!(text(&longest), format!("\"{longest}\""));
        assert_eq!(text(&"\n".repeat(NAME_BYTES_MAX)), format!("\"{}…\"", "\\u000a".repeat(42)));
        assert_eq!(text(&"x".repeat(9_000)), format!("\"{longest}…\""));
    }
}
