//! The rules of this project that a program can check. Each failure says where it is and what to do
//! instead. CONTRIBUTING.md says why each rule exists. These tests look at text only: the compiler
//! and clippy check the rest. They use nothing but std, so that no other error in the workspace can
//! hide a failure here.

mod command_line;
mod documents;
mod layers;
mod logging;
mod packages;
mod planted;
mod purity;
mod rules;
mod size;
mod source;
mod width;
mod words;

use source::Source;

/// The findings of a check: `file:line: what to do instead`.
#[derive(Default)]
struct Findings(Vec<String>);

impl Findings {
    fn add(&mut self, path: &str, line: usize, advice: impl AsRef<str>) {
        self.0.push(format!("{path}:{line}: {}", advice.as_ref()));
    }

    /// Fails with all findings.
    #[track_caller]
    fn none(self) {
        assert!(self.0.is_empty(), "{} to put right:\n{}", self.0.len(), self.0.join("\n"));
    }
}

/// Every Rust file that is not generated.
fn rust_files() -> Vec<Source> {
    let files: Vec<Source> = source::files()
        .into_iter()
        .filter(|file| file.path.ends_with(".rs") && !file.is_generated())
        .collect();
    assert!(files.len() >= 20, "the walk finds the sources");
    files
}
