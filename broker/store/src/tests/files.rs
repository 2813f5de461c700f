//! The files of a data folder: their modes, the irregular files that the store refuses in their
//! place, and the changes that the store notices while it is in use.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::Command;

use super::*;

type Harm = fn(&Path);

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

fn names(folder: &Path) -> Vec<String> {
    fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect()
}

fn filled(folder: &Path) -> Store {
    let (mut store, ..) = open(folder).unwrap();
    store.append(&submit(1, 1, 100));
    store.commit().unwrap();
    store
}

#[test]
fn folders_and_files_are_made_for_this_user_alone() {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path().join("parent/data");
    filled(&folder).close().unwrap();
    filled(&folder).close().unwrap();
    assert_eq!((mode(&folder), mode(folder.parent().unwrap())), (0o700, 0o700));
    for name in names(&folder) {
        let expected = if name == "blobs" { 0o700 } else { 0o600 };
        assert_eq!(mode(&folder.join(&name)), expected, "{name}");
    }
}

#[test]
fn what_is_open_to_others_stays_so() {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path().join("data");
    filled(&folder).close().unwrap();
    fs::set_permissions(&folder, Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(folder.join("db"), Permissions::from_mode(0o640)).unwrap();
    filled(&folder).close().unwrap();
    assert_eq!((mode(&folder), mode(&folder.join("db"))), (0o755, 0o640));
}

#[test]
fn what_is_no_regular_file_is_refused_in_place_of_any_file() {
    let home = tempfile::tempdir().unwrap();
    let original = home.path().join("data");
    filled(&original).close().unwrap();
    for name in
        names(&original).into_iter().chain(["format.new".into(), "snap.0000.generating".into()])
    {
        for kind in ["pipe", "device", "link", "folder"] {
            if kind == "folder" && name == "blobs" {
                continue;
            }
            let folder = home.path().join("tried");
            assert!(
                Command::new("cp").arg("-r").args([&original, &folder]).status().unwrap().success()
            );
            let path = folder.join(&name);
            if path.is_dir() {
                fs::remove_dir_all(&path).unwrap()
            } else {
                let _absent = fs::remove_file(&path);
            }
            match kind {
                "pipe" => assert!(Command::new("mkfifo").arg(&path).status().unwrap().success()),
                "device" => symlink("/dev/zero", &path).unwrap(),
                "link" => symlink(original.join(&name), &path).unwrap(),
                _ => fs::create_dir(&path).unwrap(),
            }
            for refused in [open(&folder).map(|_| ()), crate::check(&folder).map(|_| ())] {
                let refused = refused.unwrap_err();
                assert!(
                    matches!(refused, Error::Foreign { .. }),
                    "a {kind} in place of {name}: {refused}"
                );
                assert!(refused.to_string().contains(&format!("`{name}`")), "{refused}");
            }
            fs::remove_dir_all(&folder).unwrap();
        }
    }
}

#[test]
fn folder_that_holds_something_else_is_refused_and_gets_no_file() {
    let foreign: [&[&str]; 5] =
        [&["passwd"], &["lost+found/", "notes"], &["lock/"], &[".hidden"], &["lock", "notes"]];
    for case in foreign {
        let home = tempfile::tempdir().unwrap();
        make(home.path(), case);
        let before = names(home.path());
        let refused = open(home.path()).unwrap_err();
        assert_eq!(refused.exit_code(), 17, "{case:?}: {refused}");
        assert_eq!(names(home.path()), before, "{case:?}");
    }
}

#[test]
fn empty_disk_and_every_state_of_a_killed_first_start_are_new_folders() {
    let new: [&[&str]; 6] = [
        &[],
        &["lost+found/"],
        &["lock"],
        &["lock", "format.new"],
        &["lost+found/", "lock", "format.new"],
        &["lock", "ballast"],
    ];
    for case in new {
        let home = tempfile::tempdir().unwrap();
        make(home.path(), case);
        filled(home.path()).close().unwrap();
        // A data folder may hold files of the operator too.
        make(home.path(), &["notes"]);
        filled(home.path()).close().unwrap();
    }
}

/// Makes empty files, and folders where the name ends with a slash.
fn make(folder: &Path, names: &[&str]) {
    for name in names {
        match name.strip_suffix('/') {
            Some(name) => fs::create_dir(folder.join(name)).unwrap(),
            None => fs::write(folder.join(name), b"").unwrap(),
        }
    }
}

#[test]
fn file_that_is_removed_replaced_or_cut_is_noticed_before_anything_more_is_confirmed() {
    let of_journal: [(&str, Harm); 9] = [
        (LATEST, |path| fs::remove_file(path).unwrap()),
        (LATEST, |path| replace(path)),
        (LATEST, |path| cut(path)),
        (LATEST, |path| move_away(path)),
        (LATEST, |path| {
            move_away(path);
            fs::copy(aside(path), path).unwrap();
        }),
        (LATEST, |path| {
            fs::hard_link(path, aside(path)).unwrap();
            fs::remove_file(path).unwrap();
        }),
        (ANOTHER, |path| fs::remove_file(path).unwrap()),
        (ANOTHER, |path| replace(path)),
        (ANOTHER, |path| cut(path)),
    ];
    let harms: [(&str, Harm); 11] = [
        ("durable", |path| fs::remove_file(path).unwrap()),
        ("format", |path| fs::remove_file(path).unwrap()),
        ("conf", |path| fs::remove_file(path).unwrap()),
        ("db", |path| fs::remove_file(path).unwrap()),
        ("durable", |path| replace(path)),
        ("db", |path| replace(path)),
        ("durable", |path| cut(path)),
        ("format", |path| cut(path)),
        ("conf", |path| cut(path)),
        ("db", |path| cut(path)),
        ("db", |path| {
            let file = fs::File::options().write(true).open(path).unwrap();
            file.set_len(file.metadata().unwrap().len() - 1).unwrap();
        }),
    ];
    let of_journal = of_journal.into_iter().filter(|_| journal().is_some());
    for (number, (name, harm)) in harms.into_iter().chain(of_journal).enumerate() {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join("data");
        let mut store = filled(&folder);
        let mut name = name.to_owned();
        if let Some(journal) = journal().filter(|_| [LATEST, ANOTHER].contains(&&*name)) {
            for serial in 2..8 {
                store.append(&submit(serial, serial.into(), journal.segment_bytes as usize / 3));
                store.commit().unwrap();
            }
            name = segment(&folder, name == LATEST);
        }
        harm(&folder.join(&name));
        store.append(&submit(8, 8, 100));
        let error = store.commit().unwrap_err();
        assert_eq!(error.exit_code(), 13, "harm {number}: {error}");
        assert!(error.to_string().contains(&format!("`{name}`")), "harm {number}: {error}");
        store.append(&submit(9, 9, 100));
        assert!(matches!(store.commit(), Err(Error::Failed { .. })));
    }
}

/// The segment of the journal that was written last, and one that was not.
const LATEST: &str = "the latest segment";
const ANOTHER: &str = "another segment";

fn segment(folder: &Path, is_latest: bool) -> String {
    let mut segments: Vec<_> = names(folder)
        .into_iter()
        .filter(|name| name.starts_with("journal."))
        .map(|name| (fs::metadata(folder.join(&name)).unwrap().modified().unwrap(), name))
        .collect();
    segments.sort();
    assert!(segments.len() > 1, "{segments:?}");
    let chosen = if is_latest { segments.pop() } else { segments.into_iter().next() };
    chosen.unwrap().1
}

/// A place beside the data folder.
fn aside(path: &Path) -> std::path::PathBuf {
    path.parent().unwrap().with_file_name("aside")
}

fn move_away(path: &Path) {
    fs::rename(path, aside(path)).unwrap();
}

fn cut(path: &Path) {
    fs::File::options().write(true).open(path).unwrap().set_len(0).unwrap();
}

fn replace(path: &Path) {
    let copy = path.with_extension("copy");
    fs::copy(path, &copy).unwrap();
    fs::rename(copy, path).unwrap();
}

#[test]
fn second_broker_is_refused_as_such_when_the_lock_file_was_removed() {
    let home = tempfile::tempdir().unwrap();
    let _first = filled(home.path());
    fs::remove_file(home.path().join("lock")).unwrap();
    let refused = open(home.path()).unwrap_err();
    assert!(matches!(refused, Error::Locked { .. }), "{refused}");
    let refused = crate::check(home.path()).unwrap_err();
    assert!(matches!(refused, Error::Locked { .. }), "{refused}");
}

#[test]
fn errors_of_the_system_are_told_by_kind_and_name_the_path() {
    let code = |errno: i32| {
        let error = Error::io("read /data/db")(std::io::Error::from_raw_os_error(errno));
        assert!(error.to_string().starts_with("cannot read /data/db: "), "{error}");
        error.exit_code()
    };
    assert_eq!([libc::EIO, libc::ENOSPC, libc::EDQUOT, libc::ESTALE].map(code), [15; 4]);
    assert_eq!(
        [libc::ENOENT, libc::EACCES, libc::EPERM, libc::ENOTDIR, libc::EROFS, libc::ELOOP]
            .map(code),
        [17; 6]
    );
    assert_eq!([libc::EMFILE, libc::ENFILE, libc::ENOMEM, libc::EAGAIN].map(code), [1; 4]);
}
