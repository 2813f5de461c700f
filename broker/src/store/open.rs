//! The start: lock, look, open, read everything, prove that a flush syncs.

use super::append::Tail;
use super::cache::Cache;
use super::error::Error;
use super::folder::Folder;
use super::log::{Log, OpenFailure};
use super::medium::{Medium, OnDisk};
use super::room::Outlook;
use super::walk::{self, Survey};
use super::{Marks, Settings, Store, files, guard, reads};
use crate::record::Record;

/// sled fills up the segments at its tail when it starts, and writes a snapshot. With less room
/// than this the ballast goes.
const START_BYTES: u64 = 30 * 1024 * 1024;
/// With less than this a start is not even tried.
const START_BYTES_MIN: u64 = 1024 * 1024;

impl Store {
    /// Opens the folder, or makes it, and hands every live record to `load`.
    ///
    /// Each live record comes exactly once, in the order of the log: for a task its submit, then
    /// the latest change of its state if there was one; for a queue its settings. What was
    /// replaced, forgotten or deleted does not come. A task that was dropped without a record
    /// may come again, whole. The order among tasks is not that of their serials, for
    /// cleaning moves old records behind newer ones.
    ///
    /// # Errors
    /// Each kind says what to do. A folder that is refused is left as it is, as far as that can be
    /// told beforehand.
    pub fn open(settings: Settings, load: &mut dyn FnMut(Record)) -> Result<(Self, Marks), Error> {
        let mut folder = Folder::lock(&settings.folder)?;
        folder.claim()?;
        folder.remove_leftovers()?;
        let note = folder.read_note()?;
        match &note {
            Some(note) => guard::inspect(&folder, note)?,
            None if guard::is_unconfirmed(&folder)? => folder.remove_unconfirmed()?,
            None => return Err(folder.damaged("its file `durable` is missing or cannot be read")),
        }
        // The inspection has read the file.
        if note.is_some() && !reads::is_linked() {
            return Err(Error::NotWatched);
        }
        make_room(&folder)?;
        files::warn_of_others(&folder);
        let before = folder.names(folder.path())?;
        let log = Log::open(folder.path(), true).map_err(|failure| refusal(&folder, failure))?;
        files::close_new(&folder, &before)?;
        folder.remember_snapshot()?;
        let witness = log.clone();
        let opened = Self::over(
            settings,
            Box::new(OnDisk { log, folder }),
            note.map(|note| note.chunk),
            load,
        );
        // What cannot be read at the moment looks to sled like damage.
        opened.map_err(|error| match (error, witness.read_failure()) {
            (Error::Damaged { folder, .. }, Some(source)) => {
                Error::io(format!("read {}", folder.join("db").display()))(source)
            }
            (error, _) => error,
        })
    }

    /// Opens what is on a medium. `confirmed` is the newest chunk that was durable at least, if any
    /// was.
    pub(super) fn over(
        settings: Settings,
        medium: Box<dyn Medium>,
        confirmed: Option<u64>,
        load: &mut dyn FnMut(Record),
    ) -> Result<(Self, Marks), Error> {
        let survey = walk::survey(&*medium, confirmed);
        let loaded =
            survey.and_then(|survey| walk::load(&*medium, &survey.index, load).map(|()| survey));
        let Survey { index, marks, leftovers } = match loaded {
            Ok(survey) => survey,
            Err(refusal) => {
                let error = refusal.into_error(medium.path());
                medium.abandon();
                return Err(error);
            }
        };
        let mut store = Self {
            cache: Cache::new(settings.cache_bytes),
            tail: Tail::new(),
            failed: None,
            outlook: Outlook::default(),
            removed: leftovers,
            settings,
            backup: None,
            medium,
            index,
            marks,
        };
        if let Err(error) = store.prove() {
            // sled's own threads may be gone, and it would wait for them.
            let _ends_when_it_can =
                std::thread::Builder::new().name("store closing".into()).spawn(move || drop(store));
            return Err(error);
        }
        store.medium.opened(confirmed.is_none(), &store.settings)?;
        tracing::info!(folder = %store.medium.path().display(), usage = ?store.usage()?, "the store is open");
        Ok((store, marks))
    }

    /// Writes an empty chunk: that proves that a flush syncs the file, and the log is never without
    /// a chunk that carries the marks.
    fn prove(&mut self) -> Result<(), Error> {
        self.seal_open(true);
        self.write_batch()?;
        match self.medium.stray_files()? {
            0 => Ok(()),
            _ => Err(self.damaged("its folder `blobs` is not empty".into())),
        }
    }
}

/// sled cannot start on a full disk; a start has to, for the workers' reports.
fn make_room(folder: &Folder) -> Result<(), Error> {
    if folder.room()?.free_bytes < START_BYTES && folder.has_ballast() {
        tracing::warn!("the disk is full; giving up the ballast file to start");
        folder.drop_ballast()?;
    }
    let free_bytes = folder.room()?.free_bytes;
    if free_bytes < START_BYTES_MIN { Err(disk_full(folder, free_bytes)) } else { Ok(()) }
}

fn disk_full(folder: &Folder, free_bytes: u64) -> Error {
    Error::DiskFull { folder: folder.path().to_owned(), free_bytes, needed_bytes: START_BYTES }
}

fn refusal(folder: &Folder, failure: OpenFailure) -> Error {
    match failure {
        OpenFailure::Error(sled::Error::Io(error))
            if error.to_string().contains("No space left") =>
        {
            disk_full(folder, folder.room().map_or(0, |room| room.free_bytes))
        }
        OpenFailure::Locked => Error::Locked { folder: folder.path().to_owned() },
        OpenFailure::Unreadable(error) => folder.io("read", "db")(error),
        OpenFailure::Error(sled::Error::Io(error)) => folder.io("open", "db")(error),
        failure => folder.damaged(failure.to_string()),
    }
}
