//! The files of a data folder in the file system. This file makes them so that only this user can
//! read them, whatever the umask, and refuses them where they are not regular files. It does not
//! know their content.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use super::folder::{Folder, OF_SLED, REHEARSAL, RESTORING};
use super::segments::is_segment;
use crate::error::Error;

/// The modes of folders and files that this program makes: other users have no access.
pub(super) const PRIVATE_FOLDER: u32 = 0o700;
pub(super) const PRIVATE_FILE: u32 = 0o600;

/// The folder that a new file system has.
pub(super) const LOST_AND_FOUND: &str = "lost+found";

/// Makes the folder and its missing parent folders so that only this user can read them, whatever
/// the umask.
pub(super) fn make_folder(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        make_folder(parent)?;
    }
    match fs::create_dir(path) {
        Ok(()) => fs::set_permissions(path, Permissions::from_mode(PRIVATE_FOLDER)),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        Err(error) => Err(error),
    }
}

/// Opens a file for writing. Only this user can read a new file, whatever the umask.
pub(super) fn make_or_open(path: &Path) -> Result<File, Error> {
    let doing = || format!("open {}", path.display());
    match OpenOptions::new().create_new(true).write(true).mode(PRIVATE_FILE).open(path) {
        Ok(file) => {
            file.set_permissions(Permissions::from_mode(PRIVATE_FILE))
                .map_err(Error::io(doing()))?;
            Ok(file)
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            OpenOptions::new().write(true).open(path).map_err(Error::io(doing()))
        }
        Err(error) => Err(Error::io(doing())(error)),
    }
}

/// Whether a file or folder of the store has this name.
pub(super) fn is_ours(name: &str) -> bool {
    OF_SLED.contains(&name)
        || ["lock", "format", "format.new", "durable", "ballast", REHEARSAL, RESTORING]
            .contains(&name)
        || name.starts_with("snap.")
        || is_segment(name)
}

/// Whether a folder may have this file or folder before it is a data folder: the first start makes
/// files of these names before `format`, `ballast` stays when someone has removed the data by hand,
/// and a new file system has `lost+found`.
pub(super) fn is_of_a_new_folder(path: &Path) -> bool {
    match path.file_name().and_then(|name| name.to_str()) {
        Some("lock" | "format.new" | "ballast") => path.is_file(),
        Some(LOST_AND_FOUND) => path.is_dir(),
        _ => false,
    }
}

/// Refuses all but regular files: opening a pipe waits for ever, a device is not a disk, and the
/// store does not watch the target of a link.
pub(super) fn refuse_irregular(path: &Path) -> Result<(), Error> {
    let doing = || format!("list the folder {}", path.display());
    for entry in fs::read_dir(path).map_err(Error::io(doing()))? {
        let entry = entry.map_err(Error::io(doing()))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if !is_ours(&name) {
            continue;
        }
        let found =
            entry.file_type().map_err(Error::io(format!("look at {}", entry.path().display())))?;
        let is_folder = name == "blobs" || name == REHEARSAL;
        if (is_folder && !found.is_dir()) || (!is_folder && !found.is_file()) {
            let what = if is_folder { "folder" } else { "regular file" };
            return Err(Error::Foreign {
                folder: path.to_owned(),
                reason: format!("its `{name}` is no {what}"),
            });
        }
    }
    Ok(())
}

/// Removes other users' access, which the umask gave, from the files that sled has just made: the
/// files that are not in `before`.
pub(super) fn close_new(folder: &Folder, before: &[String]) -> Result<(), Error> {
    for name in folder.names(folder.path())? {
        if is_ours(&name) && !before.contains(&name) {
            let mode = if name == "blobs" { PRIVATE_FOLDER } else { PRIVATE_FILE };
            let set = fs::set_permissions(folder.path().join(&name), Permissions::from_mode(mode));
            // sled may remove its old snapshot at any time.
            if let Err(error) = set
                && error.kind() != io::ErrorKind::NotFound
            {
                return Err(folder.io("set the permissions of", &name)(error));
            }
        }
    }
    Ok(())
}

/// What a folder is for, in the words of a warning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    Data,
    Backup,
}

/// Warns of files that other users can read. Their modes stay, because the owner may intend them.
pub(super) fn warn_of_others(folder: &Folder, purpose: Purpose) {
    let is_open =
        |path: &Path| fs::metadata(path).is_ok_and(|found| found.permissions().mode() & 0o077 != 0);
    if !is_open(folder.path()) {
        return;
    }
    let names = folder.names(folder.path()).unwrap_or_default();
    let open: Vec<_> = names
        .iter()
        .filter(|name| is_ours(name) && is_open(&folder.path().join(name)))
        .map(String::as_str)
        .collect();
    let path = folder.path().display();
    // None when they see the names of the files and nothing else.
    let files = (!open.is_empty()).then(|| open.join(", "));
    match purpose {
        Purpose::Data => {
            tracing::warn!(folder = %path, files, "other users may look into the data folder: take that from them with `chmod -R go= {path}`")
        }
        Purpose::Backup => {
            tracing::warn!(folder = %path, files, "other users may look into the folder of the backup: take that from them with `chmod -R go= {path}`")
        }
    }
}

pub(super) fn sync_folder(path: &Path) -> Result<(), Error> {
    File::open(path)
        .and_then(|folder| folder.sync_all())
        .map_err(Error::io(format!("sync the folder {}", path.display())))
}

pub(super) fn write_synced(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let written = File::create(path).and_then(|file| {
        file.set_permissions(Permissions::from_mode(PRIVATE_FILE))?;
        file.write_all_at(bytes, 0)?;
        file.sync_all()
    });
    written.map_err(Error::io(format!("write {}", path.display())))
}
