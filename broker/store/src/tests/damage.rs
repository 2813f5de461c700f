//! Folders of a newer format, folders that were cut short, and folders with a flipped bit: the
//! store refuses them with a sentence, or serves them whole.

use std::fs;

use super::*;
use crate::medium::FORMAT;

/// A folder with a history: several starts, cleaning, a large payload.
fn folder_with_history() -> (tempfile::TempDir, Loaded) {
    let folder = tempfile::tempdir().unwrap();
    for round in 0..3u64 {
        let (mut store, ..) = open(folder.path()).unwrap();
        for batch in 0..20u64 {
            for slot in 0..20 {
                let serial = 1 + round * 10_000 + batch * 100 + u64::from(slot);
                store.append(&submit(slot, serial, 400));
                store.append(&change(slot, serial, 2));
            }
            store.commit().unwrap();
        }
        store.append(&submit(50 + round as Slot, 9_000 + round * 10_000, 60_000));
        store.append(&Record::Named(Named::Queue(queue("q", round))));
        store.commit().unwrap();
        store.close().unwrap();
    }
    let (store, _, loaded) = open(folder.path()).unwrap();
    store.close().unwrap();
    (folder, loaded)
}

#[test]
fn first_note_that_was_torn_takes_nothing_with_it() {
    let folder = tempfile::tempdir().unwrap();
    open(folder.path()).unwrap().0.close().unwrap();
    let path = folder.path().join("durable");
    let whole = fs::read(&path).unwrap();
    for bytes in 0..whole.len() {
        // Nothing but the folder itself was ever confirmed, so the store makes the folder again.
        let torn = copy(folder.path());
        fs::write(torn.path().join("durable"), &whole[..bytes]).unwrap();
        let (mut store, ..) =
            open(torn.path()).unwrap_or_else(|error| panic!("{bytes} bytes: {error}"));
        store.append(&submit(1, 1, 100));
        store.commit().unwrap();
        store.close().unwrap();
        // Now a record was confirmed, so the store refuses the folder without its notes.
        fs::write(torn.path().join("durable"), &whole[..bytes.min(32)]).unwrap();
        assert!(matches!(open(torn.path()), Err(Error::Damaged { .. })), "{bytes} bytes");
    }
}

fn copy(from: &Path) -> tempfile::TempDir {
    let to = tempfile::tempdir().unwrap();
    fs::create_dir(to.path().join("blobs")).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_file() {
            fs::copy(entry.path(), to.path().join(entry.file_name())).unwrap();
        }
    }
    to
}

fn files(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.file_type().unwrap().is_file())
        .map(|entry| entry.file_name().into_string().unwrap())
        .filter(|name| name != "lock" && name != "ballast")
        .collect();
    names.sort();
    names
}

fn contents(folder: &Path) -> Vec<(String, Vec<u8>)> {
    files(folder)
        .into_iter()
        .map(|name| (name.clone(), fs::read(folder.join(&name)).unwrap()))
        .collect()
}

/// Opens a damaged folder: everything is present, or the store refuses the folder and leaves it
/// unchanged. Returns whether the store refused it.
fn refused_or_whole(folder: &Path, expected: &Loaded, what: &str) -> bool {
    let before = contents(folder);
    match open(folder) {
        Ok((store, _, loaded)) => {
            assert!(loaded == *expected, "{what}: served, but not whole");
            store.close().unwrap();
            false
        }
        Err(Error::Damaged { reason, .. }) => {
            assert!(reason.len() > 10, "{what}: {reason}");
            assert!(
                contents(folder) == before,
                "{what}: refused, but the folder was changed ({reason})"
            );
            true
        }
        Err(Error::NewerFormat { .. }) => panic!("{what}: taken for a newer format"),
        Err(other) => panic!("{what}: {other}"),
    }
}

/// Scattered numbers that are the same in every run.
fn scattered(count: u64, below: u64) -> impl Iterator<Item = u64> {
    (1..=count).map(move |index| {
        let mixed =
            (index.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ below).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        (mixed >> 11) % below
    })
}

