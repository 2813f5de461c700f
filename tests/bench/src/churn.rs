//! The disk under churn: tasks come and go at a steady rate, and their results are kept for a short
//! time, while others wait all along. So what must be kept stays the same, and the data folder must
//! stay the same too. It is looked at every second.

use std::io::Write as _;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use celeriac_proto::wire;
use celeriac_tests::raw::{self, Answer, Request};
use celeriac_tests::{BrokerProcess, RawConnection, Setup};
use tokio::task::{JoinSet, LocalSet};

use crate::broker::{DiskUse, status_kib};
use crate::load::{self, NAME};
use crate::table::Table;

/// Tasks of one submit.
const BATCH: u64 = 100;
/// A line of progress each time.
const LINE_EVERY: Duration = Duration::from_secs(60);
/// The queue of the tasks that wait all along, which no worker serves.
const WAITING: &str = "waiting";

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// How long tasks come and go.
    #[arg(long, default_value_t = 60.0)]
    minutes: f64,
    /// Tasks in a second.
    #[arg(long, default_value_t = 20_000)]
    rate: u64,
    /// Tasks that wait all along.
    #[arg(long, default_value_t = 500_000)]
    waiting: u64,
    /// How long a result is kept, in seconds.
    #[arg(long, default_value_t = 10)]
    keep: u64,
    /// Bytes of a payload and of a result.
    #[arg(long, default_value_t = 200)]
    payload: usize,
    /// The data folder; without it a temporary one.
    #[arg(long)]
    data: Option<std::path::PathBuf>,
}

/// The data folder at one moment.
#[derive(Debug, Clone, Copy)]
struct Look {
    at: Duration,
    disk: DiskUse,
    resident_kib: u64,
}

pub(crate) async fn run(options: Options) -> Result<Table> {
    LocalSet::new().run_until(measure(options)).await
}

async fn measure(options: Options) -> Result<Table> {
    let setup = options.data.iter().fold(Setup::new(), Setup::data);
    let broker = setup.set(format!("result_ttl_ms = {}", options.keep * 1_000)).start().await;
    let payload = load::payload(options.payload);
    load::submit(&broker, options.waiting, |number| wire::Task {
        queue: WAITING.into(),
        payload: payload.clone(),
        ..raw::task(&format!("waiting-{number:012}"), NAME)
    })
    .await?;

    let span = Duration::from_secs_f64(options.minutes * 60.0);
    let begun = Instant::now();
    let mut sides = JoinSet::new();
    sides.spawn_local(work(broker.address(), options.payload));
    sides.spawn_local(submit(broker.address(), options.rate, payload));
    let mut looks = Vec::new();
    let mut told = Duration::ZERO;
    while begun.elapsed() < span {
        tokio::select! {
            Some(ended) = sides.join_next() => {
                ended??;
                anyhow::bail!("a side of the load ended early");
            }
            () = tokio::time::sleep(Duration::from_secs(1)) => {}
        }
        let look = look(&broker, begun).await?;
        if look.at >= told + LINE_EVERY {
            told = look.at;
            tell(&look);
        }
        looks.push(look);
    }
    sides.shutdown().await;
    table(&options, &looks)
}

fn table(options: &Options, looks: &[Look]) -> Result<Table> {
    // In the first part results are not yet forgotten as fast as new ones come.
    let settled = Duration::from_secs(options.keep * 3);
    let settled: Vec<Look> = looks.iter().copied().filter(|look| look.at > settled).collect();
    ensure!(settled.len() >= 10, "too short: results are kept for {} s", options.keep);
    let most = |looks: &[Look], figure: fn(&Look) -> u64| looks.iter().map(figure).max();
    let folder = |looks: &[Look]| most(looks, |look| look.disk.folder).unwrap_or(0);
    let tenth = settled.len() / 10;
    let times = settled.iter().map(|look| look.disk.times()).fold(0.0, f64::max);

    let mut table = Table::default();
    table.row("minutes", options.minutes, "");
    table.row("tasks that came and went, in a second", options.rate, "");
    table.row("tasks that waited", options.waiting, "");
    let live = most(&settled, |look| look.disk.live).unwrap_or(0);
    let journal = most(&settled, |look| look.disk.journal).unwrap_or(0);
    table.row("records that matter, at most", live >> 20, "MiB");
    table.row("journal, at most", journal >> 20, "MiB");
    table.row("data folder, at most", folder(&settled) >> 20, "MiB");
    table.row("in the first tenth", folder(&settled[..tenth]) >> 20, "MiB");
    table.row("in the last tenth", folder(&settled[settled.len() - tenth..]) >> 20, "MiB");
    table.row("without journal and 64 MiB, to what matters, at most", times, "times");
    table.row("broker memory, at most", most(&settled, |look| look.resident_kib), "KiB");
    Ok(table)
}

async fn look(broker: &BrokerProcess, begun: Instant) -> Result<Look> {
    Ok(Look {
        at: begun.elapsed(),
        disk: DiskUse::of(broker).await?,
        resident_kib: status_kib(broker.pid(), "VmRSS:").unwrap_or(0),
    })
}

/// Submits at this rate for ever.
async fn submit(address: std::net::SocketAddr, rate: u64, payload: bytes::Bytes) -> Result<()> {
    let mut connection = RawConnection::open(address).await;
    let every = Duration::from_secs_f64(BATCH as f64 / rate.max(1) as f64);
    let mut next = tokio::time::interval(every);
    for batch in 0_u64.. {
        next.tick().await;
        let tasks = (batch * BATCH..(batch + 1) * BATCH).map(|number| wire::Task {
            queue: load::QUEUE.into(),
            payload: payload.clone(),
            ..raw::task(&format!("churn-{number:013}"), NAME)
        });
        let submit = Request::Submit(wire::Submit { tasks: tasks.collect() });
        let Ok(Answer::SubmitReply(reply)) = connection.request(submit).await else {
            anyhow::bail!("no answer to a submit")
        };
        let refused = reply.outcomes.iter().find(|outcome| outcome.error.is_some());
        ensure!(refused.is_none(), "a submit was refused: {refused:?}");
    }
    Ok(())
}

/// Completes all tasks for ever.
async fn work(address: std::net::SocketAddr, result: usize) -> Result<()> {
    let shape = load::Shape {
        producers: 0,
        workers: 1,
        batch: 100,
        window: 4,
        credit: 1_000,
        first: 0,
        payload: 0,
        result,
    };
    load::work(address, shape, std::rc::Rc::default()).await
}

fn tell(look: &Look) {
    // If stderr is closed, the table is still printed.
    let _ = writeln!(
        std::io::stderr(),
        "{:6.1} min  data folder {:5} MiB  records that matter {:5} MiB  memory {:4} MiB",
        look.at.as_secs_f64() / 60.0,
        look.disk.folder >> 20,
        look.disk.live >> 20,
        look.resident_kib / 1024,
    );
}
