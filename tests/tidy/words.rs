//! Words for unfinished work, tests that prove nothing, and words that mean nothing to readers of
//! the repository.

use super::source::{files, has_word};
use super::{Findings, rust_files};

const THIS_FILE: &str = "tests/tidy/words.rs";

/// Words that mean nothing to a reader of the repository.
const MEANS_NOTHING_TO_A_READER: [&str; 5] =
    ["issue #", "/work/", "session of work", "/home/", "localhost registry"];

#[test]
fn nothing_is_left_for_later() {
    let mut findings = Findings::default();
    for file in files().iter().filter(|file| file.path != THIS_FILE && file.path != "Cargo.lock") {
        for (index, line) in file.text.lines().enumerate() {
            for word in ["TODO", "FIXME", "XXX"] {
                if has_word(line, word) {
                    findings.add(
                        &file.path,
                        index + 1,
                        format!("`{word}`: do it, or describe the limit as it is"),
                    );
                }
            }
        }
    }
    findings.none();
}

#[test]
fn texts_speak_of_the_project_alone() {
    let mut findings = Findings::default();
    for file in files().iter().filter(|file| file.path != THIS_FILE && file.path != "Cargo.lock") {
        for (index, line) in file.text.lines().enumerate() {
            for words in MEANS_NOTHING_TO_A_READER {
                if line.contains(words) {
                    findings.add(
                        &file.path,
                        index + 1,
                        format!("`{words}`: say what it means instead"),
                    );
                }
            }
        }
    }
    findings.none();
}

#[test]
fn every_test_runs() {
    let mut findings = Findings::default();
    for file in rust_files() {
        for (number, line) in file.code() {
            if line.trim_start().starts_with("#[ignore") {
                findings.add(
                    &file.path,
                    number,
                    "a test that does not run proves nothing: mend it or take it away",
                );
            }
        }
    }
    findings.none();
}

#[test]
fn tests_wait_for_conditions_and_not_for_time() {
    let mut findings = Findings::default();
    for file in rust_files() {
        // The harness has the loop that polls until a deadline. The children are workers whose
        // tasks take time on purpose. In the simulation time passes by itself, and a sleep is an
        // event like any other.
        let may = ["tests/harness/", "tests/children/", "tests/bench/", "tests/simulation/"];
        if may.iter().any(|folder| file.path.starts_with(folder)) {
            continue;
        }
        let lines: Vec<&str> = file.text.lines().collect();
        for (number, line) in file.code_of_tests() {
            let sleeps = line.contains("thread::sleep") || line.contains("time::sleep(");
            let is_explained = number > 1 && lines[number - 2].trim_start().starts_with("// ");
            if sleeps && !is_explained {
                let advice = "wait for a condition with the deadline of the harness; where the test is about time \
                              itself, say so in the line above";
                findings.add(&file.path, number, advice);
            }
        }
    }
    findings.none();
}
