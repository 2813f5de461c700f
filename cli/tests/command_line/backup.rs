//! `backup` and `check`: copy a folder, check the copy, start a broker from it.

use serde_json::Value;
use tempfile::TempDir;

use crate::process::{Broker, finish, run};

#[test]
fn a_backup_is_checked_and_served() {
    let folder = TempDir::new().expect("a folder");
    let data = folder.path().join("data");
    let copy = folder.path().join("copy");
    let (data_path, copy_path) = (data.to_str().expect("text"), copy.to_str().expect("text"));
    let broker = Broker::start(&data, &[]);
    for id in ["a", "b"] {
        assert_eq!(broker.run(&["submit", "n", "--id", id]).code, Some(0));
    }
    let in_use = run(&["check", data_path]);
    assert_eq!(in_use.code, Some(11), "{in_use:?}");

    let backup = broker.run(&["backup", copy_path, "--json"]);
    assert_eq!(backup.code, Some(0), "{backup:?}");
    let document: Value = serde_json::from_str(&backup.stdout).expect("JSON");
    assert_eq!(
        (&document["folder"], &document["tasks"]),
        (&copy_path.into(), &2.into()),
        "{document}"
    );
    let again = broker.run(&["backup", copy_path]);
    assert_eq!((again.code, again.stdout.as_str()), (Some(2), ""), "{again:?}");
    assert_eq!(broker.run(&["backup", "copy"]).code, Some(2), "not an absolute path");

    let checked = run(&["check", copy_path]);
    assert_eq!(checked.code, Some(0), "{checked:?}");
    assert!(checked.stdout.starts_with(&format!("{copy_path} is sound\n")), "{checked:?}");
    assert!(checked.stdout.contains("QUEUED 2"), "{checked:?}");
    let document: Value =
        serde_json::from_str(&run(&["check", copy_path, "--json"]).stdout).expect("JSON");
    assert_eq!(
        (&document["tasks"], &document["states"][1]["state"]),
        (&2.into(), &"QUEUED".into()),
        "{document}"
    );

    let restored = Broker::start(&copy, &[]);
    assert_eq!(restored.run(&["status", "a", "b"]).code, Some(0));
}

#[test]
fn a_check_finds_damage_and_changes_nothing() {
    let folder = TempDir::new().expect("a folder");
    let path = folder.path().to_str().expect("text");
    let broker = Broker::start(folder.path(), &[]);
    assert_eq!(broker.run(&["submit", "n", "--id", "a", "--shadow", "find me here"]).code, Some(0));
    assert_eq!(broker.stop("TERM").code, Some(0));
    assert_eq!(run(&["check", path]).code, Some(0));

    let journal = folder.path().join("journal.0");
    let mut bytes = std::fs::read(&journal).expect("a file");
    let at = bytes
        .windows(12)
        .position(|window| window == b"find me here")
        .expect("it is not compressed");
    bytes[at] ^= 1;
    std::fs::write(&journal, &bytes).expect("writable");
    let damaged = run(&["check", path]);
    assert_eq!((damaged.code, damaged.stdout.as_str()), (Some(13), ""), "{damaged:?}");
    assert!(damaged.stderr.contains("is damaged"), "{damaged:?}");
    assert!(std::fs::read(&journal).expect("a file") == bytes, "a check changes nothing");

    let none = run(&["check", "/no/such/folder"]);
    assert_eq!(none.code, Some(17), "{none:?}");
}

#[test]
fn no_file_that_a_broker_makes_is_open_to_others_at_any_moment() {
    let data = TempDir::new().expect("a folder");
    let broker = Broker::start(data.path(), &[]);
    let status = std::fs::read_to_string(format!("/proc/{}/status", broker.pid()));
    let status = status.expect("the process runs");
    assert!(status.lines().any(|line| line == "Umask:\t0077"), "{status}");
}

#[test]
fn a_backup_may_follow_another_at_once() {
    let folder = TempDir::new().expect("a folder");
    let broker = Broker::start(&folder.path().join("data"), &[]);
    for number in 0..12 {
        let copy = folder.path().join(number.to_string());
        let backup = finish(broker.command(&["backup"]).arg(copy), "");
        assert_eq!(backup.code, Some(0), "{number}: {backup:?}");
    }
}
