//! Backups of a store that is in use: the copy has everything that was committed before, and the
//! copy opens like any folder.

use std::sync::mpsc;
use std::time::Duration;

use super::*;
use crate::BackupError;

/// Starts a backup. The channel delivers its outcome.
fn start(store: &mut Store, target: &Path) -> mpsc::Receiver<Result<u64, BackupError>> {
    let (sender, receiver) = mpsc::channel();
    store.start_backup(target.to_owned(), move |outcome| sender.send(outcome).unwrap());
    receiver
}

fn wait(outcome: mpsc::Receiver<Result<u64, BackupError>>) -> Result<u64, BackupError> {
    outcome.recv_timeout(Duration::from_secs(60)).expect("a backup ends")
}

#[test]
fn backup_holds_all_that_was_committed_while_the_store_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join("copy");
    let (mut store, ..) = open(&folder.path().join("data")).unwrap();
    store.append(&Record::Named(Named::Queue(queue("kept", 7))));
    store.append(&submit(900, 900_000, 700_000));
    for slot in 0..800 {
        store.append(&submit(slot, 1 + u64::from(slot), 3000));
        store.append(&change(slot, 1 + u64::from(slot), 2));
    }
    store.commit().unwrap();
    let expected = read_all(&mut store, 0..901);
    let (base, log_bytes) = (store.index.base(), store.index.log_bytes());
    let outcome = start(&mut store, &copy);
    // The tasks that are being copied change, end and are forgotten; without the hold they would be
    // cleaned.
    let mut round = 0;
    let copied = loop {
        round += 1;
        for slot in 0..100 {
            store.append(&submit(slot, 1_000_000 + 100 * round + u64::from(slot), 1000));
        }
        store.commit().unwrap();
        if let Ok(outcome) = outcome.try_recv() {
            break outcome.unwrap();
        }
        assert_eq!(store.index.base(), base, "nothing is cleaned while a backup copies");
    };
    assert_eq!(copied, log_bytes);
    for serial in 0..2000 {
        if store.index.base() > base {
            break;
        }
        store.append(&submit(1, 2_000_000 + serial, 20_000));
        store.commit().unwrap();
    }
    assert!(store.index.base() > base, "cleaning goes on afterwards");
    store.close().unwrap();

    assert!(!folder.path().join("copy.partial").exists());
    assert_eq!(crate::check(&copy).unwrap().oddity, None);
    let (mut restored, marks, loaded) = open(&copy).unwrap();
    assert_eq!(marks, Marks { serial: 900_000, lease: 8002 });
    assert_eq!(loaded.tasks, expected);
    assert_eq!(loaded.queues["kept"], queue("kept", 7));
    restored.append(&submit(5, 3_000_000, 10));
    restored.commit().unwrap();
    restored.close().unwrap();
}

#[test]
fn backup_of_a_log_that_went_round_starts_at_its_base() {
    let folder = tempfile::tempdir().unwrap();
    let (mut store, ..) = open(&folder.path().join("data")).unwrap();
    for serial in 1..400 {
        store.append(&submit((serial % 7) as Slot, serial, 5000));
        store.commit().unwrap();
    }
    assert!(store.index.base() > 50);
    let expected = read_all(&mut store, 0..7);
    let copy = folder.path().join("copy");
    std::fs::create_dir(&copy).unwrap();
    wait(start(&mut store, &copy)).unwrap();
    assert_eq!(open(&copy).unwrap().2.tasks, expected);
}

#[test]
fn second_backup_at_the_same_time_or_into_the_same_folder_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (mut store, ..) = open(&folder.path().join("data")).unwrap();
    for slot in 0..500 {
        store.append(&submit(slot, 1 + u64::from(slot), 20_000));
    }
    store.commit().unwrap();
    let copy = folder.path().join("copy");
    let first = start(&mut store, &copy);
    assert!(matches!(
        wait(start(&mut store, &folder.path().join("other"))),
        Err(BackupError::Busy)
    ));
    wait(first).unwrap();
    let again = wait(start(&mut store, &copy)).unwrap_err();
    assert!(again.to_string().contains("exists and is not an empty folder"), "{again}");
}

