//! Where the token comes from: a file, or the environment. A file that other users can read gives a
//! warning.
//!
//! The broker's `Config::check` decides which tokens are valid.

use std::env::VarError;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::exit::Failure;

/// More than the longest token. The bound ends the reading of a device such as `/dev/zero`.
const BYTES_MAX: u64 = 64 * 1024;

/// Reads the token from the environment.
///
/// # Errors
/// The variable is not text. The process must not run without a token that was set.
pub(crate) fn token_variable() -> Result<Option<String>, Failure> {
    match std::env::var("CELERIAC_TOKEN") {
        // An empty variable counts as not set, as all variables do.
        Ok(token) => Ok(Some(token).filter(|token| !token.is_empty())),
        Err(VarError::NotPresent) => Ok(None),
        Err(VarError::NotUnicode(_)) => {
            Err(Failure::usage("CELERIAC_TOKEN: the value is not text in UTF-8"))
        }
    }
}

/// Reads the token from a file. The line break at the end of the file, which `echo`, editors and
/// secret mounts write, is not part of the token.
pub(crate) fn read_token(file: &Path) -> Result<String, Failure> {
    let name = name_for_people(file);
    let text = read(file)
        .map_err(|error| Failure::usage(format!("cannot read the token file{name}: {error}")))?;
    let token = text.trim_end_matches(['\r', '\n']);
    if token.is_empty() {
        return Err(Failure::usage(format!("the token file{name} is empty")));
    }
    // Mostly this is another file than the user meant.
    if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(Failure::usage(format!(
            "the token file{name} holds no token: a token is one line of visible ASCII characters \
             without blanks"
        )));
    }
    Ok(token.to_owned())
}

fn read(file: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(file)?.take(BYTES_MAX).read_to_string(&mut text)?;
    Ok(text)
}

/// The name of the file, if it is certainly the name of a file. A user may have given the token
/// itself in place of the name.
fn name_for_people(file: &Path) -> String {
    let text = file.to_string_lossy();
    let is_path = file.is_absolute() || text.starts_with("./") || text.starts_with("../");
    match is_path || file.exists() {
        true => format!(" {}", file.display()),
        false => " (its name is not shown here, because it may be the token itself)".to_owned(),
    }
}

/// The warning for a file with a token that every user of this machine can read or change.
pub(crate) fn warning(file: &Path) -> Option<String> {
    open_to_all(file, "the token in")
}

/// The warning for a file with a secret, as `what` names it, that every user of this machine can
/// read or change.
pub(crate) fn open_to_all(file: &Path, what: &str) -> Option<String> {
    const OTHERS: u32 = 0o006;
    let metadata = std::fs::metadata(file).ok()?;
    let mode = metadata.permissions().mode();
    (metadata.is_file() && mode & OTHERS != 0).then(|| {
        let file = file.display();
        format!(
            "every user of this machine has access to {what} {file} (mode {:04o}): \
             run `chmod 600 {file}`",
            mode & 0o7777
        )
    })
}
