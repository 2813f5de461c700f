//! The queue between the threads that make lines and stderr, or stdout. One thread writes the
//! lines, and no other thread waits for it. A line that does not fit into the queue or cannot be
//! written is dropped and counted. A later line says how many lines are missing.
//!
//! This file does not know what a line says. It must not print through Rust's own `stderr`: a
//! thread that hangs in a write would hold its lock. It must not panic, because the panic hook
//! writes here.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::fd::BorrowedFd;
use rustix::io::Errno;

use crate::descriptor::write_some;

/// The bytes that wait to be written: about ten thousand lines, enough for a reader that pauses. A
/// larger queue would only take more memory.
const BYTES_MAX: usize = 1024 * 1024;

/// How long the end of the process waits for its last lines.
const LAST_LINES: Duration = Duration::from_secs(1);

/// The lines that wait to be written.
pub(crate) struct Queue {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    lines: VecDeque<Vec<u8>>,
    bytes: usize,
    /// How many lines were dropped since the last line that said so.
    lost: u64,
    /// The writing thread has taken a line and not finished it.
    is_writing: bool,
}

impl Queue {
    /// Starts the writing thread. `lost_note` makes the line that says how many lines are missing.
    ///
    /// # Errors
    /// The operating system cannot start a thread.
    pub(crate) fn start(
        to: BorrowedFd<'static>,
        lost_note: impl Fn(u64) -> Vec<u8> + Send + 'static,
    ) -> io::Result<Arc<Self>> {
        let queue = Arc::new(Self { state: Mutex::default(), changed: Condvar::new() });
        let writer = queue.clone();
        let run = move || writer.run(&mut LineWriter::new(to), lost_note);
        std::thread::Builder::new().name("celeriac-log".to_owned()).spawn(run)?;
        Ok(queue)
    }

    /// Adds a whole line, or counts the line as lost. Never waits.
    pub(crate) fn push(&self, line: Vec<u8>) {
        let mut state = self.lock();
        if state.bytes + line.len() > BYTES_MAX {
            state.lost += 1;
            return;
        }
        state.bytes += line.len();
        state.lines.push_back(line);
        drop(state);
        self.changed.notify_all();
    }

    /// Waits until all lines are written, but at most [`LAST_LINES`]: the reader may have stopped.
    pub(crate) fn flush(&self) {
        let is_busy = |state: &mut State| state.is_writing || !state.lines.is_empty();
        let _ = self.changed.wait_timeout_while(self.lock(), LAST_LINES, is_busy);
    }

    fn run(&self, writer: &mut LineWriter<'_>, lost_note: impl Fn(u64) -> Vec<u8>) {
        loop {
            let Next { line, lost_before } = self.next();
            // The note about lost lines comes first: they were lost before this line, or not long
            // after it.
            let lost = if lost_before > 0 && writer.write(&lost_note(lost_before)).is_err() {
                lost_before + 1
            } else if writer.write(&line).is_err() {
                1
            } else {
                0
            };
            let mut state = self.lock();
            state.lost += lost;
            state.is_writing = false;
            drop(state);
            self.changed.notify_all();
        }
    }

    /// Waits for the next line.
    fn next(&self) -> Next {
        let mut state = self.lock();
        loop {
            if let Some(line) = state.lines.pop_front() {
                state.bytes -= line.len();
                state.is_writing = true;
                return Next { line, lost_before: std::mem::take(&mut state.lost) };
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// No holder of the lock leaves the state half changed, so the state of a poisoned lock is
    /// valid.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The next line to be written, and how many lines were lost since the last line that was written.
struct Next {
    line: Vec<u8>,
    lost_before: u64,
}

/// Writes lines to a file descriptor, without Rust's own locks and buffers.
pub(crate) struct LineWriter<'a> {
    to: BorrowedFd<'a>,
    /// The last line was written only in part, so the next line needs a line break before it.
    is_torn: bool,
}

impl<'a> LineWriter<'a> {
    pub(crate) fn new(to: BorrowedFd<'a>) -> Self {
        Self { to, is_torn: false }
    }

    /// Writes a whole line. Waits for the reader without a limit.
    ///
    /// # Errors
    /// The error of the operating system. A part of the line may be written then.
    pub(crate) fn write(&mut self, line: &[u8]) -> Result<(), Errno> {
        if self.is_torn {
            self.write_all(b"\n")?;
            self.is_torn = false;
        }
        self.write_all(line)
    }

    fn write_all(&mut self, mut bytes: &[u8]) -> Result<(), Errno> {
        while !bytes.is_empty() {
            let count = write_some(self.to, bytes)?;
            bytes = &bytes[count..];
            self.is_torn = !bytes.is_empty();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};

    use rustix::fd::{AsFd, OwnedFd};
    use rustix::pipe::{PipeFlags, fcntl_setpipe_size, pipe_with};

    use super::*;

    fn note(lost: u64) -> Vec<u8> {
        format!("{lost} lost\n").into_bytes()
    }

    /// A queue that writes to a pipe, and the reading end of the pipe.
    fn queue(flags: PipeFlags) -> (Arc<Queue>, OwnedFd) {
        let (reader, writer) = pipe_with(flags).expect("a pipe");
        fcntl_setpipe_size(&writer, 4096).expect("a small pipe");
        let queue = Arc::new(Queue { state: Mutex::default(), changed: Condvar::new() });
        let own = queue.clone();
        std::thread::spawn(move || own.run(&mut LineWriter::new(writer.as_fd()), note));
        (queue, reader)
    }

    #[test]
    fn a_reader_that_pauses_is_told_how_much_it_missed() {
        for flags in [PipeFlags::empty(), PipeFlags::NONBLOCK] {
            let (queue, reader) = queue(flags);
            rustix::io::ioctl_fionbio(&reader, false).expect("a reader that waits");
            let line = || [vec![b'x'; 1023], vec![b'\n']].concat();
            let pushed = 2 * BYTES_MAX / 1024;
            for _ in 0..pushed {
                queue.push(line());
            }
            let mut lines = BufReader::new(std::fs::File::from(reader)).lines();
            let (mut seen, mut lost) = (0, 0);
            while seen + lost < pushed {
                let line = lines.next().expect("not ended").expect("text");
                match line.strip_suffix(" lost") {
                    Some(count) => lost += count.parse::<usize>().expect("a count"),
                    None => {
                        assert_eq!(line.len(), 1023, "whole lines");
                        seen += 1;
                    }
                }
            }
            assert!(lost > pushed / 4 && seen >= pushed / 4, "{lost} lost, {seen} seen");
        }
    }

    #[test]
    fn lines_that_cannot_be_written_are_counted_and_take_no_memory() {
        let (queue, reader) = queue(PipeFlags::empty());
        drop(reader);
        for _ in 0..1000 {
            queue.push(b"line\n".to_vec());
        }
        queue.flush();
        let state = queue.lock();
        assert_eq!((state.lost, state.bytes), (1000, 0));
    }

    #[test]
    fn a_line_after_a_torn_one_begins_on_a_line_of_its_own() {
        let (reader, writer) = pipe_with(PipeFlags::empty()).expect("a pipe");
        let mut lines = LineWriter { to: writer.as_fd(), is_torn: true };
        lines.write(b"whole\n").expect("written");
        assert!(!lines.is_torn);
        drop(writer);
        assert_eq!(
            std::io::read_to_string(std::fs::File::from(reader)).expect("text"),
            "\nwhole\n"
        );
    }
}
