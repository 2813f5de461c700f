//! Which crate may use which, and which module of the broker may use which. ARCHITECTURE.md has the
//! picture.

use super::source::{Source, files};
use super::{Findings, rust_files};

/// The folder of a crate, the crates of this project that it may use, and other crates that it must
/// not use.
struct Rule {
    folder: &'static str,
    project: &'static [&'static str],
    never: &'static [&'static str],
}

/// If you add a crate, add its row here and its arrow to ARCHITECTURE.md.
const CRATES: &[Rule] = &[
    Rule { folder: "proto", project: &[], never: &["tokio", "sled", "clap", "tracing", "serde"] },
    Rule {
        folder: "broker/record",
        project: &["celeriac-proto"],
        never: &["tokio", "sled", "clap", "tracing", "serde", "prost"],
    },
    // Beside the names and limits of the protocol and the records, small pure crates alone.
    Rule {
        folder: "broker/machine",
        project: &["celeriac-proto", "celeriac-record"],
        never: &["tokio", "sled", "clap", "tracing", "serde", "prost", "uuid", "libc", "rustix"],
    },
    Rule {
        folder: "broker/store",
        project: &["celeriac-proto", "celeriac-record"],
        never: &["tokio", "clap", "serde", "prost"],
    },
    // It knows times alone.
    Rule {
        folder: "broker/ticks",
        project: &[],
        never: &["tokio", "sled", "clap", "tracing", "serde", "prost"],
    },
    Rule {
        folder: "broker",
        project: &["celeriac-proto", "celeriac-record", "celeriac-machine", "celeriac-store"],
        never: &["sled", "clap"],
    },
    Rule { folder: "client", project: &["celeriac-proto"], never: &["sled", "clap"] },
    Rule {
        folder: "worker",
        project: &["celeriac-client", "celeriac-macros", "celeriac-proto"],
        never: &["sled", "clap"],
    },
    // It is a client: whatever HTTP can do, any client can.
    Rule {
        folder: "web",
        project: &["celeriac-client", "celeriac-proto"],
        never: &["sled", "clap"],
    },
    Rule { folder: "worker/macros", project: &[], never: &["tokio", "sled", "clap"] },
    Rule {
        folder: "cli",
        project: &[
            "celeriac-broker",
            "celeriac-client",
            "celeriac-proto",
            "celeriac-web",
            "celeriac-worker",
        ],
        never: &["sled"],
    },
    Rule {
        folder: "examples/songs",
        project: &["celeriac-broker", "celeriac-client", "celeriac-worker"],
        never: &["sled"],
    },
    Rule {
        folder: "tests",
        project: &[
            "celeriac-broker",
            "celeriac-client",
            "celeriac-fuzz-functions",
            "celeriac-history",
            "celeriac-proto",
            "celeriac-record",
            "celeriac-store",
            "celeriac-worker",
        ],
        never: &["sled"],
    },
    // The checker can judge any broker, because it knows none.
    Rule {
        folder: "tests/history",
        project: &["celeriac-proto"],
        never: &["celeriac-broker", "celeriac-client", "sled"],
    },
    // This crate needs another compiler, so it is outside the workspace.
    Rule { folder: "tests/fuzz", project: &["celeriac-fuzz-functions"], never: &["sled"] },
    Rule {
        folder: "tests/fuzz-functions",
        project: &[
            "celeriac-broker",
            "celeriac-machine",
            "celeriac-proto",
            "celeriac-record",
            "celeriac-store",
        ],
        never: &["sled"],
    },
    Rule {
        folder: "tests/bench",
        project: &[
            "celeriac-broker",
            "celeriac-client",
            "celeriac-machine",
            "celeriac-proto",
            "celeriac-record",
            "celeriac-tests",
            "celeriac-worker",
        ],
        never: &["sled"],
    },
    // The kit knows no broker: it plays one.
    Rule {
        folder: "tests/conformance",
        project: &["celeriac-client", "celeriac-proto", "celeriac-worker"],
        never: &["celeriac-broker", "sled"],
    },
];

