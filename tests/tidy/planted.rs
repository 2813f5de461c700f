//! Planted bugs stay out of what is released: they are asked for in debug builds with a feature
//! that nothing but the tests turns on.

use super::source::{Source, files, has_word};
use super::{Findings, rust_files};

const PLANTED: &str = "broker/src/planted.rs";
const VARIABLE: &str = "CELERIAC_PLANTED_BUG";

/// Manifests that may turn on the broker's `internals`.
const MAY: [&str; 2] = ["tests/Cargo.toml", "tests/fuzz/Cargo.toml"];

#[test]
fn a_planted_bug_needs_the_feature_and_a_debug_build() {
    let planted = Source::read(PLANTED).expect("the planted bugs are where they were");
    let lines: Vec<&str> = planted.text.lines().map(str::trim).collect();
    let mut findings = Findings::default();
    let mut answers = 0;
    for (index, line) in
        lines.iter().enumerate().filter(|(_, line)| line.contains("fn is_planted("))
    {
        answers += 1;
        let gate = index.checked_sub(1).map(|above| lines[above]).unwrap_or_default();
        let is_right = match line.contains("const fn") {
            true => gate == "#[cfg(not(all(feature = \"internals\", debug_assertions)))]",
            false => gate == "#[cfg(all(feature = \"internals\", debug_assertions))]",
        };
        if !is_right {
            findings.add(
                PLANTED,
                index + 1,
                "gate it by the feature and by debug_assertions, in the line above",
            );
        }
    }
    assert_eq!(answers, 2, "{PLANTED} has one answer for release builds and one for tests");
    let constant = lines
        .iter()
        .position(|line| line.contains("const fn is_planted("))
        .expect("it was counted");
    assert_eq!(lines[constant + 1], "false", "a release build has no planted bug");
    for file in rust_files()
        .iter()
        .filter(|file| file.path.starts_with("broker/src/") && file.path != PLANTED)
    {
        for (number, line) in file.text.lines().enumerate() {
            if line.contains(VARIABLE) {
                findings.add(
                    &file.path,
                    number + 1,
                    format!("{VARIABLE}: only {PLANTED} asks for it"),
                );
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
            let declares = manifest.path == "broker/Cargo.toml" && line.trim() == "internals = []";
            if has_word(line, "internals") && !declares && !MAY.contains(&manifest.path.as_str()) {
                findings.add(
                    &manifest.path,
                    index + 1,
                    "`internals` is for the tests: what is released does without",
                );
            }
            if manifest.path == "Cargo.toml" && line.trim_start().starts_with("debug-assertions") {
                findings.add(
                    &manifest.path,
                    index + 1,
                    "`debug-assertions` would let planted bugs into a release",
                );
            }
        }
    }
    assert!(looked_at > 5, "the manifests are found");
    findings.none();
}
