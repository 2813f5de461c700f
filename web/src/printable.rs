//! Makes text from clients safe to show. Any client chooses ids, names, errors and results. A
//! control character in one of them could change what a terminal shows, or add a line to a log.
//! Invisible characters are shown as escapes, so that two different names look different.
//!
//! The pages and the command line call these functions: all text passes through them.

use std::borrow::Cow;
use std::fmt::Write;

/// Text for people. Every hidden character becomes an escape such as `\n` or `\u{202e}`: a
/// character that a terminal obeys, or that nobody sees.
pub fn clean(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        match is_hidden(character) {
            true => shown.extend(character.escape_default()),
            false => shown.push(character),
        }
    }
    shown
}

/// Like [`clean`], for text of several lines: line breaks and tabs stay.
pub fn clean_lines(text: &str) -> String {
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

/// A JSON document with the same meaning, in which hidden characters are `\u` escapes. In valid
/// JSON they occur only in strings, apart from white space, which stays.
pub fn clean_json(document: &str) -> Cow<'_, str> {
    let is_escaped = |character| is_hidden(character) && !matches!(character, '\n' | '\r' | '\t');
    if !document.chars().any(is_escaped) {
        return Cow::Borrowed(document);
    }
    let mut shown = String::with_capacity(document.len() + 16);
    for character in document.chars() {
        if is_escaped(character) {
            for unit in character.encode_utf16(&mut [0; 2]) {
                write!(shown, "\\u{unit:04x}").expect("writing to a string does not fail");
            }
        } else {
            shown.push(character);
        }
    }
    Cow::Owned(shown)
}

/// Whether this is a control character, or a character of one of these Unicode classes: format,
/// line separator, default ignorable. The last one holds marks for the direction of text, joiners,
/// variation selectors, fillers and tags.
fn is_hidden(character: char) -> bool {
    character.is_control()
        || matches!(character,
            '\u{ad}' | '\u{34f}' | '\u{600}'..='\u{605}' | '\u{61c}' | '\u{6dd}' | '\u{70f}'
            | '\u{890}' | '\u{891}' | '\u{8e2}' | '\u{115f}' | '\u{1160}' | '\u{17b4}'
            | '\u{17b5}' | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{2800}' | '\u{3164}'
            | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}'
            | '\u{110bd}' | '\u{110cd}' | '\u{13430}'..='\u{1345f}' | '\u{1bca0}'..='\u{1bca3}'
            | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
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
