//! Size and form of files and functions.

use super::{Findings, rust_files};

const FILE_LINES_MAX: usize = 500;
const FUNCTION_LINES_MAX: usize = 70;

const MOD_RS_ALLOWED: &[&str] = &[];

/// Names of files that say nothing about their content.
const EMPTY_NAMES: [&str; 9] =
    ["utils", "helpers", "common", "misc", "types", "manager", "service", "base", "data"];

#[test]
fn every_file_opens_with_what_lives_there() {
    let mut findings = Findings::default();
    for file in rust_files() {
        // The documentation of a crate may be its README.
        if !file.text.starts_with("//!") && !file.text.starts_with("#![doc = include_str!(") {
            findings.add(
                &file.path,
                1,
                "begin with `//!`: what lives here, and what deliberately does not",
            );
        }
    }
    findings.none();
}

#[test]
fn files_are_named_after_their_subject() {
    let mut findings = Findings::default();
    for file in rust_files() {
        for part in file.path.trim_end_matches(".rs").split('/') {
            if EMPTY_NAMES.contains(&part)
                || EMPTY_NAMES.iter().any(|name| part.strip_suffix('s') == Some(name))
            {
                findings.add(
                    &file.path,
                    1,
                    format!("`{part}` names no subject: name it after its main type or concern"),
                );
            }
        }
    }
    findings.none();
}

#[test]
fn a_module_is_a_file_beside_its_folder() {
    let mut findings = Findings::default();
    for file in rust_files() {
        let is_allowed = MOD_RS_ALLOWED.iter().any(|folder| file.path.starts_with(folder));
        if file.path.ends_with("/mod.rs") && !is_allowed {
            let folder = file.path.trim_end_matches("/mod.rs");
            findings.add(&file.path, 1, format!("move it to {folder}.rs"));
        }
    }
    findings.none();
}

#[test]
fn files_have_one_subject() {
    let mut findings = Findings::default();
    for file in rust_files() {
        let lines = file.text.lines().count();
        if lines > FILE_LINES_MAX && !file.path.ends_with("/tests.rs") {
            let advice = format!(
                "{lines} lines, {FILE_LINES_MAX} at most: it has two subjects, split it by noun"
            );
            findings.add(&file.path, FILE_LINES_MAX + 1, advice);
        }
    }
    findings.none();
}

#[test]
fn functions_fit_a_screen() {
    let mut findings = Findings::default();
    for file in rust_files() {
        if file.path.ends_with("/tests.rs") {
            continue;
        }
        for (line, name, lines) in functions(&file.code()) {
            if lines > FUNCTION_LINES_MAX {
                let advice = format!(
                    "`{name}` has {lines} lines, {FUNCTION_LINES_MAX} at most: name its parts"
                );
                findings.add(&file.path, line, advice);
            }
        }
    }
    findings.none();
}

/// The first line, the name and the length of every function whose body has lines of its own. This
/// relies on rustfmt: the brace that ends a function has the same indentation as its first line.
fn functions(code: &[(usize, String)]) -> Vec<(usize, String, usize)> {
    let mut found = Vec::new();
    for (index, (number, line)) in code.iter().enumerate() {
        let indent = &line[..line.len() - line.trim_start().len()];
        let mut words = line.split_whitespace().skip_while(|word| {
            word.starts_with("pub")
                || ["async", "const", "extern", "unsafe", "in", "default"].contains(word)
        });
        if words.next() != Some("fn") {
            continue;
        }
        let name = words.next().unwrap_or_default().split(['(', '<']).next().unwrap_or_default();
        let end = format!("{indent}}}");
        let declared = format!("{indent})");
        for (length, (_, line)) in code[index..].iter().enumerate() {
            let has_no_body =
                line.trim_end().ends_with(';') && (length == 0 || line.starts_with(&declared));
            let is_one_line = length == 0 && line.trim_end().ends_with('}');
            if has_no_body || is_one_line {
                break;
            }
            if line.trim_end() == end {
                found.push((*number, name.to_owned(), length + 1));
                break;
            }
        }
    }
    found
}

#[test]
fn functions_are_counted_from_their_first_line_to_their_brace() {
    let text = "trait A {\n    fn none(\n        &self,\n    );\n    fn one() {}\n}\n\npub(crate) async fn four(\n) {\n    x;\n}\n";
    let code: Vec<(usize, String)> =
        text.lines().map(str::to_owned).enumerate().map(|(i, l)| (i + 1, l)).collect();
    assert_eq!(functions(&code), [(8, "four".to_owned(), 4)]);
}
