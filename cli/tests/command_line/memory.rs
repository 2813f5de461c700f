//! A process that gets too little memory ends with its own exit code and a sentence.

use std::process::Command;

use tempfile::TempDir;

use crate::process::{CommandOutput, celeriac, finish};

/// Runs a command with an address space of so many KiB. Its stdin is the output of a shell command.
fn limited(command: &Command, kib: u64, stdin: &str) -> CommandOutput {
    let script = format!("ulimit -v {kib}; {stdin} | exec \"$0\" \"$@\"");
    let mut shell = Command::new("sh");
    shell.args(["-c", &script]).arg(command.get_program()).args(command.get_args());
    finish(&mut shell, "")
}

#[test]
fn a_broker_refuses_an_address_space_that_is_too_small() {
    for kib in [200_000, 500_000, 1_000_000, 1_200_000, 2_000_000] {
        let data = TempDir::new().expect("a folder");
        let mut serve = celeriac(&["serve", "--listen", "127.0.0.1:0", "--data"]);
        serve.arg(data.path().join("store"));
        let output = limited(&serve, kib, "true");
        assert_eq!(output.code, Some(22), "{kib}: {output:?}");
        assert!(
            output.stderr.contains(&format!("limited to {} MiB (`ulimit -v`)", kib / 1024)),
            "{kib}: {output:?}"
        );
        assert_eq!(output.stderr.lines().count(), 1, "{kib}: {output:?}");
        assert!(!data.path().join("store").exists(), "{kib}: nothing was made");
    }
}

#[test]
fn a_process_that_gets_no_more_memory_ends_with_22() {
    let submit =
        celeriac(&["submit", "songs.cluster", "--args", "-", "--url", "celeriac://127.0.0.1:1"]);
    let output = limited(&submit, 300_000, "head -c 600000000 /dev/zero");
    assert_eq!((output.code, output.stderr.lines().count()), (Some(22), 1), "{output:?}");
    assert!(output.stderr.contains("no more memory"), "{output:?}");
}
