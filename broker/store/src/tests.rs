//! Tests of the store's interface, in temporary folders: appends, commits and reads, over restarts,
//! cleaning, damage, kills and a full disk.

mod backup;
mod checking;
mod cleaning;
mod damage;
mod files;
mod fixture;
mod journal;
mod liveness;
mod process;
mod reading;
pub(super) mod records;
mod room;
mod small_disk;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use bytes::Bytes;
use celeriac_proto::TaskId;
use celeriac_record::{
    BindingRecord, Changed, ChordRecord, ExchangeRecord, Name, Named, QueueRecord, Record,
    SessionId, SessionRecord, Slot, Submitted, TaskKey, TaskSpec,
};

use self::records::{changed, queue, submitted};
use super::{Error, FolderConfig, JournalConfig, Marks, Store, StoreConfig};

/// The records that a start handed to the caller, by slot and by name.
#[derive(Debug, Clone, Default, PartialEq)]
struct Loaded {
    tasks: BTreeMap<Slot, (Submitted, Option<Changed>)>,
    queues: BTreeMap<String, QueueRecord>,
    sessions: BTreeMap<SessionId, SessionRecord>,
    exchanges: BTreeMap<String, ExchangeRecord>,
    bindings: BTreeSet<BindingRecord>,
    chords: BTreeMap<TaskId, ChordRecord>,
}

impl Loaded {
    /// Takes one record, and checks the promise of [`Store::open`]: each record comes once, and a
    /// submit before its change.
    fn take(&mut self, record: Record) {
        match record {
            Record::Submitted(task) => {
                let before = self.tasks.insert(task.key.slot, (*task, None));
                assert_eq!(before, None, "a slot has one live submit");
            }
            Record::Changed(change) => {
                let (task, latest) =
                    self.tasks.get_mut(&change.key.slot).expect("a submit comes before its change");
                assert_eq!(task.key, change.key);
                assert_eq!(latest.replace(*change), None, "a slot has one live change");
            }
            Record::Named(Named::Queue(queue)) => {
                let before = self.queues.insert(queue.name.to_string(), queue);
                assert_eq!(before, None, "a queue has one live record");
            }
            Record::Named(Named::Session(session)) => {
                let before = self.sessions.insert(session.id, session);
                assert_eq!(before, None, "a session has one live record");
            }
            Record::Named(Named::Exchange(exchange)) => {
                let before = self.exchanges.insert(exchange.name.to_string(), exchange);
                assert_eq!(before, None, "an exchange has one live record");
            }
            Record::Named(Named::Binding(binding)) => {
                assert!(self.bindings.insert(binding), "a binding has one live record");
            }
            Record::Named(Named::Chord(chord)) => {
                let before = self.chords.insert(chord.group.clone(), chord);
                assert_eq!(before, None, "a chord has one live record");
            }
            Record::Forgotten(_) | Record::Removed(_) => {
                panic!("it is never live")
            }
        }
    }
}

/// Small bounds, so that a test reaches them with little data.
fn small() -> StoreConfig {
    StoreConfig { cache_bytes: 256 << 10, slack_bytes: 64 << 10, ..StoreConfig::default() }
}

/// So small a journal that its chunks move to sled again and again, if this process is to have
/// one.
fn journal() -> Option<JournalConfig> {
    let small = JournalConfig { segment_bytes: 96 << 10, segments: 4 };
    std::env::var_os(journal::VARIABLE).map(|_| small)
}

fn small_folder(folder: &Path) -> FolderConfig {
    FolderConfig { ballast_bytes: 4096, journal: journal(), ..FolderConfig::new(folder) }
}

fn open(folder: &Path) -> Result<(Store, Marks, Loaded), Error> {
    let mut loaded = Loaded::default();
    let (store, marks) =
        Store::open(small_folder(folder), small(), &mut |record| loaded.take(record))?;
    Ok((store, marks, loaded))
}

fn submit(slot: Slot, serial: u64, payload_bytes: usize) -> Record {
    Record::Submitted(Box::new(submitted(slot, serial, payload_bytes)))
}

fn change(slot: Slot, serial: u64, version: u32) -> Record {
    Record::Changed(Box::new(changed(slot, serial, version)))
}

/// Reads all live records through the index.
fn read_all(
    store: &mut Store,
    slots: std::ops::Range<Slot>,
) -> BTreeMap<Slot, (Submitted, Option<Changed>)> {
    let mut tasks = BTreeMap::new();
    for slot in slots {
        if let Some(located) = store.locate(slot) {
            let task = store.submitted(located.submitted).unwrap();
            let change = located.changed.map(|at| store.changed(at).unwrap());
            tasks.insert(slot, (task, change));
        }
    }
    tasks
}

#[test]
fn records_are_readable_before_and_after_the_commit_and_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let (mut store, marks, loaded) = open(folder.path()).unwrap();
    assert_eq!((marks, loaded), (Marks::default(), Loaded::default()));
    for slot in 0..100 {
        store.append(&submit(slot, 1 + u64::from(slot), 900));
        store.append(&change(slot, 1 + u64::from(slot), 2));
    }
    assert!(store.is_dirty());
    let before = read_all(&mut store, 0..100);
    assert_eq!(before.len(), 100);
    assert_eq!(before[&7], (submitted(7, 8, 900), Some(changed(7, 8, 2))));
    store.commit().unwrap();
    assert!(!store.is_dirty());
    assert_eq!(read_all(&mut store, 0..100), before);
    store.close().unwrap();

    let (mut store, marks, loaded) = open(folder.path()).unwrap();
    assert_eq!(marks, Marks { serial: 100, lease: 1002 });
    assert_eq!(loaded.tasks, before);
    assert_eq!(read_all(&mut store, 0..100), before);
}

