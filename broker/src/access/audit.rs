//! The audit log: one JSON line for each action of an operator, each refused request and each
//! failed login. No line has a payload, a header or a secret.
//!
//! A thread of its own writes the file, so that a slow disk delays no session. Lines that find no
//! room are counted, and the next line says how many are missing. `line` has the text of a line,
//! `object` what a request is about, `pace` how many lines a client can cause.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use tokio::sync::oneshot;
use tracing::{error, info};

use super::line::{Who, add_count, begin};
use super::object::Object;
use super::pace::Pace;
use crate::regular_file;

/// The lines that wait for the thread.
const WAITING_MAX: usize = 8_192;

/// Where the lines go.
#[derive(Debug)]
pub(super) struct Audit {
    /// `None`: to the log.
    file: Option<SyncSender<Note>>,
    /// The thread opens the file again before the next line: somebody may have moved it away.
    is_to_reopen: Arc<AtomicBool>,
    /// Lines that found no room since the last one that did.
    missing: AtomicU64,
    /// Lines about what clients may not do, and about what they may do without being operators.
    pace: Pace,
}

#[derive(Debug)]
enum Note {
    Line(Line),
    /// Looks whether the file is to be opened again.
    Look,
    /// Told when every line before it is written.
    Written(oneshot::Sender<()>),
}

/// A line without its end.
#[derive(Debug)]
struct Line {
    text: String,
    /// The lines before it that found no room.
    missing: u64,
}

/// Whether a client may cause any number of lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Paced {
    Yes,
    No,
}

impl Audit {
    /// Opens the file, or takes the log.
    ///
    /// # Errors
    /// The file cannot be opened, or there is no thread.
    pub(super) fn open(path: Option<&Path>) -> io::Result<Self> {
        let (is_to_reopen, missing, pace) = <(Arc<AtomicBool>, _, _)>::default();
        let Some(path) = path else {
            return Ok(Self { file: None, is_to_reopen, missing, pace });
        };
        let writer = Writer::open(path, is_to_reopen.clone())?;
        let (sender, notes) = sync_channel(WAITING_MAX);
        std::thread::Builder::new()
            .name("celeriac-audit".to_owned())
            .spawn(move || writer.run(&notes))?;
        Ok(Self { file: Some(sender), is_to_reopen, missing, pace })
    }

    /// Opens the file again, so that it can be rotated.
    pub(super) fn reopen(&self) {
        if let Some(file) = &self.file {
            self.is_to_reopen.store(true, Ordering::Release);
            // A full channel has lines, and before the next of them the thread looks too.
            let _ = file.try_send(Note::Look);
        }
    }

    /// Returns when every line is written.
    pub(super) async fn written(&self) {
        let Some(file) = self.file.clone() else { return };
        let (told, written) = oneshot::channel();
        // A full channel has room again when the disk has taken some lines.
        let sent = tokio::task::spawn_blocking(move || file.send(Note::Written(told)));
        if sent.await.is_ok_and(|sent| sent.is_ok()) {
            let _ = written.await;
        }
    }

    /// Writes a line about a request that was allowed.
    pub(super) fn allowed(&self, who: Who<'_>, action: &str, object: &Object, paced: Paced) {
        self.note(who, action, "allowed", object, paced);
    }

    /// Writes a line about a request that was refused.
    pub(super) fn forbidden(&self, who: Who<'_>, action: &str, object: &Object) {
        self.note(who, action, "forbidden", object, Paced::Yes);
    }

    /// Writes a line about a login that failed.
    pub(super) fn failed_login(&self, who: Who<'_>) {
        self.note(who, "login", "unauthenticated", &Object::default(), Paced::Yes);
    }

    /// Writes a line, unless there are too many of this client.
    fn note(&self, who: Who<'_>, action: &str, outcome: &str, object: &Object, paced: Paced) {
        let without_line = match paced {
            Paced::Yes => self.pace.count(who.entry, who.peer.address.ip(), who.at.mono),
            Paced::No => Some(0),
        };
        let Some(without_line) = without_line else { return };
        let mut text = begin(who, action, outcome);
        object.add_to(&mut text);
        add_count(&mut text, "without_line", without_line);
        self.write(text);
    }

    fn write(&self, mut text: String) {
        let Some(file) = &self.file else {
            text.push('}');
            info!(target: "celeriac_broker::audit", "{text}");
            return;
        };
        let missing = self.missing.swap(0, Ordering::Relaxed);
        if file.try_send(Note::Line(Line { text, missing })).is_err() {
            self.missing.fetch_add(missing + 1, Ordering::Relaxed);
        }
    }
}

