//! Very many callers that wait for results on one connection: the cost of each, and the time of
//! other requests of that connection meanwhile. No worker runs their tasks. At the end all of them
//! are cancelled at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use celeriac_client::{Client, Error, Submission, Submitted, TaskHandle};
use celeriac_tests::BrokerProcess;
use tokio::task::JoinSet;

use crate::broker::status_kib;
use crate::crates::Target;
use crate::latency::{percentiles, round_trips};
use crate::table::Table;

/// Long enough for a machine that is busy with something else.
const PATIENCE: Duration = Duration::from_secs(600);

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Callers that wait, each for a task of its own.
    #[arg(long, default_value_t = 100_000)]
    waits: usize,
    /// Tasks that run beside them, one after the other.
    #[arg(long, default_value_t = 1_000)]
    tasks: usize,
}

pub(crate) async fn run(options: Options) -> Result<Table> {
    let broker = BrokerProcess::start().await;
    let target = Target { url: broker.url(), ca: None };
    let client = Client::connect(&broker.url()).await?;
    let alone = round_trips(&target, &client, options.tasks).await?;
    let ids = submit(&client, options.waits).await?;
    let before = status_kib(broker.pid(), "VmRSS:").unwrap_or(0);

    let began = Instant::now();
    let mut waits = wait(&client, &ids).await?;
    let begun = began.elapsed();
    let memory = status_kib(broker.pid(), "VmRSS:").unwrap_or(0).saturating_sub(before) * 1024;
    let beside = round_trips(&target, &client, options.tasks).await?;

    let dropping = Instant::now();
    waits.shutdown().await;
    client.info(&["none"]).await?;
    let dropped = dropping.elapsed();

    let mut waits = wait(&client, &ids).await?;
    let ending = Instant::now();
    client.cancel_tagged("waited for", Default::default()).await?;
    while let Some(ended) = waits.join_next().await {
        ensure!(
            matches!(ended?, Err(Error::TaskRevoked { .. })),
            "a wait that did not see the end"
        );
    }
    let ended = ending.elapsed();

    let mut table = Table::default();
    table.row("waits on one connection", options.waits, "");
    table.row("begun in", begun.as_secs_f64(), "s");
    table.row("broker memory per wait", memory / options.waits.max(1) as u64, "bytes");
    percentiles("submit to result, alone", alone.results, &mut table);
    percentiles("submit to result, beside them", beside.results, &mut table);
    table.row("all given up in", dropped.as_secs_f64(), "s");
    table.row("begun again and ended by one cancel in", ended.as_secs_f64(), "s");
    Ok(table)
}

async fn submit(client: &Client, tasks: usize) -> Result<Vec<String>> {
    let submissions =
        (0..tasks).map(|_| Submission::new("bench.nobody-knows-it").tag("waited for"));
    let outcomes = client.submit_many(submissions).await?;
    let ids = outcomes.into_iter().map(|outcome| outcome.map(|Submitted { id, .. }| id));
    ids.collect::<Result<_, _>>().context("a task was refused")
}

/// Returns when the broker has all of the waits.
async fn wait(client: &Client, ids: &[String]) -> Result<JoinSet<Result<(), Error>>> {
    let begun = Arc::new(AtomicUsize::new(0));
    let waits = ids.iter().map(|id| {
        let (handle, begun): (TaskHandle<()>, _) = (client.result(id), begun.clone());
        async move {
            begun.fetch_add(1, Ordering::Relaxed);
            handle.get(PATIENCE).await
        }
    });
    let waits = waits.collect();
    while begun.load(Ordering::Relaxed) < ids.len() {
        tokio::task::yield_now().await;
    }
    // Requests are carried out in the order in which they are made.
    client.info(&["none"]).await?;
    Ok(waits)
}
