//! What is in the code must be in a document too.

use std::collections::BTreeMap;

use super::source::{Source, files, has_word};
use super::{Findings, rust_files};

fn document(path: &str) -> Source {
    Source::read(path).unwrap_or_else(|| panic!("{path}:1: the document is missing: write it"))
}

#[test]
fn the_protocol_describes_every_message_and_every_error_code() {
    let protocol = document("proto/PROTOCOL.md");
    let mut findings = Findings::default();
    let mut names = 0;
    for file in files().iter().filter(|file| file.path.ends_with(".proto")) {
        for (index, line) in file.text.lines().enumerate() {
            let mut words = line.split_whitespace();
            let name = match (words.next(), words.next()) {
                // The enums inside messages, `Kind` and `Mode`, are not unique names.
                (Some("message" | "enum"), Some(name)) if !line.starts_with(' ') => name,
                (Some(code), Some("=")) if code.starts_with("ERROR_CODE_") => code,
                _ => continue,
            };
            names += 1;
            if !has_word(&protocol.text, name) {
                findings.add(
                    &file.path,
                    index + 1,
                    format!("`{name}`: say in proto/PROTOCOL.md what it means"),
                );
            }
        }
    }
    assert!(names > 80, "the .proto files are read: {names} names");
    findings.none();
}

#[test]
fn the_operators_manual_lists_every_flag() {
    let manual = document("deploy/README.md");
    let mut findings = Findings::default();
    let mut flags = 0;
    for file in rust_files().iter().filter(|file| file.path.starts_with("cli/src/")) {
        for (number, name) in flags_and_variables(file) {
            flags += 1;
            if !has_word(&manual.text, &name) {
                findings.add(
                    &file.path,
                    number,
                    format!("`{name}`: describe it in deploy/README.md"),
                );
            }
        }
    }
    assert!(flags > 10, "the flags are found: {flags}");
    findings.none();
}

/// The flags and variables that the `#[arg(..)]` attributes of a file name: `--flag` for each
/// `long`, and the variable of each `env`.
fn flags_and_variables(file: &Source) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let lines: Vec<&str> = file.text.lines().collect();
    let mut index = 0;
    while index < lines.len() {
        let first = index;
        if !lines[first].trim_start().starts_with("#[arg(") {
            index += 1;
            continue;
        }
        let last =
            (first..lines.len()).find(|&at| lines[at].trim_end().ends_with(")]")).unwrap_or(first);
        let attribute = lines[first..=last].join(" ");
        if let Some(variable) = quoted_after(&attribute, "env =") {
            found.push((first + 1, variable.to_owned()));
        }
        if let Some(flag) = quoted_after(&attribute, "long =") {
            found.push((first + 1, format!("--{flag}")));
        } else if has_word(&attribute, "long") && !has_word(&attribute, "skip") {
            found.extend(
                field_after(&lines[last + 1..]).map(|flag| (first + 1, format!("--{flag}"))),
            );
        }
        index = last + 1;
    }
    found
}

fn quoted_after<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    text.split_once(key)?.1.trim_start().strip_prefix('"')?.split('"').next()
}

/// The name of the next field, in the form in which clap uses it as a flag.
fn field_after(lines: &[&str]) -> Option<String> {
    let field = lines
        .iter()
        .map(|line| line.trim())
        .find(|line| !line.starts_with("#[") && !line.starts_with("//"))?;
    let name = field.split(':').next()?.split_whitespace().next_back()?;
    Some(name.replace('_', "-"))
}

#[test]
fn the_operators_manual_lists_every_exit_code() {
    let manual = document("deploy/README.md");
    let mut codes: BTreeMap<u8, (String, usize)> = BTreeMap::new();
    for file in rust_files() {
        if ["cli/src/", "broker/src/", "broker/store/src/"]
            .iter()
            .any(|at| file.path.starts_with(at))
        {
            codes.extend(
                exit_codes(&file)
                    .into_iter()
                    .map(|(number, code)| (code, (file.path.clone(), number))),
            );
        }
    }
    assert!(codes.len() > 5, "the exit codes are found: {codes:?}");
    let mut findings = Findings::default();
    for (code, (path, number)) in codes {
        let is_listed = manual.text.lines().any(|line| {
            let cell = line.trim_start_matches('|').split('|').next().unwrap_or_default();
            line.starts_with('|') && cell.trim().trim_matches('`') == code.to_string()
        });
        if !is_listed {
            findings.add(
                &path,
                number,
                format!("exit code {code}: give it a row of the table in deploy/README.md"),
            );
        }
    }
    findings.none();
}

#[test]
fn the_list_of_faults_has_each_of_them() {
    let list = document("tests/FAULTS.md");
    let plan = document("tests/harness/faults.rs");
    let mut findings = Findings::default();
    let mut names = 0;
    for (index, line) in plan.text.lines().enumerate() {
        // A row of the list: `"kill-start", 100, kill_start::run;`.
        let Some((name, runs)) =
            line.trim_start().strip_prefix('"').and_then(|rest| rest.split_once("\", "))
        else {
            continue;
        };
        if !runs.starts_with(|first: char| first.is_ascii_digit()) {
            continue;
        }
        names += 1;
        if !list.text.contains(&format!("| `{name}` |")) {
            findings.add(
                &plan.path,
                index + 1,
                format!("`{name}`: say in tests/FAULTS.md what is done"),
            );
        }
    }
    assert!(names > 10, "the faults are found: {names}");
    findings.none();
}

#[test]
fn the_page_of_bounds_has_the_values_of_the_code() {
    let page = document("deploy/BOUNDS.md");
    let mut findings = Findings::default();
    let mut bounds = 0;
    for (index, line) in page.text.lines().enumerate().filter(|(_, line)| line.starts_with('|')) {
        // Constants, and then the file that has them: `NAME = value` ... (`path`).
        let mut named: Vec<(&str, &str)> = Vec::new();
        for quoted in line.split('`').skip(1).step_by(2) {
            match quoted.split_once(" = ") {
                Some((name, value)) => named.push((name, value)),
                None if quoted.ends_with(".rs") => {
                    let file = Source::read(quoted).map(|file| file.text).unwrap_or_default();
                    for (name, value) in named.drain(..) {
                        bounds += 1;
                        if !has_constant(&file, name, value) {
                            findings.add(
                                &page.path,
                                index + 1,
                                format!("`{name} = {value}`: {quoted} says otherwise"),
                            );
                        }
                    }
                }
                None => {}
            }
        }
        for (name, _) in named {
            findings.add(
                &page.path,
                index + 1,
                format!("`{name}`: name the file that has it behind it"),
            );
        }
    }
    assert!(bounds > 20, "the bounds are found: {bounds}");
    findings.none();
}

fn has_constant(text: &str, name: &str, value: &str) -> bool {
    text.lines().any(|line| {
        line.contains(&format!("const {name}: ")) && line.ends_with(&format!(" = {value};"))
    })
}

/// The numbers that a function called `code` or `exit_code` returns for its cases.
fn exit_codes(file: &Source) -> Vec<(usize, u8)> {
    let mut found = Vec::new();
    let mut in_function = false;
    for (number, line) in file.code_outside_tests() {
        if line.contains("fn ") {
            in_function = line.contains("fn exit_code(") || line.contains("fn code(");
        }
        if in_function && let Some((_, value)) = line.split_once("=>") {
            found
                .extend(value.trim().trim_end_matches(',').parse().ok().map(|code| (number, code)));
        }
    }
    found
}
