//! Restores a backup: copies it into an empty folder, checks the copy, and only then makes it a
//! data folder.
//!
//! The first file in the folder is `restoring`, and it is removed last. A folder that has it is
//! refused, so a restore that was interrupted leaves nothing that a broker would serve. The next
//! restore into the folder begins again.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::check::{Report, check_as};
use super::files::{
    PRIVATE_FOLDER, is_of_a_new_folder, is_ours, make_folder, make_or_open, refuse_irregular,
    sync_folder, write_synced,
};
use super::folder::{Folder, RESTORING, room_in, wait_for_lock};
use super::guard::SPARE_BYTES;
use crate::error::Error;

/// Copies a backup into `data`, which must be empty or not exist, and checks the copy. The backup
/// may be any data folder that no broker uses; nothing in it changes. `tell` gets the path of the
/// copy that the check reads, as in [`check_telling`](super::check_telling).
///
/// # Errors
/// [`Error::Occupied`], [`Error::Locked`], [`Error::NoRoom`], and those of a check of the backup.
/// The folder `data` is then as empty as before.
pub fn restore(backup: &Path, data: &Path, tell: impl FnOnce(&Path)) -> Result<Report, Error> {
    let source = Folder::lock_to_read(backup)?;
    let format = source.read_format().map_err(|error| of_backup(&source, error))?;
    let format = format.ok_or_else(|| source.foreign("it has no file named `format`"))?;
    let existed = data.is_dir();
    let target = target(data, &source).inspect_err(|_| {
        if !existed {
            // It is removed only if it is empty.
            let _stays = fs::remove_dir(data);
        }
    })?;
    let restored = fill(&target, &source, format, tell);
    if restored.is_err() {
        // The folder is refused as long as its files are there.
        if let Err(error) = clear(&target, existed) {
            tracing::warn!(%error, folder = %target.path().display(), "a part of the backup is left over");
        }
    }
    restored.map_err(|error| of_backup(&source, error))
}

/// What is wrong with the copy is wrong with the backup.
fn of_backup(source: &Folder, error: Error) -> Error {
    match error {
        Error::Damaged { reason, .. } => {
            Error::DamagedBackup { folder: source.path().to_owned(), reason }
        }
        Error::Foreign { reason, .. } => source.foreign(reason),
        error => error.of_start(),
    }
}

/// Makes the folder if it does not exist, and locks it. It then holds nothing but the lock and the
/// file that says what happens.
fn target(data: &Path, source: &Folder) -> Result<Folder, Error> {
    make_folder(data).map_err(Error::io(format!("create the data folder {}", data.display())))?;
    let path = data
        .canonicalize()
        .map_err(Error::io(format!("find the data folder {}", data.display())))?;
    if path.starts_with(source.path()) {
        return Err(occupied(&path, "lies inside the backup: choose another folder"));
    }
    refuse_irregular(&path)?;
    let names = names(&path)?;
    let is_interrupted = names.iter().any(|name| name == RESTORING);
    // A restore that was interrupted has left files of a data folder, and no others.
    let is_expected =
        |name: &&String| is_of_a_new_folder(&path.join(name)) || (is_interrupted && is_ours(name));
    let others = names.iter().find(|name| !is_expected(name));
    let refused = |name: &String| match is_interrupted {
        true => occupied(
            &path,
            &format!(
                "is left over from an interrupted restore and holds `{name}`, which no restore \
                 made: move that away, and type the same command again"
            ),
        ),
        false => occupied(
            &path,
            &format!(
                "is not empty: it holds `{name}`; a restore needs an empty folder, so move the \
                 present data away or choose another folder"
            ),
        ),
    };
    let has_lock = names.iter().any(|name| name == "lock");
    if let (Some(name), false) = (others, has_lock) {
        return Err(refused(name));
    }
    let lock = make_or_open(&path.join("lock"))?;
    // A broker that uses the folder is the better reason.
    wait_for_lock(&path, || lock.try_lock())?;
    if let Some(name) = others {
        return Err(refused(name));
    }
    if is_interrupted {
        remove_ours(&path)?;
    }
    let target = Folder::to_restore(path, lock);
    own(target.path(), source.path())?;
    write_synced(&target.path().join(RESTORING), b"a restore is under way, or was interrupted\n")?;
    sync_folder(target.path())?;
    Ok(target)
}