#[test]
fn flipped_bit_anywhere_is_refused_or_harmless() {
    let (original, expected) = folder_with_history();
    let mut refused = 0;
    for name in files(original.path()) {
        let whole = fs::read(original.path().join(&name)).unwrap();
        // The rest of the data file is empty.
        let used = whole.iter().rposition(|byte| *byte != 0).unwrap() + 1;
        for bit in scattered(if name == "db" { 40 } else { 12 }, used as u64 * 8) {
            let folder = copy(original.path());
            let mut broken = whole.clone();
            broken[(bit / 8) as usize] ^= 1 << (bit % 8);
            fs::write(folder.path().join(&name), &broken).unwrap();
            refused += usize::from(refused_or_whole(
                folder.path(),
                &expected,
                &format!("bit {bit} of {name}"),
            ));
        }
    }
    assert!(refused > 20, "most of these must be noticed, {refused} were");
}

#[test]
fn file_cut_anywhere_is_refused_or_harmless() {
    let (original, expected) = folder_with_history();
    let mut refused = 0;
    for name in files(original.path()) {
        let whole = fs::read(original.path().join(&name)).unwrap();
        let used = whole.iter().rposition(|byte| *byte != 0).unwrap() as u64 + 1;
        for length in scattered(if name == "db" { 24 } else { 6 }, used).chain([0, used - 1]) {
            let folder = copy(original.path());
            fs::write(folder.path().join(&name), &whole[..length as usize]).unwrap();
            refused += usize::from(refused_or_whole(
                folder.path(),
                &expected,
                &format!("{name} cut at {length}"),
            ));
        }
    }
    assert!(refused > 20, "most of these must be noticed, {refused} were");
}

#[test]
fn missing_file_is_refused_or_harmless() {
    let (original, expected) = folder_with_history();
    for name in files(original.path()) {
        let folder = copy(original.path());
        fs::remove_file(folder.path().join(&name)).unwrap();
        if name == "format" {
            assert!(matches!(open(folder.path()), Err(Error::Foreign { .. })));
        } else {
            let refused = refused_or_whole(folder.path(), &expected, &format!("without {name}"));
            // The chunks of a segment may have moved to sled.
            let is_needed = !name.starts_with("snap.")
                && (name == "journal.0" || !name.starts_with("journal."));
            assert!(refused || !is_needed, "without {name}");
        }
    }
}

#[test]
fn data_file_cut_by_its_last_segment_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (mut store, ..) = open(folder.path()).unwrap();
    for slot in 0..20_000 {
        store.append(&submit(slot, 1 + u64::from(slot), 1000));
        if slot % 500 == 499 {
            store.commit().unwrap();
        }
    }
    store.close().unwrap();
    let database = fs::OpenOptions::new().write(true).open(folder.path().join("db")).unwrap();
    let segment = 8 * 1024 * 1024;
    let length = database.metadata().unwrap().len();
    assert!(length > 2 * segment);
    database.set_len((length - 1) / segment * segment).unwrap();
    assert!(refused_or_whole(folder.path(), &Loaded::default(), "last segment cut"));
}

#[test]
fn newer_format_is_refused_as_such_and_left_alone() {
    let (folder, _) = folder_with_history();
    journal::write_format(folder.path(), FORMAT + 1);
    let before = contents(folder.path());
    let refused = open(folder.path()).unwrap_err();
    assert!(matches!(refused, Error::NewerFormat { found: 3, known: 2, .. }), "{refused}");
    assert_eq!(refused.exit_code(), 12);
    assert!(contents(folder.path()) == before);
}

#[test]
fn half_written_snapshot_of_a_killed_start_is_removed() {
    let (folder, expected) = folder_with_history();
    let leftover = folder.path().join("snap.FFFFFFFFFFFFFFFF.generating");
    fs::write(&leftover, b"half").unwrap();
    let (store, _, loaded) = open(folder.path()).unwrap();
    assert_eq!(loaded, expected);
    assert!(!leftover.exists());
    store.close().unwrap();
}

#[test]
fn interrupted_creation_is_begun_again() {
    let folder = tempfile::tempdir().unwrap();
    let (store, ..) = open(folder.path()).unwrap();
    store.close().unwrap();
    // A kill between the first chunk and the first note leaves the folder like this, with a torn
    // `conf`.
    fs::remove_file(folder.path().join("durable")).unwrap();
    fs::write(folder.path().join("conf"), b"segment_size: 83").unwrap();
    let (store, _, loaded) = open(folder.path()).unwrap();
    assert_eq!(loaded, Loaded::default());
    store.close().unwrap();
}

#[test]
fn folder_of_something_else_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("db"), b"of another program").unwrap();
    let refused = open(folder.path()).unwrap_err();
    assert!(matches!(refused, Error::Foreign { .. }), "{refused}");
    assert_eq!(fs::read(folder.path().join("db")).unwrap(), b"of another program");
}