/// A module of the broker, and the modules that it may use. `lib.rs` may use all of them. A module
/// that is not in the table may use nothing: add a new module here and to ARCHITECTURE.md.
const BROKER_MODULES: [(&str, &[&str]); 28] = [
    ("testing", &["server", "config", "control", "error"]),
    (
        "server",
        &[
            "accept",
            "access",
            "session",
            "driver",
            "commit",
            "clock",
            "config",
            "control",
            "descriptors",
            "door",
            "encode",
            "error",
            "lobby",
            "log_filter",
            "refused",
            "room",
            "size",
            "tally",
            "tls",
        ],
    ),
    ("accept", &["door", "lobby", "session", "tally", "tls"]),
    ("door", &["lobby", "tls"]),
    (
        "control",
        &["commit", "config", "descriptors", "driver", "encode", "session", "tally", "tls"],
    ),
    ("access", &["clock", "config", "cursors", "regular_file"]),
    ("tls", &["clock", "config", "regular_file"]),
    (
        "session",
        &[
            "access",
            "cursors",
            "driver",
            "encode",
            "lobby",
            "log_filter",
            "refused",
            "send_queue",
            "clock",
            "config",
            "room",
            "tally",
        ],
    ),
    ("tally", &["clock", "lobby", "outgoing"]),
    ("log_filter", &[]),
    ("lobby", &[]),
    ("refused", &[]),
    ("process", &["outgoing"]),
    ("room", &[]),
    ("driver", &["commit", "gather", "send_queue", "clock", "error", "room"]),
    ("gather", &[]),
    (
        "commit",
        &[
            "clock",
            "cursors",
            "encode",
            "outgoing",
            "process",
            "send_queue",
            "error",
            "size",
            "tally",
        ],
    ),
    ("encode", &["cursors", "outgoing", "config", "size"]),
    ("send_queue", &["cursors"]),
    ("cursors", &[]),
    ("regular_file", &[]),
    ("size", &["outgoing"]),
    ("outgoing", &[]),
    ("clock", &[]),
    ("error", &["access", "config", "tls"]),
    (
        "internals",
        &[
            "server",
            "session",
            "driver",
            "commit",
            "encode",
            "outgoing",
            "send_queue",
            "size",
            "config",
            "descriptors",
            "lobby",
            "clock",
            "tally",
        ],
    ),
    ("config", &["size"]),
    ("descriptors", &[]),
];

/// The modules of the machine in layers, nouns below and verbs above. A module may use the modules
/// of the layers below its own, and no other.
const MACHINE_LAYERS: [&[&str]; 9] = [
    &["keys", "command", "retry", "slice"],
    &["clocks", "names", "consumer", "chord", "ends"],
    &["task", "queue", "session", "timers", "mailbox", "exchange", "step"],
    &["signals", "suspects", "transitions", "successors", "observe", "routes", "seen"],
    &["lease", "limits", "consume", "balance", "announce", "mail", "mail_look"],
    &[
        "submit",
        "conflicts",
        "report",
        "cancel",
        "operate",
        "declare",
        "dead",
        "look",
        "stats",
        "listing",
        "dispatch",
        "connect",
        "restore",
    ],
    &["scan", "outcome", "ordered"],
    &["gather"],
    &["requests", "invariants"],
];

/// These modules use the commands of the machine and nothing else of it.
const SPEAK_TO_THE_MACHINE: [&str; 15] = [
    "accept",
    "access",
    "control",
    "session",
    "commit",
    "encode",
    "outgoing",
    "send_queue",
    "clock",
    "cursors",
    "lobby",
    "log_filter",
    "refused",
    "size",
    "tally",
];

#[test]
fn crates_use_only_the_crates_below_them() {
    let mut findings = Findings::default();
    for manifest in files().iter().filter(|file| file.path.ends_with("/Cargo.toml")) {
        let folder = manifest.path.trim_end_matches("/Cargo.toml");
        let Some(rule) = CRATES.iter().find(|rule| rule.folder == folder) else {
            findings.add(
                &manifest.path,
                1,
                "a new crate: say in tests/tidy/layers.rs what it may use",
            );
            continue;
        };
        for (number, name) in dependencies(manifest) {
            if name.starts_with("celeriac") && !rule.project.contains(&name) {
                findings.add(
                    &manifest.path,
                    number,
                    format!("{folder} may not use {name}: move what it needs below both"),
                );
            }
            if rule.never.contains(&name) {
                findings.add(
                    &manifest.path,
                    number,
                    format!("{folder} does without {name}: see ARCHITECTURE.md"),
                );
            }
        }
    }
    findings.none();
}

