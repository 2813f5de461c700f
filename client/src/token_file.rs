//! The file of a token. A client reads it at its start, and again before each reconnect: so a new
//! token counts without a new start.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// More than the longest token. The bound ends the reading of a device in place of the file.
const BYTES_MAX: u64 = 64 * 1024;

/// Reads the token, without the line break at its end.
///
/// # Errors
/// The file cannot be read; or it is of the kind `InvalidData`, and holds no token. The error never
/// shows the text of the file.
pub(crate) fn read(path: &Path) -> io::Result<String> {
    let mut text = Vec::new();
    File::open(path)?.take(BYTES_MAX).read_to_end(&mut text)?;
    let is_end = |byte: &u8| matches!(byte, b'\r' | b'\n');
    let length = text.len() - text.iter().rev().take_while(|byte| is_end(byte)).count();
    text.truncate(length);
    // An empty file is an error too: the secret that should be in it is missing.
    match String::from_utf8(text) {
        Ok(token) if !token.is_empty() && is_visible(&token) => Ok(token),
        _ => Err(io::Error::new(io::ErrorKind::InvalidData, format!("it is not {ONE_LINE}"))),
    }
}

/// What a token is.
pub(crate) const ONE_LINE: &str = "one line of visible ASCII characters without spaces";

/// Whether this may be a token.
pub(crate) fn is_visible(token: &str) -> bool {
    token.bytes().all(|byte| byte.is_ascii_graphic())
}

/// Reads the file again, when it is one: a pipe, such as that of a shell, was read to its end.
pub(crate) async fn read_again(path: PathBuf) -> io::Result<String> {
    let reading = tokio::task::spawn_blocking(move || match path.metadata()?.is_file() {
        true => read(&path),
        false => Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file")),
    });
    reading.await.unwrap_or_else(|_| Err(io::Error::other("the thread that reads it panicked")))
}

/// The path for people, when it certainly is a path. A user may have put the token itself into its
/// place.
pub(crate) fn shown(path: &Path) -> String {
    match path.is_absolute() || path.exists() {
        true => format!(" {}", path.display()),
        false => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_token_is_one_line_of_a_file_and_a_pipe_is_not_read_again() {
        let folder = std::env::temp_dir().join(format!("celeriac-file-{}", std::process::id()));
        std::fs::create_dir(&folder).expect("the temporary folder is writable");
        let path = folder.join("token");
        for (text, token) in [("t1\n", Some("t1")), ("t2", Some("t2")), ("t3\r\n", Some("t3"))]
            .into_iter()
            .chain([("", None), ("\n", None), ("two words", None), ("two\nlines", None)])
        {
            std::fs::write(&path, text).expect("the folder is writable");
            assert_eq!(read(&path).ok().as_deref(), token, "{text:?}");
            assert_eq!(read_again(path.clone()).await.ok().as_deref(), token, "{text:?}");
        }
        let error = read(&path).expect_err("two lines");
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        assert!(!error.to_string().contains("lines\n"), "{error}");
        let error = read_again("/dev/null".into()).await.expect_err("no regular file");
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        std::fs::remove_dir_all(&folder).expect("it was made");
        assert_eq!(shown(Path::new("s3cret")), "");
        assert_eq!(shown(Path::new("/no/such")), " /no/such");
    }
}
