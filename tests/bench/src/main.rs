//! `celeriac-bench`: starts the release binary of the broker on a temporary folder (or uses the one
//! at `--url`), drives it, and prints a table, or JSON with `--json`. The broker made every counted
//! confirmation durable first. The file of each command says what it drives and how. `compare`
//! starts the peers too and writes a report.

mod broker;
mod churn;
mod compare;
mod crates;
mod http;
mod inside;
mod latency;
mod lifecycle;
mod listing;
mod load;
mod scheduled;
mod soak;
mod start;
mod steps;
mod table;
mod waits;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// Measures a Celeriac broker from outside.
#[derive(Debug, Parser)]
struct Arguments {
    /// Print JSON instead of the table.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Compare Celeriac and every installed peer, and write a report: `make bench`.
    Compare(compare::Options),
    /// Whole task lifecycles and submits per second: submit, deliver, complete, everything
    /// confirmed.
    Lifecycle(lifecycle::Options),
    /// The time from submit to result in the client, one task at a time on an idle broker.
    Latency(latency::Options),
    /// Very many callers that wait on one connection, and other requests beside them.
    Waits(waits::Options),
    /// The time from exec to ready with many tasks in the data folder.
    Start(start::Options),
    /// The memory of many tasks that are due over the next day, and how soon a ready task behind
    /// them starts.
    Scheduled(scheduled::Options),
    /// Pages of a listing by several filters, while other load runs.
    Listing(listing::Options),
    /// What open pages of the dashboard cost the broker, and scrapes of very many queues.
    Http(http::Options),
    /// The longest step of the machine, for each request that looks at many tasks.
    Steps(steps::Options),
    /// Lifecycles inside one broker without sockets, threads or a disk, for counting instructions.
    Inside(inside::Options),
    /// The disk while tasks come and go at a steady rate.
    Churn(churn::Options),
    /// A steady load while workers and the broker are killed, frozen and cut off. Every task must
    /// be accounted for.
    Soak(soak::Options),
}

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    // The load generator uses one thread: it shares the machine with the broker and must stay
    // cheap.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(run(arguments.command, arguments.json))
}

async fn run(command: Command, json: bool) -> Result<ExitCode> {
    let table = match command {
        // It writes its own report, and some parts may fail.
        Command::Compare(options) => return compare::run(options).await,
        Command::Lifecycle(options) => lifecycle::run(options).await?,
        Command::Latency(options) => latency::run(options).await?,
        Command::Waits(options) => waits::run(options).await?,
        Command::Start(options) => start::run(options).await?,
        Command::Scheduled(options) => scheduled::run(options).await?,
        Command::Listing(options) => listing::run(options).await?,
        Command::Http(options) => http::run(options).await?,
        Command::Steps(options) => steps::run(&options)?,
        Command::Inside(options) => inside::run(&options)?,
        Command::Churn(options) => churn::run(options).await?,
        Command::Soak(options) => soak::run(options).await?,
    };
    table.print(json)?;
    Ok(ExitCode::SUCCESS)
}
