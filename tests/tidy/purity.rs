//! Names that the machine, the store and other modules must not use.

use super::source::has_word;
use super::{Findings, rust_files};

/// The state machine's folder.
const MACHINE: &str = "broker/machine/src/";

/// A word, and what to do instead.
const FORBIDDEN_IN_THE_MACHINE: [(&str, &str); 22] = [
    ("tokio", "the machine is not async: the driver runs it"),
    ("async", "the machine is not async: the driver runs it"),
    ("await", "the machine is not async: the driver runs it"),
    ("futures_util", "the machine is not async: the driver runs it"),
    ("sled", "hand records to the store as effects"),
    ("fs", "hand records to the store as effects"),
    ("net", "send messages as effects"),
    ("env", "what can be configured comes in through `new`"),
    ("Instant", "time comes in with each command"),
    ("SystemTime", "time comes in with each command"),
    ("rand", "what is random comes in with the command"),
    ("uuid", "what is random comes in with the command"),
    ("Uuid", "what is random comes in with the command"),
    ("Mutex", "one driver owns the machine: there is nothing to lock"),
    ("RwLock", "one driver owns the machine: there is nothing to lock"),
    ("lock", "one driver owns the machine: there is nothing to lock"),
    ("tracing", "the machine does not log: the driver sees every effect"),
    ("wire", "wire types stop at the session: use machine::command"),
    ("prost", "wire types stop at the session: use machine::command"),
    ("HashMap", "its order is random: use BTreeMap, or hashbrown::HashTable for look-ups alone"),
    ("HashSet", "its order is random: use BTreeSet, or hashbrown::HashTable for look-ups alone"),
    ("thread", "the machine has no threads: the driver runs it"),
];

#[test]
fn the_machine_names_nothing_that_could_make_two_runs_differ() {
    let mut findings = Findings::default();
    let mut looked_at = 0;
    for file in rust_files().iter().filter(|file| file.path.starts_with(MACHINE)) {
        looked_at += 1;
        for (number, line) in file.code_outside_tests() {
            for (word, advice) in FORBIDDEN_IN_THE_MACHINE {
                if has_word(&line, word) {
                    findings.add(&file.path, number, format!("`{word}`: {advice}"));
                }
            }
        }
    }
    assert!(looked_at > 0, "{MACHINE} has moved: change this test");
    findings.none();
}

#[test]
fn wire_types_stop_where_frames_are_made_and_read() {
    let mut findings = Findings::default();
    for file in rust_files().iter().filter(|file| file.path.starts_with("broker/src/")) {
        // The fuzz targets and the measurements act as clients.
        let may_wire = [
            "broker/src/session",
            "broker/src/encode",
            "broker/src/internals/fuzz/",
            "broker/src/internals/inside.rs",
        ];
        let is_border = may_wire.iter().any(|place| file.path.starts_with(place));
        for (number, line) in file.code_outside_tests() {
            if has_word(&line, "wire") && !is_border {
                findings.add(
                    &file.path,
                    number,
                    "`wire`: only `session` and `encode` know the protocol's messages",
                );
            }
        }
    }
    findings.none();
}

#[test]
fn sled_types_stop_at_their_folder() {
    let mut findings = Findings::default();
    let folder = "broker/store/src/";
    for file in rust_files().iter().filter(|file| file.path.starts_with(folder)) {
        let inside = &file.path[folder.len()..];
        // The crate's face names the folder.
        if inside == "lib.rs" || inside == "sled.rs" || inside.starts_with("sled/") {
            continue;
        }
        for (number, line) in file.code_outside_tests() {
            if has_word(&line, "sled") {
                let advice = "`sled`: only the folder `sled` knows it; ask the medium";
                findings.add(&file.path, number, advice);
            }
        }
    }
    findings.none();
}

#[test]
fn only_the_clock_reads_time() {
    let mut findings = Findings::default();
    for file in rust_files().iter().filter(|file| file.path.starts_with("broker/src/")) {
        if file.path == "broker/src/clock.rs" {
            continue;
        }
        for (number, line) in file.code_outside_tests() {
            if line.contains("Instant::now") || line.contains("SystemTime::now") {
                findings.add(&file.path, number, "read the time in clock.rs and hand it on");
            }
        }
    }
    findings.none();
}

/// The files that may have unsafe code, and the reason for each.
const UNSAFE: [(&str, &str); 7] = [
    (
        "broker/store/src/sled/sync.rs",
        "a flush of sled reaches the disk only through a function that takes the place of libc's",
    ),
    (
        "tests/fuzz-functions/src/counting.rs",
        "what a frame allocates is seen by the allocator alone",
    ),
    (
        "tests/simulation/interpose.rs",
        "time and randomness of the simulation take the place of libc's",
    ),
    (
        "broker/store/src/sled/reads.rs",
        "a failed read is noticed before sled acts on it only in such a function too",
    ),
    (
        "cli/src/allocator.rs",
        "the end of memory can be told in words only by the allocator, whose interface is unsafe",
    ),
    ("tests/children/interposed.rs", "system calls that fail on request take the place of libc's"),
    (
        "tests/harness/file_system_shutdown.rs",
        "a file system is cut off as by a power failure by an ioctl",
    ),
];

#[test]
fn unsafe_code_stands_in_the_files_that_are_named_here() {
    let mut findings = Findings::default();
    for file in rust_files().iter().filter(|file| UNSAFE.iter().all(|(path, _)| file.path != *path))
    {
        for (number, line) in file.code() {
            if has_word(&line, "unsafe") {
                findings.add(
                    &file.path,
                    number,
                    "`unsafe`: in the product only sled/sync.rs, sled/reads.rs and allocator.rs may; find a safe way or a crate",
                );
            }
        }
    }
    findings.none();
}
