//! Finds the `celeriac` binary. Cargo tells a test the binaries of its own package only, and
//! `celeriac` belongs to another package. So the harness asks cargo to build it and reads its path
//! from the output. This works the same under `cargo test`, `cargo nextest` and in the bench, and
//! the binary is never stale. `CELERIAC_BIN` names a binary to use instead.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

static BINARY: OnceLock<PathBuf> = OnceLock::new();
static TEST_BROKER: OnceLock<PathBuf> = OnceLock::new();

/// The `celeriac` binary of the profile that this program was built with.
///
/// # Panics
/// When it cannot be built.
pub fn celeriac_binary() -> &'static Path {
    BINARY.get_or_init(|| match std::env::var_os("CELERIAC_BIN") {
        Some(path) => PathBuf::from(path),
        None => built_once_per_run("celeriac"),
    })
}

/// The broker whose system calls can be made to fail: `children/broker.rs`. `CELERIAC_TEST_BROKER`
/// names a binary to use instead.
///
/// # Panics
/// When it cannot be built.
pub fn test_broker_binary() -> &'static Path {
    TEST_BROKER.get_or_init(|| match std::env::var_os("CELERIAC_TEST_BROKER") {
        Some(path) => PathBuf::from(path),
        None => built_once_per_run("celeriac-test-broker"),
    })
}

/// The program of the worker processes, for callers to which cargo does not tell its path.
/// `CELERIAC_TEST_WORKER` names a binary to use instead.
///
/// # Panics
/// When it cannot be built.
pub fn worker_binary() -> PathBuf {
    std::env::var_os("CELERIAC_TEST_WORKER")
        .map_or_else(|| build("celeriac-test-worker"), PathBuf::from)
}

/// The program of the simulated worlds: one process for each seed. `CELERIAC_SIMULATION` names a
/// binary to use instead.
///
/// # Panics
/// When it cannot be built.
pub fn simulation_binary() -> PathBuf {
    std::env::var_os("CELERIAC_SIMULATION")
        .map_or_else(|| build("celeriac-simulation"), PathBuf::from)
}

/// nextest starts a process for each test. All processes of one run share one build.
fn built_once_per_run(name: &str) -> PathBuf {
    let Ok(run) = std::env::var("NEXTEST_RUN_ID") else {
        return build(name);
    };
    let note = std::env::temp_dir().join(format!("{name}-tests-{run}"));
    if let Ok(path) = fs::read_to_string(&note) {
        return PathBuf::from(path);
    }
    let path = build(name);
    let draft = note.with_extension(std::process::id().to_string());
    let text = path.to_str().expect("cargo prints paths as UTF-8");
    fs::write(&draft, text)
        .and_then(|()| fs::rename(&draft, &note))
        .expect("the temporary folder is writable");
    path
}

fn build(name: &str) -> PathBuf {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let workspace =
        Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the tests stand in the workspace");
    let mut command = Command::new(cargo);
    // Cargo builds the whole workspace, so that it picks the same features as for the tests and
    // builds nothing twice.
    command.current_dir(workspace).args([
        "build",
        "--workspace",
        "--bin",
        name,
        "--message-format=json",
    ]);
    if !cfg!(debug_assertions) {
        command.arg("--release");
    }
    let output = command.stderr(Stdio::inherit()).output().expect("cargo can be started");
    assert!(output.status.success(), "`cargo build --bin {name}` failed");
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter(|message| message["target"]["name"] == name)
        .find_map(|message| message["executable"].as_str().map(PathBuf::from))
        .expect("cargo names the executable it built")
}
