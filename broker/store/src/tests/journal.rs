//! The tests of the store once more, on folders with a journal.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::*;

/// With this variable, the tests of this process lay a journal over sled.
pub(super) const VARIABLE: &str = "CELERIAC_STORE_TEST_JOURNAL";

/// Runs the tests of a module again, in a process in which folders have a journal.
fn again(module: &str) {
    if std::env::var_os(VARIABLE).is_some() {
        return;
    }
    let mut tests = Command::new(std::env::current_exe().unwrap());
    let output = tests.arg(format!("tests::{module}")).env(VARIABLE, "1").output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && !said.contains(" 0 passed"),
        "{said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn backups_are_made_of_a_journal() {
    again("backup::");
}

#[test]
fn cleaning_holds_with_a_journal() {
    again("cleaning::");
}

#[test]
fn damage_is_found_with_a_journal() {
    again("damage::");
}

#[test]
fn files_are_watched_with_a_journal() {
    again("files::");
}

#[test]
fn any_history_holds_with_a_journal() {
    again("liveness::");
}

#[test]
fn kills_and_failing_syncs_lose_nothing_with_a_journal() {
    again("process::");
}

#[test]
fn full_disks_are_filled_again_with_a_journal() {
    again("room::");
}

#[test]
fn failed_reads_change_nothing_with_a_journal() {
    again("reading::");
}

#[test]
fn records_are_kept_with_a_journal() {
    for test in ["records_", "payload_", "queue_", "slot_", "uncommitted_", "second_open_"] {
        again(test);
    }
}

/// What happens to the files of a journal while no broker uses the folder, and a part of the
/// sentence with which a start refuses the folder. `None`: the folder is served whole.
type Case = (&'static str, fn(&Path), Option<&'static str>);

const CASES: [Case; 14] = [
    ("a byte less in the rest of a segment", |folder| resize(folder, -1), None),
    ("a byte more in the rest of a segment", |folder| resize(folder, 1), None),
    ("bytes behind the last block", write_behind, None),
    ("an unfinished segment", |folder| fs::write(folder.join("journal.new"), "x").unwrap(), None),
    ("no segment", |folder| fs::remove_file(folder.join(SEGMENT)).unwrap(), Some("is missing")),
    ("an empty segment", |folder| fs::write(folder.join(SEGMENT), "").unwrap(), Some("header")),
    ("a copy as another segment", copy, Some("`journal.1` has a broken header")),
    (
        "a foreign file",
        |folder| fs::write(folder.join("journal.old"), "x").unwrap(),
        Some("it holds `journal.old`"),
    ),
    (
        "a gap between segments",
        |folder| fs::write(folder.join("journal.7"), "x").unwrap(),
        Some("`journal.1` is missing"),
    ),
    ("the `format` of a backup", |folder| write_format(folder, 1), Some("not all of one time")),
    (
        "a `format` that never was",
        |folder| write_format(folder, 0),
        Some("`format` cannot be read"),
    ),
    (
        "`durable` without the notes of the journal",
        |folder| set_length(&folder.join("durable"), 128),
        Some("`durable` is cut short"),
    ),
    (
        "neither `durable` nor a journal",
        |folder| {
            fs::remove_file(folder.join("durable")).unwrap();
            fs::remove_file(folder.join(SEGMENT)).unwrap();
        },
        Some("`durable` is missing"),
    ),
    (
        "a segment of 5 GiB",
        |folder| set_length(&folder.join(SEGMENT), 5 << 30),
        Some("longer than any part"),
    ),
];

const SEGMENT: &str = "journal.0";

fn resize(folder: &Path, by: i64) {
    let path = folder.join(SEGMENT);
    let length = fs::metadata(&path).unwrap().len();
    set_length(&path, length.strict_add_signed(by));
}

fn set_length(path: &Path, bytes: u64) {
    fs::OpenOptions::new().write(true).open(path).unwrap().set_len(bytes).unwrap();
}

pub(super) fn write_format(folder: &Path, format: u32) {
    let line = format!("celeriac data folder, format {format}");
    let text = format!("{line}, checksum {:08x}\n", crc32c::crc32c(line.as_bytes()));
    fs::write(folder.join("format"), text).unwrap();
}

/// A block that was never synced may have left anything there.
fn write_behind(folder: &Path) {
    let mut bytes = fs::read(folder.join(SEGMENT)).unwrap();
    let used = bytes.iter().rposition(|byte| *byte != 0).unwrap() + 1;
    bytes[used.next_multiple_of(4096)..][..5_000].fill(7);
    fs::write(folder.join(SEGMENT), bytes).unwrap();
}

fn copy(folder: &Path) {
    fs::copy(folder.join(SEGMENT), folder.join("journal.1")).unwrap();
}

#[test]
fn files_of_a_journal_are_read_whole_or_refused_with_a_sentence() {
    for (what, change, refusal) in CASES {
        let folder = tempfile::tempdir().unwrap();
        let config = || FolderConfig { ballast_bytes: 4096, ..FolderConfig::new(folder.path()) };
        let (mut store, _) = Store::open(config(), small(), &mut |_| {}).unwrap();
        for slot in 0..20 {
            store.append(&submit(slot, u64::from(slot) + 1, 300));
            store.commit().unwrap();
        }
        drop(store);
        change(folder.path());
        let checked = crate::check(folder.path());
        assert_eq!(checked.is_err(), refusal.is_some(), "{what}: {checked:?}");
        for start in 1..=2 {
            let mut loaded = Loaded::default();
            let opened = Store::open(config(), small(), &mut |record| loaded.take(record));
            match (opened, refusal) {
                (Ok((mut store, _)), None) => {
                    assert_eq!(loaded.tasks.len(), 19 + start, "{what}, start {start}");
                    store.append(&submit(20, 21, 300));
                    store.commit().unwrap();
                }
                (Err(error), Some(part)) => {
                    let sentence = error.to_string();
                    assert!(sentence.contains(part), "{what}, start {start}: {sentence}");
                }
                (Ok(_), Some(_)) => panic!("{what}: served"),
                (Err(error), None) => panic!("{what}, start {start}: {error}"),
            }
        }
    }
}

/// Batches that never end where a segment ends, small ones and some that are larger than a segment.
#[test]
fn a_journal_keeps_to_its_number_of_segments_whatever_the_batches() {
    const SEGMENTS: u32 = 4;
    let folder = tempfile::tempdir().unwrap();
    let journal = Some(JournalConfig { segment_bytes: 256 << 10, segments: SEGMENTS });
    let config =
        || FolderConfig { ballast_bytes: 4096, journal, ..FolderConfig::new(folder.path()) };
    let (mut store, _) = Store::open(config(), small(), &mut |_| {}).unwrap();
    let mut slot = 0;
    for batch in 0..120 {
        for _ in 0..if batch % 10 == 9 { 40 } else { 9 } {
            store.append(&submit(slot, u64::from(slot) + 1, 10_000));
            slot += 1;
        }
        store.commit().unwrap();
        let names = fs::read_dir(folder.path()).unwrap().map(|file| file.unwrap().file_name());
        let count = names.filter(|name| name.to_string_lossy().starts_with("journal.")).count();
        // A batch that is larger than a segment needs more than the last free one.
        assert!(count as u32 <= SEGMENTS + 1, "batch {batch}: {count} segments");
    }
    store.close().unwrap();
    let mut loaded = Loaded::default();
    Store::open(config(), small(), &mut |record| loaded.take(record)).unwrap();
    assert_eq!(loaded.tasks.len(), slot as usize);
}
