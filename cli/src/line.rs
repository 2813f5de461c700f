//! Text for people: each text with its tone, measured and cut by the width that a terminal shows.
//!
//! A [`Text`] is made safe when it is created, so that its width is the width of what is shown.
//! [`Line::render`] adds the colours at the very end; `output.rs` decides whether there are any.

use anstyle::{AnsiColor, Style};
use celeriac_client::State;
use unicode_segmentation::UnicodeSegmentation;
use unicode_width::UnicodeWidthStr;

use celeriac_web::printable::clean;

/// The mark of a text that was cut.
const CUT: char = '…';

/// The indent of a line that was broken, where the terminal is too narrow for the usual one.
const INDENT_LEAST: usize = 4;

/// What a text says, apart from its words. Each tone has one colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tone {
    /// No colour.
    Plain,
    /// A heading.
    Heading,
    /// Less important than the text around it.
    Faint,
    /// Something waits, as it should.
    Waiting,
    /// Something is under way.
    Running,
    /// All is well.
    Good,
    /// Something is not as usual, and may become well by itself.
    Warning,
    /// Something is wrong.
    Bad,
}

impl Tone {
    /// The tone of a task's state.
    pub(crate) fn of(state: State) -> Self {
        match state {
            State::Scheduled | State::Queued => Self::Waiting,
            State::Leased | State::Started => Self::Running,
            State::Retry => Self::Warning,
            State::Success => Self::Good,
            State::Failure => Self::Bad,
            _ => Self::Faint,
        }
    }

    fn style(self) -> Style {
        match self {
            Self::Plain => Style::new(),
            Self::Heading => Style::new().bold(),
            Self::Faint => AnsiColor::BrightBlack.on_default(),
            Self::Waiting => AnsiColor::Cyan.on_default(),
            Self::Running => AnsiColor::Yellow.on_default(),
            Self::Good => AnsiColor::Green.on_default(),
            Self::Warning => AnsiColor::Magenta.on_default(),
            Self::Bad => AnsiColor::Red.on_default(),
        }
    }
}

/// A text on one line, safe to show, with its tone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Text {
    text: String,
    tone: Tone,
}

impl Text {
    pub(crate) fn new(text: &str, tone: Tone) -> Self {
        Self { text: clean(text), tone }
    }

    /// The state of a task in its tone.
    pub(crate) fn state(state: State) -> Self {
        Self::new(&state.to_string(), Tone::of(state))
    }

    /// The text as it is shown.
    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }

    /// Another text in the same tone.
    pub(crate) fn with(&self, text: &str) -> Self {
        Self::new(text, self.tone)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.text.is_empty()
    }

    pub(crate) fn width(&self) -> usize {
        width(&self.text)
    }

    /// The text within this width; if it does not fit, its beginning and `…`.
    pub(crate) fn cut(&self, width: usize) -> Self {
        Self { text: cut(&self.text, width), tone: self.tone }
    }

    /// The text within this width; if it does not fit, its beginning, `…` and its end. Ids that
    /// begin alike still differ.
    pub(crate) fn cut_in_the_middle(&self, width: usize) -> Self {
        Self { text: cut_in_the_middle(&self.text, width), tone: self.tone }
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        Self::new(text, Tone::Plain)
    }
}

impl From<String> for Text {
    fn from(text: String) -> Self {
        Self::new(&text, Tone::Plain)
    }
}

/// A line of texts, each with its own tone.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Line {
    texts: Vec<Text>,
}

impl Line {
    pub(crate) fn push(&mut self, text: impl Into<Text>) {
        let text = text.into();
        match self.texts.last_mut() {
            _ if text.is_empty() => {}
            Some(last) if last.tone == text.tone => last.text.push_str(&text.text),
            _ => self.texts.push(text),
        }
    }

    /// Adds all texts of another line.
    pub(crate) fn append(&mut self, other: Self) {
        other.texts.into_iter().for_each(|text| self.push(text));
    }

    pub(crate) fn width(&self) -> usize {
        self.texts.iter().map(Text::width).sum()
    }

    /// The line within this width, with `…` at its end if it does not fit.
    pub(crate) fn cut(self, width: Option<usize>) -> Self {
        let Some(width) = width.filter(|width| self.width() > *width) else { return self };
        let mut line = Self::default();
        for text in self.texts {
            let (left, needed) = (width - line.width(), text.width());
            // The last text that is shown keeps room for the mark, or is cut itself.
            if needed >= left {
                let text = match needed > left {
                    true => text.cut(left),
                    false => Text { text: format!("{}{CUT}", text.text), ..text }.cut(left),
                };
                line.push(text);
                break;
            }
            line.push(text);
        }
        line
    }

