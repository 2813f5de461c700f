//! The data folder and the files beside sled's: `lock`, `format` and `ballast`. `watch` has the
//! file `durable`, and `segments` the files of the journal.

use std::fs::{self, File, OpenOptions, Permissions, TryLockError};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{FallocateFlags, Mode, OFlags};
use rustix::io::Errno;

use super::files::{
    PRIVATE_FILE, is_of_a_new_folder, make_folder, make_or_open, refuse_irregular, sync_folder,
    write_synced,
};
use crate::error::Error;
use crate::medium::{FORMAT, Room};

/// The files and folders that sled makes.
pub(super) const OF_SLED: [&str; 3] = ["db", "conf", "blobs"];
/// A killed broker keeps its lock until its last write has ended. The next broker must not fail
/// because of that.
const LOCK_PATIENCE: Duration = Duration::from_secs(1);
/// The subfolder for the trial copy of a doubtful folder.
pub(super) const REHEARSAL: &str = "rehearsal";

/// The file of a folder into which a backup is restored, see `restore.rs`.
pub(super) const RESTORING: &str = "restoring";

/// A data folder that this process has locked.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    /// This file stays open: closing it releases the lock.
    #[allow(dead_code, reason = "it is held to be dropped")]
    lock: Option<File>,
}

impl Folder {
    /// Makes the folder if it does not exist, and locks it.
    pub(super) fn lock(path: &Path) -> Result<Self, Error> {
        // A disk that fails must not look like a folder that is missing.
        let existed = match fs::metadata(path) {
            Ok(found) => found.is_dir(),
            Err(error) if is_no_such_path(&error) => false,
            Err(error) => {
                return Err(Error::io(format!("look at the data folder {}", path.display()))(
                    error,
                ));
            }
        };
        make_folder(path).map_err(|error| {
            let doing = format!("create the data folder {}", path.display());
            // A file lies there, or a link that leads nowhere.
            let is_taken = error.kind() == io::ErrorKind::AlreadyExists;
            Error::io(doing)(if is_taken { io::ErrorKind::NotADirectory.into() } else { error })
        })?;
        let path = path
            .canonicalize()
            .map_err(Error::io(format!("find the data folder {}", path.display())))?;
        if let (false, Some(parent)) = (existed, path.parent()) {
            sync_folder(parent)?;
        }
        refuse_irregular(&path)?;
        refuse_half_restored(&path)?;
        let mut folder = Self { path, lock: None };
        let names = folder.names(&folder.path)?;
        // The folder of another program gets no file at all, not even the lock. Another broker may
        // be making its files here: it has made the lock first.
        if !names.iter().any(|name| name == "lock") && folder.read_format()?.is_none() {
            folder.refuse_foreign(&names)?;
        }
        let lock = make_or_open(&folder.path.join("lock"))?;
        wait_for_lock(&folder.path, || lock.try_lock())?;
        folder.lock = Some(lock);
        Ok(folder)
    }

