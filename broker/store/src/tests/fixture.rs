//! The store reads a data folder of an earlier version, whole. Version 0.1.0 wrote
//! `fixtures/format-1`, and the first version with a journal `fixtures/format-2`. Both have every
//! kind of record.
//!
//! `WRITE_FIXTURE=1` with this test writes the folder of the present format, if there is none yet.
//! The test never overwrites a folder, because the folder would then no longer be from an earlier
//! version. sled's file and the journal's are stored without the zeros at their end.

use std::fs;
use std::path::PathBuf;

use bytes::Bytes;
use celeriac_record::{
    Backoff, Body, Cancel, ClosedBy, Jitter, Name, Named, Progress, RetryPolicy, State, TaskError,
    TaskSpec,
};

use super::*;
use crate::check;
use crate::medium::FORMAT;

fn fixture(format: u32) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("src/tests/fixtures/format-{format}"))
}

/// A submit in which every field has a value that differs from its default.
fn full_submit() -> Submitted {
    Submitted {
        generation: 3,
        eta: Some(1_800_000_060_000),
        expires: Some(1_800_086_400_000),
        result_ttl_ms: 3_600_000,
        spec: TaskSpec {
            queue: queue("songs", 0).name,
            content_type: "application/cbor".into(),
            headers: vec![
                ("traceparent".into(), Bytes::from_static(b"00-0af7")),
                ("empty".into(), Bytes::new()),
            ],
            shadow: "preprocess: Dynamite 다이너마이트".into(),
            priority: 9,
            retry: RetryPolicy {
                attempts_max: 7,
                backoff: Backoff::Polynomial,
                delay_ms: 250,
                factor: 1.5,
                delay_max_ms: 60_000,
                jitter: Jitter::Equal,
            },
            soft_time_limit_ms: Some(540_000),
            time_limit_ms: Some(600_000),
            max_deliveries: 2,
            early_ack: true,
            root_id: "album-1".into(),
            parent_id: "album-1".into(),
            tags: vec!["album:1".into(), "".into()],
            ..submitted(1, 11, 300).spec
        },
        ..submitted(1, 11, 300)
    }
}

fn full_change() -> Changed {
    let error = |attempt| TaskError {
        kind: "io".into(),
        message: "the file is broken".into(),
        traceback: "line 1\nline 2".into(),
        at: 1_800_000_001_000 + i64::from(attempt),
        attempt,
        leased_at: None,
        started_at: None,
        worker: "".into(),
    };
    Changed {
        session: Some(*b"0123456789abcdef"),
        attempts: 3,
        deliveries: 4,
        due: Some(1_800_000_002_000),
        progress: Some(Progress {
            state: "PROGRESS".into(),
            meta: Bytes::from_static(b"{\"percent\":40}"),
            at: 1_800_000_000_900,
        }),
        errors: vec![error(1), error(2)],
        revoked_reason: "cancelled".into(),
        result_ttl_ms: None,
        cancel: Cancel::Told,
        cancel_at: None,
        settled: false,
        redelivered: false,
        ..changed(1, 11, 5)
    }
}

/// One change for each state, some with the fields that belong to the state.
fn states() -> Vec<Changed> {
    use State::*;
    let states = [Scheduled, Queued, Leased, Started, Retry, Success, Failure, Revoked];
    let with_state = |(place, state): (usize, State)| {
        let result = Body {
            bytes: Bytes::from_static(b"{\"bpm\":114.0}"),
            content_type: "text/plain".into(),
        };
        let result = (state == Success).then_some(result);
        // A record without this field gets the value that the state suggests.
        let closed_by = match state {
            Success => ClosedBy::Complete,
            Retry | Failure => ClosedBy::Fail,
            _ => ClosedBy::Nobody,
        };
        Changed { state, result, closed_by, ..changed(10 + place as Slot, 100 + place as u64, 2) }
    };
    states.into_iter().enumerate().map(with_state).collect()
}

/// The records of the log, in order.
fn records() -> Vec<Record> {
    let mut records = vec![
        Record::Named(Named::Queue(queue("songs", 5))),
        Record::Named(Named::Queue(QueueRecord {
            paused: true,
            bytes_max: Some(1 << 40),
            expires_in_ms: Some(1_000),
            result_ttl_ms: Some(0),
            ..queue("songs", 7)
        })),
        Record::Named(Named::Queue(queue("gone", 1))),
        Record::Submitted(Box::new(full_submit())),
        Record::Changed(Box::new(full_change())),
        // This record is longer than a chunk.
        submit(2, 12, 60_000),
        submit(3, 13, 40),
        Record::Forgotten(TaskKey { slot: 3, serial: 13 }),
        submit(3, 14, 40),
    ];
    for change in states() {
        records.push(submit(change.key.slot, change.key.serial, 20));
        records.push(Record::Changed(Box::new(change)));
    }
    records.push(Record::Removed(Name::Queue(queue("gone", 1).name)));
    records
}

