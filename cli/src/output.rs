//! Where results go: tables and lines for people, one JSON document per line for programs.
//!
//! Everything here goes to stdout and nothing but a command's result does; sentences about failures go to stderr from
//! `main.rs`, logs from `logging.rs`. No colours: state names are words.

use std::io::{self, StdoutLock, Write};

use comfy_table::Table;
use comfy_table::presets::NOTHING;
use serde::Serialize;

/// Stdout in the form the caller asked for.
pub(crate) struct Output {
    /// JSON for programs instead of text for people.
    pub(crate) json: bool,
    stdout: StdoutLock<'static>,
}

impl Output {
    pub(crate) fn new(json: bool) -> Self {
        Self { json, stdout: io::stdout().lock() }
    }

    /// One line for people.
    pub(crate) fn line(&mut self, text: &str) -> io::Result<()> {
        writeln!(self.stdout, "{text}")?;
        self.stdout.flush()
    }

    /// One JSON document on a line of its own, seen by the reader at once.
    pub(crate) fn document(&mut self, document: &impl Serialize) -> io::Result<()> {
        serde_json::to_writer(&mut self.stdout, document)?;
        self.line("")
    }

    /// Bytes as they are, for results that are not text.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stdout.write_all(bytes)?;
        self.stdout.flush()
    }

    /// Rows under headings.
    pub(crate) fn table<const N: usize>(&mut self, headings: [&str; N], rows: &[[String; N]]) -> io::Result<()> {
        self.lines(&table_lines(headings, rows))
    }

    /// Lines for people, seen together.
    pub(crate) fn lines(&mut self, lines: &[String]) -> io::Result<()> {
        for line in lines {
            writeln!(self.stdout, "{line}")?;
        }
        self.stdout.flush()
    }

    /// Names and values below each other, for one thing in full.
    pub(crate) fn details(&mut self, rows: &[(&str, String)]) -> io::Result<()> {
        self.lines(&details_lines(rows))
    }
}

/// Names and values below each other, values aligned.
pub(crate) fn details_lines(rows: &[(&str, String)]) -> Vec<String> {
    let width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    rows.iter().map(|(name, value)| format!("{name:width$}  {value}")).collect()
}

/// Rows under headings, columns aligned, no lines drawn: easy on the eye and on `awk`.
pub(crate) fn table_lines<const N: usize>(headings: [&str; N], rows: &[[String; N]]) -> Vec<String> {
    let mut table = Table::new();
    table.load_style(NOTHING).set_header(headings).add_rows(rows);
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table.lines().map(|line| line.trim_end().to_owned()).collect()
}

/// Text of other people's making, safe to show: ids, names and errors come from any producer, and a control
/// character in one of them could rewrite what the terminal shows.
pub(crate) fn clean(text: &str) -> String {
    text.chars()
        .flat_map(|character| {
            let escaped = character.is_control().then(|| character.escape_default());
            let plain = escaped.is_none().then_some(character);
            escaped.into_iter().flatten().chain(plain)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_shown_and_not_obeyed() {
        assert_eq!(clean("다이너마이트 ✓"), "다이너마이트 ✓");
        assert_eq!(clean("a\u{1b}[2Jb\n"), "a\\u{1b}[2Jb\\n");
    }
}
