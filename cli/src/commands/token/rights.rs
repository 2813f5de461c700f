//! What the entries of an access file allow, in the words of the file. The broker's report of the
//! file comes first: only a file that a broker would take is read here.

use std::fs;
use std::path::Path;

use celeriac_broker::AccessEntry;
use serde::Deserialize;
use toml::Spanned;

use crate::exit::Failure;

/// What one entry allows.
#[derive(Deserialize)]
pub(super) struct Rights {
    #[serde(default)]
    pub(super) queues: Vec<String>,
    #[serde(default)]
    pub(super) names: Vec<String>,
    #[serde(default)]
    pub(super) bodies: bool,
}

/// The entries of both kinds, each with its place.
#[derive(Deserialize)]
struct RightsOfFile {
    #[serde(default)]
    token: Vec<Spanned<Rights>>,
    #[serde(default)]
    certificate: Vec<Spanned<Rights>>,
}

/// The rights of these entries, in the same order, which is that of the file.
///
/// # Errors
/// The file has changed since the report.
pub(super) fn of_file(file: &Path, entries: &[AccessEntry]) -> Result<Vec<Rights>, Failure> {
    let text = fs::read_to_string(file).map_err(|error| error.to_string());
    let rights = text.and_then(|text| of_text(&text)).map_err(|error| {
        Failure::usage(format!("{} was changed while it was read: {error}", file.display()))
    })?;
    match rights.len() == entries.len() {
        true => Ok(rights),
        false => Err(Failure::usage(format!("{} was changed while it was read", file.display()))),
    }
}

fn of_text(text: &str) -> Result<Vec<Rights>, String> {
    let RightsOfFile { token, certificate } =
        toml::from_str(text).map_err(|error| error.to_string())?;
    let mut rights: Vec<Spanned<Rights>> = token.into_iter().chain(certificate).collect();
    rights.sort_by_key(|entry| entry.span().start);
    Ok(rights.into_iter().map(Spanned::into_inner).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_of_both_kinds_are_in_the_order_of_the_file() {
        let text = "[[certificate]]\nqueues = [\"a\"]\n[[token]]\nqueues = [\"b\"]\nbodies = true\n\
                    [[certificate]]\nqueues = [\"c\"]\nnames = [\"n*\"]\nelse = 7\n";
        let rights = of_text(text).expect("a file");
        let queues: Vec<&str> = rights.iter().map(|rights| rights.queues[0].as_str()).collect();
        assert_eq!(queues, ["a", "b", "c"]);
        assert_eq!((rights[1].bodies, rights[2].names[0].as_str()), (true, "n*"));
    }
}
