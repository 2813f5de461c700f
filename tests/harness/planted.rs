//! Bugs that are planted on purpose, so that a test can show that the checker of histories would
//! find them.
//!
//! The product's code has no trace of a bug. [`build`] makes a copy of the sources below `target`,
//! plants all bugs in the copy, and builds the simulation from the copy. The environment variable
//! `CELERIAC_PLANTED_BUG` then says which of the bugs is to do its harm.
//!
//! Each bug breaks a promise of the checker, or keeps the broker from starting. If you add a bug,
//! plant it at the one place where it would really happen. When the code of that place changes,
//! change `before` and `after` with it: a test says which bug has lost its place.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{fs, io};

/// A promise to break, and the change of the code that breaks it.
#[derive(Debug, Clone, Copy)]
pub struct Bug {
    /// What the environment variable calls it.
    pub name: &'static str,
    /// The promise that it breaks, in the words of the checker or of the simulation.
    pub promise: &'static str,
    /// The file that it is planted in.
    pub file: &'static str,
    /// What stands there once, and only once.
    pub before: &'static str,
    /// What the bug makes of it. `IS_PLANTED` stands for the question whether the bug is asked
    /// for.
    pub after: &'static str,
}

/// What the simulation says when the broker refuses its own disk.
const NO_START: &str = "the broker does not start";

