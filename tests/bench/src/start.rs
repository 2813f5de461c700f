//! The time from exec to ready. A broker is filled on raw connections: half of its tasks have ended
//! with a result and half are queued. It is stopped and started again, then killed and started
//! again. The clock runs from just before exec to the line that says that it listens.

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::Result;
use celeriac_proto::wire;
use celeriac_tests::raw::{Answer, Request};
use celeriac_tests::{BrokerProcess, RawConnection, Setup};
use tokio::task::LocalSet;

use crate::broker::{folder_bytes, status_kib};
use crate::load::{self, Quota, Shape};
use crate::table::Table;

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Tasks in the folder, half of them ended.
    #[arg(long, default_value_t = 1_000_000)]
    tasks: u64,
    /// The data folder; without it a temporary one.
    #[arg(long)]
    data: Option<std::path::PathBuf>,
}

pub(crate) async fn run(options: Options) -> Result<Table> {
    let setup = options.data.iter().fold(Setup::new(), Setup::data);
    let mut broker = setup.start().await;
    let filling = Instant::now();
    LocalSet::new().run_until(fill(&broker, options.tasks)).await?;
    let filled = filling.elapsed();

    let mut table = Table::default();
    table.row("tasks, half of them ended", options.tasks, "");
    table.row("filled in", filled.as_secs_f64(), "s");
    let stopping = Instant::now();
    broker.stop().await;
    table.row("stopped in", stopping.elapsed().as_secs_f64(), "s");
    table.row("data folder", folder_bytes(broker.data()) >> 20, "MiB");
    table.row("ready after a stop", started_in(&mut broker).await.as_secs_f64(), "s");
    broker.kill().await;
    table.row("ready after kill -9", started_in(&mut broker).await.as_secs_f64(), "s");
    if let Some(kib) = status_kib(broker.pid(), "VmRSS:") {
        table.row("broker memory after the start", kib / 1024, "MiB");
    }
    let ready = ready_tasks(&broker).await;
    table.row("queued tasks found again", ready, "");
    Ok(table)
}

async fn started_in(broker: &mut BrokerProcess) -> Duration {
    let begun = Instant::now();
    broker.restart().await;
    begun.elapsed()
}

async fn fill(broker: &BrokerProcess, tasks: u64) -> Result<()> {
    let shape = Shape {
        producers: 2,
        workers: 2,
        batch: 500,
        window: 4,
        credit: 2_000,
        first: 0,
        payload: 200,
        result: 64,
    };
    let completed = Rc::new(Cell::new(0));
    let mut workers = tokio::task::JoinSet::new();
    for _ in 0..shape.workers {
        workers.spawn_local(load::work(broker.address(), shape.clone(), Rc::clone(&completed)));
    }
    let ended =
        load::produce(broker.address(), 0, shape.clone(), Quota::new(tasks / 2, None)).await?.tasks;
    while completed.get() < ended {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    workers.shutdown().await;
    load::produce(broker.address(), 1, shape, Quota::new(tasks - tasks / 2, None)).await?;
    Ok(())
}

/// The number of ready tasks as the broker says, or none if it does not list its queues yet.
async fn ready_tasks(broker: &BrokerProcess) -> Option<u64> {
    let mut connection = RawConnection::open(broker.address()).await;
    match connection.request(Request::ListQueues(wire::ListQueues::default())).await {
        Ok(Answer::QueueList(list)) => Some(list.queues.iter().map(|queue| queue.ready).sum()),
        _ => None,
    }
}
