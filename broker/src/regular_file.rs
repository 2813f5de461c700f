//! Regular files. The files that an operator names are opened here alone: to open a pipe may take
//! for ever, and to open a device may do something.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

const NOT_REGULAR: &str = "is not a regular file";

/// Reads a file of at most so many bytes.
///
/// # Errors
/// What is wrong with the file: the end of a sentence that begins with its name.
pub(crate) fn read(path: &Path, bytes_max: u64) -> Result<Vec<u8>, String> {
    let unread = |error: io::Error| format!("cannot be read: {error}");
    let file = open(path, OpenOptions::new().read(true)).map_err(unread)?;
    let mut bytes = Vec::new();
    file.ok_or(NOT_REGULAR)?.take(bytes_max + 1).read_to_end(&mut bytes).map_err(unread)?;
    match bytes.len() as u64 {
        length if length > bytes_max => Err(format!("is longer than {} MiB", bytes_max >> 20)),
        _ => Ok(bytes),
    }
}

/// Opens a file for writes at its end, and for reads. A new file belongs to its user alone.
///
/// # Errors
/// The file cannot be opened, or is not a regular file.
pub(crate) fn append(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    let file = open(path, options.create(true).read(true).append(true).mode(0o600))?;
    file.ok_or_else(|| io::Error::other(format!("it {NOT_REGULAR}")))
}

/// Opens a file. `None`: something else than a file has this name.
fn open(path: &Path, options: &mut OpenOptions) -> io::Result<Option<File>> {
    // The first look is for devices, which must not be opened. The second one is for whatever took
    // the name since then.
    match std::fs::metadata(path) {
        Ok(found) if !found.is_file() => return Ok(None),
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        Ok(_) | Err(_) => {}
    }
    let file = options.custom_flags(libc::O_NONBLOCK).open(path)?;
    Ok(file.metadata()?.is_file().then_some(file))
}

#[cfg(test)]
mod tests {
    use rustix::fs::{CWD, Mode, mkfifoat};

    use super::*;

    #[test]
    fn a_pipe_a_device_and_a_folder_are_no_regular_files_and_hold_nobody() {
        let folder = tempfile::tempdir().expect("a folder");
        let pipe = folder.path().join("pipe");
        mkfifoat(CWD, &pipe, Mode::RUSR | Mode::WUSR).expect("a pipe can be made");
        for path in [&pipe, Path::new("/dev/null"), folder.path()] {
            assert_eq!(read(path, 9).expect_err("it is no file"), NOT_REGULAR);
            let error = append(path).expect_err("it is no file");
            assert_eq!(error.to_string(), "it is not a regular file", "{}", path.display());
            // Without the first look the second one finds it, and nobody waits for a writer.
            let opened = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path);
            assert!(!opened.expect("it opens at once").metadata().expect("it is open").is_file());
        }
    }

    #[test]
    fn a_file_is_read_up_to_its_bound_and_appended_to() {
        use std::io::Write;
        use std::os::unix::fs::PermissionsExt;

        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("file");
        assert!(read(&path, 9).expect_err("it is not there").starts_with("cannot be read: "));
        for part in ["one", "two"] {
            append(&path).expect("it can be made").write_all(part.as_bytes()).expect("room");
        }
        assert_eq!(read(&path, 6), Ok(b"onetwo".to_vec()));
        assert_eq!(read(&path, 5).expect_err("too long"), "is longer than 0 MiB");
        let mode = path.metadata().expect("it is there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}
