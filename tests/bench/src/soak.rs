//! A long soak: it runs the soak of the harness and prints a line for each trouble.

use std::io::Write as _;
use std::time::Duration;

use anyhow::Result;
use celeriac_tests::soak::{Plan, Sample, soak};
use celeriac_tests::worker_binary;

use crate::table::Table;

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// How long it runs.
    #[arg(long, default_value_t = 10.0)]
    minutes: f64,
    /// Tasks submitted in a second.
    #[arg(long, default_value_t = 300)]
    rate: u32,
    /// Worker processes.
    #[arg(long, default_value_t = 4)]
    workers: usize,
    /// Seconds from one trouble to the next.
    #[arg(long, default_value_t = 2.0)]
    every: f64,
    /// The same seed gives the same troubles.
    #[arg(long, default_value_t = 15)]
    seed: u64,
}

pub(crate) async fn run(options: Options) -> Result<Table> {
    let plan = Plan {
        span: Duration::from_secs_f64(options.minutes * 60.0),
        rate: options.rate,
        workers: options.workers,
        trouble_every: Duration::from_secs_f64(options.every),
        seed: options.seed,
        worker: worker_binary(),
    };
    let samples = soak(&plan, show).await;

    let mut table = Table::default();
    let most = |figure: fn(&Sample) -> u64| samples.iter().map(figure).max().unwrap_or(0);
    let killed = samples.iter().filter(|sample| sample.trouble.contains("broker killed")).count();
    table.row("troubles", samples.len().saturating_sub(1), "");
    table.row("of these, kills of the broker", killed, "");
    table.row("tasks accepted", most(|sample| sample.accepted), "");
    table.row("tasks that succeeded with their result", most(|sample| sample.verified), "");
    table.row("broker memory, at most", most(|sample| sample.resident_kib) / 1024, "MiB");
    table.row("data folder, at most", most(|sample| sample.disk_kib) / 1024, "MiB");
    Ok(table)
}

fn show(sample: &Sample) {
    let Sample { at, trouble, accepted, verified, resident_kib, disk_kib } = sample;
    // If stderr is closed, the table is still printed.
    let _ = writeln!(
        std::io::stderr(),
        "{:7.1} s  {accepted:8} accepted  {:5} under way  memory {:4} MiB  disk {:4} MiB  {trouble}",
        at.as_secs_f64(),
        accepted.saturating_sub(*verified),
        resident_kib / 1024,
        disk_kib / 1024,
    );
}
