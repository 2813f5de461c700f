//! Whole lifecycles per second. A lifecycle is: submit confirmed, delivered, completed with a
//! result, and that confirmed. Producers and workers run at the same time. The clock stops when the
//! last result is confirmed. By default both sides are loops on raw connections. `--crate-producer`
//! and `--crate-worker` use the crates that users have instead.

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use tokio::task::{JoinSet, LocalSet};

use crate::broker::{Broker, Choice};
use crate::crates;
use crate::load::{self, Quota, Shape};
use crate::table::Table;

/// Without a number of tasks.
const SECONDS: u64 = 10;

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    #[command(flatten)]
    broker: Choice,
    #[command(flatten)]
    shape: Shape,
    /// Tasks in all; without it as many as go into `--seconds`.
    #[arg(long)]
    tasks: Option<u64>,
    /// How long to submit.
    #[arg(long)]
    seconds: Option<u64>,
    /// Submit through the client crate.
    #[arg(long)]
    crate_producer: bool,
    /// Work through the worker crate.
    #[arg(long)]
    crate_worker: bool,
}

pub(crate) async fn run(options: Options) -> Result<Table> {
    let through_crates = options.crate_producer && options.crate_worker;
    if options.broker.has_tls() && !through_crates {
        bail!(
            "loops on raw connections do not speak TLS: give --crate-producer --crate-worker too"
        );
    }
    let broker = Broker::start(&options.broker).await?;
    LocalSet::new().run_until(measure(&broker, &options)).await
}

async fn measure(broker: &Broker, options: &Options) -> Result<Table> {
    let shape = &options.shape;
    let workers = Workers::start(broker, options);
    let begun = Instant::now();
    let seconds = options.seconds.or_else(|| options.tasks.is_none().then_some(SECONDS));
    let until = seconds.map(|seconds| begun + Duration::from_secs(seconds));
    let quota = Quota::new(options.tasks.unwrap_or(u64::MAX), until);
    let mut producers = JoinSet::new();
    for number in 0..shape.producers {
        if options.crate_producer {
            producers.spawn_local(crates::produce(
                broker.target(),
                number,
                shape.clone(),
                quota.clone(),
            ));
        } else {
            producers.spawn_local(load::produce(
                broker.address(),
                number,
                shape.clone(),
                quota.clone(),
            ));
        }
    }
    let mut submitted = 0;
    while let Some(producer) = producers.join_next().await {
        submitted += producer??.tasks;
    }
    let submitting = begun.elapsed();
    let completed = workers.finish(submitted).await?;
    let all = begun.elapsed();

    let mut table = Table::default();
    table.row("producers", shape.producers, "");
    table.row("workers", shape.workers, "");
    table.row("batch", shape.batch, "tasks");
    table.row("window", shape.window, "batches");
    table.row("tasks", submitted, "");
    table.row("submits confirmed", per_second(submitted, submitting), "tasks/s");
    if shape.workers > 0 {
        table.row("durable lifecycles", per_second(completed, all), "tasks/s");
    }
    broker.describe(submitted, &mut table);
    Ok(table)
}

/// Either kind of workers.
enum Workers {
    Raw { running: JoinSet<Result<()>>, completed: Rc<Cell<u64>> },
    Crate(crates::Workers),
}

impl Workers {
    fn start(broker: &Broker, options: &Options) -> Self {
        let shape = &options.shape;
        if options.crate_worker {
            return Self::Crate(crates::Workers::start(&broker.target(), shape));
        }
        let completed = Rc::new(Cell::new(0));
        let mut running = JoinSet::new();
        for _ in 0..shape.workers {
            running.spawn_local(load::work(broker.address(), shape.clone(), Rc::clone(&completed)));
        }
        Self::Raw { running, completed }
    }

    /// Waits until this many results are confirmed. Returns how many there were.
    async fn finish(self, tasks: u64) -> Result<u64> {
        match self {
            Self::Raw { running, .. } if running.is_empty() => Ok(0),
            Self::Crate(workers) => workers.finish(tasks).await,
            Self::Raw { mut running, completed } => {
                while completed.get() < tasks {
                    tokio::select! {
                        Some(ended) = running.join_next() => bail!("a worker ended early: {ended:?}"),
                        () = tokio::time::sleep(Duration::from_millis(1)) => {}
                    }
                }
                Ok(completed.get())
            }
        }
    }
}

/// Whole numbers are exact enough.
pub(crate) fn per_second(count: u64, time: Duration) -> u64 {
    (count as f64 / time.as_secs_f64()) as u64
}
