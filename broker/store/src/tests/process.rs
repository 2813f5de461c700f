//! The store seen from outside its process: its system calls, the folder after a kill, and a full
//! disk.
//!
//! Each test starts this binary again in its own role, which an environment variable names.

#![allow(clippy::print_stdout, clippy::print_stderr)]

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::small_disk::SmallDisk;
use super::*;

const FOLDER: &str = "CELERIAC_STORE_TEST_FOLDER";
const FAIL_FROM: &str = "CELERIAC_STORE_TEST_FAIL_FROM";

fn folder_config(folder: &Path) -> FolderConfig {
    FolderConfig { journal: journal(), ..FolderConfig::new(folder) }
}

/// Opens the folder and returns the serial in each slot.
fn open(folder: &Path) -> Result<(Store, BTreeMap<Slot, u64>), Error> {
    let mut serials = BTreeMap::new();
    let config = StoreConfig { slack_bytes: 1 << 20, ..StoreConfig::default() };
    let (store, _) = Store::open(folder_config(folder), config, &mut |record| {
        if let Record::Submitted(task) = record {
            let expected = submitted(task.key.slot, task.key.serial, task.spec.payload.len());
            assert_eq!(*task, expected, "a task was changed");
            serials.insert(task.key.slot, task.key.serial);
        }
    })?;
    Ok((store, serials))
}

/// Starts this binary again, to run `test` with a folder.
fn start(test: &str, folder: &Path, tracer: &[&str]) -> Child {
    let program = std::env::current_exe().unwrap();
    let mut words: Vec<&std::ffi::OsStr> = tracer.iter().map(std::ffi::OsStr::new).collect();
    words.push(program.as_os_str());
    Command::new(words[0])
        .args(&words[1..])
        .args([&format!("tests::process::{test}"), "--exact", "--nocapture", "--test-threads=1"])
        .env(FOLDER, folder)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// The folder, if a test has started this process again.
fn role() -> Option<std::path::PathBuf> {
    std::env::var_os(FOLDER).map(Into::into)
}

/// Writes small and large batches and a payload with its own chunks, and cleans.
fn write_a_while(folder: &Path) {
    let (mut store, _) = open(folder).unwrap();
    for serial in 1..200 {
        store.append(&submit((serial % 50) as u32, serial, 20_000));
        store.commit().unwrap();
    }
    store.append(&submit(60, 1_000, 300_000));
    store.commit().unwrap();
    store.close().unwrap();
}

#[test]
fn every_flush_is_an_fdatasync_and_none_a_sync_file_range() {
    if let Some(folder) = role() {
        return write_a_while(&folder);
    }
    let trace = tempfile::NamedTempFile::new().unwrap();
    let output = trace.path().to_str().unwrap();
    let tracer = ["strace", "-f", "-e", "trace=fdatasync,sync_file_range", "-o", output];
    if Command::new("strace")
        .arg("-V")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_err()
    {
        eprintln!(
            "SKIPPED: strace is not installed, so the system calls of a flush were not watched"
        );
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let child =
        start("every_flush_is_an_fdatasync_and_none_a_sync_file_range", folder.path(), &tracer);
    let ended = child.wait_with_output().unwrap();
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stdout));
    let calls = std::fs::read_to_string(trace.path()).unwrap();
    let count =
        |name: &str| calls.lines().filter(|line| line.contains(&format!("{name}("))).count();
    assert_eq!(count("sync_file_range"), 0, "sled reached the kernel's sync_file_range");
    assert!(
        count("fdatasync") >= 200,
        "each of 200 commits is a sync, there were {}",
        count("fdatasync")
    );
}

/// Writes for ever: batch after batch over 500 slots. Prints each confirmed serial.
fn write_until_killed(folder: &Path) -> ! {
    let (mut store, serials) = open(folder).unwrap();
    let mut serial = serials.values().max().copied().unwrap_or(0);
    let mut out = std::io::stdout();
    loop {
        // Batches have from one record to a few chunks, and sometimes a run.
        let batch = 1 + serial * 7919 % 120;
        for _ in 0..batch {
            serial += 1;
            store.append(&submit(
                (serial % 500) as u32,
                serial,
                if serial % 977 == 0 { 100_000 } else { 700 },
            ));
        }
        store.commit().unwrap();
        writeln!(out, "confirmed {serial}").unwrap();
        out.flush().unwrap();
    }
}