/// All bugs.
pub const BUGS: [Bug; 20] = [
    // A commit returns before its bytes are durable: what was confirmed is lost with the next
    // crash.
    Bug {
        name: "SkipTheFlush",
        promise: "promise 1",
        file: "tests/harness/simulated_disk.rs",
        before: "for segment in &mut state.segments {",
        after: "if IS_PLANTED {\n            return Ok(());\n        }\n        \
                for segment in &mut state.segments {",
    },
    // The journal uses a segment again before sled's flush: a crash then loses chunks that left the
    // journal.
    Bug {
        name: "ReuseBeforeTheFlush",
        promise: NO_START,
        file: "broker/store/src/journal/mover.rs",
        before: "shared.archive.flush(load.chunks.end.checked_sub(1))?;",
        after: "if !IS_PLANTED {\n            \
                shared.archive.flush(load.chunks.end.checked_sub(1))?;\n        }",
    },
    // The note of the last block is written before the block is durable: a torn last batch is
    // taken for damage.
    Bug {
        name: "TakeATornTailForDamage",
        promise: NO_START,
        file: "broker/store/src/journal.rs",
        before: "let written = self.write_batch(chunks)?;",
        after: "let written = self.write_batch(chunks)?;\n        \
                if IS_PLANTED {\n            \
                self.shared.segments.note(self.sequence)?;\n        }",
    },
    // A block that a segment held in its former use is taken for the next one.
    Bug {
        name: "TakeAnOldBlockForANewOne",
        promise: NO_START,
        file: "broker/store/src/journal/scan.rs",
        before: "next = blocks.successor(block);",
        after: "next = blocks.successor(block);\n        \
                if IS_PLANTED\n            \
                && next.is_none()\n            \
                && let Some(old) = blocks.by_place.get(&place_after(block))\n        {\n            \
                found.take(old);\n            \
                break;\n        }",
    },
    // Answers leave before the commit that they depend on: the same harm in a narrower gap.
    Bug {
        name: "ReplyBeforeTheCommit",
        promise: "promise 1",
        file: "broker/src/commit/committer.rs",
        before: "let mut departures = self.prepare(batch.effects)?;",
        after: "let mut departures = self.prepare(batch.effects)?;\n        if IS_PLANTED {\n            \
                for departure in std::mem::take(&mut departures) {\n                \
                self.depart(departure);\n            }\n        }",
    },
    // The leases of a worker that is gone never come back: its tasks never end.
    Bug {
        name: "ForgetADeadWorker",
        promise: "promise 1",
        file: "broker/machine/src/connect.rs",
        before: "        } else {\n            self.drop_connection(step, key, Some(\"nothing was heard for the lease time\"));",
        after: "        } else if !IS_PLANTED {\n            \
                self.drop_connection(step, key, Some(\"nothing was heard for the lease time\"));",
    },
    // A result loses its last byte.
    Bug {
        name: "CutAResult",
        promise: "promise 2",
        file: "broker/machine/src/report.rs",
        before: "        if result.bytes.len() <= self.config.result_bytes_max {",
        after: "        let mut result = result;\n        if IS_PLANTED {\n            \
                result.bytes.truncate(result.bytes.len().saturating_sub(1));\n        }\n        \
                if result.bytes.len() <= self.config.result_bytes_max {",
    },
    // A second worker is handed a lease that a first one holds.
    Bug {
        name: "HandOutALeaseTwice",
        promise: "promise 3",
        file: "broker/machine/src/dispatch.rs",
        before: "outgoing.entry(connection).or_default().push(self.delivery(slot));",
        after: "outgoing.entry(connection).or_default().push(self.delivery(slot));\n            \
                if IS_PLANTED {\n                let other = self.next_taker(queue, &[taker])\n                    \
                .and_then(|key| self.sessions.session(key).connection);\n                \
                outgoing.entry(other.unwrap_or(connection)).or_default().push(self.delivery(slot));\n            }",
    },
    // A restart forgets how often a task was tried: it is tried more often than its limit.
    Bug {
        name: "LoseTheRetryCount",
        promise: "promise 4",
        file: "broker/machine/src/restore.rs",
        before: "attempts: changed.attempts,",
        after: "attempts: if IS_PLANTED { 0 } else { changed.attempts },",
    },
    // Now and then a completed task is queued again.
    Bug {
        name: "DeliverAfterCompletion",
        promise: "promise 5",
        file: "broker/machine/src/report.rs",
        before: "    ) -> ReportOutcome {\n        self.ensure_started_in_passing(step, slot);",
        after: "    ) -> ReportOutcome {\n        self.ensure_started_in_passing(step, slot);\n        \
                if IS_PLANTED && self.tasks.task(slot).lease().is_multiple_of(16) {\n            \
                self.requeue(step, slot, ClosedBy::Complete, Cause::Released);\n            \
                return Ok(State::Success);\n        }",
    },
    // An id that has not ended is run again where it should be joined.
    Bug {
        name: "RunAConflictTwice",
        promise: "promise 7",
        file: "broker/machine/src/conflicts.rs",
        before: "OnConflict::RunAgainIfFinished if !is_over => self",
        after: "OnConflict::RunAgainIfFinished if !is_over && !IS_PLANTED => self",
    },
    // A submit that is to run beside another task is joined to it.
    Bug {
        name: "JoinInPlaceOfBeside",
        promise: "promise 7",
        file: "broker/machine/src/conflicts.rs",
        before: "OnConflict::Beside if !is_over => self.create_beside(step, submission),",
        after: "OnConflict::Beside if !is_over && IS_PLANTED => self.joined(slot),\n            \
                OnConflict::Beside if !is_over => self.create_beside(step, submission),",
    },
    // What ended is dropped at once, whatever time it was given.
    Bug {
        name: "ForgetTooEarly",
        promise: "promise 8",
        file: "broker/machine/src/transitions.rs",
        before: "        self.tasks.task_mut(slot).set_due(step.clocks.after(ttl_ms));\n        self.publish",
        after: "        if IS_PLANTED {\n            ttl_ms = ttl_ms.min(1);\n        }\n        \
                self.tasks.task_mut(slot).set_due(step.clocks.after(ttl_ms));\n        self.publish",
    },
    // A task does not wait for its time.
    Bug {
        name: "StartBeforeTheEta",
        promise: "promise 10",
        file: "broker/machine/src/submit.rs",
        before: "let scheduled = submitted.after.is_some() || waits;",
        after: "let scheduled = submitted.after.is_some() || (waits && !IS_PLANTED);",
    },
    // A task that was tried before its expiry is tried after it too.
    Bug {
        name: "RetryAfterTheExpiry",
        promise: "promise 10",
        file: "broker/machine/src/limits.rs",
        before: "        self.tasks.plan(task).and_then(|plan| plan.expires)",
        after: "        if IS_PLANTED && self.tasks.attempts(task) > 0 {\n            \
                return None;\n        }\n        \
                self.tasks.plan(task).and_then(|plan| plan.expires)",
    },
    // A restart takes a task that had come due back to where it waited.
    Bug {
        name: "ForgetADueVersion",
        promise: "promise 11",
        file: "broker/machine/src/transitions.rs",
        before: "        self.line_up(slot, false);\n        self.publish(",
        after: "        self.line_up(slot, false);\n        if IS_PLANTED {\n            \
                return self.notify(step, slot);\n        }\n        self.publish(",
    },
    // A pause leaves workers what they have not begun.
    Bug {
        name: "LeaveLeasesInAPause",
        promise: "promise 12",
        file: "broker/machine/src/operate.rs",
        before: "!pausing.paused || (self.find_unstarted",
        after: "!pausing.paused || IS_PLANTED || (self.find_unstarted",
    },
    // All that a lost worker held is charged for it.
    Bug {
        name: "ChargeWhatNeverBegan",
        promise: "promise 13",
        file: "broker/machine/src/lease.rs",
        before: "        if !started {\n            run.deliveries",
        after: "        if !started && !IS_PLANTED {\n            run.deliveries",
    },
    // The worker was lost in the last attempt, and another one begins.
    Bug {
        name: "StartOnceMore",
        promise: "promise 13",
        file: "broker/machine/src/lease.rs",
        before: "} else if is_to_blame && starts >= attempts_max {",
        after: "} else if is_to_blame && starts >= attempts_max && !IS_PLANTED {",
    },
    // A task that asks to begin once is tried again after a failure.
    Bug {
        name: "RetryWhatBeginsOnce",
        promise: "promise 13",
        file: "broker/machine/src/report.rs",
        before: "self.tasks.plan(task).is_some_and(|plan| plan.early_ack)\n            ||",
        after: "self.tasks.plan(task).is_some_and(|plan| plan.early_ack && !IS_PLANTED)\n            ||",
    },
];

