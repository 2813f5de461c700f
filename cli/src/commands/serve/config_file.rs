//! The TOML file of `serve`: its values, and the line of a key for the sentence about a wrong
//! value.
//!
//! `config.rs` says what the keys mean.

use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::path::{Path, PathBuf};

use toml::de::DeTable;

use super::config::ConfigLayer;
use crate::exit::Failure;
use crate::token;

/// More than any file of settings has. The bound ends the reading of a device such as `/dev/zero`.
const BYTES_MAX: u64 = 1024 * 1024;

/// The text of the file, kept so that later checks can name a line of it.
pub(super) struct ConfigFile {
    path: PathBuf,
    text: String,
}

impl ConfigFile {
    /// Reads the file.
    ///
    /// # Errors
    /// A usage failure that names the file.
    pub(super) fn read(path: &Path) -> Result<Self, Failure> {
        let text = read(path)
            .map_err(|error| Failure::usage(format!("cannot read {}: {error}", path.display())))?;
        Ok(Self { path: path.to_owned(), text })
    }

    /// Parses the values of the file.
    ///
    /// # Errors
    /// A usage failure that names the file, and the line if there is one.
    pub(super) fn parse(&self) -> Result<ConfigLayer, Failure> {
        let mut layer: ConfigLayer =
            toml::from_str(&self.text).map_err(|error| self.wrong(&error))?;
        if layer.token.is_some() && layer.token_file.is_some() {
            let place = self.place("token_file").unwrap_or_else(|| self.path.display().to_string());
            return Err(Failure::usage(format!(
                "{place}: token and token_file are both set, keep one"
            )));
        }
        layer.settle(|_| None).map_err(|(name, exact)| {
            let place = self.place(name).unwrap_or_else(|| self.path.display().to_string());
            Failure::usage(format!("{place}: {name} and {exact} are both set, keep one"))
        })?;
        Ok(layer)
    }

    /// The warning for a file with a token that every user of this machine can read or change.
    pub(super) fn warning(&self) -> Option<String> {
        self.place("token").and_then(|_| token::warning(&self.path))
    }

    /// The place of a key as `file:line`, if the file has the key.
    pub(super) fn place(&self, key: &str) -> Option<String> {
        let table = DeTable::parse(&self.text).ok()?;
        let (found, _) = table.get_ref().get_key_value(key)?;
        Some(self.at(found.span()))
    }

    fn wrong(&self, error: &toml::de::Error) -> Failure {
        let place =
            error.span().map_or_else(|| self.path.display().to_string(), |span| self.at(span));
        let sentence = match error.span().and_then(|span| self.secret_at(span)) {
            // The sentence of the parser repeats the value.
            Some(key) => format!("{key} has to be a string in quotes; its value is not shown here"),
            None => error.message().trim().replace('\n', ", "),
        };
        Failure::usage(format!("{place}: {sentence}"))
    }

    /// The key of a secret, or of the name of its file, if this part of the text belongs to it. A
    /// text that is not TOML has no keys; the parser's sentence about it repeats no value.
    fn secret_at(&self, wrong: Range<usize>) -> Option<&'static str> {
        let table = DeTable::parse(&self.text).ok()?;
        ["token", "token_file"].into_iter().find(|key| {
            let value = table.get_ref().get_key_value(*key).map(|(_, value)| value.span());
            value.is_some_and(|value| value.start < wrong.end && wrong.start < value.end)
        })
    }

    fn at(&self, span: Range<usize>) -> String {
        let before = self.text.get(..span.start).unwrap_or(&self.text);
        let line = before.bytes().filter(|byte| *byte == b'\n').count() + 1;
        format!("{}:{line}", self.path.display())
    }
}

fn read(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(BYTES_MAX + 1).read_to_string(&mut text)?;
    match text.len() as u64 {
        0..=BYTES_MAX => Ok(text),
        _ => Err(io::Error::other("it is longer than 1 MiB, and no file of settings is so long")),
    }
}
