//! `proto/RULES.md` names for each rule of a task the tests that show it.

use std::collections::BTreeSet;

use super::source::{Source, has_word};
use super::{Findings, rust_files};

const RULES: &str = "proto/RULES.md";
const SCRIPTS: &str = "broker/machine/src/";

#[test]
fn every_rule_has_tests_and_every_test_that_is_named_exists() {
    let document = Source::read(RULES)
        .unwrap_or_else(|| panic!("{RULES}:1: the document is missing: write it"));
    let (scripts, outside): (Vec<Source>, Vec<Source>) =
        rust_files().into_iter().partition(|file| file.path.starts_with(SCRIPTS));
    let (scripts, outside) = (tests(&scripts), tests(&outside));
    assert!(
        scripts.len() > 50 && outside.len() > 100,
        "the tests are found: {} and {}",
        scripts.len(),
        outside.len()
    );
    let mut findings = Findings::default();
    let mut rules = 0;
    for (index, line) in document.text.lines().enumerate() {
        let Some([rule, in_machine, from_outside]) = row(line) else { continue };
        rules += 1;
        let named =
            [(in_machine, &scripts, SCRIPTS), (from_outside, &outside, "a test from outside")];
        if named.iter().all(|(cell, ..)| names(cell).is_empty()) {
            findings.add(RULES, index + 1, format!("\"{rule}\": write a test and name it here"));
        }
        for (cell, tests, place) in named {
            for name in names(cell).into_iter().filter(|name| !tests.contains(*name)) {
                findings.add(
                    RULES,
                    index + 1,
                    format!("`{name}` is no test of {place}: name the one that shows the rule"),
                );
            }
        }
    }
    assert!(rules > 50, "the table is read: {rules} rules");
    findings.none();
}

/// The three cells of a row with a rule. Other lines and the head of a table have none.
fn row(line: &str) -> Option<[&str; 3]> {
    let cells: Vec<&str> =
        line.strip_prefix('|')?.strip_suffix('|')?.split('|').map(str::trim).collect();
    let cells: [&str; 3] = cells.try_into().ok()?;
    (cells[0] != "Rule" && !cells[0].starts_with("---")).then_some(cells)
}

fn names(cell: &str) -> Vec<&str> {
    cell.split(',')
        .map(|name| name.trim().trim_matches('`'))
        .filter(|name| !name.is_empty())
        .collect()
}

/// The functions with an attribute that makes them tests.
fn tests(files: &[Source]) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for file in files {
        let mut is_test = false;
        for (_, line) in file.code() {
            let line = line.trim();
            if line.starts_with("#[") {
                is_test |= has_word(line, "test");
                continue;
            }
            if is_test && let Some((_, name)) = line.split_once("fn ") {
                found.insert(name.split('(').next().unwrap_or_default().to_owned());
            }
            is_test = false;
        }
    }
    found
}

#[test]
fn rules_are_told_from_the_head_of_their_table() {
    assert_eq!(row("| A rule. | `a`, `b` | |"), Some(["A rule.", "`a`, `b`", ""]));
    assert_eq!(row("| Rule | In the machine | From outside |"), None);
    assert_eq!(row("|---|---|---|"), None);
    assert_eq!(names("`a`, `b`"), ["a", "b"]);
    assert!(names("").is_empty());
}