    /// Locks an existing folder against brokers, and changes nothing in it. A copy may have no file
    /// to lock.
    pub(super) fn lock_to_read(path: &Path) -> Result<Self, Error> {
        let path = path
            .canonicalize()
            .map_err(Error::io(format!("read the folder {}", path.display())))?;
        if !path.is_dir() {
            let doing = format!("read the folder {}", path.display());
            return Err(Error::io(doing)(io::ErrorKind::NotADirectory.into()));
        }
        refuse_irregular(&path)?;
        refuse_half_restored(&path)?;
        let lock = match File::open(path.join("lock")) {
            Ok(lock) => Some(lock),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                return Err(Error::io(format!("open {}", path.join("lock").display()))(error));
            }
        };
        if let Some(lock) = &lock {
            wait_for_lock(&path, || lock.try_lock_shared())?;
        }
        // A broker holds this lock too: its file `lock` may have been removed.
        if let Ok(database) = File::open(path.join("db")) {
            wait_for_lock(&path, || database.try_lock_shared())?;
        }
        Ok(Self { path, lock })
    }

    /// A folder that is to become a data folder, with its lock.
    pub(super) fn to_restore(path: PathBuf, lock: File) -> Self {
        Self { path, lock: Some(lock) }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// An error of one of the folder's files.
    pub(super) fn io(&self, doing: &str, name: &str) -> impl FnOnce(io::Error) -> Error {
        Error::io(format!("{doing} {}", self.path.join(name).display()))
    }

    pub(super) fn damaged(&self, reason: impl Into<String>) -> Error {
        Error::Damaged { folder: self.path.clone(), reason: reason.into() }
    }

    pub(super) fn foreign(&self, reason: impl Into<String>) -> Error {
        Error::Foreign { folder: self.path.clone(), reason: reason.into() }
    }

    pub(super) fn newer(&self, found: u32) -> Error {
        Error::NewerFormat { folder: self.path.clone(), found, known: FORMAT }
    }

    /// Reads the format of the folder. `None`: the folder is new, or not a data folder.
    pub(super) fn read_format(&self) -> Result<Option<u32>, Error> {
        match fs::read(self.path.join("format")) {
            Ok(bytes) => match parse_format(&bytes) {
                Some(format) if format > FORMAT => Err(self.newer(format)),
                Some(format) => Ok(Some(format)),
                None => Err(self.damaged("its file `format` cannot be read")),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(self.io("read", "format")(error)),
        }
    }

    /// Prepares a new folder, which gets the format `new`, and checks the format of any other
    /// folder. Returns the format.
    pub(super) fn claim(&self, new: u32) -> Result<u32, Error> {
        if let Some(format) = self.read_format()? {
            return Ok(format);
        }
        self.refuse_foreign(&self.names(&self.path)?)?;
        self.write_format(new)?;
        Ok(new)
    }

    /// Refuses a folder without the file `format`, unless it is empty or has only what the first
    /// start leaves when it is killed before it has made that file.
    fn refuse_foreign(&self, names: &[String]) -> Result<(), Error> {
        let lost =
            OF_SLED.iter().chain(&["durable"]).find(|lost| names.iter().any(|n| n == **lost));
        if let Some(name) = lost {
            return Err(self.foreign(format!("it has a file `{name}` but none named `format`")));
        }
        match names.iter().find(|name| !is_of_a_new_folder(&self.path.join(name))) {
            Some(name) => Err(self.foreign(format!("it is not empty, it holds `{name}`"))),
            None => Ok(()),
        }
    }

    /// From now on the folder counts as a data folder of this format.
    pub(super) fn write_format(&self, format: u32) -> Result<(), Error> {
        let new = self.path.join("format.new");
        write_synced(&new, format_text(format).as_bytes())?;
        fs::rename(&new, self.path.join("format")).map_err(self.io("name", "format"))?;
        sync_folder(&self.path)
    }

    /// Removes the files that a killed start may have left. sled would use a half-written snapshot
    /// as a whole one.
    pub(super) fn remove_leftovers(&self) -> Result<(), Error> {
        for name in self.names(&self.path)? {
            if name.starts_with("snap.") && name.ends_with(".generating") {
                fs::remove_file(self.path.join(&name))
                    .map_err(self.io("remove the leftover", &name))?;
            }
        }
        match fs::remove_dir_all(self.path.join(REHEARSAL)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(self.io("remove the leftover", REHEARSAL)(error))
            }
            _ => Ok(()),
        }
    }

    /// Removes sled's files after a creation that ended before its first confirmed chunk.
    pub(super) fn remove_unconfirmed(&self) -> Result<(), Error> {
        for name in self.names(&self.path)? {
            let path = self.path.join(&name);
            let outcome = match name.as_str() {
                "blobs" => fs::remove_dir_all(&path),
                name if OF_SLED.contains(&name) || name.starts_with("snap.") => {
                    fs::remove_file(&path)
                }
                _ => Ok(()),
            };
            outcome.map_err(Error::io(format!(
                "remove {} of an interrupted creation",
                path.display()
            )))?;
        }
        Ok(())
    }

    /// The names in a folder, sorted.
    pub(super) fn names(&self, folder: &Path) -> Result<Vec<String>, Error> {
        let doing = || format!("list the folder {}", folder.display());
        let mut names = Vec::new();
        for entry in fs::read_dir(folder).map_err(Error::io(doing()))? {
            names.push(
                entry.map_err(Error::io(doing()))?.file_name().to_string_lossy().into_owned(),
            );
        }
        names.sort();
        Ok(names)
    }

    /// The name of the snapshot that sled starts from, and its position in sled's log. The name
    /// contains the position.
    pub(super) fn snapshot(&self) -> Result<Option<(String, u64)>, Error> {
        let names = self.names(&self.path)?;
        Ok(names.into_iter().rev().find_map(|name| {
            let position = u64::from_str_radix(name.strip_prefix("snap.")?, 16).ok()?;
            Some((name, position))
        }))
    }

    /// Syncs the files and the folder, so that the creation of every file is durable.
    pub(super) fn sync_creation(&self) -> Result<(), Error> {
        for name in ["db", "conf", "durable"] {
            let file = File::open(self.path.join(name)).and_then(|file| file.sync_all());
            file.map_err(self.io("sync", name))?;
        }
        sync_folder(&self.path)
    }

    pub(super) fn database_bytes(&self) -> Result<u64, Error> {
        let metadata = fs::metadata(self.path.join("db")).map_err(self.io("look at", "db"))?;
        Ok(metadata.len())
    }

    /// The number of values that sled keeps in separate files.
    pub(super) fn stray_files(&self) -> Result<u64, Error> {
        match fs::read_dir(self.path.join("blobs")) {
            Ok(entries) => Ok(entries.count() as u64),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
            Err(error) => Err(self.io("list", "blobs")(error)),
        }
    }

    pub(super) fn room(&self) -> Result<Room, Error> {
        room_in(&self.path)
    }

    /// Whether the folder can take so many bytes more. The disk may say that it has room where a
    /// quota leaves none, so a file without a name takes the room for a moment.
    pub(super) fn has_room_for(&self, bytes: u64) -> Result<bool, Error> {
        if self.room()?.free_bytes < bytes {
            return Ok(false);
        }
        let (flags, mode) = (OFlags::TMPFILE | OFlags::WRONLY, Mode::RUSR | Mode::WUSR);
        let taken = rustix::fs::open(&self.path, flags, mode)
            .and_then(|file| rustix::fs::fallocate(file, FallocateFlags::empty(), 0, bytes));
        // Not every file system can do this.
        Ok(!matches!(taken, Err(Errno::NOSPC | Errno::DQUOT)))
    }

    pub(super) fn has_ballast(&self) -> bool {
        self.path.join("ballast").exists()
    }

    pub(super) fn drop_ballast(&self) -> Result<(), Error> {
        fs::remove_file(self.path.join("ballast")).map_err(self.io("remove", "ballast"))
    }

    /// Takes room that a later start on a full disk can free. A broker without ballast continues.
    pub(super) fn make_ballast(&self, bytes: u64) {
        let path = self.path.join("ballast");
        let made = OpenOptions::new().create(true).truncate(true).write(true).open(&path).and_then(
            |file| {
                file.set_permissions(Permissions::from_mode(PRIVATE_FILE))?;
                rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, bytes)?;
                Ok(())
            },
        );
        if let Err(error) = made {
            tracing::warn!(%error, "no ballast file: a start on a full disk may fail");
            let _absent = fs::remove_file(&path);
        }
    }
}