/// The files that hold records. Their lengths are multiples of these.
const PADDED: [(&str, u64); 2] = [("db", 8 << 20), ("journal.0", 1 << 20)];

/// The files of a folder that the fixture has.
fn names(folder: &Path) -> impl Iterator<Item = &'static str> + use<> {
    let names = ["format", "conf", "durable", "db", "journal.0"];
    let folder = folder.to_owned();
    names.into_iter().filter(move |name| folder.join(name).exists())
}

fn write(to: &Path) {
    let folder = tempfile::tempdir().unwrap();
    let config = FolderConfig { ballast_bytes: 4096, ..FolderConfig::new(folder.path()) };
    let (mut store, _) = Store::open(config, small(), &mut |_| {}).unwrap();
    for record in records() {
        store.append(&record);
    }
    store.commit().unwrap();
    store.close().unwrap();
    fs::create_dir_all(to).unwrap();
    for name in names(folder.path()) {
        let mut bytes = fs::read(folder.path().join(name)).unwrap();
        if PADDED.iter().any(|(padded, _)| *padded == name) {
            let used = bytes.iter().rposition(|byte| *byte != 0).unwrap() + 1;
            bytes.truncate(used);
        }
        fs::write(to.join(name), bytes).unwrap();
    }
}

/// A copy of the fixture, as its broker left the folder.
fn restored(from: &Path) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for name in names(from) {
        fs::write(folder.path().join(name), fs::read(from.join(name)).unwrap()).unwrap();
    }
    for (name, unit) in PADDED {
        if let Ok(file) = fs::OpenOptions::new().write(true).open(folder.path().join(name)) {
            let length = file.metadata().unwrap().len().next_multiple_of(unit);
            file.set_len(length).unwrap();
        }
    }
    folder
}

#[test]
fn folder_of_an_earlier_version_is_read_whole() {
    if std::env::var_os("WRITE_FIXTURE").is_some() && !fixture(FORMAT).exists() {
        write(&fixture(FORMAT));
    }
    let mut expected = Loaded::default();
    for record in records() {
        match record {
            Record::Submitted(task) => drop(expected.tasks.insert(task.key.slot, (*task, None))),
            Record::Changed(change) => {
                let task = expected.tasks.get_mut(&change.key.slot).unwrap();
                task.1 = Some(*change);
            }
            Record::Forgotten(key) => drop(expected.tasks.remove(&key.slot)),
            Record::Named(Named::Queue(queue)) => {
                drop(expected.queues.insert(queue.name.to_string(), queue))
            }
            Record::Removed(Name::Queue(name)) => drop(expected.queues.remove(&name.to_string())),
            Record::Named(Named::Session(session)) => {
                drop(expected.sessions.insert(session.id, session))
            }
            Record::Removed(Name::Session(id)) => drop(expected.sessions.remove(&id)),
            Record::Named(Named::Exchange(_) | Named::Binding(_))
            | Record::Removed(Name::Exchange(_) | Name::Binding(_)) => {
                panic!("the fixtures have no routes")
            }
            Record::Named(Named::Chord(_)) | Record::Removed(Name::Chord(_)) => {
                unreachable!("the fixtures are older than chords")
            }
        }
    }
    for format in 1..=FORMAT {
        let folder = restored(&fixture(format));
        let report = check(folder.path()).unwrap();
        assert_eq!((report.format, report.oddity), (format, None));
        let (store, marks, loaded) = open(folder.path()).unwrap();
        assert_eq!(marks, Marks { serial: 107, lease: 1072 });
        assert_eq!(loaded, expected);
        assert_eq!(store.format(), format);
        store.close().unwrap();
    }
    let folder = restored(&fixture(1));
    for _ in 0..2 {
        let mut loaded = Loaded::default();
        let config = FolderConfig { ballast_bytes: 4096, ..FolderConfig::new(folder.path()) };
        let opened = Store::open(config, small(), &mut |record| loaded.take(record));
        assert_eq!(loaded, expected, "carried on with a journal");
        let (store, _) = opened.unwrap();
        assert_eq!(store.format(), FORMAT);
        store.close().unwrap();
        assert_eq!(check(folder.path()).unwrap().format, FORMAT);
    }
}