/// Everything up to `confirmed` is present. Of later records a whole batch is present, or nothing.
fn check_confirmed(folder: &Path, confirmed: u64) {
    let (store, serials) = open(folder).unwrap();
    let newest = serials.values().max().copied().unwrap_or(0);
    assert!(newest >= confirmed, "{confirmed} was confirmed, the newest is {newest}");
    for serial in newest.saturating_sub(499).max(1)..=newest {
        assert_eq!(serials.get(&((serial % 500) as u32)), Some(&serial), "newest {newest}");
    }
    store.close().unwrap();
}

#[test]
fn killed_writer_loses_nothing_that_was_confirmed() {
    if let Some(folder) = role() {
        write_until_killed(&folder);
    }
    let folder = tempfile::tempdir().unwrap();
    let mut confirmed = 0;
    for kill in 0..12 {
        let mut child = start("killed_writer_loses_nothing_that_was_confirmed", folder.path(), &[]);
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let wanted = 3 + kill * 37 % 90;
        for _ in 0..wanted {
            let line =
                lines.by_ref().map(Result::unwrap).find(|line| line.starts_with("confirmed "));
            confirmed = line.expect("the process writes until it is killed")[10..].parse().unwrap();
        }
        child.kill().unwrap();
        // Lines printed before the kill count too.
        for line in lines.map_while(Result::ok) {
            if let Some(number) =
                line.strip_prefix("confirmed ").and_then(|number| number.parse().ok())
            {
                confirmed = number;
            }
        }
        child.wait().unwrap();
        check_confirmed(folder.path(), confirmed);
    }
}

#[test]
fn kill_at_any_moment_of_a_start_does_no_harm() {
    if let Some(folder) = role() {
        println!("starting");
        std::io::stdout().flush().unwrap();
        drop(open(&folder).unwrap());
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let fresh = tempfile::tempdir().unwrap();
    write_a_while(folder.path());
    let expected = open(folder.path()).unwrap().1;
    for kill in 0..16u64 {
        for folder in [folder.path(), fresh.path()] {
            let mut child = start("kill_at_any_moment_of_a_start_does_no_harm", folder, &[]);
            let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
            lines.by_ref().map(Result::unwrap).find(|line| line.contains("starting")).unwrap();
            // The test varies the moment of the fault: a start takes some 20 ms.
            let moment = Instant::now() + Duration::from_micros(kill * kill * 120);
            while Instant::now() < moment {
                std::hint::spin_loop();
            }
            child.kill().unwrap();
            child.wait().unwrap();
        }
        let (store, serials) = open(folder.path()).unwrap();
        assert_eq!(serials, expected, "kill {kill}");
        store.close().unwrap();
    }
    let (_store, serials) = open(fresh.path()).unwrap();
    assert_eq!(serials, BTreeMap::new());
}

/// Writes on a disk that fails from the given sync on. Prints the confirmed serials and the
/// outcome.
fn write_until_the_disk_fails(folder: &Path) {
    let fail_from = std::env::var(FAIL_FROM).unwrap().parse().unwrap();
    crate::sled::sync::FAIL_FROM.store(fail_from, std::sync::atomic::Ordering::SeqCst);
    let error = match open(folder) {
        Err(error) => error,
        Ok((mut store, serials)) => {
            let mut serial = serials.values().max().copied().unwrap_or(0);
            let error = loop {
                for _ in 0..1 + serial % 60 {
                    serial += 1;
                    store.append(&submit((serial % 500) as u32, serial, 1500));
                }
                match store.commit() {
                    Ok(()) => println!("confirmed {serial}"),
                    Err(error) => break error,
                }
            };
            assert!(
                matches!(store.commit(), Err(Error::Failed { .. })),
                "the store accepts nothing more"
            );
            error
        }
    };
    println!("ended {}", error.exit_code());
    // The broker also exits at once, without closing sled.
    std::process::exit(0);
}

#[test]
fn flush_that_does_not_sync_is_refused_at_start_and_later() {
    let linked_wrongly = &crate::sled::sync::LINKED_WRONGLY;
    if let Some(folder) = role() {
        let (mut store, _) = open(&folder).unwrap();
        linked_wrongly.store(true, std::sync::atomic::Ordering::SeqCst);
        // What stays moves to sled while more is written.
        let mut commit = |slot| {
            store.append(&submit(slot, 1 + u64::from(slot), 1 << 20));
            store.commit()
        };
        let refused = (0..1_000).find_map(|slot| commit(slot).err()).unwrap();
        assert!(matches!(refused, Error::NotSynced), "{refused}");
        assert_eq!(refused.exit_code(), 16);
        drop(store);
        assert!(matches!(open(&folder).unwrap_err(), Error::NotSynced));
        println!("refused twice");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let child = start("flush_that_does_not_sync_is_refused_at_start_and_later", folder.path(), &[]);
    let ended = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&ended.stdout);
    assert!(ended.status.success() && said.contains("refused twice"), "{said}");
}

#[test]
fn failing_disk_confirms_nothing_and_loses_nothing() {
    if let Some(folder) = role() {
        write_until_the_disk_fails(&folder);
    }
    let folder = tempfile::tempdir().unwrap();
    write_a_while(folder.path());
    let mut confirmed = 1000;
    for fail_from in (0..6).chain([9, 14, 23, 40, 77, 110]) {
        let child = Command::new(std::env::current_exe().unwrap())
            .args([
                "tests::process::failing_disk_confirms_nothing_and_loses_nothing",
                "--exact",
                "--nocapture",
            ])
            .env(FOLDER, folder.path())
            .env(FAIL_FROM, fail_from.to_string())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&child.stdout).into_owned();
        assert!(said.contains("ended 15"), "the store failed at sync {fail_from} and said {said}");
        let mut numbers = said.lines().rev().filter_map(|line| line.strip_prefix("confirmed "));
        confirmed = numbers.next().map_or(confirmed, |number| number.parse().unwrap());
        let (store, serials) = open(folder.path()).unwrap();
        assert!(
            serials.values().max().copied().unwrap_or(0) >= confirmed,
            "failed at sync {fail_from}"
        );
        store.close().unwrap();
    }
}