/// The thread that writes the file.
struct Writer {
    path: PathBuf,
    file: File,
    is_to_reopen: Arc<AtomicBool>,
    end: End,
    has_failed: bool,
}

/// How the file ends.
#[derive(Debug, Default, PartialEq, Eq)]
struct End {
    /// The disk took the beginning of a line and no more.
    is_torn: bool,
    /// The lines that the disk did not take since the last one that it took.
    unwritten: u64,
}

impl Writer {
    fn open(path: &Path, is_to_reopen: Arc<AtomicBool>) -> io::Result<Self> {
        let (path, file) = (path.to_owned(), regular_file::append(path)?);
        let end = End { is_torn: is_torn(&file)?, unwritten: 0 };
        Ok(Self { path, file, is_to_reopen, end, has_failed: false })
    }

    /// Writes lines until there is no more sender.
    fn run(mut self, notes: &Receiver<Note>) {
        for note in notes {
            let opened = self.reopen();
            let written = match note {
                Note::Line(line) => self.end.append(line, &mut self.file).and(opened),
                Note::Look => opened,
                Note::Written(told) => {
                    let _ = told.send(());
                    opened
                }
            };
            match written {
                Ok(()) => self.has_failed = false,
                // One line per series of failures.
                Err(error) if !std::mem::replace(&mut self.has_failed, true) => {
                    error!(%error, file = %self.path.display(), "the audit file cannot be written");
                }
                Err(_) => {}
            }
        }
    }

    /// Opens the file again if that was asked for. If it cannot be opened, the lines go on into the
    /// file before, and each of them tries again.
    fn reopen(&mut self) -> io::Result<()> {
        if !self.is_to_reopen.swap(false, Ordering::Acquire) {
            return Ok(());
        }
        let opened = regular_file::append(&self.path).and_then(|file| Ok((is_torn(&file)?, file)));
        let opened = opened.map(|(is_torn, file)| (self.end.is_torn, self.file) = (is_torn, file));
        opened.inspect_err(|_| self.is_to_reopen.store(true, Ordering::Release))
    }
}

/// Whether a file ends within a line, perhaps one that a broker before this one began.
fn is_torn(file: &File) -> io::Result<bool> {
    let mut last = [b'\n'];
    if let Some(place) = file.metadata()?.len().checked_sub(1) {
        file.read_exact_at(&mut last, place)?;
    }
    Ok(last != [b'\n'])
}

impl End {
    /// Writes a line. If the disk takes a part of it, the next line begins with a line break, so
    /// that it can be read; and it has the number of lines that are missing.
    fn append(&mut self, line: Line, file: &mut impl Write) -> io::Result<()> {
        let missing = line.missing + self.unwritten;
        let mut text = if self.is_torn { "\n".to_owned() } else { String::new() };
        text += &line.text;
        add_count(&mut text, "missing_lines", missing);
        text += "}\n";
        let mut rest = text.as_bytes();
        while !rest.is_empty() {
            match file.write(rest) {
                Ok(written) if written > 0 => rest = &rest[written..],
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                failed => {
                    let written = text.len() - rest.len();
                    // A line break alone ends the torn line before.
                    self.is_torn = match self.is_torn {
                        true => written != 1,
                        false => written > 0,
                    };
                    self.unwritten = missing + 1;
                    return Err(failed.err().unwrap_or(io::ErrorKind::WriteZero.into()));
                }
            }
        }
        *self = Self::default();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use celeriac_machine::command::Now;

    use super::*;
    use crate::lobby::{Remote, Via};

    fn who() -> Who<'static> {
        let address = SocketAddr::from(([10, 0, 0, 1], 7));
        let peer = Remote { address, via: Via::Protocol };
        Who { entry: Some("a"), peer, at: Now { wall: 0, mono: 0 } }
    }

