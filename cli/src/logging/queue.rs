//! The queue between those who log and stderr. A thread of its own writes; nobody else ever waits
//! for it. What does not fit into the queue and what cannot be written is dropped and counted, and
//! a later line says how many lines that were.
//!
//! Nothing here knows what a line says. Nothing here prints through Rust's own `stderr`, whose lock
//! a thread that hangs in a write would hold, nor panics: the panic hook ends here.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fd::BorrowedFd;
use rustix::io::Errno;

/// Bytes that wait to be written: some ten thousand lines, for a reader that pauses. More would
/// only be memory.
const BYTES_MAX: usize = 1024 * 1024;

/// The end of the process waits this long for its last lines.
const LAST_LINES: Duration = Duration::from_secs(1);

/// Lines on their way to stderr.
pub(crate) struct Queue {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    lines: VecDeque<Vec<u8>>,
    bytes: usize,
    /// Lines that were dropped since somebody was told of it.
    lost: u64,
    /// A line is in the hands of the thread that writes.
    is_writing: bool,
}

impl Queue {
    /// Starts the thread that writes. `lost_note` makes the line that says how many are missing.
    ///
    /// # Errors
    /// The operating system gave no thread.
    pub(crate) fn start(
        lost_note: impl Fn(u64) -> Vec<u8> + Send + 'static,
    ) -> io::Result<Arc<Self>> {
        let queue = Arc::new(Self { state: Mutex::default(), changed: Condvar::new() });
        let writer = queue.clone();
        let run = move || writer.run(&mut Lines::new(rustix::stdio::stderr()), lost_note);
        std::thread::Builder::new().name("celeriac-log".to_owned()).spawn(run)?;
        Ok(queue)
    }

    /// Adds a whole line, or counts it as lost. Never waits.
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

    /// Waits until everything is written, but not for long: whoever ought to read it may have
    /// stopped.
    pub(crate) fn flush(&self) {
        let is_busy = |state: &mut State| state.is_writing || !state.lines.is_empty();
        let _ = self.changed.wait_timeout_while(self.lock(), LAST_LINES, is_busy);
    }

    fn run(&self, lines: &mut Lines<'_>, lost_note: impl Fn(u64) -> Vec<u8>) {
        loop {
            let (line, lost) = self.next();
            // What is missing is said first: it came before this line or not long after.
            let written =
                (lost == 0 || lines.write(&lost_note(lost)).is_ok()).then(|| lines.write(&line));
            let lost = match written {
                Some(Ok(())) => 0,
                Some(Err(_)) => 1,
                None => lost + 1,
            };
            let mut state = self.lock();
            state.lost += lost;
            state.is_writing = false;
            drop(state);
            self.changed.notify_all();
        }
    }

    /// The next line, and how many were lost since the last one that was written.
    fn next(&self) -> (Vec<u8>, u64) {
        let mut state = self.lock();
        loop {
            if let Some(line) = state.lines.pop_front() {
                state.bytes -= line.len();
                state.is_writing = true;
                return (line, std::mem::take(&mut state.lost));
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// No holder of this lock can leave the state half changed, so a poisoned one is as good.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Lines into a file descriptor, past Rust's own locks and buffers.
pub(crate) struct Lines<'a> {
    to: BorrowedFd<'a>,
    /// A line was begun and could not be ended; the next one begins on a line of its own.
    is_torn: bool,
}

impl<'a> Lines<'a> {
    pub(crate) fn new(to: BorrowedFd<'a>) -> Self {
        Self { to, is_torn: false }
    }

    /// Writes a whole line, however long its reader takes.
    ///
    /// # Errors
    /// What the operating system said; then a part of the line may be written.
    pub(crate) fn write(&mut self, line: &[u8]) -> Result<(), Errno> {
        if self.is_torn {
            self.write_all(b"\n")?;
            self.is_torn = false;
        }
        self.write_all(line)
    }

    fn write_all(&mut self, mut bytes: &[u8]) -> Result<(), Errno> {
        while !bytes.is_empty() {
            match rustix::io::write(self.to, bytes) {
                Ok(count) => {
                    bytes = &bytes[count..];
                    self.is_torn = !bytes.is_empty();
                }
                Err(Errno::INTR) => {}
                // Somebody who shares it made it one that does not wait.
                Err(Errno::AGAIN) => {
                    poll(&mut [PollFd::from_borrowed_fd(self.to, PollFlags::OUT)], None)?;
                }
                Err(error) => return Err(error),
            }
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

    /// A queue that writes to a pipe, and the end that is read.
    fn queue(flags: PipeFlags) -> (Arc<Queue>, OwnedFd) {
        let (reader, writer) = pipe_with(flags).expect("a pipe");
        fcntl_setpipe_size(&writer, 4096).expect("a small pipe");
        let queue = Arc::new(Queue { state: Mutex::default(), changed: Condvar::new() });
        let own = queue.clone();
        std::thread::spawn(move || own.run(&mut Lines::new(writer.as_fd()), note));
        (queue, reader)
    }

    #[test]
    fn a_reader_that_pauses_is_told_how_much_it_missed() {
        for flags in [PipeFlags::empty(), PipeFlags::NONBLOCK] {
            let (queue, reader) = queue(flags);
            rustix::io::ioctl_fionbio(&reader, false).expect("a reader that waits");
            let line = || [vec![b'x'; 1023], vec![b'\n']].concat();
            let pushed = 2 * BYTES_MAX / 1024;
            (0..pushed).for_each(|_| queue.push(line()));
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
    fn lines_nobody_can_be_told_of_cost_nothing_but_themselves() {
        let (queue, reader) = queue(PipeFlags::empty());
        drop(reader);
        (0..1000).for_each(|_| queue.push(b"line\n".to_vec()));
        queue.flush();
        let state = queue.lock();
        assert_eq!((state.lost, state.bytes), (1000, 0));
    }

    #[test]
    fn a_line_after_a_torn_one_begins_on_a_line_of_its_own() {
        let (reader, writer) = pipe_with(PipeFlags::empty()).expect("a pipe");
        let mut lines = Lines { to: writer.as_fd(), is_torn: true };
        lines.write(b"whole\n").expect("written");
        assert!(!lines.is_torn);
        drop(writer);
        assert_eq!(
            std::io::read_to_string(std::fs::File::from(reader)).expect("text"),
            "\nwhole\n"
        );
    }
}
