//! Arbitrary bytes for the functions of the broker that take bytes: seeded mutations of the inputs
//! in `tests/fuzz`, which need no tool, and libFuzzer, if cargo-fuzz and a nightly compiler are
//! installed.

use std::fs;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::process::Command;

use super::Tally;
use crate::RandomSource;
use crate::inside::fuzz::{TARGETS, Target};

/// The longest input that is generated.
const INPUT_BYTES_MAX: usize = 4096;

/// Runs every target over its corpus, its regressions and so many mutations of both.
pub async fn run(runs: u64, seed: u64) -> Tally {
    let mut tally = Tally::new("any bytes: seeded mutations of the corpus", "inputs");
    for (name, _) in TARGETS {
        tally.add(one(name, runs, seed).await);
    }
    tally
}

/// Does the same with one target.
///
/// # Panics
/// When there is no target of this name.
async fn one(name: &'static str, runs: u64, seed: u64) -> Tally {
    let (_, target) =
        TARGETS.into_iter().find(|(other, _)| *other == name).expect("a target of this name");
    let mutate = move || mutations(name, target, runs, seed);
    tokio::task::spawn_blocking(mutate).await.expect("a target's panics are caught")
}

/// For a test: runs one target over so many mutations with this seed, unless `RUNS` and `SEED` say
/// otherwise.
///
/// # Panics
/// With everything that was found.
pub async fn check(name: &'static str, runs: usize, seed: u64) {
    one(name, crate::runs(runs) as u64, crate::seed(seed)).await.assert_clean();
}

fn mutations(name: &str, target: Target, runs: u64, seed: u64) -> Tally {
    let mut tally = Tally::new("any bytes", "inputs");
    let known = known_inputs(name);
    if known.is_empty() {
        tally.violations.push(format!("{name}: tests/fuzz/corpus/{name} is empty"));
        return tally;
    }
    for (path, input) in &known {
        try_out(&mut tally, target, input, || format!("{name}: {}", path.display()));
    }
    let mut random = RandomSource::new(seed);
    for number in 0..runs {
        let input = mutation(&mut random, &known);
        try_out(&mut tally, target, &input, || {
            let path = std::env::temp_dir().join(format!("celeriac-fuzz-{name}-{seed}-{number}"));
            let kept = fs::write(&path, &input)
                .map_or_else(|error| error.to_string(), |()| path.display().to_string());
            format!("{name}: mutation {number} of seed {seed}, kept as {kept}")
        });
    }
    tally
}

fn try_out(tally: &mut Tally, target: Target, input: &[u8], what: impl Fn() -> String) {
    tally.runs += 1;
    if let Err(panic) = catch_unwind(|| target(input)) {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or_default();
        tally.violations.push(format!("{}: {text}", what()));
    }
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz")
}

/// Corpus and regressions of a target, in the order of their names.
fn known_inputs(name: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let files =
        |part: &str| fs::read_dir(folder().join(part).join(name)).into_iter().flatten().flatten();
    let mut paths: Vec<PathBuf> =
        files("regressions").chain(files("corpus")).map(|entry| entry.path()).collect();
    paths.sort();
    paths.into_iter().filter_map(|path| Some((path.clone(), fs::read(path).ok()?))).collect()
}

/// One of the inputs after a few changes.
fn mutation(random: &mut RandomSource, known: &[(PathBuf, Vec<u8>)]) -> Vec<u8> {
    let any = |random: &mut RandomSource| &known[random.below(known.len() as u64) as usize].1;
    let mut input = any(random).clone();
    for _ in 0..random.between(1, 6) {
        let at = random.below(input.len() as u64 + 1) as usize;
        match random.below(6) {
            0 if at < input.len() => input[at] ^= 1 << random.below(8),
            1 if at < input.len() => input[at] = random.bits() as u8,
            2 => {
                let end = at + random.below((input.len() - at) as u64 + 1) as usize;
                input.drain(at..end.min(at + 64));
            }
            3 => {
                let number =
                    INTERESTING[random.below(INTERESTING.len() as u64) as usize].to_le_bytes();
                let length = 1 << random.below(4);
                let end = (at + length).min(input.len());
                input.splice(at..end, number[..length].iter().copied());
            }
            4 => {
                let other = any(random);
                let from = random.below(other.len() as u64 + 1) as usize;
                let to = (from + random.below(200) as usize).min(other.len());
                input.splice(at..at, other[from..to].iter().copied());
            }
            _ => {
                let count = random.between(1, 16) as usize;
                input.splice(at..at, random.bytes(count));
            }
        }
    }
    input.truncate(INPUT_BYTES_MAX);
    input
}

