//! Files that hold a token: read, and looked at for who else may read them.
//!
//! What a token may look like is said by the broker's `Config::check`.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::exit::Failure;

/// More than the longest token: a device in place of the file is not read for ever.
const BYTES_MAX: u64 = 64 * 1024;

/// The token is the one line of its file, so that `echo`, editors and secret mounts all work.
pub(crate) fn read_token(file: &Path) -> Result<String, Failure> {
    let shown = shown(file);
    let text = read(file)
        .map_err(|error| Failure::usage(format!("cannot read the token file{shown}: {error}")))?;
    let token = text.trim_end_matches(['\r', '\n']);
    if token.is_empty() {
        return Err(Failure::usage(format!("the token file{shown} is empty")));
    }
    Ok(token.to_owned())
}

fn read(file: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(file)?.take(BYTES_MAX).read_to_string(&mut text)?;
    Ok(text)
}

/// The name of the file, where it is one for sure. Somebody may have given the token itself.
fn shown(file: &Path) -> String {
    match file.is_absolute() || file.exists() {
        true => format!(" {}", file.display()),
        false => " (its name is not shown here, it may be the token itself)".to_owned(),
    }
}

/// Says that any user of this machine can read or change a file that holds a token, when it is so.
pub(crate) fn warning(file: &Path) -> Option<String> {
    const OTHERS: u32 = 0o006;
    let metadata = std::fs::metadata(file).ok()?;
    let mode = metadata.permissions().mode();
    (metadata.is_file() && mode & OTHERS != 0).then(|| {
        let file = file.display();
        format!(
            "every user of this machine has access to the token in {file} (mode {:04o}): `chmod 600 {file}`",
            mode & 0o7777
        )
    })
}