#[test]
fn uncommitted_records_are_gone_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let (mut store, ..) = open(folder.path()).unwrap();
    store.append(&submit(1, 1, 10));
    store.commit().unwrap();
    store.append(&submit(2, 2, 10));
    drop(store);
    let (_store, _, loaded) = open(folder.path()).unwrap();
    assert_eq!(loaded.tasks.keys().collect::<Vec<_>>(), [&1]);
}

#[test]
fn commit_of_nothing_writes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (mut store, ..) = open(folder.path()).unwrap();
    let before = store.usage().unwrap().chunks;
    store.commit().unwrap();
    assert_eq!(store.usage().unwrap().chunks, before);
}

#[test]
fn payload_of_3_mib_is_read_back_before_and_after_the_commit_and_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let (mut store, ..) = open(folder.path()).unwrap();
    store.append(&submit(0, 1, 10));
    store.append(&submit(1, 2, 3 << 20));
    store.append(&submit(2, 3, 10));
    let expected = submitted(1, 2, 3 << 20);
    let at = store.locate(1).unwrap().submitted;
    let head = Submitted {
        spec: TaskSpec { payload: Bytes::new(), ..expected.clone().spec },
        ..expected.clone()
    };
    assert_eq!(store.submitted(at).unwrap(), expected);
    assert_eq!(store.submitted_head(at).unwrap(), head);
    store.commit().unwrap();
    assert_eq!(store.submitted(at).unwrap(), expected);
    assert_eq!(store.submitted_head(at).unwrap(), head);
    store.close().unwrap();
    let (mut store, _, loaded) = open(folder.path()).unwrap();
    assert_eq!(loaded.tasks.len(), 3);
    assert_eq!(loaded.tasks[&1].0, expected);
    let at = store.locate(1).unwrap().submitted;
    assert_eq!(store.submitted(at).unwrap(), expected);
}

#[test]
fn records_around_the_size_of_a_chunk_are_read_back() {
    let folder = tempfile::tempdir().unwrap();
    let (mut store, ..) = open(folder.path()).unwrap();
    for (slot, bytes) in (24_400..24_600).step_by(1).enumerate() {
        store.append(&submit(slot as Slot, 1 + slot as u64, bytes));
    }
    store.commit().unwrap();
    store.close().unwrap();
    let (_store, _, loaded) = open(folder.path()).unwrap();
    for (slot, bytes) in (24_400..24_600).enumerate() {
        assert_eq!(
            loaded.tasks[&(slot as Slot)].0,
            submitted(slot as Slot, 1 + slot as u64, bytes)
        );
    }
}

#[test]
fn queue_settings_live_until_replaced_or_deleted() {
    let folder = tempfile::tempdir().unwrap();
    let (mut store, ..) = open(folder.path()).unwrap();
    for record in [queue("a", 1), queue("b", 2), queue("a", 3)] {
        store.append(&Record::Named(Named::Queue(record)));
    }
    store.append(&Record::Removed(Name::Queue(queue("b", 0).name)));
    store.commit().unwrap();
    store.close().unwrap();
    let (_store, _, loaded) = open(folder.path()).unwrap();
    assert_eq!(loaded.queues.into_values().collect::<Vec<_>>(), [queue("a", 3)]);
}

#[test]
fn slot_used_again_shows_the_new_task_only() {
    let folder = tempfile::tempdir().unwrap();
    let (mut store, ..) = open(folder.path()).unwrap();
    store.append(&submit(5, 1, 10));
    store.append(&change(5, 1, 2));
    store.append(&Record::Forgotten(TaskKey { slot: 5, serial: 1 }));
    assert_eq!(store.locate(5), None);
    store.append(&submit(5, 2, 10));
    store.commit().unwrap();
    store.close().unwrap();
    let (_store, _, loaded) = open(folder.path()).unwrap();
    assert_eq!(loaded.tasks, BTreeMap::from([(5, (submitted(5, 2, 10), None))]));
}

#[test]
fn second_open_of_a_folder_is_refused_as_locked() {
    let folder = tempfile::tempdir().unwrap();
    let (store, ..) = open(folder.path()).unwrap();
    let refused = open(folder.path()).unwrap_err();
    assert!(matches!(refused, Error::Locked { .. }), "{refused}");
    assert_eq!(refused.exit_code(), 11);
    store.close().unwrap();
    assert!(open(folder.path()).is_ok());
}

#[test]
fn failed_store_accepts_nothing_more() {
    let folder = tempfile::tempdir().unwrap();
    let (mut store, ..) = open(folder.path()).unwrap();
    let error = store.fail(Error::NotSynced);
    assert_eq!(error.exit_code(), 16);
    store.append(&submit(1, 1, 10));
    assert_eq!(store.locate(1), None);
    assert!(matches!(store.commit(), Err(Error::Failed { .. })));
}

#[test]
fn payload_shares_the_memory_of_its_chunk() {
    let folder = tempfile::tempdir().unwrap();
    let (mut store, ..) = open(folder.path()).unwrap();
    store.append(&submit(1, 1, 1000));
    store.commit().unwrap();
    let at = store.locate(1).unwrap().submitted;
    let (first, second) = (store.submitted(at).unwrap(), store.submitted(at).unwrap());
    assert_eq!(first.spec.payload.as_ptr(), second.spec.payload.as_ptr());
}
