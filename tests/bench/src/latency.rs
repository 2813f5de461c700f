//! The time from submit to result as a user sees it: the client crate submits one task, the worker
//! crate in the same process runs it, and the client gets the result; then the next task. The
//! broker is idle otherwise. The table also has the time of an fdatasync of 4 KiB, for which each
//! confirmation waits.

use std::io::{Seek, SeekFrom, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;
use celeriac_client::Client;
use celeriac_worker::task;
use tokio::sync::oneshot;

use crate::broker::{Broker, Choice};
use crate::crates::Target;
use crate::table::Table;

/// Long enough for a machine that is busy with something else.
const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    #[command(flatten)]
    broker: Choice,
    /// Tasks, one after the other.
    #[arg(long, default_value_t = 3_000)]
    tasks: usize,
}

/// Returns its argument.
#[task(name = "bench.echo")]
async fn echo(text: String) -> String {
    text
}

pub(crate) async fn run(options: Options) -> Result<Table> {
    let broker = Broker::start(&options.broker).await?;
    let client = broker.target().client().connect().await?;
    let trips = round_trips(&broker.target(), &client, options.tasks).await?;

    let mut table = Table::default();
    table.row("tasks, one at a time", options.tasks, "");
    percentiles("submit confirmed", trips.submits, &mut table);
    percentiles("submit to result", trips.results, &mut table);
    percentiles("fdatasync of 4 KiB", syncs(&options.broker.disk(), 1_000)?, &mut table);
    broker.describe(options.tasks as u64, &mut table);
    Ok(table)
}

/// The time to the confirmation and the time to the result, for each task.
#[derive(Debug, Default)]
pub(crate) struct RoundTrips {
    pub(crate) submits: Vec<Duration>,
    pub(crate) results: Vec<Duration>,
}

/// So many tasks of this client, one after the other, with a worker in this process.
pub(crate) async fn round_trips(
    target: &Target,
    client: &Client,
    tasks: usize,
) -> Result<RoundTrips> {
    let worker = target.worker().queues(["default"]).concurrency(1).register(echo).build();
    let (stop, stopped) = oneshot::channel::<()>();
    let working = tokio::spawn(worker.run(async { drop(stopped.await) }));
    let text = "x".repeat(200);

    let mut trips = RoundTrips::default();
    // The first tenth warms up and is not counted.
    let warm_up = tasks / 10;
    for number in 0..warm_up + tasks {
        let begun = Instant::now();
        let handle = client.delay(&echo, (text.clone(),)).await?;
        let submitted = begun.elapsed();
        handle.get(PATIENCE).await?;
        if number >= warm_up {
            trips.submits.push(submitted);
            trips.results.push(begun.elapsed());
        }
    }
    // A worker that is gone already has nothing to stop.
    let _ = stop.send(());
    working.await??;
    Ok(trips)
}

/// Three rows of these times.
pub(crate) fn percentiles(what: &str, mut times: Vec<Duration>, table: &mut Table) {
    times.sort();
    let at =
        |share: f64| times[((times.len() - 1) as f64 * share) as usize].as_secs_f64() * 1_000.0;
    table.row(format!("{what}, p50"), at(0.5), "ms");
    table.row(format!("{what}, p99"), at(0.99), "ms");
    table.row(format!("{what}, at most"), at(1.0), "ms");
}

/// Measures so many times how long the disk of this folder needs for an fdatasync of 4 KiB.
pub(crate) fn syncs(folder: &Path, times: usize) -> Result<Vec<Duration>> {
    let mut file = tempfile::tempfile_in(folder)?;
    let page = [7; 4096];
    let mut taken = Vec::new();
    for _ in 0..times {
        let begun = Instant::now();
        file.seek(SeekFrom::Start(0))?;
        file.write_all(&page)?;
        file.sync_data()?;
        taken.push(begun.elapsed());
    }
    Ok(taken)
}
