//! Where a command writes: tables and lines for people, one JSON document per line for programs.
//!
//! [`Output`] writes to stdout, and only the result of a command goes there. [`print_to_stderr`]
//! writes failures and warnings. The log is in `logging.rs`. There are no colours: states are
//! words. Every function here but [`Output::bytes`] escapes the characters that a terminal obeys
//! or does not show.

use std::io::{self, IsTerminal, StdoutLock, Write};

use comfy_table::Table;
use comfy_table::presets::NOTHING;
use serde::Serialize;

use crate::printable::{clean_json, clean_lines};

/// The form of the output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// Text for people.
    Text,
    /// One JSON document per line, for programs.
    Json,
}

/// Stdout in the form that the caller asked for.
pub(crate) struct Output {
    pub(crate) format: Format,
    /// The result of a task is printed byte by byte: a program reads it, or a person asked for it.
    pub(crate) is_raw: bool,
    stdout: StdoutLock<'static>,
}

impl Output {
    pub(crate) fn new(format: Format) -> Self {
        let stdout = io::stdout().lock();
        Self { format, is_raw: !stdout.is_terminal(), stdout }
    }

    pub(crate) fn is_json(&self) -> bool {
        self.format == Format::Json
    }

    /// One line for people.
    pub(crate) fn line(&mut self, text: &str) -> io::Result<()> {
        writeln!(self.stdout, "{}", clean_lines(text))?;
        self.stdout.flush()
    }

    /// One JSON document on its own line. The reader gets it at once.
    pub(crate) fn document(&mut self, document: &impl Serialize) -> io::Result<()> {
        let text = serde_json::to_string(document)?;
        writeln!(self.stdout, "{}", clean_json(&text))?;
        self.stdout.flush()
    }

    /// Bytes without any escape: for programs, and for text that this program made.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stdout.write_all(bytes)?;
        self.stdout.flush()
    }

    /// Rows under headings.
    pub(crate) fn table<const N: usize>(
        &mut self,
        headings: [&str; N],
        rows: &[[String; N]],
    ) -> io::Result<()> {
        self.lines(&table_lines(headings, rows))
    }

    /// Lines for people, flushed together.
    pub(crate) fn lines(&mut self, lines: &[String]) -> io::Result<()> {
        for line in lines {
            writeln!(self.stdout, "{}", clean_lines(line))?;
        }
        self.stdout.flush()
    }

    /// Names and values, one pair per line.
    pub(crate) fn details(&mut self, rows: &[(&str, String)]) -> io::Result<()> {
        self.lines(&details_lines(rows))
    }
}

/// Names and values, one pair per line, with the values aligned.
pub(crate) fn details_lines(rows: &[(&str, String)]) -> Vec<String> {
    let width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    rows.iter().map(|(name, value)| format!("{name:width$}  {value}")).collect()
}

/// Rows under headings. The columns are aligned and no lines are drawn, so that people and `awk`
/// can read the table.
pub(crate) fn table_lines<const N: usize>(
    headings: [&str; N],
    rows: &[[String; N]],
) -> Vec<String> {
    let mut table = Table::new();
    table.load_style(NOTHING).set_header(headings).add_rows(rows);
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table.lines().map(|line| line.trim_end().to_owned()).collect()
}

/// Prints a failure or a warning. All commands print them in this form.
pub(crate) fn print_to_stderr(sentence: &str) {
    // When stderr is closed there is no other place for the sentence.
    let _ = writeln!(io::stderr(), "celeriac: {sentence}");
}
