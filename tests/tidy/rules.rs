//! The pages of rules name for each rule the tests that show it.

use std::collections::BTreeSet;

use super::source::{Source, files, has_word};
use super::{Findings, rust_files};

/// A page of rules, the folder of the tests in its second column, and how many rules it has at
/// least.
const PAGES: [(&str, &str, usize); 2] =
    [("proto/RULES.md", "broker/machine/src/", 51), ("deploy/RULES.md", "broker/src/", 7)];

#[test]
fn every_rule_has_tests_and_every_test_that_is_named_exists() {
    for (page, folder, rules_min) in PAGES {
        let document = Source::read(page)
            .unwrap_or_else(|| panic!("{page}:1: the document is missing: write it"));
        let (inside, outside): (Vec<Source>, Vec<Source>) =
            rust_files().into_iter().partition(|file| file.path.starts_with(folder));
        let (inside, mut outside) = (tests(&inside), tests(&outside));
        outside.extend(python_tests());
        assert!(
            inside.len() > 30 && outside.len() > 100,
            "the tests are found: {} and {}",
            inside.len(),
            outside.len()
        );
        let mut findings = Findings::default();
        let mut rules = 0;
        for (index, line) in document.text.lines().enumerate() {
            let Some([rule, in_folder, from_outside]) = row(line) else { continue };
            rules += 1;
            let named =
                [(in_folder, &inside, folder), (from_outside, &outside, "a test from outside")];
            if named.iter().all(|(cell, ..)| names(cell).is_empty()) {
                findings.add(page, index + 1, format!("\"{rule}\": write a test and name it here"));
            }
            for (cell, tests, place) in named {
                for name in names(cell).into_iter().filter(|name| !tests.contains(*name)) {
                    findings.add(
                        page,
                        index + 1,
                        format!("`{name}` is no test of {place}: name the one that shows the rule"),
                    );
                }
            }
        }
        assert!(rules >= rules_min, "the table of {page} is read: {rules} rules");
        findings.none();
    }
}

#[test]
fn every_test_with_the_number_of_a_rule_stands_beside_the_rule() {
    let page = Source::read("deploy/RULES.md").expect("the page is there").text;
    let mut numbered = tests(&rust_files());
    numbered.extend(python_tests());
    numbered.retain(|name| has_number(name));
    assert!(numbered.len() > 40, "the tests are found: {}", numbered.len());
    let missing: Vec<&String> =
        numbered.iter().filter(|name| !page.contains(&format!("`{name}`"))).collect();
    assert!(missing.is_empty(), "deploy/RULES.md does not name these tests: {missing:?}");
}

/// Whether the name of a test begins with the number of a rule, as `o13_` or `test_o13_`.
fn has_number(name: &str) -> bool {
    let rest = name.trim_start_matches("test_").strip_prefix('o').unwrap_or_default();
    rest.split_once('_').is_some_and(|(number, _)| number.parse::<u8>().is_ok())
}

/// The tests in Python: those of the Python package, those that drive a browser, and those of the
/// packages of a release.
fn python_tests() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let folders = ["python/tests/", "tests/browser/", "tests/packages/"];
    let is_test = |file: &&Source| {
        file.path.ends_with(".py") && folders.iter().any(|folder| file.path.starts_with(folder))
    };
    for file in files().iter().filter(is_test) {
        for line in file.text.lines() {
            let line = line.trim_start().trim_start_matches("async ");
            let name = line.strip_prefix("def ").and_then(|rest| rest.split('(').next());
            found.extend(name.filter(|name| name.starts_with("test_")).map(str::to_owned));
        }
    }
    found
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