/// The environment variable that says which bug is to do its harm.
const VARIABLE: &str = "CELERIAC_PLANTED_BUG";

/// The crate that every crate with a bug depends on, and what is added to it.
const ASKING: (&str, &str) = (
    "broker/record/src/lib.rs",
    r#"
/// Whether this bug is to do its harm.
#[doc(hidden)]
pub fn is_planted(name: &str) -> bool {
    static PLANTED: std::sync::OnceLock<Option<String>> = std::sync::OnceLock::new();
    let planted = PLANTED.get_or_init(|| std::env::var("CELERIAC_PLANTED_BUG").ok());
    planted.as_deref() == Some(name)
}
"#,
);

/// The program's name in the copy, so that it does not take the place of the one without bugs: both
/// are built into one folder, which saves building the dependencies twice.
const PROGRAM: (&str, &str) = ("celeriac-simulation", "celeriac-simulation-with-bugs");

/// Folders of the sources that are not copied.
const LEFT_OUT: [&str; 3] = ["target", ".git", "node_modules"];

/// The files of the workspace. They stand one folder above the copied packages.
const WORKSPACE: [&str; 2] = ["Cargo.toml", "Cargo.lock"];

/// The folder of the copied packages in their workspace. Cargo tells packages of one target folder
/// apart by their paths in their workspace: without this folder a package with bugs would take the
/// place of the one without.
const PACKAGES: &str = "with-bugs";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the tests lie in the project").to_owned()
}

/// The text of a file with the bugs that belong there.
///
/// # Errors
/// A sentence that names the bug, when its place is not there, or is there more than once.
pub fn planted(file: &str, text: &str) -> Result<String, String> {
    let mut text = text.to_owned();
    for bug in BUGS.iter().filter(|bug| bug.file == file) {
        let places = text.matches(bug.before).count();
        if places != 1 {
            let (name, before) = (bug.name, bug.before);
            return Err(format!("{name}: {places} places in {file} read\n{before}"));
        }
        let question = match file.starts_with("tests/") {
            // The tests do not depend on that crate.
            true => format!("std::env::var({VARIABLE:?}).is_ok_and(|bug| bug == {:?})", bug.name),
            false => format!("celeriac_record::is_planted({:?})", bug.name),
        };
        text = text.replace(bug.before, &bug.after.replace("IS_PLANTED", &question));
    }
    match file {
        _ if file == ASKING.0 => text.push_str(ASKING.1),
        "tests/Cargo.toml" => text = text.replace(PROGRAM.0, PROGRAM.1),
        _ => {}
    }
    Ok(text)
}

