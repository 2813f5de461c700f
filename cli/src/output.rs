//! Where a command writes: tables and lines for people, one JSON document per line for programs.
//!
//! [`Output`] writes to stdout, and only the result of a command goes there. [`print_to_stderr`]
//! writes failures and warnings. The log is in `logging.rs`. Every function here but
//! [`Output::bytes`] escapes the characters that a terminal obeys or does not show, or takes lines
//! in which they are escaped already. This is the only file that knows how wide the terminal is,
//! and whether there are colours.

use std::io::{self, IsTerminal};

use clap::ValueEnum;
use rustix::fd::BorrowedFd;
use rustix::io::Errno;
use rustix::stdio::{stderr, stdout};
use rustix::termios::tcgetwinsize;
use serde::Serialize;

use crate::descriptor::write_all;
use crate::line::{Line, Text, width};
use crate::table::Table;
use celeriac_web::printable::{clean_json, clean_lines};

/// The lines of one write.
const LINES_TOGETHER: usize = 500;

/// The form of the output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// Text for people.
    Text,
    /// One JSON document per line, for programs.
    Json,
}

/// Whether text for people has colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum Color {
    /// On a terminal that can show colours, unless NO_COLOR is set
    #[default]
    Auto,
    /// Always, also into a pipe
    Always,
    /// Never
    Never,
}

impl Color {
    /// Whether text that goes to a terminal, or elsewhere, has colours.
    pub(crate) fn is_on(self, is_terminal: bool) -> bool {
        let no_color = std::env::var_os("NO_COLOR").unwrap_or_default();
        match self {
            Self::Auto => is_terminal && no_color.is_empty() && !is_dumb(),
            Self::Always => true,
            Self::Never => false,
        }
    }
}

/// Whether a terminal shows text and nothing else: no colours, and no cursor that can be moved.
pub(crate) fn is_dumb() -> bool {
    let term = std::env::var_os("TERM").unwrap_or_default();
    term.is_empty() || term == "dumb"
}

/// Stdout in the form that the caller asked for.
pub(crate) struct Output {
    pub(crate) format: Format,
    /// The result of a task is printed byte by byte: a program reads it, or a person asked for it.
    pub(crate) is_raw: bool,
    /// The result of a task that is text is printed without the quotes of JSON.
    pub(crate) is_unquoted: bool,
    has_colours: bool,
    outlives_reader: bool,
}

/// The size of a terminal in characters. A part is absent when there is no terminal, or when the
/// terminal does not tell it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Size {
    pub(crate) width: Option<usize>,
    pub(crate) height: Option<usize>,
}

impl Output {
    pub(crate) fn new(format: Format, color: Color) -> Self {
        let is_terminal = io::stdout().is_terminal();
        let has_colours = color.is_on(is_terminal);
        Self {
            format,
            is_raw: !is_terminal,
            is_unquoted: false,
            has_colours,
            outlives_reader: false,
        }
    }

    /// From now on a reader that closes stdout does not end the command. A command that changes
    /// something goes on to its end, and its exit code says what became of the change.
    pub(crate) fn outlive_reader(&mut self) {
        self.outlives_reader = true;
    }

    pub(crate) fn is_json(&self) -> bool {
        self.format == Format::Json
    }

    /// The size of the terminal at this moment.
    pub(crate) fn size(&self) -> Size {
        if io::stdout().is_terminal() { size_of(stdout()) } else { Size::default() }
    }

    /// One line for people.
    pub(crate) fn line(&mut self, text: &str) -> io::Result<()> {
        self.bytes(format!("{}\n", clean_lines(text)).as_bytes())
    }

    /// One JSON document on its own line. The reader gets it at once.
    pub(crate) fn document(&mut self, document: &impl Serialize) -> io::Result<()> {
        let text = serde_json::to_string(document)?;
        self.bytes(format!("{}\n", clean_json(&text)).as_bytes())
    }

    /// Bytes without any escape: for programs, and for text that this program made.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        match write_all(stdout(), bytes) {
            Err(Errno::PIPE) if self.outlives_reader => Ok(()),
            outcome => Ok(outcome?),
        }
    }

    /// Rows under headings, fitted to the terminal.
    pub(crate) fn table(&mut self, table: &Table) -> io::Result<()> {
        self.lines(&table.lines(self.size().width))
    }

    /// Lines for people, written together as far as memory is well used.
    pub(crate) fn lines(&mut self, lines: &[Line]) -> io::Result<()> {
        for together in lines.chunks(LINES_TOGETHER) {
            let mut text = String::new();
            for line in together {
                text.push_str(&line.render(self.has_colours));
                text.push('\n');
            }
            self.bytes(text.as_bytes())?;
        }
        Ok(())
    }

    /// A line as [`Output::lines`] prints it, for a command that places it on the terminal itself.
    pub(crate) fn rendered(&self, line: &Line) -> String {
        line.render(self.has_colours)
    }

    /// Names and values, one pair per line.
    pub(crate) fn details<V: Into<Text> + Clone>(&mut self, rows: &[(&str, V)]) -> io::Result<()> {
        self.lines(&details_lines(rows, self.size().width))
    }
}

/// Names and values, one pair below the other, with the values aligned. A value that is wider than
/// the terminal goes on below itself.
pub(crate) fn details_lines<V: Into<Text> + Clone>(
    rows: &[(&str, V)],
    width_max: Option<usize>,
) -> Vec<Line> {
    let name_width = rows.iter().map(|(name, _)| width(name)).max().unwrap_or(0);
    let lines = |(name, value): &(&str, V)| {
        let mut line = Line::from(format!("{name:name_width$}  "));
        line.push(value.clone());
        line.wrapped(width_max, name_width + 2)
    };
    rows.iter().flat_map(lines).collect()
}

/// The size of this terminal at this moment.
fn size_of(terminal: BorrowedFd<'_>) -> Size {
    // Some terminals report 0 for what they do not know.
    let known = |length: u16| (length > 0).then_some(length.into());
    tcgetwinsize(terminal).map_or(Size::default(), |size| Size {
        width: known(size.ws_col),
        height: known(size.ws_row),
    })
}

/// The width of this terminal; `None` for what is no terminal.
pub(crate) fn width_of(terminal: BorrowedFd<'_>) -> Option<usize> {
    size_of(terminal).width
}

/// A failure or a warning as it goes to stderr. On a terminal a long sentence is broken between
/// words.
pub(crate) fn stderr_text(sentence: &str) -> String {
    let text = format!("celeriac: {sentence}\n");
    let Some(width) = width_of(stderr()) else { return text };
    let lines = text.lines().map(|line| Line::from(line.replace('\t', "    ")));
    let lines = lines.flat_map(|line| line.wrapped(Some(width), 0));
    lines.map(|line| line.render(false) + "\n").collect()
}

/// Prints a failure or a warning. All commands print them in this form.
pub(crate) fn print_to_stderr(sentence: &str) {
    // When stderr is closed there is no other place for the sentence.
    let _ = write_all(stderr(), stderr_text(sentence).as_bytes());
}