/// Numbers at which behaviour often changes.
const INTERESTING: [u64; 10] =
    [0, 1, 0x7f, 0x80, 0xff, 0xffff, 0x7fff_ffff, u32::MAX as u64, i64::MAX as u64, u64::MAX];

/// Runs libFuzzer on each target for so many minutes.
pub async fn with_libfuzzer(minutes: u64, seed: u64) -> Tally {
    const WHAT: (&str, &str) = ("any bytes: libFuzzer", "inputs");
    for (arguments, missing) in [
        (
            ["run", "nightly", "rustc", "--version"],
            "there is no nightly compiler: `rustup toolchain install nightly`",
        ),
        (
            ["run", "nightly", "cargo-fuzz", "--version"],
            "cargo-fuzz is not installed: `cargo install cargo-fuzz`",
        ),
    ] {
        let asked = Command::new("rustup").args(arguments).stderr(Stdio::null()).output().await;
        if !asked.is_ok_and(|output| output.status.success()) {
            return Tally::skipped(WHAT.0, WHAT.1, missing);
        }
    }
    let mut tally = Tally::new(WHAT.0, WHAT.1);
    let mut remarks = Vec::new();
    for (name, _) in TARGETS {
        match fuzz(name, minutes, seed).await {
            Ok(session) => {
                tally.runs += session.executions;
                remarks.push(format!(
                    "{name}: {} inputs, {} edges",
                    session.executions, session.edges
                ));
                tally
                    .violations
                    .extend(session.crashes.iter().map(|crash| format!("{name}: {crash}")));
            }
            Err(reason) => {
                tally.violations.push(format!("{name}: libFuzzer did not run: {reason}"))
            }
        }
    }
    tally.remarks = remarks.join("; ");
    tally
}

/// The output of libFuzzer for one target.
#[derive(Debug, Default, PartialEq)]
struct Session {
    executions: u64,
    edges: u64,
    crashes: Vec<String>,
}

async fn fuzz(name: &str, minutes: u64, seed: u64) -> Result<Session, String> {
    // New inputs are kept apart from the committed ones.
    let found = folder().join("target/found").join(name);
    fs::create_dir_all(&found).map_err(|error| format!("{}: {error}", found.display()))?;
    let mut command = Command::new("rustup");
    command
        .args(["run", "nightly", "cargo-fuzz", "run", "--fuzz-dir"])
        .arg(folder())
        .arg(name)
        .arg(found);
    // libFuzzer ends when a folder does not exist, and a target that never failed has no
    // regressions.
    let known = ["corpus", "regressions"].map(|part| folder().join(part).join(name));
    command.args(known.iter().filter(|folder| folder.is_dir())).arg("--");
    command.arg(format!("-max_total_time={}", minutes * 60)).arg(format!("-seed={}", seed as u32));
    command
        .arg(format!("-max_len={INPUT_BYTES_MAX}"))
        .args(["-rss_limit_mb=3000", "-print_final_stats=1"]);
    let output = command
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .map_err(|error| error.to_string())?;
    let text = String::from_utf8_lossy(&output.stderr);
    let session = session(&text);
    if session.executions == 0 || (!output.status.success() && session.crashes.is_empty()) {
        return Err(text.lines().last().unwrap_or("it says nothing").to_owned());
    }
    Ok(session)
}

/// Reads the number of executions, the coverage and the failing inputs from the output of
/// libFuzzer.
fn session(text: &str) -> Session {
    let mut session = Session::default();
    for line in text.lines() {
        if let Some(count) = line.strip_prefix("stat::number_of_executed_units:") {
            session.executions = count.trim().parse().unwrap_or(0);
        }
        if let Some((_, rest)) = line.split_once(" cov: ") {
            session.edges = rest
                .split(' ')
                .next()
                .and_then(|edges| edges.parse().ok())
                .unwrap_or(session.edges);
        }
        if let Some((_, path)) = line.split_once("Test unit written to ") {
            session.crashes.push(format!("the input is {path}"));
        }
    }
    session
}

#[test]
fn what_libfuzzer_prints_is_read() {
    let text = "#2\tINITED cov: 12 ft: 13 corp: 1/1b\n#90\tNEW    cov: 345 ft: 400 corp: 9/9b\n\
        artifact_prefix='a/'; Test unit written to a/crash-1\nstat::number_of_executed_units: 90\n";
    let crashes = vec!["the input is a/crash-1".to_owned()];
    assert_eq!(session(text), Session { executions: 90, edges: 345, crashes });
    assert_eq!(session("error: no such target"), Session::default());
}
