//! The checks before sled may touch a folder, because sled's `open` destroys data that it does not
//! understand.
//!
//! In the usual case the checks read everything once and find nothing odd. A folder may be odd: a
//! file was cut short, a bit has flipped, or a crash came at a rare moment from which sled does
//! recover. Then the store opens a copy of the folder on trial. Only if the copy holds everything
//! that was confirmed, the store opens the folder itself.

use std::fs::{self, DirBuilder};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use super::JournalConfig;
use super::files::PRIVATE_FOLDER;
use super::folder::{Folder, REHEARSAL};
use super::log::{Log, OpenFailure, SEGMENT_BYTES};
use super::note::Note;
use super::scan::scan;
use super::segments::{SegmentFiles, is_finished_segment};
use crate::error::Error;
use crate::journal::Reading;
use crate::medium::FORMAT_WITHOUT_JOURNAL;
use crate::survey::{self, Survey};

/// A trial that takes longer than this never ends: one of sled's threads has ended.
const REHEARSAL_PATIENCE: Duration = Duration::from_secs(600);
/// A large folder gets more time: the time that a slow disk needs.
const REHEARSAL_BYTES_PER_SECOND: u64 = 4 * 1024 * 1024;
/// An interrupted creation leaves a small file. The store does not search a larger file.
const UNCONFIRMED_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// The blocks that a creation writes into the journal.
const CREATION_BLOCKS: u64 = 1;
/// Room that has to stay free beside the copy.
pub(super) const SPARE_BYTES: u64 = 64 * 1024 * 1024;

/// Checks an existing folder, and tries a copy if something is odd.
pub(super) fn inspect(
    folder: &Folder,
    journal: Option<&Reading>,
    note: &Note,
) -> Result<(), Error> {
    match doubt(folder, journal, note)? {
        None => Ok(()),
        Some(reason) => rehearse(folder, journal.is_some(), note, &reason),
    }
}

/// Reads the journal of a folder: with a `config` to continue it.
pub(super) fn read_journal(
    folder: &Folder,
    config: Option<JournalConfig>,
) -> Result<Reading, Error> {
    let segments = SegmentFiles::open(folder, config)?;
    let has_notes = segments.has_notes();
    let reading = Reading::of(Arc::new(segments));
    let reading = reading.map_err(|error| error.into_error(folder.path()))?;
    if !has_notes && reading.blocks() > CREATION_BLOCKS {
        return Err(folder.damaged("its file `durable` is cut short"));
    }
    Ok(reading)
}

/// Refuses a folder whose format has no journal and which holds the journal of a broker: its file
/// `format` is of another time. The start would make a new journal in place of that one.
pub(super) fn refuse_unknown_journal(folder: &Folder, format: u32) -> Result<(), Error> {
    if format > FORMAT_WITHOUT_JOURNAL || !has_segments(folder)? {
        return Ok(());
    }
    // A start that makes a journal for the folder of an earlier version may have been interrupted
    // before its first block.
    if read_journal(folder, None)?.blocks() == 0 {
        return Ok(());
    }
    Err(folder.damaged(format!(
        "its file `format` says {format}, a format without a journal, but it holds a journal with \
         tasks: its files are not all of one time"
    )))
}

fn has_segments(folder: &Folder) -> Result<bool, Error> {
    Ok(folder.names(folder.path())?.iter().any(|name| is_finished_segment(name)))
}

/// Surveys the log of a folder: sled's part, and the journal's part over it.
pub(super) fn survey(
    log: &Log,
    journal: Option<&Reading>,
    note: &Note,
) -> Result<Survey, survey::Refusal> {
    match journal {
        None => survey::survey(log, Some(note.chunk)),
        Some(journal) => survey::survey(&journal.over(log), Some(note.chunk).max(journal.newest())),
    }
}

/// Checks an existing folder without changing anything in it. A doubt is a reason to try a copy,
/// not to refuse the folder.
pub(super) fn doubt(
    folder: &Folder,
    journal: Option<&Reading>,
    note: &Note,
) -> Result<Option<String>, Error> {
    let database = folder.path().join("db");
    if !database.exists() {
        return Err(folder.damaged("its file `db` is missing"));
    }
    match fs::read(folder.path().join("conf")) {
        Ok(conf) if conf == expected_conf() => {}
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(folder.io("read", "conf")(error));
        }
        _ => {
            return Err(
                folder.damaged("its file `conf` is missing or is not what this store wrote")
            );
        }
    }
    if folder.stray_files()? > 0 {
        return Err(folder.damaged("its folder `blobs` is not empty"));
    }
    let snapshot = inspect_snapshot(folder, note)?;
    let scan = scan(&database).map_err(folder.io("read", "db"))?;
    let gap = journal.is_some_and(Reading::has_gap).then(|| "its journal has a gap".to_owned());
    Ok(gap.or(snapshot).or_else(|| scan.suspicion(note)))
}

/// Whether a folder of this format without a note may be made again, because nothing in it was ever
/// confirmed.
pub(super) fn is_unconfirmed(folder: &Folder, format: u32) -> Result<bool, Error> {
    let has_journal = has_segments(folder)?;
    if has_journal && read_journal(folder, None)?.blocks() > CREATION_BLOCKS {
        return Ok(false);
    }
    let path = folder.path().join("db");
    if !path.exists() {
        return Ok(true);
    }
    // The creation makes the journal before sled's files.
    if format > FORMAT_WITHOUT_JOURNAL && !has_journal {
        return Ok(false);
    }
    if folder.database_bytes()? > UNCONFIRMED_BYTES_MAX {
        return Ok(false);
    }
    let bytes = fs::read(path).map_err(folder.io("read", "db"))?;
    // The creation writes chunk 0 and its note. Any later chunk proves that the note was written
    // and is lost.
    let confirmed = bytes.windows(16).any(|window| {
        let number = window[8..16].try_into().map(u64::from_le_bytes);
        window.starts_with(b"CELC")
            && window[6] <= 2
            && window[7] == 0
            && number.is_ok_and(|number| number > 0)
    });
    Ok(!confirmed)
}