/// Builds the simulation with all bugs, and returns its path.
///
/// # Panics
/// When a bug has lost its place, or the copy cannot be built.
pub fn build() -> PathBuf {
    let root = root();
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or(root.join("target"), PathBuf::from);
    let copy = target.join("planted");
    mirror(&root, &copy.join(PACKAGES), Path::new("")).expect("the sources can be copied");
    for name in WORKSPACE {
        let text = fs::read_to_string(root.join(name)).expect("the workspace has the file");
        write(&copy.join(name), workspace(name, text).as_bytes()).expect("it can be copied");
    }
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let built = Command::new(cargo)
        .args(["build", "--workspace", "--locked", "--bin", PROGRAM.1])
        .env("CARGO_TARGET_DIR", &target)
        .current_dir(&copy)
        .output()
        .expect("cargo can be started");
    let said = String::from_utf8_lossy(&built.stderr);
    assert!(built.status.success(), "the copy with the bugs cannot be built:\n{said}");
    target.join("debug").join(PROGRAM.1)
}

/// A file of the workspace, with the paths of the copied packages.
fn workspace(name: &str, text: String) -> String {
    if name != "Cargo.toml" {
        return text;
    }
    let moved = |line: &str| {
        if line.starts_with("members") || line.starts_with("exclude") {
            line.replace("[\"", &format!("[\"{PACKAGES}/"))
                .replace(", \"", &format!(", \"{PACKAGES}/"))
        } else {
            line.replace("path = \"", &format!("path = \"{PACKAGES}/"))
        }
    };
    text.lines().map(|line| moved(line) + "\n").collect()
}

/// Writes a file, unless it is right already: only what changed is built again.
fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    if fs::read(path).is_ok_and(|present| present == bytes) {
        Ok(())
    } else {
        fs::write(path, bytes)
    }
}

/// Makes `copy` have the files of `root`, with bugs.
fn mirror(root: &Path, copy: &Path, inside: &Path) -> io::Result<()> {
    let (from, to) = (root.join(inside), copy.join(inside));
    fs::create_dir_all(&to)?;
    for entry in fs::read_dir(&to)? {
        let entry = entry?;
        let is_moved =
            WORKSPACE.iter().any(|moved| inside.join(entry.file_name()) == Path::new(moved));
        if is_moved || !from.join(entry.file_name()).exists() {
            match entry.file_type()?.is_dir() {
                true => fs::remove_dir_all(entry.path())?,
                false => fs::remove_file(entry.path())?,
            }
        }
    }
    for entry in fs::read_dir(&from)? {
        let entry = entry?;
        let name = entry.file_name();
        let path = inside.join(&name);
        if entry.file_type()?.is_dir() {
            if !LEFT_OUT.iter().any(|left_out| name == *left_out) {
                mirror(root, copy, &path)?;
            }
            continue;
        }
        if WORKSPACE.iter().any(|moved| path == Path::new(moved)) {
            continue;
        }
        let bytes = fs::read(entry.path())?;
        let bytes = match String::from_utf8(bytes) {
            Ok(text) => planted(&path.to_string_lossy(), &text)
                .unwrap_or_else(|lost| panic!("{lost}"))
                .into_bytes(),
            Err(error) => error.into_bytes(),
        };
        write(&to.join(&name), &bytes)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bug_has_its_place() {
        for bug in BUGS {
            let text = fs::read_to_string(root().join(bug.file)).expect("the file is there");
            let with_bugs = planted(bug.file, &text).unwrap_or_else(|lost| panic!("{lost}"));
            assert!(with_bugs.contains(bug.name), "{}", bug.name);
        }
    }
}
