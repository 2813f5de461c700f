//! The progress that a command reports: it writes lines to the file that the variable
//! `CELERIAC_PROGRESS` names.
//!
//! The file is a pipe of this process, under its name in `/proc`. So nothing is left in a folder,
//! and a command that outlives the worker gets an error and does not wait for a reader.

use std::convert::Infallible;
use std::io::{self, ErrorKind, PipeWriter};
use std::os::fd::{AsRawFd, OwnedFd};

use celeriac_proto::limits::{NAME_BYTES_MAX, PROGRESS_BYTES_MAX};
use celeriac_worker::Context;
use serde_json::value::RawValue;
use tokio::net::unix::pipe::Receiver;

use super::lines::Lines;
use super::targets::LOG_TARGET;
use crate::json;

/// The longest line: a longer one is cut, and is then refused as too long.
const LINE_BYTES_MAX: usize = NAME_BYTES_MAX + PROGRESS_BYTES_MAX + 2;
/// How often the pipe is read after the end of the command. A process that the command left in the
/// background may go on writing.
const LAST_READS_MAX: usize = 64;

/// The reading end of the pipe, and the end that gives the pipe its name.
pub(super) struct ProgressPipe {
    reader: Receiver,
    writer: PipeWriter,
    lines: Lines,
}

impl ProgressPipe {
    /// # Errors
    /// The process has no more descriptors.
    pub(super) fn open() -> io::Result<Self> {
        let (reader, writer) = io::pipe()?;
        let reader = Receiver::from_owned_fd(OwnedFd::from(reader))?;
        Ok(Self { reader, writer, lines: Lines::new(LINE_BYTES_MAX) })
    }

    /// The name of the pipe for a command.
    pub(super) fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.writer.as_raw_fd())
    }

    /// Reports the lines of the command for as long as it is polled.
    pub(super) async fn follow(&mut self, context: &Context) -> Infallible {
        loop {
            // The error of a pipe whose writing end is open does not come.
            if self.reader.readable().await.is_err() || self.read(context).is_err() {
                return std::future::pending().await;
            }
        }
    }

    /// Reports what the command wrote before its end.
    pub(super) fn finish(&mut self, context: &Context) {
        for _ in 0..LAST_READS_MAX {
            match self.read(context) {
                Ok(1..) => {}
                Ok(0) | Err(_) => break,
            }
        }
        self.lines.end(|line| report(line, context));
    }

    /// Reads once. Returns 0 when there is nothing to read.
    fn read(&mut self, context: &Context) -> io::Result<usize> {
        let mut buffer = [0; 4096];
        match self.reader.try_read(&mut buffer) {
            Ok(count) => {
                self.lines.take(&buffer[..count], |line| report(line, context));
                Ok(count)
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(0),
            Err(error) => Err(error),
        }
    }
}

fn report(line: &str, context: &Context) {
    let (state, details) = parse(line);
    // The function makes JSON of any text.
    let Ok(details) = serde_json::from_slice::<&RawValue>(&details) else { return };
    if let Err(error) = context.progress_blocking(state, details) {
        let id = context.id();
        tracing::warn!(target: LOG_TARGET, id, "a line of progress is ignored: {error}");
    }
}

/// The state and the details of a line. A word in capitals in front is the state; the details are
/// JSON as it is, and other text as a string.
fn parse(line: &str) -> (&str, bytes::Bytes) {
    let line = line.trim();
    let (word, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    match is_state(word) {
        true => (word, json::of_text(rest.trim_start())),
        false => ("", json::of_text(line)),
    }
}

fn is_state(word: &str) -> bool {
    word.starts_with(|first: char| first.is_ascii_uppercase())
        && word.bytes().all(|byte| matches!(byte, b'A'..=b'Z' | b'0'..=b'9' | b'_' | b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_a_state_and_details_or_one_of_them() {
        for (line, state, details) in [
            ("40", "", "40"),
            ("40%", "", "\"40%\""),
            (r#"{"step": 1}"#, "", r#"{"step": 1}"#),
            ("reading the song", "", "\"reading the song\""),
            ("DECODED", "DECODED", "null"),
            (r#"DECODED  {"step": 1}"#, "DECODED", r#"{"step": 1}"#),
            ("STEP-2 of 3", "STEP-2", "\"of 3\""),
            ("Decoded", "", "\"Decoded\""),
            ("null", "", "null"),
        ] {
            assert_eq!(parse(line), (state, bytes::Bytes::from_static(details.as_bytes())));
        }
    }
}
