//! The .proto files suit every language: `buf lint` finds nothing, protoc and its plugins write
//! usable code, and no two names clash. `.ci/python` installs the tools, and npm does where it is
//! installed.

mod lint;
mod names;
mod protoc;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The folder for the output of the tests, inside the build folder.
fn scratch() -> &'static Path {
    Path::new(env!("CARGO_TARGET_TMPDIR"))
}

/// An empty folder of that name.
fn fresh_folder(name: &str) -> PathBuf {
    let folder = scratch().join(name);
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).expect("the folder of what is built is writable");
    folder
}

/// The whole output of a command.
fn printed(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

fn succeeds(command: &mut Command) -> Output {
    let output =
        command.output().unwrap_or_else(|error| panic!("{command:?} does not start: {error}"));
    assert!(output.status.success(), "{command:?} fails:\n{}", printed(&output));
    output
}

/// A program of the Python environment, which the first call creates. `None` in a package of this
/// crate alone, which has no script that creates the environment.
#[allow(clippy::print_stderr, reason = "a test that was skipped says so")]
fn tool(name: &str) -> Option<Command> {
    let script = root().parent().expect("the crate lies in a folder").join(".ci/python");
    if !script.is_file() {
        eprintln!(
            "SKIPPED: {} is not there, which makes the environment of the tools",
            script.display()
        );
        return None;
    }
    let built = scratch().parent().expect("the folder for tests lies in that of what is built");
    let output = Command::new(&script).env("CARGO_TARGET_DIR", built).output();
    let output =
        output.unwrap_or_else(|error| panic!("{} does not start: {error}", script.display()));
    assert!(
        output.status.success(),
        "the Python environment of the tools cannot be made:\n{}",
        printed(&output)
    );
    let folder = String::from_utf8(output.stdout).expect("the folder is text");
    Some(Command::new(Path::new(folder.trim()).join("bin").join(name)))
}

/// The .proto files, as paths from the folder where imports begin.
fn proto_files() -> Vec<String> {
    let folder = root().join("celeriac/v1");
    let entries = folder.read_dir().expect("the folder of the .proto files");
    let mut files: Vec<String> = entries
        .map(|entry| {
            format!("celeriac/v1/{}", entry.expect("it is readable").file_name().to_string_lossy())
        })
        .filter(|file| file.ends_with(".proto"))
        .collect();
    files.sort();
    assert!(files.len() >= 5, "the .proto files are found: {files:?}");
    files
}
