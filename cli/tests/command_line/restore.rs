//! `restore`: a backup becomes a data folder again, whole or not at all.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use serde_json::Value;
use tempfile::TempDir;

use crate::process::{Broker, CommandOutput, finish, program, run};

/// A folder with a backup of two tasks, and the broker that wrote it.
struct Place {
    folder: TempDir,
    broker: Broker,
}

impl Place {
    fn new() -> Self {
        let folder = TempDir::new().expect("a folder");
        let broker = Broker::start(&folder.path().join("data"), &[]);
        let payload = format!("[\"find me here {}\"]", "x".repeat(300_000));
        for id in ["a", "b"] {
            let mut submitted = broker.command(&["submit", "n", "--id", id, "--args", "-"]);
            assert_eq!(finish(&mut submitted, &payload).code, Some(0));
        }
        let place = Self { folder, broker };
        let backup = place.broker.run(&["backup", &place.text("backup")]);
        assert_eq!(backup.code, Some(0), "{backup:?}");
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    fn restore(&self, from: &str, to: &str) -> CommandOutput {
        run(&["restore", &self.text(from), &self.text(to)])
    }
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).expect("a folder");
    let mut names: Vec<String> = entries
        .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

fn serves_both(data: &Path) {
    let restored = Broker::start(data, &[]);
    let status = restored.run(&["status", "a", "b"]);
    assert_eq!(status.code, Some(0), "{status:?}");
}

#[test]
fn a_backup_is_restored_with_one_command_and_served() {
    let place = Place::new();
    let restored = place.restore("backup", "new");
    assert_eq!((restored.code, restored.stderr.as_str()), (Some(0), ""), "{restored:?}");
    let new = place.text("new");
    let first = format!("{new} is restored and sound\n");
    assert!(restored.stdout.starts_with(&first), "{restored:?}");
    assert!(restored.stdout.contains("QUEUED 2"), "{restored:?}");
    for name in names(&place.path("new")) {
        let mode = fs::metadata(place.path("new").join(&name)).expect("a file").mode() & 0o777;
        assert_eq!(mode & 0o077, 0, "{name} is for this user alone: {mode:o}");
    }
    assert!(!names(&place.path("new")).contains(&"restoring".to_owned()));
    serves_both(&place.path("new"));
    // The backup is as it was, and serves a second time, into an existing folder.
    fs::create_dir(place.path("again")).expect("a new folder");
    let again = run(&["restore", &place.text("backup"), &place.text("again"), "--json"]);
    let document: Value = serde_json::from_str(&again.stdout).expect("JSON");
    assert_eq!((&document["tasks"], &document["format"]), (&2.into(), &1.into()), "{document}");
    serves_both(&place.path("again"));
}

#[test]
fn a_folder_that_is_not_empty_stays_as_it_is() {
    let place = Place::new();
    fs::create_dir(place.path("full")).expect("a new folder");
    fs::write(place.path("full/mine"), "mine").expect("writable");
    for (from, to, code, sentence) in [
        ("backup", "full", 17, "is not empty: it holds `mine`; a restore needs an empty folder"),
        ("backup", "backup", 17, "lies inside the backup: choose another folder"),
        ("backup", "backup/in", 17, "lies inside the backup: choose another folder"),
        // A broker uses both of these.
        ("backup", "data", 11, "is in use by another broker"),
        ("data", "new", 11, "is in use by another broker"),
        ("none", "new", 17, "cannot read the folder"),
        ("full", "new", 17, "is not a Celeriac data folder: it has no file named `format`"),
    ] {
        let before = names(&place.path("backup"));
        let refused = place.restore(from, to);
        assert_eq!((refused.code, refused.stdout.as_str()), (Some(code), ""), "{refused:?}");
        assert!(refused.stderr.starts_with("celeriac: nothing is restored: "), "{refused:?}");
        assert!(refused.stderr.contains(sentence), "{sentence}: {refused:?}");
        assert!(!place.path("new").exists(), "{from} {to}");
        assert_eq!(names(&place.path("backup")), before);
    }
    assert_eq!(names(&place.path("full")), ["mine"]);
    // The folder of a broker that has ended is not empty either.
    let Place { folder, broker } = place;
    assert_eq!(broker.stop("TERM").code, Some(0));
    let path = |name: &str| folder.path().join(name).display().to_string();
    let refused = run(&["restore", &path("backup"), &path("data")]);
    assert_eq!(refused.code, Some(17), "{refused:?}");
    assert!(refused.stderr.contains("is not empty: it holds `"), "{refused:?}");
    serves_both(&folder.path().join("data"));
}

#[test]
fn a_broken_backup_is_named_and_nothing_is_left_of_it() {
    let place = Place::new();
    let file = place.path("backup/db");
    let mut bytes = fs::read(&file).expect("a file");
    let at = bytes.windows(12).position(|window| window == b"find me here").expect("it is there");
    bytes[at] ^= 1;
    fs::write(&file, bytes).expect("writable");
    let refused = place.restore("backup", "new");
    assert_eq!((refused.code, refused.stdout.as_str()), (Some(13), ""), "{refused:?}");
    let named = format!("nothing is restored: the backup {} is damaged", place.text("backup"));
    assert!(refused.stderr.contains(&named), "{refused:?}");
    assert!(!place.path("new").exists());
    fs::create_dir(place.path("new")).expect("a new folder");
    assert_eq!(place.restore("backup", "new").code, Some(13));
    assert_eq!(names(&place.path("new")), Vec::<String>::new());
}

#[test]
fn a_restore_that_is_killed_leaves_a_folder_that_is_refused_until_it_is_restored_again() {
    let place = Place::new();
    // The system kills the process in the middle of its largest file, as `kill -9` would.
    let mut killed = program("sh");
    killed.args(["-c", "ulimit -c 0; ulimit -f 100; exec celeriac restore \"$1\" \"$2\"", "sh"]);
    let killed = finish(killed.arg(place.path("backup")).arg(place.path("new")), "");
    assert_eq!(killed.code, None, "it was killed: {killed:?}");
    assert!(names(&place.path("new")).contains(&"restoring".to_owned()));
    let sentence = format!("a restore into {} was interrupted", place.text("new"));
    let serve = run(&["serve", "--listen", "127.0.0.1:0", "--data", &place.text("new")]);
    let check = run(&["check", &place.text("new")]);
    let onward = place.restore("new", "further");
    for refused in [serve, check, onward] {
        assert_eq!((refused.code, refused.stdout.as_str()), (Some(17), ""), "{refused:?}");
        assert!(refused.stderr.contains(&sentence), "{refused:?}");
    }
    // What no restore has made stays, and so does all else there.
    fs::write(place.path("new/mine"), "mine").expect("writable");
    let before = names(&place.path("new"));
    let refused = place.restore("backup", "new");
    assert_eq!((refused.code, refused.stdout.as_str()), (Some(17), ""), "{refused:?}");
    let sentence =
        "is left over from an interrupted restore and holds `mine`, which no restore made";
    assert!(refused.stderr.contains(sentence), "{refused:?}");
    assert_eq!(names(&place.path("new")), before);
    fs::remove_file(place.path("new/mine")).expect("it is there");
    let again = place.restore("backup", "new");
    assert_eq!(again.code, Some(0), "{again:?}");
    serves_both(&place.path("new"));
}

#[test]
#[allow(clippy::print_stderr, reason = "a test that was skipped says so")]
fn a_restore_on_a_full_disk_says_what_it_needs_and_leaves_nothing() {
    let place = Place::new();
    let disk = place.path("disk");
    fs::create_dir(&disk).expect("a new folder");
    let mount = std::process::Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=1m", "none"])
        .arg(&disk)
        .output();
    if !mount.is_ok_and(|output| output.status.success()) {
        eprintln!("SKIPPED: this user cannot mount a small disk");
        return;
    }
    let outcome = std::panic::catch_unwind(|| {
        let refused = run(&["restore", &place.text("backup"), &place.text("disk/new")]);
        assert_eq!((refused.code, refused.stdout.as_str()), (Some(14), ""), "{refused:?}");
        assert!(refused.stderr.contains("bytes and") && refused.stderr.contains("are free"));
        assert_eq!(names(&place.path("disk")), Vec::<String>::new());
    });
    let _ = std::process::Command::new("umount").arg(&disk).output();
    if let Err(panic) = outcome {
        std::panic::resume_unwind(panic);
    }
}

#[test]
#[allow(clippy::print_stderr, reason = "a test that was skipped says so")]
fn root_restores_for_the_user_who_owns_the_backup() {
    let place = Place::new();
    const USER: u32 = 65_532;
    if chown(place.path("backup"), Some(USER), Some(USER)).is_err() {
        eprintln!("SKIPPED: only root can give a folder away");
        return;
    }
    for name in names(&place.path("backup")) {
        chown(place.path("backup").join(name), Some(USER), Some(USER)).expect("it is root");
    }
    // Others must reach the folder below this one.
    fs::set_permissions(place.folder.path(), fs::Permissions::from_mode(0o755)).expect("ours");
    assert_eq!(place.restore("backup", "new").code, Some(0));
    let new = place.path("new");
    for path in names(&new).iter().map(|name| new.join(name)).chain([new.clone()]) {
        let found = fs::metadata(&path).expect("it is there");
        assert_eq!((found.uid(), found.gid()), (USER, USER), "{}", path.display());
    }
}