/// How full the disk of this folder is.
pub(super) fn room_in(path: &Path) -> Result<Room, Error> {
    let disk = rustix::fs::statvfs(path).map_err(|error| {
        Error::io(format!("ask how full the disk of {} is", path.display()))(error.into())
    })?;
    let (free_bytes, disk_bytes) = (disk.f_bavail * disk.f_frsize, disk.f_blocks * disk.f_frsize);
    Ok(Room { free_bytes, disk_bytes, ..Room::default() })
}

fn is_no_such_path(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

fn refuse_half_restored(path: &Path) -> Result<(), Error> {
    match path.join(RESTORING).exists() {
        true => Err(Error::HalfRestored { folder: path.to_owned() }),
        false => Ok(()),
    }
}

pub(super) fn wait_for_lock(
    folder: &Path,
    try_lock: impl Fn() -> Result<(), TryLockError>,
) -> Result<(), Error> {
    let patience = Instant::now() + LOCK_PATIENCE;
    loop {
        match try_lock() {
            Ok(()) => return Ok(()),
            Err(TryLockError::WouldBlock) if Instant::now() < patience => {
                std::thread::sleep(Duration::from_millis(10));
            }
            Err(TryLockError::WouldBlock) => {
                return Err(Error::Locked { folder: folder.to_owned() });
            }
            Err(TryLockError::Error(error)) => {
                return Err(Error::io(format!("lock the data folder {}", folder.display()))(error));
            }
        }
    }
}

fn format_text(format: u32) -> String {
    let line = format!("celeriac data folder, format {format}");
    format!("{line}, checksum {:08x}\n", crc32c::crc32c(line.as_bytes()))
}

fn parse_format(bytes: &[u8]) -> Option<u32> {
    let text = std::str::from_utf8(bytes).ok()?;
    let number =
        text.strip_prefix("celeriac data folder, format ")?.split(',').next()?.parse().ok()?;
    (number > 0 && format_text(number) == text).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn format_with_a_flipped_bit_is_no_format() {
        let whole = format_text(1).into_bytes();
        assert_eq!(parse_format(&whole), Some(1));
        assert_eq!(parse_format(format_text(0).as_bytes()), None);
        for bit in 0..whole.len() * 8 {
            let mut broken = whole.clone();
            broken[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(parse_format(&broken), None, "bit {bit}");
        }
    }
}
