//! Cleaning: the log stays bounded, and cleaning loses no live record.

use super::*;

#[test]
fn log_stays_bounded_while_tasks_come_and_go() {
    let folder = tempfile::tempdir().unwrap();
    let (mut store, ..) = open(folder.path()).unwrap();
    let bound = 64 * 1024 + 3 * 100 * 1200 + 64 * 1024;
    for round in 0..400u64 {
        for slot in 0..100 {
            let serial = 1 + round * 100 + u64::from(slot);
            store.append(&submit(slot, serial, 1000));
            store.append(&change(slot, serial, 2));
        }
        store.commit().unwrap();
        assert!(store.usage().unwrap().log_bytes < bound, "round {round}: {:?}", store.usage());
        for slot in 0..100 {
            let serial = 1 + round * 100 + u64::from(slot);
            store.append(&Record::Forgotten(TaskKey { slot, serial }));
        }
        store.commit().unwrap();
    }
    let usage = store.usage().unwrap();
    assert_eq!(usage.live_bytes, 0);
    assert_eq!(stray_files(folder.path()), 0);
    // The test wrote 40 MB; sled itself may hold a few segments.
    assert!(usage.file_bytes <= 6 * 8 * 1024 * 1024, "{usage:?}");
}

#[test]
fn chunks_are_written_about_once_and_go_on_after_their_places_are_lost() {
    let folder = tempfile::tempdir().unwrap();
    let mut serial = 0;
    for _ in 0..2 {
        // A start finds the newest chunk among empty places.
        let (mut store, marks, loaded) = open(folder.path()).unwrap();
        assert_eq!((marks.serial, loaded.tasks.len() as u64), (serial, serial));
        for _ in 0..100 {
            for _ in 0..10 {
                serial += 1;
                store.append(&submit(serial as Slot, serial, 20_000));
            }
            store.commit().unwrap();
        }
        store.close().unwrap();
    }
    let (store, _, loaded) = open(folder.path()).unwrap();
    let usage = store.usage().unwrap();
    assert_eq!(loaded.tasks.len(), 2_000);
    // Without places sled would need five times as much. sled also holds a few segments.
    assert!(usage.file_bytes <= usage.live_bytes * 3 / 2 + 2 * 8 * 1024 * 1024, "{usage:?}");
}

#[test]
fn marks_outlive_the_records_that_used_them() {
    let folder = tempfile::tempdir().unwrap();
    let (mut store, ..) = open(folder.path()).unwrap();
    let mut high = submitted(1, 77_000, 10);
    high.key.serial = 77_000;
    store.append(&Record::Submitted(Box::new(high)));
    let mut leased = changed(1, 77_000, 2);
    leased.lease = 99_000;
    store.append(&Record::Changed(Box::new(leased)));
    store.append(&Record::Forgotten(TaskKey { slot: 1, serial: 77_000 }));
    store.commit().unwrap();
    let first = store.index.base();
    for serial in 1..400 {
        store.append(&submit(2, serial, 2000));
        store.commit().unwrap();
    }
    assert!(store.index.base() > first + 2, "the first chunks were cleaned away");
    store.close().unwrap();
    for _ in 0..2 {
        let (store, marks, _) = open(folder.path()).unwrap();
        assert_eq!(marks, Marks { serial: 77_000, lease: 99_000 });
        store.close().unwrap();
    }
}

