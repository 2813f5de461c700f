//! The check of a folder: the check counts, it refuses damaged folders, and it changes nothing.

use std::fs;

use super::*;
use crate::check;

fn contents(folder: &Path) -> Vec<(std::ffi::OsString, Option<Vec<u8>>)> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    let mut contents: Vec<_> =
        entries.map(|entry| (entry.file_name(), fs::read(entry.path()).ok())).collect();
    contents.sort();
    contents
}

fn filled(folder: &Path) {
    let (mut store, ..) = open(folder).unwrap();
    for slot in 0..300 {
        store.append(&submit(slot, 1 + u64::from(slot), 2000));
    }
    for slot in 0..100 {
        store.append(&change(slot, 1 + u64::from(slot), 2));
    }
    store.append(&Record::Forgotten(TaskKey { slot: 299, serial: 300 }));
    let mut later = submitted(400, 400, 100_000);
    later.eta = Some(later.submitted_at + 1);
    store.append(&Record::Submitted(Box::new(later)));
    store.append(&Record::Named(Named::Queue(queue("empty", 1))));
    store.commit().unwrap();
    store.close().unwrap();
}

#[test]
fn sound_folder_is_counted_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    filled(folder.path());
    let before = contents(folder.path());
    let report = check(folder.path()).unwrap();
    let tasks: Vec<_> = report.tasks.iter().filter(|(_, count)| *count > 0).copied().collect();
    assert_eq!(tasks, [("SCHEDULED", 1), ("QUEUED", 199), ("STARTED", 100)]);
    assert_eq!((report.format, report.queues, report.oddity.as_deref()), (1, 2, None));
    assert!(report.live_bytes > 100_000 && report.log_bytes >= report.live_bytes, "{report:?}");
    assert!(report.file_bytes > report.log_bytes && report.chunks > 20, "{report:?}");
    assert!(contents(folder.path()) == before, "a check changes nothing");
    open(folder.path()).unwrap();
}

#[test]
fn flipped_bit_of_a_record_is_found() {
    let folder = tempfile::tempdir().unwrap();
    filled(folder.path());
    let path = folder.path().join("db");
    let mut bytes = fs::read(&path).unwrap();
    let at = bytes.windows(4).position(|window| window == b"CELC").unwrap() + 1000;
    bytes[at] ^= 4;
    fs::write(&path, &bytes).unwrap();
    let before = contents(folder.path());
    let damaged = check(folder.path()).unwrap_err();
    assert!(matches!(damaged, Error::Damaged { .. }), "{damaged}");
    assert_eq!(damaged.exit_code(), 13);
    assert!(contents(folder.path()) == before, "a check changes nothing");
}

#[test]
fn folder_in_use_is_not_checked() {
    let folder = tempfile::tempdir().unwrap();
    let (store, ..) = open(folder.path()).unwrap();
    assert!(matches!(check(folder.path()), Err(Error::Locked { .. })));
    store.close().unwrap();
    check(folder.path()).unwrap();
}

#[test]
fn newer_folder_and_what_is_no_data_folder_are_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    assert!(matches!(check(&folder.path().join("none")), Err(Error::Inaccessible { .. })));
    assert!(matches!(check(folder.path()), Err(Error::Foreign { .. })));
    assert!(contents(folder.path()).is_empty(), "a check changes nothing");
    filled(folder.path());
    let line = "celeriac data folder, format 3";
    let text = format!("{line}, checksum {:08x}\n", crc32c::crc32c(line.as_bytes()));
    fs::write(folder.path().join("format"), text).unwrap();
    let newer = check(folder.path()).unwrap_err();
    assert_eq!((newer.exit_code(), matches!(newer, Error::NewerFormat { .. })), (12, true));
}

#[test]
fn folder_that_cannot_be_made_is_refused_by_its_own_sentence() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("file"), "").unwrap();
    for path in ["file", "file/data"] {
        let refused = open(&folder.path().join(path)).unwrap_err();
        assert_eq!(refused.exit_code(), 17);
        assert!(refused.to_string().starts_with("cannot create the data folder /"), "{refused}");
    }
}
