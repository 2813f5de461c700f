//! The notes in the file `durable`, and the watch over the files that the next start needs.
//!
//! A note says how far sled's log was durable. The store writes it after each flush and does not
//! sync it: an older note is also true, and only promises less. The file has two places for these
//! notes that take turns, so that a torn write damages only the newer note, and two for the notes
//! of the journal.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use super::files::make_or_open;
use super::folder::Folder;
use super::note::{NOTE_BYTES, Note};
use crate::error::Error;

/// The files that a start needs. The store watches them while the broker runs.
const REQUIRED: [&str; 4] = ["db", "conf", "format", "durable"];
/// The places of the notes on sled and on the journal.
pub(super) const NOTES_BYTES: u64 = 4 * NOTE_BYTES as u64;

/// The notes and the watch of a data folder.
#[derive(Debug, Default)]
pub(super) struct Watch {
    notes: Option<File>,
    note_sequence: u64,
    /// The snapshot that sled made or used at this start.
    snapshot: u64,
    /// The files that must stay in place.
    required: Vec<RequiredFile>,
    /// The length of `db` at the last note.
    file_bytes: u64,
}

/// A file as it was when the broker began to work.
#[derive(Debug)]
struct RequiredFile {
    name: &'static str,
    path: PathBuf,
    device: u64,
    inode: u64,
    /// The file must never be shorter than this.
    bytes: u64,
}

impl Watch {
    /// Remembers the snapshot of this start for later notes.
    pub(super) fn remember_snapshot(&mut self, folder: &Folder) -> Result<(), Error> {
        self.snapshot = folder.snapshot()?.map_or(0, |(_, position)| position);
        Ok(())
    }

    /// The newest whole note. `None`: nothing was ever confirmed, or the notes are damaged; the
    /// data file tells which.
    pub(super) fn read_note(&mut self, folder: &Folder) -> Result<Option<Note>, Error> {
        let newest = Note::newest_in(&read_notes(folder)?);
        self.note_sequence = newest.map_or(0, |note| note.sequence);
        Ok(newest)
    }

    /// Notes that everything up to this chunk is durable.
    pub(super) fn note(&mut self, folder: &Folder, chunk: u64, position: i64) -> Result<(), Error> {
        if self.notes.is_none() {
            self.notes = Some(open_notes(folder.path())?);
            self.begin(folder)?;
        }
        self.file_bytes = self.look_after_files(folder)?;
        let notes = self.notes.as_ref().expect("the file was opened above");
        self.note_sequence += 1;
        let note = Note {
            sequence: self.note_sequence,
            chunk,
            position,
            file_bytes: self.file_bytes,
            snapshot: self.snapshot,
        };
        notes.write_all_at(&note.to_bytes(), note.place()).map_err(folder.io("write", "durable"))
    }

    /// Remembers the files to watch.
    fn begin(&mut self, folder: &Folder) -> Result<(), Error> {
        for name in REQUIRED {
            let path = folder.path().join(name);
            match fs::metadata(&path) {
                Ok(found) => {
                    // sled may cut its file. The log knows which length it needs.
                    let bytes = if name == "db" { 0 } else { found.len() };
                    self.required.push(RequiredFile {
                        name,
                        path,
                        device: found.dev(),
                        inode: found.ino(),
                        bytes,
                    });
                }
                // The backup's copy gets its `format` last, and no broker starts from the copy
                // before.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(folder.io("look at", name)(error)),
            }
        }
        Ok(())
    }

    /// Checks that the files which the next start needs are present and are the same files.
    /// Otherwise the store confirms nothing more. Returns the length of `db`.
    fn look_after_files(&self, folder: &Folder) -> Result<u64, Error> {
        let mut file_bytes = 0;
        for RequiredFile { name, path, device, inode, bytes } in &self.required {
            let found = match fs::metadata(path) {
                Ok(found) => Some(found),
                Err(error) if error.kind() == io::ErrorKind::NotFound => None,
                Err(error) => return Err(folder.io("look at", name)(error)),
            };
            let Some(found) = found.filter(|found| (found.dev(), found.ino()) == (*device, *inode))
            else {
                return Err(folder.damaged(was_replaced(name)));
            };
            if found.len() < *bytes {
                return Err(folder.damaged(was_cut(name)));
            }
            if *name == "db" {
                file_bytes = found.len();
            }
        }
        Ok(file_bytes)
    }

    /// Checks all files. `needed_bytes` says how long sled needs its file to be: sled may have cut
    /// it.
    pub(super) fn inspect(
        &mut self,
        folder: &Folder,
        needed_bytes: impl Fn() -> u64,
    ) -> Result<(), Error> {
        if self.required.is_empty() {
            return Ok(());
        }
        if self.look_after_files(folder)? >= self.file_bytes {
            return Ok(());
        }
        // sled may be cutting its file between two of these looks.
        for _ in 0..3 {
            let needed_bytes = needed_bytes();
            let file_bytes = folder.database_bytes()?;
            if file_bytes >= needed_bytes {
                self.file_bytes = file_bytes;
                return Ok(());
            }
        }
        Err(folder.damaged(was_cut("db")))
    }
}

pub(super) fn was_replaced(name: &str) -> String {
    format!("its file `{name}` was removed or replaced while the broker ran")
}

pub(super) fn was_cut(name: &str) -> String {
    format!("its file `{name}` was cut short while the broker ran")
}

/// The bytes of the file `durable`. Nothing, if there is no such file.
pub(super) fn read_notes(folder: &Folder) -> Result<Vec<u8>, Error> {
    match fs::read(folder.path().join("durable")) {
        Ok(bytes) => Ok(bytes),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(folder.io("read", "durable")(error)),
    }
}

/// Opens the file `durable` of a folder for writing. The file gets its final length at once, so
/// that the watch notices when someone cuts it.
pub(super) fn open_notes(folder: &Path) -> Result<File, Error> {
    let path = folder.join("durable");
    let notes = make_or_open(&path)?;
    let doing = || format!("write {}", path.display());
    if notes.metadata().map_err(Error::io(doing()))?.len() < NOTES_BYTES {
        notes.set_len(NOTES_BYTES).map_err(Error::io(doing()))?;
    }
    Ok(notes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn note_comes_back_from_the_place_that_is_whole() {
        let home = tempfile::tempdir().unwrap();
        let folder = Folder::lock(home.path()).unwrap();
        let mut watch = Watch::default();
        fs::write(home.path().join("db"), b"12345").unwrap();
        assert_eq!(watch.read_note(&folder).unwrap(), None);
        for chunk in 1..=3 {
            watch.note(&folder, chunk, 100 * chunk as i64).unwrap();
        }
        let note = watch.read_note(&folder).unwrap().unwrap();
        assert_eq!((note.chunk, note.position, note.file_bytes), (3, 300, 5));

        let path = home.path().join("durable");
        let whole = fs::read(&path).unwrap();
        for bit in 0..whole.len() * 8 {
            let mut broken = whole.clone();
            broken[bit / 8] ^= 1 << (bit % 8);
            fs::write(&path, &broken).unwrap();
            assert!(matches!(watch.read_note(&folder).unwrap().unwrap().chunk, 2 | 3), "bit {bit}");
        }
        fs::write(&path, b"").unwrap();
        assert_eq!(watch.read_note(&folder).unwrap(), None);
    }
}
