//! Checks whether a data folder that no broker uses is sound, and reports its content. The check
//! changes nothing in the folder: sled's own `open` writes, so sled opens a copy in the system's
//! folder for temporary files (`TMPDIR`). The check removes the copy afterwards.

use std::collections::{HashMap, HashSet};
use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use celeriac_record::{Named, Record, Slot, State};

use super::files::PRIVATE_FOLDER;
use super::folder::{Folder, room_in};
use super::guard::{self, SPARE_BYTES};
use super::log::Log;
use super::note::Note;
use super::watch::Watch;
use crate::error::Error;
use crate::journal::Reading;
use crate::medium::FORMAT_WITHOUT_JOURNAL;
use crate::survey;

/// The beginning of a copy's name.
const COPY: &str = "celeriac-check-";
/// The states of tasks, in the order of a task's life.
const STATES: [State; 8] = [
    State::Scheduled,
    State::Queued,
    State::Leased,
    State::Started,
    State::Retry,
    State::Success,
    State::Failure,
    State::Revoked,
];

/// The content of a sound data folder.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Report {
    /// The format of the folder.
    pub format: u32,
    /// The number of tasks in each state, as far as the records tell: expired results still count,
    /// and a task that has become due since counts as scheduled.
    pub tasks: Vec<(&'static str, u64)>,
    /// Queues that have settings, or tasks, or both.
    pub queues: u64,
    /// Chunks of the log.
    pub chunks: u64,
    /// Bytes of live records.
    pub live_bytes: u64,
    /// Bytes of the log.
    pub log_bytes: u64,
    /// Bytes of the storage engine's file and of the journal's files.
    pub file_bytes: u64,
    /// A finding that looks odd although nothing is lost, as after some crashes.
    pub oddity: Option<String>,
}

/// Checks a data folder that no broker uses: its format, how far it was confirmed, every chunk and
/// every live record.
///
/// The check reads everything, and meanwhile copies the storage engine's file to the system's
/// folder for temporary files. A broker that is started on the folder during the check finds it in
/// use.
///
/// # Errors
/// The errors of a broker's start, with the same exit codes: [`Error::Damaged`], [`Error::Locked`],
/// [`Error::NewerFormat`], [`Error::Foreign`], [`Error::Inaccessible`]; and [`Error::NoRoom`] for
/// the copy.
pub fn check(folder: &Path) -> Result<Report, Error> {
    check_telling(folder, |_| {})
}

/// Like [`check`], and calls `tell` with the path of the copy as soon as the copy's folder exists:
/// a caller that ends the process before the check is done has to remove the copy. The next check
/// removes a copy that was left over.
///
/// # Errors
/// The errors of [`check`].
pub fn check_telling(folder: &Path, tell: impl FnOnce(&Path)) -> Result<Report, Error> {
    let folder = Folder::lock_to_read(folder)?;
    let format =
        folder.read_format()?.ok_or_else(|| folder.foreign("it has no file named `format`"))?;
    check_as(&folder, format, tell)
}

/// Checks a folder as one of this format.
pub(super) fn check_as(
    folder: &Folder,
    format: u32,
    tell: impl FnOnce(&Path),
) -> Result<Report, Error> {
    guard::refuse_unknown_journal(folder, format)?;
    let Some(note) = Watch::default().read_note(folder)? else {
        if guard::is_unconfirmed(folder, format)? {
            return Ok(Count::default().report(format, 0, None));
        }
        return Err(folder.damaged("its file `durable` is missing or cannot be read"));
    };
    let journal =
        (format > FORMAT_WITHOUT_JOURNAL).then(|| guard::read_journal(folder, None)).transpose()?;
    let oddity = guard::doubt(folder, journal.as_ref(), &note)?;
    let file_bytes = folder.database_bytes()?;
    let copy = CheckedCopy::new(file_bytes)?;
    tell(&copy.path);
    let place = copy.by_descriptor();
    guard::copy(folder, &place)
        .map_err(Error::io(format!("copy the folder to {}", copy.path.display())))?;
    let journal_bytes = journal.as_ref().map_or(0, Reading::file_bytes);
    let trial = move |log: &Log| count(log, journal.as_ref(), &note);
    let count = guard::try_out(folder, &place, oddity.as_deref(), trial)?;
    Ok(count.report(format, file_bytes + journal_bytes, oddity))
}

