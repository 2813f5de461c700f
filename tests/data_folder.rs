//! Data folders that are in use, incomplete or of a newer format. The broker refuses them with a
//! sentence and an exit code, or serves everything in them. It never panics and never loses data
//! silently. `harness/faults/bit_rot.rs` flips bits and cuts files.

use std::fs;
use std::path::{Path, PathBuf};

use celeriac_proto::wire::TaskState;
use celeriac_tests::{BrokerProcess, Exit, RawConnection, Setup, raw};

const TASKS: usize = 300;

/// Exit codes, as deploy/README.md lists them.
const IN_USE: i32 = 11;
const NEWER_FORMAT: i32 = 12;

/// A folder in which a broker has left so many tasks, half of them with results.
async fn filled() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let mut broker = Setup::new().data(folder.path().join("data")).start().await;
    let mut worker = RawConnection::worker(broker.address(), &["default"], &["done"], 100).await;
    let name = |number: usize| if number.is_multiple_of(2) { "done" } else { "waiting" };
    worker
        .submit(
            (0..TASKS).map(|number| raw::task(&format!("task-{number}"), name(number))).collect(),
        )
        .await;
    let mut done = 0;
    while done < TASKS / 2 {
        for delivery in worker.some_deliveries().await {
            let result = format!("\"result of {}\"", delivery.id);
            worker.report_one(raw::report(&delivery, raw::complete(result.as_bytes()))).await;
            done += 1;
        }
    }
    let exit = broker.stop().await;
    assert_eq!(exit.status.code(), Some(0), "{exit:?}");
    folder
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("the temporary folder is writable");
    for entry in fs::read_dir(from).expect("the folder can be read") {
        let entry = entry.expect("the folder can be read");
        let target = to.join(entry.file_name());
        if entry.file_type().expect("the folder can be read").is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).expect("the temporary folder is writable");
        }
    }
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("the folder can be read") {
        let path = entry.expect("the folder can be read").path();
        if path.is_dir() {
            found.extend(files(&path));
        } else if fs::metadata(&path).is_ok_and(|data| data.len() > 0) {
            found.push(path);
        }
    }
    found.sort();
    found
}

async fn assert_serves_everything(broker: &mut BrokerProcess, what: &str) {
    let mut reader = RawConnection::open(broker.address()).await;
    for number in 0..TASKS {
        let id = format!("task-{number}");
        let info = reader.info(&id).await;
        if number.is_multiple_of(2) {
            let result = format!("\"result of {id}\"");
            assert_eq!(
                (info.state(), &info.result[..]),
                (TaskState::Success, result.as_bytes()),
                "{what}: {id}"
            );
        } else {
            assert_eq!(info.state(), TaskState::Queued, "{what}: {id}");
        }
    }
    assert!(!broker.stderr().contains("panicked at"), "{what}: a panic");
}

/// Starts a broker on the folder. It must refuse clearly or serve everything. Returns whether it
/// served.
async fn refused_or_served(folder: &Path, what: &str) -> bool {
    match Setup::new().data(folder).try_start().await {
        Ok(mut broker) => {
            assert_serves_everything(&mut broker, what).await;
            true
        }
        Err(exit) => {
            assert!(exit.is_a_clear_refusal(), "{what}: {exit:?}");
            false
        }
    }
}

#[tokio::test]
async fn what_was_stored_is_there_after_a_stop_and_start() {
    let folder = filled().await;
    assert!(
        refused_or_served(&folder.path().join("data"), "untouched").await,
        "an untouched folder is served"
    );
}

#[tokio::test]
async fn a_second_broker_on_the_same_folder_is_refused_with_a_code_and_a_sentence() {
    let first = BrokerProcess::start().await;
    let exit = Setup::new().data(first.data()).try_start().await.expect_err("the folder is in use");
    assert!(exit.is_a_clear_refusal(), "{exit:?}");
    assert_eq!(exit.status.code(), Some(IN_USE), "{exit:?}");
    // The first broker is not affected.
    assert_eq!(
        RawConnection::open(first.address()).await.submit_one(raw::task("task", "n")).await.error,
        None
    );
}