/// The names in every section of dependencies, including those for tests.
fn dependencies(manifest: &Source) -> Vec<(usize, &str)> {
    let mut in_section = false;
    let mut found = Vec::new();
    for (index, line) in manifest.text.lines().enumerate() {
        if line.starts_with('[') {
            in_section = line.ends_with("dependencies]");
        } else if in_section && line.contains('=') && !line.trim_start().starts_with('#') {
            let name = line.split(['.', '=']).next().unwrap_or_default().trim();
            found.push((index + 1, name));
        }
    }
    found
}

#[test]
fn modules_of_the_broker_use_only_those_below_them() {
    let mut findings = Findings::default();
    for file in rust_files().iter().filter(|file| file.path.starts_with("broker/src/")) {
        let inside = &file.path["broker/src/".len()..];
        let module = inside.split(['/', '.']).next().unwrap_or_default();
        if module == "lib" {
            continue;
        }
        let Some((_, allowed)) = BROKER_MODULES.iter().find(|(name, _)| *name == module) else {
            findings.add(
                &file.path,
                1,
                format!("`{module}` is new: say in tests/tidy/layers.rs what it may use"),
            );
            continue;
        };
        for (number, used) in crate_paths(file) {
            if used != module && !allowed.contains(&used.as_str()) {
                findings.add(
                    &file.path,
                    number,
                    format!("`{module}` may not use `{used}`: hand it what it needs"),
                );
            }
        }
    }
    findings.none();
}

#[test]
fn the_edges_speak_to_the_machine_in_its_language() {
    let mut findings = Findings::default();
    for file in rust_files().iter().filter(|file| file.path.starts_with("broker/src/")) {
        let module = file.path["broker/src/".len()..].split(['/', '.']).next().unwrap_or_default();
        if !SPEAK_TO_THE_MACHINE.contains(&module) {
            continue;
        }
        for (number, line) in file.code_outside_tests() {
            let is_spoken = line.split("celeriac_machine").skip(1);
            if is_spoken.into_iter().any(|rest| !rest.starts_with("::command")) {
                let advice = format!(
                    "`{module}` speaks to the machine in `celeriac_machine::command` alone"
                );
                findings.add(&file.path, number, advice);
            }
        }
    }
    findings.none();
}

#[test]
fn modules_of_the_machine_use_only_those_of_lower_layers() {
    let layer_of = |module: &str| MACHINE_LAYERS.iter().position(|layer| layer.contains(&module));
    let mut findings = Findings::default();
    let folder = "broker/machine/src/";
    for file in rust_files().iter().filter(|file| file.path.starts_with(folder)) {
        let module = file.path[folder.len()..].split(['/', '.']).next().unwrap_or_default();
        if module == "lib" || module == "tests" {
            continue;
        }
        let Some(layer) = layer_of(module) else {
            let advice = format!("`{module}` is new: give it a layer in tests/tidy/layers.rs");
            findings.add(&file.path, 1, advice);
            continue;
        };
        for (number, used) in crate_paths(file) {
            if used != module && layer_of(&used).is_none_or(|of_used| of_used >= layer) {
                let advice =
                    format!("`{module}` may not use `{used}`: it stands in no lower layer");
                findings.add(&file.path, number, advice);
            }
        }
    }
    findings.none();
}

/// Line and first module of every path that begins with `crate::`, those in braces too.
fn crate_paths(file: &Source) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (number, line) in file.code_outside_tests() {
        for (at, _) in line.match_indices("crate::") {
            if line[..at].ends_with("pub(in ") || line[..at].ends_with('$') {
                continue;
            }
            let path = &line[at + "crate::".len()..];
            let branches: Vec<&str> = match path.strip_prefix('{') {
                Some(branches) => branches.split(',').map(str::trim).collect(),
                None => vec![path],
            };
            for branch in branches {
                let end =
                    branch.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(branch.len());
                let module = &branch[..end];
                if module.starts_with(|c: char| c.is_lowercase()) {
                    found.push((number, module.to_owned()));
                }
            }
        }
    }
    found
}
