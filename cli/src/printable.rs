//! Text of other people's making, made safe to show: ids, names, errors and results come from any
//! producer, and a control character in one of them could rewrite what a terminal shows, or add a
//! line to a log. What cannot be seen is shown as an escape, so that two names that differ look
//! different.
//!
//! Who has to call this is said in `output.rs` and `logging.rs`, through which all text leaves.

use std::borrow::Cow;
use std::fmt::Write;

/// Text for people: every character that is obeyed or not seen becomes an escape such as `\n` or
/// `\u{202e}`.
pub(crate) fn clean(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        match is_hidden(character) {
            true => shown.extend(character.escape_default()),
            false => shown.push(character),
        }
    }
    shown
}

/// The same for text of several lines: line breaks and tabs stay, everything else is escaped.
pub(crate) fn clean_lines(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for part in text.split_inclusive(['\n', '\t']) {
        match part.strip_suffix(['\n', '\t']) {
            Some(before) => {
                shown.push_str(&clean(before));
                shown.push_str(&part[before.len()..]);
            }
            None => shown.push_str(&clean(part)),
        }
    }
    shown
}

/// A JSON document with the same meaning, in which such characters are written as `\u` escapes.
/// They can stand in strings alone, but for the white space between the parts, which stays.
pub(crate) fn clean_json(document: &str) -> Cow<'_, str> {
    let is_escaped = |character| is_hidden(character) && !matches!(character, '\n' | '\r' | '\t');
    if !document.chars().any(is_escaped) {
        return Cow::Borrowed(document);
    }
    let mut shown = String::with_capacity(document.len() + 16);
    for character in document.chars() {
        if is_escaped(character) {
            for unit in character.encode_utf16(&mut [0; 2]) {
                write!(shown, "\\u{unit:04x}").expect("a string takes everything");
            }
        } else {
            shown.push(character);
        }
    }
    Cow::Owned(shown)
}

/// Control characters, and what Unicode calls format characters, separators of lines, and ignorable
/// where it is not supported: marks for the direction of text, joiners, selectors of variants,
/// fillers, tags.
fn is_hidden(character: char) -> bool {
    character.is_control()
        || matches!(character,
            '\u{ad}' | '\u{34f}' | '\u{600}'..='\u{605}' | '\u{61c}' | '\u{6dd}' | '\u{70f}' | '\u{890}' | '\u{891}'
            | '\u{8e2}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}'
            | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{2800}' | '\u{3164}'
            | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}' | '\u{110bd}' | '\u{110cd}'
            | '\u{13430}'..='\u{1345f}' | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_shown_and_not_obeyed() {
        assert_eq!(clean("다이너마이트 ✓"), "다이너마이트 ✓");
        assert_eq!(clean("a\u{1b}[2Jb\n"), "a\\u{1b}[2Jb\\n");
        assert_eq!(clean("\u{9b}2J\u{7f}"), "\\u{9b}2J\\u{7f}");
    }

    #[test]
    fn what_is_not_seen_or_turns_text_around_is_shown_as_an_escape() {
        for hidden in [
            '\u{200b}',
            '\u{200d}',
            '\u{200e}',
            '\u{202e}',
            '\u{2066}',
            '\u{2069}',
            '\u{2028}',
            '\u{61c}',
            '\u{feff}',
            '\u{ad}',
            '\u{3164}',
            '\u{fe0f}',
            '\u{e0041}',
            '\u{e01ef}',
            '\u{fff9}',
        ] {
            let shown = clean(&format!("a{hidden}b"));
            assert_eq!(shown, format!("a\\u{{{:x}}}b", u32::from(hidden)));
        }
    }

    #[test]
    fn text_of_several_lines_keeps_them_and_nothing_else() {
        assert_eq!(clean_lines("a\n\tb\u{1b}[1m\r\n"), "a\n\tb\\u{1b}[1m\\r\n");
        assert_eq!(clean_lines(""), "");
    }

    #[test]
    fn json_means_the_same_after_its_hidden_characters_are_escaped() {
        let document = "{\"a\u{202e}\": \"\u{9b}2J\u{e0041}\",\n \"b\": \"✓\"}";
        let shown = clean_json(document);
        assert_eq!(shown, "{\"a\\u202e\": \"\\u009b2J\\udb40\\udc41\",\n \"b\": \"✓\"}");
        let meaning = |text: &str| serde_json::from_str::<serde_json::Value>(text).expect("JSON");
        assert_eq!(meaning(&shown), meaning(document));
    }
}