    #[tokio::test]
    async fn o12_every_line_is_written_at_the_end_and_a_file_that_was_moved_is_made_again() {
        let folder = tempfile::tempdir().expect("a folder");
        let (path, moved) = (folder.path().join("audit"), folder.path().join("audit.1"));
        let audit = Audit::open(Some(&path)).expect("it can be made");
        let write = |count| {
            (0..count).for_each(|_| audit.allowed(who(), "x", &Object::default(), Paced::No));
        };
        let lines = |path| std::fs::read_to_string(path).expect("it is there").lines().count();
        write(1_000);
        audit.written().await;
        assert_eq!(lines(&path), 1_000);
        std::fs::rename(&path, &moved).expect("it is ours");
        // A folder in its place cannot be opened: the lines go on into the file before.
        std::fs::create_dir(&path).expect("its name is free");
        audit.reopen();
        write(10);
        audit.written().await;
        assert_eq!(lines(&moved), 1_010);
        std::fs::remove_dir(&path).expect("it is empty");
        write(5);
        audit.written().await;
        assert_eq!((lines(&moved), lines(&path)), (1_010, 5));
        // What a broker that was killed has not ended is a line of its own.
        std::fs::write(&path, "{\"time\":\"2027").expect("it is ours");
        let next = Audit::open(Some(&path)).expect("it is there");
        next.allowed(who(), "x", &Object::default(), Paced::No);
        next.written().await;
        assert_eq!(lines(&path), 2);
    }

    #[tokio::test]
    async fn o12_a_pipe_in_the_place_of_the_file_holds_neither_the_start_nor_the_lines() {
        use rustix::fs::{CWD, Mode, mkfifoat};

        let folder = tempfile::tempdir().expect("a folder");
        let (path, moved) = (folder.path().join("audit"), folder.path().join("audit.1"));
        let pipe = || mkfifoat(CWD, &path, Mode::RUSR | Mode::WUSR).expect("its name is free");
        pipe();
        let error = Audit::open(Some(&path)).expect_err("a pipe is no file");
        assert_eq!(error.to_string(), "it is not a regular file");
        std::fs::remove_file(&path).expect("it is ours");
        let audit = Audit::open(Some(&path)).expect("it can be made");
        std::fs::rename(&path, &moved).expect("it is ours");
        pipe();
        audit.reopen();
        audit.forbidden(who(), "x", &Object::default());
        let written = tokio::time::timeout(std::time::Duration::from_secs(20), audit.written());
        written.await.expect("the thread goes on");
        let text = std::fs::read_to_string(&moved).expect("it is there");
        assert_eq!(text.lines().count(), 1, "{text}");
    }

    #[tokio::test]
    async fn o12_a_client_has_ten_lines_of_refused_requests_a_second_and_then_a_count() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("audit");
        let audit = Audit::open(Some(&path)).expect("it can be made");
        let later = Who { at: Now { wall: 1_000, mono: 1_000 }, ..who() };
        (0..5_000).for_each(|_| audit.forbidden(who(), "x", &Object::default()));
        audit.forbidden(later, "y", &Object::default());
        audit.written().await;
        let text = std::fs::read_to_string(&path).expect("it is there");
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 11);
        assert!(lines[10].ends_with("\"outcome\":\"forbidden\",\"without_line\":4990}"), "{text}");
    }

    /// A disk that takes so many bytes and then no more.
    struct Disk {
        room: usize,
        bytes: Vec<u8>,
    }

    impl Write for Disk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let taken = bytes.len().min(self.room);
            if taken == 0 {
                return Err(io::ErrorKind::StorageFull.into());
            }
            self.room -= taken;
            self.bytes.extend_from_slice(&bytes[..taken]);
            Ok(taken)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn o12_a_line_after_a_full_disk_is_whole_and_counts_what_was_lost() {
        let line = |missing| Line { text: "{\"a\":1".to_owned(), missing };
        for room in 0..=8 {
            let (mut disk, mut end) = (Disk { room, bytes: Vec::new() }, End::default());
            let is_taken = end.append(line(0), &mut disk).is_ok();
            assert_eq!(is_taken, room == 8);
            end.append(line(2), &mut disk).expect_err("the disk is full");
            // The line break finds room, and nothing else.
            disk.room = 1;
            end.append(line(0), &mut disk).expect_err("the disk is full");
            disk.room = 100;
            end.append(line(1), &mut disk).expect("there is room");
            end.append(line(0), &mut disk).expect("there is room");
            let text = String::from_utf8(disk.bytes).expect("text");
            let is_whole = |line: &&str| line.starts_with("{\"a\":1") && line.ends_with('}');
            let whole: Vec<&str> = text.lines().filter(is_whole).collect();
            let missing = if is_taken { 5 } else { 6 };
            let expected = format!("{{\"a\":1,\"missing_lines\":{missing}}}");
            assert!(whole.contains(&&*expected), "{room}: {text}");
            assert_eq!(whole.last(), Some(&"{\"a\":1}"), "{room}: {text}");
            assert_eq!(end, End::default());
        }
    }
}
