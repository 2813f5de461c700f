//! The tests of the store once more, on folders with a journal.

use std::process::Command;

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