#[test]
fn full_disk_is_announced_then_fails_and_a_restart_serves_what_was_confirmed() {
    let Some(disk) = SmallDisk::new(96) else {
        eprintln!("SKIPPED: no tmpfs can be mounted without root, so the full disk was not tried");
        return;
    };
    let folder = disk.path().join("data");
    let (mut store, _) = open(&folder).unwrap();
    assert!(store.usage().unwrap().disk_free_bytes < 96 << 20);
    let mut confirmed = 0;
    let error = loop {
        store.append(&submit(confirmed as u32, confirmed + 1, 20_000));
        match store.commit() {
            Ok(()) => confirmed += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(error.exit_code(), 15, "{error}");
    assert!(store.disk_is_low(), "the disk was low long before");
    assert!(confirmed > 100, "{confirmed}");
    drop(store);

    // No byte is left but the ballast.
    disk.fill("filler");
    let (mut store, serials) = open(&folder).unwrap();
    assert!(serials.len() as u64 >= confirmed, "{} of {confirmed}", serials.len());
    store.append(&Record::Forgotten(TaskKey { slot: 0, serial: 1 }));
    store.commit().unwrap();
    drop(store);

    // The disk is full again and the ballast is spent: the store refuses the start because the disk
    // is full, and the try loses nothing.
    disk.fill("filler-2");
    match open(&folder) {
        Ok((_store, serials)) => assert!(serials.len() as u64 >= confirmed - 1),
        Err(error) => assert!(matches!(error, Error::DiskFull { .. }), "{error}"),
    }
    for name in ["filler", "filler-2"] {
        std::fs::remove_file(disk.path().join(name)).ok();
    }
    let (_store, serials) = open(&folder).unwrap();
    assert!(serials.len() as u64 >= confirmed - 1);
}

#[test]
fn a_start_without_a_free_byte_says_to_make_room() {
    let Some(disk) = SmallDisk::new(8) else {
        eprintln!("SKIPPED: no tmpfs can be mounted without root, so the full disk was not tried");
        return;
    };
    let (new, old) = (disk.path().join("new"), disk.path().join("old"));
    std::fs::create_dir(&old).unwrap();
    disk.fill("filler");
    for folder in [new, old] {
        let error = open(&folder).map(drop).unwrap_err();
        assert_eq!(error.exit_code(), 14, "{error}");
        assert!(error.to_string().contains("make room"), "{error}");
    }
}
