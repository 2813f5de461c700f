//! No span from a user or a message is added to a moment without a bound: the sum may overflow.

use std::fs;
use std::path::{Path, PathBuf};

/// `deadline_after` of the client takes any span.
const ADVICE: &str = "use `celeriac_client::connection::deadline_after`, which takes any span";

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).expect("the sources are readable") {
        let path = entry.expect("the entry is readable").path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files
}

/// Whether a line adds something to a moment, as far as its names show.
fn is_a_sum_of_a_moment(line: &str) -> bool {
    let line = line.split("//").next().unwrap_or_default();
    let moments = ["now() + ", "began + ", "begun_at + ", "started + ", "until + ", "start + "];
    moments.iter().any(|sum| line.contains(sum))
        || (line.contains("sleep_until(") && line.contains(" + "))
}

#[test]
fn every_moment_ahead_is_made_by_one_function() {
    let files = rust_files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"));
    assert!(files.len() > 10, "{files:?}");
    for file in files {
        let text = fs::read_to_string(&file).expect("the file is readable");
        let outside_tests = text.split("#[cfg(test)]").next().unwrap_or_default();
        for (number, line) in (1..).zip(outside_tests.lines()) {
            assert!(!is_a_sum_of_a_moment(line), "{}:{number}: {ADVICE}", file.display());
        }
    }
}

#[test]
fn a_sum_is_found() {
    assert!(is_a_sum_of_a_moment("let until = Instant::now() + self.grace;"));
    assert!(is_a_sum_of_a_moment("sleep_until(at + hard).await"));
    assert!(!is_a_sum_of_a_moment("let until = deadline_after(self.grace); // now() + grace"));
}
