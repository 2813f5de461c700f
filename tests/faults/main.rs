//! `make faults`: does every fault of the harness for long, one after the other, and prints a table
//! of the outcomes. Short runs of the faults are tests: `tests/faults.rs`. The exit code is 1 when
//! a promise was broken or a start failed.

// A program that prints a table, and its progress beside it.
#![allow(clippy::print_stdout, clippy::print_stderr)]

mod report;

use std::process::ExitCode;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use celeriac_tests::faults::{FAULTS, Fault, Tally};
use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};

/// The exit code after SIGTERM or SIGINT.
const STOPPED: u8 = 130;

/// Does every fault of the harness to a broker, and prints a table of the outcomes.
#[derive(Debug, Parser)]
struct Arguments {
    /// How often each fault is done. By default each fault has a number of its own.
    #[arg(long, env = "RUNS")]
    runs: Option<u64>,
    /// Only these faults, by name, with commas between them.
    #[arg(long, env = "ONLY", value_delimiter = ',')]
    only: Vec<String>,
    /// The seed of all random choices. By default it is the time of day. It is always printed.
    #[arg(long, env = "SEED")]
    seed: Option<u64>,
    /// List the faults, and how often each one is done.
    #[arg(long)]
    list: bool,
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if arguments.list {
        for fault in FAULTS {
            println!("{:<18} {:>6}", fault.name, fault.runs);
        }
        return ExitCode::SUCCESS;
    }
    let only: Vec<&str> =
        arguments.only.iter().map(|name| name.trim()).filter(|name| !name.is_empty()).collect();
    if let Some(unknown) = only.iter().find(|name| !FAULTS.iter().any(|fault| fault.name == **name))
    {
        eprintln!("there is no fault `{unknown}`; `--list` names them");
        return ExitCode::from(2);
    }
    let seed = arguments.seed.unwrap_or_else(seconds_since_1970);
    eprintln!("seed {seed}");
    tokio::select! {
        exit = carry_out_all(&only, arguments.runs, seed) => exit,
        // The runtime drops the faults. They unmount their file systems and end their processes.
        () = told_to_stop() => ExitCode::from(STOPPED),
    }
}

async fn told_to_stop() {
    let mut terminate =
        signal(SignalKind::terminate()).expect("the process can listen for signals");
    let mut interrupt =
        signal(SignalKind::interrupt()).expect("the process can listen for signals");
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}

async fn carry_out_all(only: &[&str], runs: Option<u64>, seed: u64) -> ExitCode {
    let mut rows = Vec::new();
    for fault in FAULTS.iter().filter(|fault| only.is_empty() || only.contains(&fault.name)) {
        let begun = Instant::now();
        let runs = runs.unwrap_or(fault.runs);
        eprintln!("{}: {runs} ...", fault.name);
        let tally = carry_out(fault, runs, seed).await;
        report::findings(&tally);
        rows.push((tally, begun.elapsed()));
    }
    println!("{}", report::table(&rows));
    let is_clean =
        rows.iter().all(|(tally, _)| tally.violations.is_empty() && tally.failed_starts.is_empty());
    if is_clean { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// A panic of the harness counts as a violation.
async fn carry_out(fault: &Fault, runs: u64, seed: u64) -> Tally {
    match tokio::spawn(fault.run(runs, seed)).await {
        Ok(tally) => tally,
        Err(error) => {
            let mut tally = Tally::new(fault.name, "runs");
            tally.violations.push(format!("the harness panicked: {error}"));
            tally
        }
    }
}

fn seconds_since_1970() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