#[test]
fn old_live_tasks_survive_being_moved_and_keep_their_latest_change() {
    let folder = tempfile::tempdir().unwrap();
    let (mut store, ..) = open(folder.path()).unwrap();
    store.append(&Record::Named(Named::Queue(queue("kept", 7))));
    for slot in 0..50 {
        store.append(&submit(slot, 1 + u64::from(slot), 500));
        store.append(&change(slot, 1 + u64::from(slot), 2));
    }
    store.commit().unwrap();
    for round in 0..500u64 {
        store.append(&submit(100, 1000 + round, 3000));
        // The other half of the tasks keep their changes, which have to move with their tasks.
        let slot = (round % 25) as Slot;
        store.append(&change(slot, 1 + u64::from(slot), 3 + round as u32));
        store.commit().unwrap();
    }
    assert!(store.index.base() > 50, "the log went round");
    let expected = read_all(&mut store, 0..101);
    assert_eq!(expected.len(), 51);
    let version = |slot: Slot| expected[&slot].1.as_ref().map(|change| change.version);
    assert_eq!((version(24), version(49)), (Some(3 + 499), Some(2)));
    store.close().unwrap();
    let (_store, _, loaded) = open(folder.path()).unwrap();
    assert_eq!(loaded.tasks, expected);
    assert_eq!(loaded.queues["kept"], queue("kept", 7));
}

#[test]
fn large_payloads_are_moved_and_cleaned_whole() {
    let folder = tempfile::tempdir().unwrap();
    let (mut store, ..) = open(folder.path()).unwrap();
    store.append(&submit(0, 1, 700_000));
    store.commit().unwrap();
    for round in 0..60u64 {
        store.append(&submit(1, 2 + round, 200_000));
        store.commit().unwrap();
    }
    let usage = store.usage().unwrap();
    assert!(store.index.base() > 60, "the log went round");
    assert!(usage.log_bytes < 3 * 900_000, "{usage:?}");
    let at = store.locate(0).unwrap().submitted;
    assert_eq!(store.submitted(at).unwrap(), submitted(0, 1, 700_000));
    store.close().unwrap();
    let (_store, _, loaded) = open(folder.path()).unwrap();
    assert_eq!(loaded.tasks[&0].0, submitted(0, 1, 700_000));
    assert_eq!(loaded.tasks[&1].0, submitted(1, 61, 200_000));
}

#[test]
fn one_commit_cleans_in_proportion_to_what_it_appends() {
    let folder = tempfile::tempdir().unwrap();
    let (mut store, ..) = open(folder.path()).unwrap();
    for slot in 0..4000 {
        store.append(&submit(slot, 1 + u64::from(slot), 1000));
    }
    store.commit().unwrap();
    for slot in 0..4000 {
        store.drop_task(slot);
    }
    let before = store.usage().unwrap().log_bytes;
    store.append(&submit(0, 5000, 10));
    store.commit().unwrap();
    let removed = before - store.usage().unwrap().log_bytes;
    assert!((1..=100_000).contains(&removed), "{removed}");
}

#[test]
fn large_payload_leaves_before_its_task_once_nobody_will_read_it() {
    use celeriac_record::State;
    let folder = tempfile::tempdir().unwrap();
    let (mut store, ..) = open(folder.path()).unwrap();
    let states = [State::Success, State::Revoked, State::Failure, State::Started];
    for (slot, state) in (0..).zip(states) {
        store.append(&submit(slot, 1 + u64::from(slot), 700_000));
        store.commit().unwrap();
        store.append(&Record::Changed(Box::new(Changed {
            state,
            ..changed(slot, 1 + u64::from(slot), 2)
        })));
        store.commit().unwrap();
    }
    let live_bytes = store.usage().unwrap().live_bytes;
    assert!((1_400_000..1_410_000).contains(&live_bytes), "{live_bytes}");
    store.close().unwrap();
    let (_store, _, loaded) = open(folder.path()).unwrap();
    for (slot, state) in (0..).zip(states) {
        let (task, change) = &loaded.tasks[&slot];
        let mut expected = submitted(slot, 1 + u64::from(slot), 700_000);
        if matches!(state, State::Success | State::Revoked) {
            expected.spec.payload.clear();
        }
        assert_eq!((task, change.as_ref().map(|change| change.state)), (&expected, Some(state)));
    }
}

/// The number of values that sled put into separate files, which sled never syncs.
fn stray_files(folder: &Path) -> usize {
    std::fs::read_dir(folder.join("blobs")).map_or(0, Iterator::count)
}