    /// The line in as many lines as it needs within this width. It is broken between words only: a
    /// word that is longer than a line stays whole, for the terminal to break. Every line but the
    /// first is indented, where the terminal has room for that.
    pub(crate) fn wrapped(self, width: Option<usize>, indent: usize) -> Vec<Self> {
        let Some(width) = width.filter(|width| self.width() > *width) else { return vec![self] };
        let indent = if indent * 2 > width { INDENT_LEAST.min(width / 2) } else { indent };
        let (mut lines, mut line) = (Vec::new(), Self::default());
        for word in self.words() {
            // Before the indent there is the name of a value, which stays beside the value.
            // The blanks after a word need no room.
            let needed = line.width() + word.clone().trimmed().width();
            if line.width() > indent && needed > width {
                lines.push(std::mem::replace(&mut line, Self::from(" ".repeat(indent))).trimmed());
            }
            line.append(word);
        }
        lines.push(line.trimmed());
        lines
    }

    /// The words, each with the blanks after it. A word may have texts of several tones.
    fn words(self) -> Vec<Self> {
        let mut words = vec![Self::default()];
        for Text { text, tone } in self.texts {
            for part in text.split_inclusive(' ') {
                let last = words.len() - 1;
                // A blank may be followed by more blanks, and these by the next word.
                match part != " " && words[last].ends_with_blank() {
                    true => words.push(Text { text: part.to_owned(), tone }.into()),
                    false => words[last].push(Text { text: part.to_owned(), tone }),
                }
            }
        }
        words
    }

    fn ends_with_blank(&self) -> bool {
        self.texts.last().is_some_and(|text| text.text.ends_with(' '))
    }

    /// The line without the blanks at its end.
    fn trimmed(mut self) -> Self {
        while let Some(last) = self.texts.last_mut() {
            last.text.truncate(last.text.trim_end_matches(' ').len());
            if !last.is_empty() {
                break;
            }
            self.texts.pop();
        }
        self
    }

    /// The line as it goes to stdout.
    pub(crate) fn render(&self, has_colours: bool) -> String {
        let mut shown = String::new();
        for Text { text, tone } in &self.texts {
            let style = tone.style();
            if has_colours && *tone != Tone::Plain {
                shown.push_str(&format!("{style}{text}{style:#}"));
            } else {
                shown.push_str(text);
            }
        }
        shown
    }
}

impl<T: Into<Text>> From<T> for Line {
    fn from(text: T) -> Self {
        let mut line = Self::default();
        line.push(text);
        line
    }
}

/// The columns of a terminal that a text takes. What a person sees as one character is measured as
/// one: a letter with its accents, a flag, which is two letters, or a hand with its colour.
pub(crate) fn width(text: &str) -> usize {
    match text.is_ascii() {
        true => text.len(),
        false => text.graphemes(true).map(UnicodeWidthStr::width).sum(),
    }
}

/// The text within a width; if it does not fit, its beginning and `…`.
pub(crate) fn cut(text: &str, width_max: usize) -> String {
    if width(text) <= width_max {
        return text.to_owned();
    }
    match width_max {
        0 => String::new(),
        _ => format!("{}{CUT}", beginning(text, width_max - 1)),
    }
}

fn cut_in_the_middle(text: &str, width_max: usize) -> String {
    if width(text) <= width_max || width_max < 3 {
        return cut(text, width_max);
    }
    let end = end(text, (width_max - 1) / 2);
    format!("{}{CUT}{end}", beginning(text, width_max - 1 - width(end)))
}

/// The longest beginning of a text within a width. No character is cut in half.
fn beginning(text: &str, width_max: usize) -> &str {
    let mut left = width_max;
    let first_left_out = text.grapheme_indices(true).find(|(_, one)| !takes(&mut left, one));
    first_left_out.map_or(text, |(at, _)| &text[..at])
}

/// The longest end of a text within a width.
fn end(text: &str, width_max: usize) -> &str {
    let mut left = width_max;
    let first_left_out = text.grapheme_indices(true).rfind(|(_, one)| !takes(&mut left, one));
    first_left_out.map_or(text, |(at, one)| &text[at + one.len()..])
}

