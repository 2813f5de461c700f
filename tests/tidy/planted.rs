//! The inside of the broker, and bugs that are planted on purpose, are for the tests: what is
//! released knows nothing of them.

use super::source::{files, has_word};
use super::{Findings, rust_files};

/// What a planted bug would be asked for by.
const VARIABLE: &str = "CELERIAC_PLANTED_BUG";

/// Manifests that may turn on the broker's `internals`.
const MAY: [&str; 2] = ["tests/Cargo.toml", "tests/fuzz-functions/Cargo.toml"];

#[test]
fn no_bug_is_planted_outside_the_tests() {
    let mut findings = Findings::default();
    for file in rust_files().iter().filter(|file| !file.path.starts_with("tests/")) {
        for (number, line) in file.text.lines().enumerate() {
            if line.contains(VARIABLE) || has_word(line, "is_planted") {
                let advice = "bugs are planted in a copy of the sources: tests/harness/planted.rs";
                findings.add(&file.path, number + 1, advice);
            }
        }
    }
    findings.none();
}

#[test]
fn only_the_tests_turn_on_the_inside_of_the_broker() {
    let mut findings = Findings::default();
    let mut looked_at = 0;
    for manifest in files().iter().filter(|file| file.path.ends_with("Cargo.toml")) {
        looked_at += 1;
        for (index, line) in manifest.text.lines().enumerate() {
            let line = line.split('#').next().unwrap_or_default();
            let declares =
                manifest.path == "broker/Cargo.toml" && line.trim().starts_with("internals = [");
            if has_word(line, "internals") && !declares && !MAY.contains(&manifest.path.as_str()) {
                findings.add(
                    &manifest.path,
                    index + 1,
                    "`internals` is for the tests: what is released does without",
                );
            }
        }
    }
    assert!(looked_at > 5, "the manifests are found");
    findings.none();
}