#[tokio::test]
async fn a_folder_without_one_of_its_files_is_refused_or_served_intact() {
    let folder = filled().await;
    let original = folder.path().join("data");
    for file in files(&original) {
        let name = file.strip_prefix(&original).expect("it lies inside");
        let damaged = folder.path().join("damaged");
        copy(&original, &damaged);
        fs::remove_file(damaged.join(name)).expect("the copy is writable");
        refused_or_served(&damaged, &format!("without {}", name.display())).await;
        fs::remove_dir_all(&damaged).expect("the copy can be removed");
    }
}

#[tokio::test]
async fn a_folder_of_a_newer_format_is_refused_as_such_and_left_alone() {
    // The file has the checksum that a broker of format 9 would write.
    const LINE: &str = "celeriac data folder, format 9, checksum a0b6fc64\n";
    let folder = filled().await;
    let data = folder.path().join("data");
    fs::write(data.join("format"), LINE).expect("the folder is writable");
    let before = fs::read(data.join("db")).expect("the folder can be read");
    let exit = Setup::new().data(&data).try_start().await.expect_err("it cannot know that format");
    assert_eq!(exit.status.code(), Some(NEWER_FORMAT), "{exit:?}");
    assert!(exit.is_a_clear_refusal() && exit.stderr.contains("newer"), "{exit:?}");
    assert!(
        fs::read(data.join("db")).expect("the folder can be read") == before,
        "the refusal changed the folder"
    );
}

#[tokio::test]
async fn a_folder_that_cannot_be_made_is_refused_with_a_sentence() {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    fs::write(folder.path().join("file"), "in the way").expect("the temporary folder is writable");
    let exit: Exit = Setup::new()
        .data(folder.path().join("file"))
        .try_start()
        .await
        .expect_err("a file is no folder");
    assert!(exit.is_a_clear_refusal(), "{exit:?}");
}

/// `celeriac check` on this folder, with its copy in the second one.
fn check(folder: &Path, copies: &Path) -> std::process::Command {
    let mut check = std::process::Command::new(celeriac_tests::celeriac_binary());
    check.arg("check").arg(folder).env("TMPDIR", copies).stdout(std::process::Stdio::null());
    check
}

fn copies(of: &Path) -> Vec<std::ffi::OsString> {
    fs::read_dir(of)
        .expect("the folder can be read")
        .map(|entry| entry.expect("it can be read").file_name())
        .collect()
}

#[tokio::test]
async fn a_check_that_is_ended_leaves_no_copy() {
    let folder = filled().await;
    let place = folder.path().join("copies");
    fs::create_dir(&place).expect("the temporary folder is writable");
    for signal in ["TERM", "INT", "HUP"] {
        let mut child =
            check(&folder.path().join("data"), &place).spawn().expect("the binary is there");
        // The check may also be done by then, which leaves nothing either.
        while copies(&place).is_empty() && child.try_wait().expect("it is our own child").is_none()
        {
            std::thread::yield_now();
        }
        let sent = std::process::Command::new("kill")
            .args([&format!("-{signal}"), &child.id().to_string()])
            .status();
        assert!(sent.is_ok(), "kill is there");
        child.wait().expect("it is our own child");
        assert_eq!(copies(&place), Vec::<std::ffi::OsString>::new(), "after {signal}");
    }
}

#[tokio::test]
async fn a_check_removes_what_a_killed_one_left_and_nothing_else() {
    let folder = filled().await;
    let place = folder.path().join("copies");
    for name in ["celeriac-check-killed", "celeriac-check-at-work", "other"] {
        fs::create_dir_all(place.join(name).join("inside"))
            .expect("the temporary folder is writable");
    }
    let at_work =
        fs::File::open(place.join("celeriac-check-at-work")).expect("it was made just now");
    at_work.lock().expect("nobody else has it");
    let status = check(&folder.path().join("data"), &place).status().expect("the binary is there");
    assert!(status.success(), "{status}");
    let mut left = copies(&place);
    left.sort();
    assert_eq!(left, ["celeriac-check-at-work", "other"]);
}

#[tokio::test]
async fn a_place_for_the_copy_that_does_not_exist_is_named_and_is_not_the_disk() {
    let folder = filled().await;
    let place = folder.path().join("no-such-place");
    let output = check(&folder.path().join("data"), &place).output().expect("the binary is there");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(17), "{stderr}");
    assert!(stderr.contains("no-such-place") && !stderr.contains("check the disk"), "{stderr}");
}