/// Takes the width of a character from what is left, if there is enough.
fn takes(left: &mut usize, character: &str) -> bool {
    left.checked_sub(character.width()).inspect(|rest| *left = *rest).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_cut_by_the_width_that_a_terminal_shows() {
        let cases = [
            ("leased 40", 8, "leased …"),
            ("leased 4", 8, "leased 4"),
            ("ééé", 2, "é…"),
            ("e\u{301}e\u{301}e\u{301}", 2, "e\u{301}…"),
            // A wide character is not cut in half.
            ("다이너마이트", 6, "다이…"),
            ("다이너마이트", 12, "다이너마이트"),
            // Neither is a flag, which is two letters, or a hand with its colour.
            ("🇰🇷🇨🇭🇰🇷", 5, "🇰🇷🇨🇭…"),
            ("🇰🇷🇨🇭🇰🇷", 4, "🇰🇷…"),
            ("👍🏽👍🏽", 4, "👍🏽👍🏽"),
            ("👍🏽👍🏽", 3, "👍🏽…"),
            ("any", 0, ""),
            ("any", 1, "…"),
            ("", 3, ""),
        ];
        for (text, width_max, shown) in cases {
            assert_eq!(cut(text, width_max), shown);
            assert!(width(shown) <= width_max);
        }
    }

    #[test]
    fn a_joined_sequence_is_as_wide_on_every_terminal() {
        // A terminal shows a sequence with joiners as one picture or as several. The joiner is
        // hidden, so an escape stands in its place, and both kinds of terminal show the same.
        let scientist = Text::from("👩\u{200d}🔬");
        assert_eq!(scientist.as_str(), "👩\\u{200d}🔬");
        assert_eq!(scientist.width(), 2 + 8 + 2);
        assert_eq!(Text::from("❤\u{fe0f}").width(), 1 + 8);
    }

    #[test]
    fn a_text_that_is_cut_in_the_middle_keeps_both_ends() {
        let cases = [
            ("0192f3a1-7b3c", 9, "0192…7b3c"),
            ("0192f3a1-7b3c", 13, "0192f3a1-7b3c"),
            ("다이너마이트", 9, "다이…이트"),
            ("다이너마이트", 8, "다이…트"),
            ("abcdee\u{301}\u{301}", 4, "ab…e\u{301}\u{301}"),
            ("🇰🇷-2020-08-21-🇨🇭", 9, "🇰🇷-2…1-🇨🇭"),
            ("🇰🇷-2020-08-21-🇨🇭", 8, "🇰🇷-2…-🇨🇭"),
            ("0192f3a1", 2, "0…"),
        ];
        for (text, width_max, shown) in cases {
            assert_eq!(cut_in_the_middle(text, width_max), shown);
            assert!(width(shown) <= width_max);
        }
    }

    #[test]
    fn a_line_that_is_cut_always_has_the_mark() {
        let line = || {
            let mut line = Line::from("abc");
            line.push(Text::new("def", Tone::Bad));
            line.push("gh");
            line
        };
        let shown = |width| line().cut(Some(width)).render(false);
        assert_eq!(
            [8, 7, 6, 4, 3, 1, 0].map(shown),
            ["abcdefgh", "abcdef…", "abcde…", "abc…", "ab…", "…", ""]
        );
        assert_eq!(line().cut(None), line());
    }

    #[test]
    fn a_line_is_broken_between_words_only() {
        let mut line = Line::from("note  no worker serves");
        line.push(Text::new(" its queue", Tone::Bad));
        line.push(", and it waits");
        let shown = |line: &Line, width, indent| {
            let lines = line.clone().wrapped(Some(width), indent);
            lines.iter().map(|line| line.render(false)).collect::<Vec<_>>()
        };
        assert_eq!(
            shown(&line, 20, 6),
            ["note  no worker", "      serves its", "      queue, and it", "      waits"]
        );
        assert_eq!(shown(&Line::from("ab cd ef"), 5, 0), ["ab cd", "ef"]);
        assert_eq!(shown(&line, 80, 6), ["note  no worker serves its queue, and it waits"]);
        let coloured = &line.clone().wrapped(Some(20), 6)[1];
        assert_eq!(coloured.render(true), "      serves\u{1b}[31m its\u{1b}[0m");
        // A long word stays whole, and stays beside the name of the value.
        let long = Line::from("id  0123456789abcdef and more");
        assert_eq!(shown(&long, 10, 4), ["id  0123456789abcdef", "    and", "    more"]);
        // Where the indent leaves no room, it is small.
        assert_eq!(shown(&Line::from("a  b cc dd ee"), 8, 7), ["a  b cc", "    dd", "    ee"]);
        assert_eq!(line.clone().wrapped(None, 6), [line]);
    }

    #[test]
    fn colours_surround_text_that_was_made_safe() {
        let mut line = Line::from("a");
        line.push(Text::new("\u{1b}[2J", Tone::Bad));
        assert_eq!(line.render(false), "a\\u{1b}[2J");
        assert_eq!(line.render(true), "a\u{1b}[31m\\u{1b}[2J\u{1b}[0m");
        assert_eq!(line.width(), 10);
    }
}
