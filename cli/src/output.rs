//! Where results go: tables and lines for people, one JSON document per line for programs.
//!
//! Everything here goes to stdout and nothing but a command's result does; sentences about failures
//! go to stderr from `main.rs`, logs from `logging.rs`. No colours: state names are words. Nothing
//! but [`Output::bytes`] lets a character through that a terminal obeys or that nobody sees,
//! whatever it is given.

use std::io::{self, IsTerminal, StdoutLock, Write};

use comfy_table::Table;
use comfy_table::presets::NOTHING;
use serde::Serialize;

use crate::printable::{clean_json, clean_lines};

pub(crate) use crate::printable::clean;

/// Stdout in the form the caller asked for.
pub(crate) struct Output {
    /// JSON for programs instead of text for people.
    pub(crate) json: bool,
    /// Results are printed as the worker wrote them: a program reads them, or a person who asked
    /// for it.
    pub(crate) is_raw: bool,
    stdout: StdoutLock<'static>,
}

impl Output {
    pub(crate) fn new(json: bool) -> Self {
        let stdout = io::stdout().lock();
        Self { json, is_raw: !stdout.is_terminal(), stdout }
    }

    /// One line for people.
    pub(crate) fn line(&mut self, text: &str) -> io::Result<()> {
        writeln!(self.stdout, "{}", clean_lines(text))?;
        self.stdout.flush()
    }

    /// One JSON document on a line of its own, seen by the reader at once.
    pub(crate) fn document(&mut self, document: &impl Serialize) -> io::Result<()> {
        let text = serde_json::to_string(document)?;
        writeln!(self.stdout, "{}", clean_json(&text))?;
        self.stdout.flush()
    }

    /// Bytes as they are: for programs, and for what we made ourselves.
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

    /// Lines for people, seen together.
    pub(crate) fn lines(&mut self, lines: &[String]) -> io::Result<()> {
        for line in lines {
            writeln!(self.stdout, "{}", clean_lines(line))?;
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