fn fill(
    target: &Folder,
    source: &Folder,
    format: u32,
    tell: impl FnOnce(&Path),
) -> Result<Report, Error> {
    need_room(target, source)?;
    for name in copied(source)? {
        let (from, to) = (source.path().join(&name), target.path().join(&name));
        if from.is_dir() {
            fs::create_dir(&to).map_err(target.io("make", &name))?;
            let mode = Permissions::from_mode(PRIVATE_FOLDER);
            fs::set_permissions(&to, mode).map_err(target.io("set the permissions of", &name))?;
            for inner in names(&from)? {
                copy(&from.join(&inner), &to.join(&inner))?;
            }
        } else {
            copy(&from, &to)?;
        }
        own(&to, &from)?;
    }
    sync_folder(target.path())?;
    let report = check_as(target, format, tell)?;
    target.write_format(format)?;
    own(&target.path().join("format"), source.path())?;
    own(&target.path().join("lock"), source.path())?;
    fs::remove_file(target.path().join(RESTORING)).map_err(target.io("remove", RESTORING))?;
    sync_folder(target.path())?;
    if let Some(parent) = target.path().parent() {
        sync_folder(parent)?;
    }
    Ok(report)
}

/// The files of the backup that are its data.
fn copied(source: &Folder) -> Result<Vec<String>, Error> {
    let is_of_the_start = |name: &str| {
        ["lock", "format", "format.new", "ballast", RESTORING, super::folder::REHEARSAL]
            .contains(&name)
            || name.ends_with(".generating")
    };
    let names = source.names(source.path())?;
    Ok(names.into_iter().filter(|name| is_ours(name) && !is_of_the_start(name)).collect())
}

fn need_room(target: &Folder, source: &Folder) -> Result<(), Error> {
    let mut needed_bytes = SPARE_BYTES;
    for name in copied(source)? {
        let found = fs::metadata(source.path().join(&name)).map_err(source.io("look at", &name))?;
        needed_bytes += found.len();
    }
    let free_bytes = room_in(target.path())?.free_bytes;
    if free_bytes < needed_bytes {
        let place = target.path().to_owned();
        return Err(Error::NoRoom { place, free_bytes, needed_bytes });
    }
    Ok(())
}

/// Copies a file to the disk, readable for this user alone.
fn copy(from: &Path, to: &Path) -> Result<(), Error> {
    let mut file = make_or_open(to)?;
    let copied = File::open(from).and_then(|mut from| io::copy(&mut from, &mut file));
    let synced = copied.and_then(|_| file.sync_all());
    synced.map_err(Error::io(format!("copy {} to {}", from.display(), to.display())))
}

/// Root restores for the user who owns the backup, as `cp -a` does.
fn own(path: &Path, like: &Path) -> Result<(), Error> {
    if !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    let owned = fs::metadata(like)
        .and_then(|like| std::os::unix::fs::chown(path, Some(like.uid()), Some(like.gid())));
    owned.map_err(Error::io(format!("set the owner of {}", path.display())))
}

/// Removes what a failed restore has made.
fn clear(target: &Folder, existed: bool) -> Result<(), Error> {
    remove_ours(target.path())?;
    for name in [RESTORING, "lock"] {
        fs::remove_file(target.path().join(name)).map_err(target.io("remove", name))?;
    }
    if !existed {
        fs::remove_dir(target.path()).map_err(target.io("remove", "."))?;
    }
    Ok(())
}

/// Removes the files of a half restored folder, except those that say so and lock it.
fn remove_ours(path: &Path) -> Result<(), Error> {
    for name in names(path)? {
        if !is_ours(&name) || name == RESTORING || name == "lock" {
            continue;
        }
        let file = path.join(&name);
        let removed = match file.is_dir() {
            true => fs::remove_dir_all(&file),
            false => fs::remove_file(&file),
        };
        removed.map_err(Error::io(format!("remove {}", file.display())))?;
    }
    Ok(())
}

fn names(path: &Path) -> Result<Vec<String>, Error> {
    let doing = || format!("list the folder {}", path.display());
    let entries = fs::read_dir(path).map_err(Error::io(doing()))?;
    let names = entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
    let mut names = names.collect::<io::Result<Vec<_>>>().map_err(Error::io(doing()))?;
    names.sort();
    Ok(names)
}

fn occupied(folder: &Path, reason: &str) -> Error {
    Error::Occupied { folder: PathBuf::from(folder), reason: reason.to_owned() }
}
