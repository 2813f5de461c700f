//! `deploy/split-debug`, with a small program in place of the binary.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use tempfile::TempDir;

use crate::process::finish;

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/split-debug");

/// The names of the sections of a program, as `objdump` prints them.
fn sections(program: &Path) -> String {
    finish(Command::new("objdump").arg("-h").arg(program), "").stdout
}

fn has_tool(name: &str) -> bool {
    let mut command = Command::new(name);
    command.arg("--version").stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

#[test]
#[allow(clippy::print_stderr, reason = "a test that was skipped says so")]
fn the_debug_information_moves_into_a_file_beside_the_program() {
    if let Some(missing) = ["objcopy", "objdump", "cc"].into_iter().find(|name| !has_tool(name)) {
        eprintln!("SKIPPED: {missing} is not installed");
        return;
    }
    let folder = TempDir::new().expect("a folder");
    let program = folder.path().join("a program");
    let mut compile = Command::new("cc");
    compile.args(["-g", "-x", "c", "-", "-o"]).arg(&program);
    let compiled = finish(
        &mut compile,
        "int answer(void) { return 42; }\nint main(void) { return answer(); }\n",
    );
    assert_eq!(compiled.code, Some(0), "{compiled:?}");
    assert!(sections(&program).contains(".debug_info"), "the compiler wrote none");
    let split = || finish(Command::new(SCRIPT).arg("./a program").current_dir(folder.path()), "");

    let output = split();
    assert_eq!(output.code, Some(0), "{output:?}");
    let debug = folder.path().join("a program.debug");
    assert!(sections(&debug).contains(".debug_info"));
    let mode = fs::metadata(&debug).expect("it was written").permissions().mode();
    assert_eq!(mode & 0o777, 0o644);
    let left = sections(&program);
    assert!(!left.contains(".debug_info") && left.contains(".gnu_debuglink"), "{left}");
    assert_eq!(finish(&mut Command::new(&program), "").code, Some(42));
    let symbols = finish(Command::new("objdump").arg("-t").arg(&program), "").stdout;
    assert!(symbols.contains(" answer"), "a backtrace needs the names of functions: {symbols}");

    // Twice is a mistake that must not cost the file of the first time.
    let before = fs::read(&debug).expect("it is there");
    let again = split();
    assert_eq!((again.code, again.stdout.as_str()), (Some(1), ""));
    assert_eq!(again.stderr, "./a program has no debug information\n");
    assert!(fs::read(&debug).expect("it is still there") == before);
}