#[test]
fn whoever_knows_that_a_backup_is_complete_may_begin_the_next_one() {
    let folder = tempfile::tempdir().unwrap();
    let (mut store, ..) = open(&folder.path().join("data")).unwrap();
    store.append(&submit(1, 1, 100));
    store.commit().unwrap();
    let (told, tell) = std::sync::mpsc::channel();
    let (go, wait_for_go) = std::sync::mpsc::channel::<()>();
    store.start_backup(folder.path().join("first"), move |outcome| {
        told.send(outcome).unwrap();
        // The thread of the first backup is there until the second one is complete.
        let _ = wait_for_go.recv();
    });
    tell.recv().unwrap().unwrap();
    wait(start(&mut store, &folder.path().join("second"))).unwrap();
    drop(go);
}

#[test]
fn backup_is_refused_where_it_may_not_be() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let (mut store, ..) = open(&data).unwrap();
    std::fs::write(folder.path().join("file"), "").unwrap();
    std::os::unix::fs::symlink(&data, folder.path().join("link")).unwrap();
    std::fs::create_dir(folder.path().join("old.partial")).unwrap();
    let refused = [
        ("relative".into(), "not the absolute path"),
        ("/".into(), "not the absolute path"),
        (data.join("copy"), "inside the data folder"),
        (folder.path().join("link/copy"), "inside the data folder"),
        (data.clone(), "not an empty folder"),
        (folder.path().join("link"), "not an empty folder"),
        (folder.path().join("file"), "not an empty folder"),
        (folder.path().join("none/copy"), "the folder it lies in"),
        (folder.path().join("old"), "left over from a backup"),
    ];
    for (target, sentence) in refused {
        let outcome = wait(start(&mut store, &target)).unwrap_err();
        assert!(matches!(outcome, BackupError::Place { .. }), "{target:?}: {outcome}");
        assert!(outcome.to_string().contains(sentence), "{target:?}: {outcome}");
    }
    assert!(folder.path().join("old.partial").exists(), "a backup removes only files that it made");
}

#[test]
fn backup_is_given_up_when_the_store_closes() {
    let folder = tempfile::tempdir().unwrap();
    let (mut store, ..) = open(&folder.path().join("data")).unwrap();
    for slot in 0..3000 {
        store.append(&submit(slot, 1 + u64::from(slot), 20_000));
    }
    store.commit().unwrap();
    let outcome = start(&mut store, &folder.path().join("copy"));
    store.close().unwrap();
    // The close waited for the backup. The backup may be complete by then, but never half complete.
    match outcome.try_recv().expect("the backup has ended") {
        Ok(_) => assert_eq!(open(&folder.path().join("copy")).unwrap().2.tasks.len(), 3000),
        Err(error) => {
            assert!(matches!(error, BackupError::GivenUp), "{error}");
            assert!(!folder.path().join("copy").exists());
        }
    }
    assert!(!folder.path().join("copy.partial").exists());
}

#[test]
fn half_a_backup_is_refused_as_a_data_folder() {
    let folder = tempfile::tempdir().unwrap();
    let (mut store, ..) = open(&folder.path().join("data")).unwrap();
    store.append(&submit(1, 1, 10));
    store.commit().unwrap();
    let copy = folder.path().join("copy");
    wait(start(&mut store, &copy)).unwrap();
    // A kill before the last step leaves the copy like this.
    std::fs::remove_file(copy.join("format")).unwrap();
    assert!(matches!(open(&copy), Err(Error::Foreign { .. })));
}

#[test]
fn backup_without_room_is_refused_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let config = StoreConfig { disk_reserve_bytes: 1 << 60, ..small() };
    let data = small_folder(&folder.path().join("data"));
    let (mut store, _) = Store::open(data, config, &mut |_| {}).unwrap();
    let refused = wait(start(&mut store, &folder.path().join("copy"))).unwrap_err();
    assert!(matches!(refused, BackupError::Failed(Error::NoRoom { .. })), "{refused}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing but the data folder");
}

#[test]
fn backup_is_given_up_when_the_disk_gets_low() {
    let folder = tempfile::tempdir().unwrap();
    let (mut store, ..) = open(&folder.path().join("data")).unwrap();
    for slot in 0..3000 {
        store.append(&submit(slot, 1 + u64::from(slot), 20_000));
    }
    store.commit().unwrap();
    let outcome = start(&mut store, &folder.path().join("copy"));
    (store.config.disk_reserve_bytes, store.outlook.room) = (1 << 60, None);
    store.append(&submit(3000, 3001, 10));
    store.commit().unwrap();
    assert!(!store.holds_cleaning());
    // The backup may be complete by then.
    if let Err(error) = wait(outcome) {
        assert!(matches!(error, BackupError::GivenUp), "{error}");
        assert!(
            !folder.path().join("copy").exists() && !folder.path().join("copy.partial").exists()
        );
    }
}
