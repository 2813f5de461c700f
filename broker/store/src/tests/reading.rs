//! A disk fails to read while the store opens. However sled reacts, nothing in the folder changes.

use std::ffi::c_int;
use std::fs;
use std::process::Command;
use std::sync::Mutex;

use super::*;
use crate::sled::reads::FAIL_READS;

/// The environment variable that is set for a process that this test has started.
const ALONE: &str = "CELERIAC_READS_FAIL";

/// The folder whose reads are counted, the number of reads until one fails, and whether all later
/// reads fail too.
static COUNTED: Mutex<Option<(std::path::PathBuf, u64, bool)>> = Mutex::new(None);

fn errno_of(file: c_int) -> c_int {
    let mut counted = COUNTED.lock().unwrap();
    let Some((folder, left, for_ever)) = &mut *counted else { return 0 };
    let path = fs::read_link(format!("/proc/self/fd/{file}")).unwrap_or_default();
    if !path.starts_with(folder) {
        return 0;
    }
    *left = left.saturating_sub(1);
    match (*left, *for_ever) {
        (0, true) => libc::EIO,
        (0, false) => {
            *counted = None;
            libc::EIO
        }
        _ => 0,
    }
}

fn copy_files(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        if entry.file_type().unwrap().is_file() {
            fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }
}

/// This test needs its own process: all stores of a process share sled's threads, and a thread that
/// fails to read stands still.
#[test]
fn failed_read_during_a_start_is_said_as_such_and_changes_nothing() {
    if std::env::var_os(ALONE).is_none() {
        let name = "tests::reading::failed_read_during_a_start_is_said_as_such_and_changes_nothing";
        let mut alone = Command::new(std::env::current_exe().unwrap());
        let output = alone.args([name, "--exact", "--nocapture"]).env(ALONE, "1").output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && said.contains("1 passed"), "{output:?}");
        return;
    }
    FAIL_READS.set(errno_of).expect("no other test sets it");
    let original = tempfile::tempdir().unwrap();
    let (mut store, ..) = open(original.path()).unwrap();
    for slot in 0..20 {
        store.append(&submit(slot, 1 + u64::from(slot), 3_000));
        store.commit().unwrap();
    }
    drop(store);
    let mut failed = 0;
    for read in 1.. {
        let copy = tempfile::tempdir().unwrap();
        let folder = copy.path().canonicalize().unwrap();
        copy_files(original.path(), &folder);
        *COUNTED.lock().unwrap() = Some((folder.clone(), read, read % 2 == 0));
        let outcome = open(&folder);
        let came = COUNTED.lock().unwrap().take().is_none_or(|(_, left, _)| left == 0);
        match outcome {
            // sled's reads come after ours, and the reads of its pages come last.
            Ok((_, _, loaded)) => {
                assert_eq!(loaded.tasks.len(), 20, "read {read}");
                if !came {
                    break;
                }
            }
            Err(error) => {
                assert_eq!(error.exit_code(), 15, "read {read}: {error}");
                failed += 1;
                // sled's threads may still hold sled's lock on this copy, so the test opens a copy
                // of this copy.
                let again = tempfile::tempdir().unwrap();
                copy_files(&folder, again.path());
                let (_, _, loaded) =
                    open(again.path()).unwrap_or_else(|error| panic!("read {read}: {error}"));
                assert_eq!(loaded.tasks.len(), 20, "after read {read}");
            }
        }
    }
    assert!(failed > 3, "{failed} starts failed");
}
