//! Many tasks that are due over the next day, on a raw connection: how much memory of the broker
//! each takes, how much of a worker that serves their queue, and how long a ready task that is
//! submitted behind all of them waits for an idle worker.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::Result;
use celeriac_proto::wire;
use celeriac_tests::{BrokerProcess, RawConnection, Setup, WorkerProcess, raw, worker_binary};

use crate::broker::{folder_bytes, status_kib};
use crate::latency::percentiles;
use crate::load::{self, NAME};
use crate::table::Table;

const DAY_MS: u64 = 86_400_000;
/// A name that the worker process serves.
const SCHEDULED_NAME: &str = "test.work";
/// The first of them is due when the run is over.
const FIRST_MS: u64 = 1_800_000;
/// A step that visits every number below a million before it repeats one, so that the times are in
/// no order.
const STRIDE: u64 = 7_368_787;

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Tasks that are scheduled.
    #[arg(long, default_value_t = 1_000_000)]
    tasks: u64,
    /// Ready tasks behind them, one after the other.
    #[arg(long, default_value_t = 2_000)]
    ready: usize,
    /// Bytes of a payload.
    #[arg(long, default_value_t = 200)]
    payload: usize,
    /// The data folder; without it a temporary one.
    #[arg(long)]
    data: Option<std::path::PathBuf>,
}

pub(crate) async fn run(options: Options) -> Result<Table> {
    let broker = options.data.iter().fold(Setup::new(), Setup::data).start().await;
    let before = resident_kib(&broker);
    let filling = Instant::now();
    let now = u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis())?;
    let payload = load::payload(options.payload);
    load::submit(&broker, options.tasks, |number| {
        let place = number.wrapping_mul(STRIDE) % options.tasks;
        let due = now + FIRST_MS + place * (DAY_MS - FIRST_MS) / options.tasks;
        wire::Task {
            queue: "scheduled".into(),
            payload: payload.clone(),
            eta_at_ms: i64::try_from(due).ok(),
            ..raw::task(&format!("scheduled-{number:012}"), SCHEDULED_NAME)
        }
    })
    .await?;
    let filled = filling.elapsed();
    let after = resident_kib(&broker);
    let worker = WorkerProcess::start(worker_binary(), &broker.url(), &["scheduled"]);
    let starts = starts(&broker, options.ready).await;
    let of_worker = status_kib(worker.pid(), "VmRSS:").unwrap_or(0);

    let mut table = Table::default();
    table.row("tasks over the next day", options.tasks, "");
    table.row("filled in", filled.as_secs_f64(), "s");
    table.row("broker memory before", before / 1024, "MiB");
    table.row("broker memory after", after / 1024, "MiB");
    table.row("broker memory per task", (after - before) * 1024 / options.tasks.max(1), "bytes");
    table.row("data folder per task", folder_bytes(broker.data()) / options.tasks.max(1), "bytes");
    table.row("memory of a worker that serves their queue", of_worker, "KiB");
    percentiles("submit of a ready task to its start", starts, &mut table);
    Ok(table)
}

/// The time from just before the submit until a worker has the task.
async fn starts(broker: &BrokerProcess, ready: usize) -> Vec<Duration> {
    let mut producer = RawConnection::open(broker.address()).await;
    let mut worker = RawConnection::worker(broker.address(), &["ready"], &[NAME], 1).await;
    let mut starts = Vec::new();
    for number in 0..ready {
        let task =
            wire::Task { queue: "ready".into(), ..raw::task(&format!("ready-{number}"), NAME) };
        let begun = Instant::now();
        let (_, delivery) = tokio::join!(producer.submit_one(task), async {
            let delivery = worker.delivery().await;
            starts.push(begun.elapsed());
            delivery
        });
        worker.report_one(raw::report(&delivery, raw::complete(b"null"))).await;
    }
    starts
}

fn resident_kib(broker: &BrokerProcess) -> u64 {
    status_kib(broker.pid(), "VmRSS:").unwrap_or(0)
}