/// The content that sled writes into `conf` with our settings: its text and a checksum.
fn expected_conf() -> Vec<u8> {
    let mut conf =
        format!("segment_size: {SEGMENT_BYTES}\nuse_compression: false\nversion: 0.34\n")
            .into_bytes();
    let sum = crc32fast::hash(&conf);
    conf.extend_from_slice(&sum.to_le_bytes());
    conf
}

/// Checks the snapshot that sled will start from. The snapshot may be newer than the note, if a
/// killed start made it.
fn inspect_snapshot(folder: &Folder, note: &Note) -> Result<Option<String>, Error> {
    let Some((name, position)) = folder.snapshot()? else {
        return Ok((note.snapshot > 0).then(|| "its snapshot is missing".into()));
    };
    let bytes = fs::read(folder.path().join(&name)).map_err(folder.io("read", &name))?;
    let whole = bytes.len() > 12 && {
        let (body, trailer) = bytes.split_at(bytes.len() - 12);
        trailer[8..] == crc32fast::hash(body).to_le_bytes()
            && trailer[..8] == (body.len() as u64).to_le_bytes()
    };
    if !whole {
        return Err(folder.damaged(format!("its file `{name}` has a wrong checksum")));
    }
    Ok((position < note.snapshot).then(|| "its snapshot is too old".into()))
}

/// Opens a copy of the folder and reads all of it.
fn rehearse(folder: &Folder, has_journal: bool, note: &Note, suspicion: &str) -> Result<(), Error> {
    tracing::warn!(suspicion, "the data folder looks damaged; opening a copy of it on trial");
    if folder.room()?.free_bytes < folder.database_bytes()? + SPARE_BYTES {
        tracing::warn!("there is no room for the copy; opening the folder itself");
        return Ok(());
    }
    let copy_folder = folder.path().join(REHEARSAL);
    DirBuilder::new()
        .mode(PRIVATE_FOLDER)
        .create(&copy_folder)
        .map_err(folder.io("make", REHEARSAL))?;
    copy(folder, &copy_folder)
        .map_err(Error::io(format!("copy the folder to {}", copy_folder.display())))?;
    let trial = {
        let journal = has_journal.then(|| read_journal(folder, None)).transpose()?;
        let note = *note;
        move |log: &Log| survey(log, journal.as_ref(), &note).map(|_| ())
    };
    let outcome = try_out(folder, &copy_folder, Some(suspicion), trial);
    fs::remove_dir_all(&copy_folder)
        .map_err(Error::io(format!("remove {}", copy_folder.display())))?;
    outcome
}

/// Opens the copy of the folder at `copy_folder`, and lets `trial` read it.
pub(super) fn try_out<T: Send + 'static>(
    folder: &Folder,
    copy_folder: &Path,
    suspicion: Option<&str>,
    trial: impl FnOnce(&Log) -> Result<T, survey::Refusal> + Send + 'static,
) -> Result<T, Error> {
    let patience = REHEARSAL_PATIENCE
        + Duration::from_secs(folder.database_bytes()? / REHEARSAL_BYTES_PER_SECOND);
    let (sender, receiver) = mpsc::channel();
    let place = copy_folder.to_owned();
    let thread = std::thread::Builder::new()
        .name("store rehearsal".into())
        .spawn(move || sender.send(read_copy(&place, trial)))
        .map_err(Error::io("start a thread"))?;
    let outcome = receiver.recv_timeout(patience);
    if outcome.is_ok() {
        let _ended = thread.join();
    }
    let reason = |reason: &str| match suspicion {
        Some(suspicion) => format!("{suspicion}, and {reason}"),
        None => reason.to_owned(),
    };
    match outcome {
        Ok(Ok(found)) => Ok(found),
        Ok(Err(survey::Refusal::Damaged(damage))) => Err(folder.damaged(reason(&damage))),
        Ok(Err(refusal)) => Err(refusal.into_error(folder.path())),
        Err(_) => Err(folder.damaged(reason("the storage engine does not get through it"))),
    }
}

/// Copies sled's files to the empty folder `copy_folder`.
pub(super) fn copy(folder: &Folder, copy_folder: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(folder.path())? {
        let name = entry?.file_name();
        let text = name.to_string_lossy();
        if text == "db"
            || text == "conf"
            || (text.starts_with("snap.") && !text.ends_with(".generating"))
        {
            fs::copy(folder.path().join(&name), copy_folder.join(&name))?;
        }
    }
    Ok(())
}

fn read_copy<T>(
    copy_folder: &Path,
    trial: impl FnOnce(&Log) -> Result<T, survey::Refusal>,
) -> Result<T, survey::Refusal> {
    let log = Log::open(copy_folder, false).map_err(|failure| match failure {
        OpenFailure::Unreadable(error) | OpenFailure::Error(sled::Error::Io(error)) => {
            survey::Refusal::Unreadable(error)
        }
        failure => survey::Refusal::Damaged(failure.to_string()),
    })?;
    let outcome = match (trial(&log), log.read_failure()) {
        (Err(_), Some(error)) => Err(survey::Refusal::Unreadable(error)),
        (outcome, _) => outcome,
    };
    log.abandon();
    outcome
}
