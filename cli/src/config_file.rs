//! The TOML file of `serve`: read, and asked for the line of a key when a value turns out to be
//! wrong.
//!
//! What the keys mean is in `settings.rs`.

use std::ops::Range;
use std::path::{Path, PathBuf};

use toml::de::DeTable;

use crate::exit::Failure;
use crate::secret_file;
use crate::settings::Settings;

/// The file's text, kept so that later checks can name a line of it.
pub(crate) struct ConfigFile {
    path: PathBuf,
    text: String,
}

impl ConfigFile {
    /// Reads and parses the file.
    ///
    /// # Errors
    /// A usage failure that names the file, and the line where there is one.
    pub(crate) fn read(path: &Path) -> Result<(Self, Settings), Failure> {
        let text = std::fs::read_to_string(path)
            .map_err(|error| Failure::usage(format!("cannot read {}: {error}", path.display())))?;
        let file = Self { path: path.to_owned(), text };
        let settings: Settings = toml::from_str(&file.text).map_err(|error| file.wrong(&error))?;
        if settings.token.is_some() && settings.token_file.is_some() {
            let place = file.place("token_file").unwrap_or_else(|| path.display().to_string());
            return Err(Failure::usage(format!(
                "{place}: token and token_file are both set, keep one"
            )));
        }
        Ok((file, settings))
    }

    /// Whether any user of this machine can read the secret in it.
    pub(crate) fn warning(&self) -> Option<String> {
        self.place("token").and_then(|_| secret_file::warning(&self.path))
    }

    /// Where a key stands, as `file:line`; `None` when the file does not have it.
    pub(crate) fn place(&self, key: &str) -> Option<String> {
        let table = DeTable::parse(&self.text).ok()?;
        let (found, _) = table.get_ref().get_key_value(key)?;
        Some(self.at(found.span()))
    }

    fn wrong(&self, error: &toml::de::Error) -> Failure {
        let place =
            error.span().map_or_else(|| self.path.display().to_string(), |span| self.at(span));
        let sentence = match error.span().and_then(|span| self.secret_at(span)) {
            // The parser's own words repeat the value.
            Some(key) => format!("{key} has to be a string in quotes; what is there is not shown"),
            None => error.message().trim().replace('\n', ", "),
        };
        Failure::usage(format!("{place}: {sentence}"))
    }

    /// The secret, or the name of its file, that this part of the file belongs to. A file that
    /// cannot be parsed has none; what the parser says of it repeats nothing.
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
