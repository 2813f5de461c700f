//! No value in the log is shown as Rust shows it to a programmer: a collector of logs needs numbers
//! and plain text.

use super::{Findings, rust_files};

/// The crates that log.
const PRODUCT: [&str; 4] = ["broker/", "cli/src/", "client/src/", "worker/src/"];

const MACROS: [&str; 7] =
    ["trace!(", "debug!(", "info!(", "warn!(", "error!(", "span!(", "event!("];

#[test]
fn no_field_and_no_message_of_the_log_is_a_debug_print() {
    let mut findings = Findings::default();
    let mut calls = 0;
    for file in rust_files().iter().filter(|file| PRODUCT.iter().any(|p| file.path.starts_with(p)))
    {
        let text: Vec<&str> = file.text.lines().collect();
        let code = file.code_outside_tests();
        let mut depth = 0;
        for (number, line) in &code {
            let begins = MACROS.iter().find_map(|name| line.find(name).map(|at| at + name.len()));
            let inside = match (depth, begins) {
                (0, None) => continue,
                (0, Some(at)) => {
                    calls += 1;
                    depth = 1;
                    &line[at..]
                }
                _ => line,
            };
            let is_field = [" ?", "(?", "\t?"].iter().any(|sign| line.contains(sign))
                || inside.trim_start().starts_with('?');
            if is_field || text[number - 1].contains(":?}") {
                let advice = "a debug print in the log: log a number, a text or `%value`";
                findings.add(&file.path, *number, advice);
            }
            for character in inside.chars() {
                match character {
                    '(' => depth += 1,
                    ')' if depth > 0 => depth -= 1,
                    _ => {}
                }
            }
        }
    }
    assert!(calls > 20, "the calls are found: {calls}");
    findings.none();
}
