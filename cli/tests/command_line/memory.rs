//! A process that gets too little memory: it says so and has a code for it.

use std::process::Command;

use tempfile::TempDir;

use crate::process::{Ended, celeriac, finish};

/// Runs a command with an address space of so many KiB, and with what the shell command prints on
/// stdin.
fn limited(command: &Command, kib: u64, stdin: &str) -> Ended {
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
        let ended = limited(&serve, kib, "true");
        assert_eq!(ended.code, Some(22), "{kib}: {ended:?}");
        assert!(
            ended.stderr.contains(&format!("limited to {} MiB (`ulimit -v`)", kib / 1024)),
            "{kib}: {ended:?}"
        );
        assert_eq!(ended.stderr.lines().count(), 1, "{kib}: {ended:?}");
        assert!(!data.path().join("store").exists(), "{kib}: nothing was made");
    }
}

#[test]
fn a_process_that_gets_no_more_memory_says_so() {
    let submit =
        celeriac(&["submit", "songs.cluster", "--args", "-", "--url", "celeriac://127.0.0.1:1"]);
    let ended = limited(&submit, 300_000, "head -c 600000000 /dev/zero");
    assert_eq!((ended.code, ended.stderr.lines().count()), (Some(22), 1), "{ended:?}");
    assert!(ended.stderr.contains("no more memory"), "{ended:?}");
}
