//! `celeriac-bench`: starts the release binary of the broker on a temporary folder (or takes the
//! one at `--url`), drives it, and prints one table, or JSON with `--json`. Every confirmation that
//! is counted was made durable by the broker first. What is driven and how stands in the file of
//! each command; `compare` starts peers beside it and writes a report.

mod broker;
mod compare;
mod crates;
mod inside;
mod latency;
mod lifecycle;
mod listing;
mod load;
mod scheduled;
mod soak;
mod start;
mod table;
mod waits;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// Measures a Celeriac broker from outside.
#[derive(Debug, Parser)]
struct Arguments {
    /// Print JSON in place of the table.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Ours and every peer that is installed, in turn, with a report: `make bench`.
    Compare(compare::Options),
    /// Whole task lifecycles and submits a second: submit, deliver, complete, everything confirmed.
    Lifecycle(lifecycle::Options),
    /// From submit to result in the client, one task at a time on an idle broker.
    Latency(latency::Options),
    /// Very many callers that wait on one connection, and others beside them.
    Waits(waits::Options),
    /// From exec to ready with many tasks in the data folder.
    Start(start::Options),
    /// Memory for many tasks that are due over the next day, and how soon a ready task behind them
    /// starts.
    Scheduled(scheduled::Options),
    /// Pages of a listing by various filters, while other load runs.
    Listing(listing::Options),
    /// Lifecycles inside one broker without sockets, threads or a disk, for counting instructions.
    Inside(inside::Options),
    /// A steady load while workers and the broker are killed, frozen and cut off; every task has to
    /// be accounted for.
    Soak(soak::Options),
}

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    // One thread: the load generator shares the machine with the broker and has to stay cheap.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(run(arguments.command, arguments.json))
}

async fn run(command: Command, json: bool) -> Result<ExitCode> {
    let table = match command {
        // It writes a report of its own, and may fail in parts.
        Command::Compare(options) => return compare::run(options).await,
        Command::Lifecycle(options) => lifecycle::run(options).await?,
        Command::Latency(options) => latency::run(options).await?,
        Command::Waits(options) => waits::run(options).await?,
        Command::Start(options) => start::run(options).await?,
        Command::Scheduled(options) => scheduled::run(options).await?,
        Command::Listing(options) => listing::run(options).await?,
        Command::Inside(options) => inside::run(&options)?,
        Command::Soak(options) => soak::run(options).await?,
    };
    table.print(json)?;
    Ok(ExitCode::SUCCESS)
}
