//! The rules of the house that a program can check. Each failure says where it is and what to do
//! instead; CONTRIBUTING.md says why the rule is there. Only text is looked at here: what the
//! compiler and clippy can find is theirs. Uses nothing but std, so that no other fault of the
//! workspace can hide one of these.

mod documents;
mod layers;
mod packages;
mod planted;
mod purity;
mod rules;
mod size;
mod source;
mod width;
mod words;

use source::Source;

/// What a check found, as `file:line: what to do instead`.
#[derive(Default)]
struct Findings(Vec<String>);

impl Findings {
    fn add(&mut self, path: &str, line: usize, advice: impl AsRef<str>) {
        self.0.push(format!("{path}:{line}: {}", advice.as_ref()));
    }

    /// Fails with all of them.
    #[track_caller]
    fn none(self) {
        assert!(self.0.is_empty(), "{} to put right:\n{}", self.0.len(), self.0.join("\n"));
    }
}

/// Every Rust file that people write.
fn rust_files() -> Vec<Source> {
    let files: Vec<Source> = source::files()
        .into_iter()
        .filter(|file| file.path.ends_with(".rs") && !file.is_generated())
        .collect();
    assert!(files.len() >= 20, "the walk finds the sources");
    files
}
