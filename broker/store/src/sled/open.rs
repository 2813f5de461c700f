//! The start on a data folder: lock the folder, check it, make room, open sled, read everything.

use std::path::Path;
use std::sync::{Arc, Mutex};

use celeriac_record::Record;

use super::folder::Folder;
use super::log::{Log, OpenFailure};
use super::segments::SegmentFiles;
use super::watch::Watch;
use super::{FolderConfig, Progress, QuietlyClosed, SledArchive, files, guard, reads};
use crate::direct::Direct;
use crate::error::Error;
use crate::journal::{Journal, Reading};
use crate::medium::{FORMAT, FORMAT_WITHOUT_JOURNAL, Medium};
use crate::{Marks, Store, StoreConfig};

/// sled fills up the segments at its tail when it starts, and writes a snapshot. With less room
/// than this the start deletes the ballast.
const START_BYTES: u64 = 30 * 1024 * 1024;
/// With less room than this the store does not try a start.
const START_BYTES_MIN: u64 = 1024 * 1024;

impl Store {
    /// Opens a store in this folder, or makes the folder, and hands every live record to `load`,
    /// like [`Store::over`].
    ///
    /// # Errors
    /// Each kind says what to do. A refused folder stays unchanged, as far as the checks can decide
    /// before sled opens it.
    pub fn open(
        folder: FolderConfig,
        config: StoreConfig,
        load: &mut dyn FnMut(Record),
    ) -> Result<(Self, Marks), Error> {
        let (archive, journal) = SledArchive::open(&folder).map_err(Error::of_start)?;
        let (witness, path) = (archive.log.clone(), archive.folder.path().to_owned());
        let archive = Arc::new(archive);
        let medium: Result<Box<dyn Medium>, Error> = match journal {
            Some(journal) => Journal::new(journal, archive).map(|journal| Box::new(journal) as _),
            None => Ok(Box::new(Direct::over(archive))),
        };
        medium.and_then(|medium| Self::over(medium, config, load)).map_err(|error| {
            match (error, witness.read_failure()) {
                // Bytes that cannot be read at the moment look like damage to sled.
                (Error::Damaged { .. }, Some(source)) => unreadable(&path)(source),
                (error, _) => error.of_start(),
            }
        })
    }
}

/// The error when the disk refused a read of sled's file.
pub(super) fn unreadable(folder: &Path) -> impl FnOnce(std::io::Error) -> Error + use<> {
    Error::io(format!("read {}", folder.join("db").display()))
}

impl SledArchive {
    fn open(config: &FolderConfig) -> Result<(Self, Option<Reading>), Error> {
        let folder = Folder::lock(&config.path)?;
        let wanted = if config.journal.is_some() { FORMAT } else { FORMAT_WITHOUT_JOURNAL };
        let format = folder.claim(wanted)?;
        guard::refuse_unknown_journal(&folder, format)?;
        folder.remove_leftovers()?;
        let mut watch = Watch::default();
        let note = watch.read_note(&folder)?;
        let journal_config =
            config.journal.unwrap_or_default().on_a_disk_of(folder.room()?.disk_bytes);
        let mut journal = None;
        match &note {
            Some(note) => {
                if format > FORMAT_WITHOUT_JOURNAL {
                    journal = Some(guard::read_journal(&folder, Some(journal_config))?);
                }
                guard::inspect(&folder, journal.as_ref(), note)?;
            }
            None if guard::is_unconfirmed(&folder, format)? => folder.remove_unconfirmed()?,
            None => return Err(folder.damaged("its file `durable` is missing or cannot be read")),
        }
        // The inspection has read the file.
        if note.is_some() && !reads::is_linked() {
            return Err(Error::NotWatched);
        }
        make_room(&folder)?;
        files::warn_of_others(&folder, files::Purpose::Data);
        if journal.is_none() && format.max(wanted) > FORMAT_WITHOUT_JOURNAL {
            let made = SegmentFiles::make(&folder, journal_config)?;
            let read = Reading::of(Arc::new(made));
            journal = Some(read.map_err(|error| error.into_error(folder.path()))?);
        }
        let before = folder.names(folder.path())?;
        let log = Log::open(folder.path(), true).map_err(|failure| refusal(&folder, failure))?;
        files::close_new(&folder, &before)?;
        if journal.is_some() && format != FORMAT {
            // From now on an earlier version would miss what the journal has.
            folder.write_format(FORMAT)?;
        }
        watch.remember_snapshot(&folder)?;
        let confirmed = note.map(|note| note.chunk);
        let archive = Self {
            log: QuietlyClosed(Some(log)),
            confirmed,
            progress: Mutex::new(Progress { newest: confirmed, unsynced_since: None }),
            watch: Mutex::new(watch),
            ballast_bytes: config.ballast_bytes,
            folder,
        };
        Ok((archive, journal))
    }
}

/// Makes room for sled, which cannot start on a full disk. The broker must start there, so that
/// workers can report.
fn make_room(folder: &Folder) -> Result<(), Error> {
    if folder.has_ballast() && !folder.has_room_for(START_BYTES)? {
        tracing::warn!("the disk is full; giving up the ballast file to start");
        folder.drop_ballast()?;
    }
    if folder.has_room_for(START_BYTES_MIN)? {
        return Ok(());
    }
    Err(disk_full(folder, folder.room()?.free_bytes))
}

fn disk_full(folder: &Folder, free_bytes: u64) -> Error {
    Error::DiskFull { folder: folder.path().to_owned(), free_bytes, needed_bytes: START_BYTES }
}

fn refusal(folder: &Folder, failure: OpenFailure) -> Error {
    match failure {
        OpenFailure::Error(sled::Error::Io(error))
            if ["No space left", "quota exceeded"]
                .iter()
                .any(|full| error.to_string().contains(full)) =>
        {
            disk_full(folder, folder.room().map_or(0, |room| room.free_bytes))
        }
        OpenFailure::Locked => Error::Locked { folder: folder.path().to_owned() },
        OpenFailure::Unreadable(error) => folder.io("read", "db")(error),
        OpenFailure::Error(sled::Error::Io(error)) => folder.io("open", "db")(error),
        failure => folder.damaged(failure.to_string()),
    }
}
