//! Small disks: a disk that was filled and emptied can be filled again, whatever happened to sled's
//! file meanwhile.

use std::time::{Duration, Instant};

use super::small_disk::SmallDisk;
use super::*;

/// Long enough for sled's own thread to move the rest of thin segments on a busy machine.
const PATIENCE: Duration = Duration::from_secs(180);

fn open(disk: &SmallDisk) -> (Store, Vec<(Slot, u64)>) {
    let mut found = Vec::new();
    let journal = std::env::var_os(journal::VARIABLE).map(|_| JournalConfig::default());
    let folder = FolderConfig { journal, ..FolderConfig::new(disk.path().join("data")) };
    let (store, _) = Store::open(folder, StoreConfig::default(), &mut |record| {
        if let Record::Submitted(task) = record {
            found.push((task.key.slot, task.key.serial));
        }
    })
    .unwrap();
    found.sort_unstable();
    (store, found)
}

/// Submits tasks until the store says that the disk is low. Returns the number of tasks.
fn fill(store: &mut Store, serial: &mut u64, payload_bytes: usize) -> u32 {
    fill_from(0, store, serial, payload_bytes)
}

/// Like [`fill`], from this slot on. Returns the slot after the last.
fn fill_from(mut slot: Slot, store: &mut Store, serial: &mut u64, payload_bytes: usize) -> Slot {
    while !store.disk_is_low() {
        *serial += 1;
        store.append(&submit(slot, *serial, payload_bytes));
        slot += 1;
        store.commit().unwrap();
    }
    slot
}

fn forget(store: &mut Store, slots: impl Iterator<Item = Slot>, serial: u64) {
    for slot in slots {
        store.append(&Record::Forgotten(TaskKey { slot, serial }));
    }
    store.commit().unwrap();
}

/// Does the work of an idle store's thread until the disk is no longer low.
fn wait_for_room(store: &mut Store) {
    let begun = Instant::now();
    loop {
        while store.clean_in_passing().unwrap() {}
        if !store.disk_is_low() {
            return;
        }
        assert!(begun.elapsed() < PATIENCE, "it stays full: {:?}", store.usage());
        std::thread::yield_now();
    }
}

/// Fills and empties the disk several times. With `restarts`, the test drops and opens the store
/// after each step.
fn fill_and_empty(mebibytes: u32, rounds: u32, payload_bytes: usize, restarts: bool) {
    let Some(disk) = SmallDisk::new(mebibytes) else {
        eprintln!("SKIPPED: no tmpfs can be mounted without root, so the full disk was not tried");
        return;
    };
    let mut serial = 0;
    let mut open_store = Some(open(&disk).0);
    let mut step = |tasks: u32, work: &mut dyn FnMut(&mut Store) -> u32| {
        let mut store = open_store.take().unwrap();
        let tasks_then = work(&mut store) + tasks;
        if restarts {
            drop(store);
            let (again, found) = open(&disk);
            assert_eq!(found.len(), tasks_then as usize);
            store = again;
        }
        open_store = Some(store);
        tasks_then
    };
    for _ in 0..rounds {
        let tasks = step(0, &mut |store| {
            let mut tasks = fill(store, &mut serial, payload_bytes);
            // sled's own thread may not have moved everything yet. Then the disk is low for a
            // while, and the broker would tell producers so.
            let usable = (u64::from(mebibytes) << 20) - store.config.disk_reserve_bytes;
            while u64::from(tasks) * (payload_bytes as u64) < usable / 4 {
                wait_for_room(store);
                tasks = fill_from(tasks, store, &mut serial, payload_bytes);
            }
            tasks
        });
        step(0, &mut |store| {
            forget(store, 0..tasks, serial);
            0
        });
        step(0, &mut |store| {
            wait_for_room(store);
            0
        });
    }
}

#[test]
fn disk_of_300_mib_that_was_filled_and_emptied_is_filled_again() {
    fill_and_empty(300, 5, 100_000, false);
}

#[test]
fn disk_of_300_mib_is_filled_again_over_restarts() {
    fill_and_empty(300, 2, 100_000, true);
}

#[test]
fn disk_of_700_mib_that_was_filled_and_emptied_has_room_again() {
    fill_and_empty(700, 1, 20_000, false);
}

#[test]
fn disk_of_2_gib_that_was_filled_and_emptied_has_room_again_also_after_restarts() {
    fill_and_empty(2_048, 1, 1_000_000, true);
}

#[test]
fn room_is_made_while_much_stays() {
    let Some(disk) = SmallDisk::new(300) else {
        eprintln!("SKIPPED: no tmpfs can be mounted without root, so the full disk was not tried");
        return;
    };
    let (mut store, _) = open(&disk);
    let mut serial = 0;
    let tasks = fill(&mut store, &mut serial, 100_000);
    // Every third task stays, so that live records lie everywhere in the log.
    forget(&mut store, (0..tasks).filter(|slot| slot % 3 > 0), serial);
    wait_for_room(&mut store);
    let kept = tasks.div_ceil(3);
    let more = fill(&mut store, &mut serial, 100_000);
    drop(store);
    let (_store, found) = open(&disk);
    assert!(found.len() as u32 >= more, "{} of {more} and {kept}", found.len());
}