/// A folder for the copy that only this user can read.
struct CheckedCopy {
    path: PathBuf,
    /// Locked as long as the check runs. The lock tells other checks that the copy is not left
    /// over.
    lock: File,
}

impl CheckedCopy {
    fn new(file_bytes: u64) -> Result<Self, Error> {
        let place = std::env::temp_dir();
        remove_leftovers(&place);
        let (free_bytes, needed_bytes) = (room_in(&place)?.free_bytes, file_bytes + SPARE_BYTES);
        if free_bytes < needed_bytes {
            return Err(Error::NoRoom { place, free_bytes, needed_bytes });
        }
        loop {
            let path = place.join(format!("{COPY}{}", uuid::Uuid::new_v4()));
            let doing = || format!("make {}", path.display());
            DirBuilder::new().mode(PRIVATE_FOLDER).create(&path).map_err(Error::io(doing()))?;
            match File::open(&path)
                .map(|lock| (lock.try_lock().is_ok() && path.is_dir()).then_some(lock))
            {
                Ok(Some(lock)) => return Ok(Self { path, lock }),
                // Another check treated the folder as left over before this check locked it.
                Ok(None) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(Error::io(doing())(error)),
            }
        }
    }

    /// The path of the folder for sled. With the usual path, sled would make the folder again when
    /// it was removed meanwhile because the process is told to end.
    fn by_descriptor(&self) -> PathBuf {
        let descriptor = PathBuf::from(format!("/proc/self/fd/{}", self.lock.as_raw_fd()));
        // Not every container has this file system.
        if descriptor.is_dir() { descriptor } else { self.path.clone() }
    }
}

impl Drop for CheckedCopy {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.path) {
            tracing::warn!(%error, folder = %self.path.display(), "the copy that was checked is left over");
        }
    }
}

/// Removes copies of this user that killed checks left.
fn remove_leftovers(place: &Path) {
    for entry in fs::read_dir(place).into_iter().flatten().flatten() {
        let is_copy = entry.file_name().to_string_lossy().starts_with(COPY)
            && entry.metadata().is_ok_and(|found| {
                found.is_dir() && found.uid() == rustix::process::geteuid().as_raw()
            });
        if is_copy && File::open(entry.path()).is_ok_and(|copy| copy.try_lock().is_ok()) {
            // The next check tries again.
            let _gone = fs::remove_dir_all(entry.path());
        }
    }
}

#[derive(Debug, Default)]
struct Count {
    states: HashMap<Slot, State>,
    queues: HashSet<celeriac_proto::QueueName>,
    chunks: u64,
    live_bytes: u64,
    log_bytes: u64,
}

fn count(log: &Log, journal: Option<&Reading>, note: &Note) -> Result<Count, survey::Refusal> {
    let survey = guard::survey(log, journal, note)?;
    let index = &survey.index;
    let mut count = Count {
        chunks: index.end() - index.base(),
        live_bytes: index.live_bytes(),
        log_bytes: index.log_bytes(),
        ..Count::default()
    };
    let mut take = |record| count.take(record);
    match journal {
        None => survey::load(log, index, &mut take)?,
        Some(journal) => survey::load(&journal.over(log), index, &mut take)?,
    }
    Ok(count)
}

impl Count {
    /// Takes only live records; a submit comes before its change.
    fn take(&mut self, record: Record) {
        match record {
            Record::Submitted(task) => {
                let waits = task.eta.is_some_and(|eta| eta > task.submitted_at);
                self.states
                    .insert(task.key.slot, if waits { State::Scheduled } else { State::Queued });
                self.queues.insert(task.spec.queue);
            }
            Record::Changed(change) => {
                self.states.insert(change.key.slot, change.state);
            }
            Record::Named(Named::Queue(queue)) => {
                self.queues.insert(queue.name);
            }
            Record::Named(
                Named::Session(_) | Named::Exchange(_) | Named::Binding(_) | Named::Chord(_),
            ) => {}
            Record::Forgotten(_) | Record::Removed(_) => {}
        }
    }

    fn report(self, format: u32, file_bytes: u64, oddity: Option<String>) -> Report {
        let tasks_in = |state| self.states.values().filter(|found| **found == state).count() as u64;
        Report {
            format,
            tasks: STATES.iter().map(|state| (state.name(), tasks_in(*state))).collect(),
            queues: self.queues.len() as u64,
            chunks: self.chunks,
            live_bytes: self.live_bytes,
            log_bytes: self.log_bytes,
            file_bytes,
            oddity,
        }
    }
}
