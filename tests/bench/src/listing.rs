//! Pages of 100 out of many tasks, by filters that match many, few and no tasks, while other
//! connections submit and complete at full speed. Filters that match few tasks are the slow ones: a
//! page is full only when 100 were found.

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use celeriac_proto::wire::{self, TaskState};
use celeriac_tests::raw::{self, Answer, Request};
use celeriac_tests::{BrokerProcess, RawConnection, Setup};
use tokio::task::{JoinSet, LocalSet};

use crate::latency::percentiles;
use crate::load::{self, NAME, Quota, Shape};
use crate::table::Table;

/// One task of so many has the rare tag, root and name.
const RARE: u64 = 10_000;
const HOUR_MS: i64 = 3_600_000;

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Tasks to list from.
    #[arg(long, default_value_t = 1_000_000)]
    tasks: u64,
    /// Pages by each filter.
    #[arg(long, default_value_t = 100)]
    pages: usize,
    /// No other load.
    #[arg(long)]
    idle: bool,
    /// The data folder; without it a temporary one.
    #[arg(long)]
    data: Option<std::path::PathBuf>,
}

pub(crate) async fn run(options: Options) -> Result<Table> {
    let broker = options.data.iter().fold(Setup::new(), Setup::data).start().await;
    LocalSet::new().run_until(measure(&broker, &options)).await
}

async fn measure(broker: &BrokerProcess, options: &Options) -> Result<Table> {
    fill(broker, options.tasks).await?;
    let mut load = JoinSet::new();
    let shape = Shape {
        producers: 1,
        workers: 2,
        batch: 20,
        window: 2,
        credit: 200,
        first: 0,
        payload: 200,
        result: 64,
    };
    let completed = Rc::new(Cell::new(0));
    if !options.idle {
        for _ in 0..shape.workers {
            load.spawn_local(load::work(broker.address(), shape.clone(), Rc::clone(&completed)));
        }
        let (address, shape, quota) = (broker.address(), shape.clone(), Quota::new(u64::MAX, None));
        load.spawn_local(async move { load::produce(address, 0, shape, quota).await.map(drop) });
    }
    let mut table = Table::default();
    table.row("tasks", options.tasks, "");
    let begun = Instant::now();
    for (what, filter) in filters(options.tasks) {
        let (times, most) = pages(broker, what, filter, options.pages).await?;
        percentiles(&format!("{what} ({most})"), times, &mut table);
        if let Some(ended) = load.try_join_next() {
            bail!("the load ended: {ended:?}");
        }
    }
    table.row(
        "lifecycles meanwhile",
        completed.get() as f64 / begun.elapsed().as_secs_f64(),
        "tasks/s",
    );
    Ok(table)
}

/// Submits so many tasks, a few of them rare.
pub(crate) async fn fill(broker: &BrokerProcess, tasks: u64) -> Result<()> {
    let payload = load::payload(200);
    load::submit(broker, tasks, |number| {
        let mut task = wire::Task {
            queue: format!("queue-{}", number % 10),
            payload: payload.clone(),
            tags: vec![format!("tag-{}", number % 100)],
            ..raw::task(&format!("listed-{number:012}"), NAME)
        };
        if number % RARE == 0 {
            task.tags.push("rare".into());
            task.root_id = "rare".into();
            task.name = "bench.rare".into();
            task.countdown_ms = u64::try_from(HOUR_MS).ok();
        }
        task
    })
    .await
}

/// A filter of each kind, with its description.
pub(crate) fn filters(tasks: u64) -> Vec<(&'static str, wire::TaskFilter)> {
    let any = wire::TaskFilter::default;
    let last = format!("listed-{:010}", tasks.saturating_sub(100) / 100);
    vec![
        ("no filter", any()),
        ("by queue", wire::TaskFilter { queue: "queue-7".into(), ..any() }),
        ("by state", wire::TaskFilter { states: vec![TaskState::Scheduled.into()], ..any() }),
        (
            "by state and queue",
            wire::TaskFilter {
                states: vec![TaskState::Queued.into()],
                queue: "queue-7".into(),
                ..any()
            },
        ),
        ("by name, rare", wire::TaskFilter { name: "bench.rare".into(), ..any() }),
        ("by tag, 1 of 100", wire::TaskFilter { tag: "tag-42".into(), ..any() }),
        ("by tag, rare", wire::TaskFilter { tag: "rare".into(), ..any() }),
        ("by root, rare", wire::TaskFilter { root_id: "rare".into(), ..any() }),
        ("by start of the id", wire::TaskFilter { id_prefix: last, ..any() }),
        ("by tag, none", wire::TaskFilter { tag: "nothing-has-it".into(), ..any() }),
    ]
}

/// How long each of so many pages by this filter took, and the most tasks on one page.
pub(crate) async fn pages(
    broker: &BrokerProcess,
    what: &str,
    filter: wire::TaskFilter,
    pages: usize,
) -> Result<(Vec<Duration>, usize)> {
    let mut reader = RawConnection::open(broker.address()).await;
    let (mut times, mut most) = (Vec::new(), 0);
    let mut cursor = bytes::Bytes::new();
    for _ in 0..pages {
        let list = wire::ListTasks {
            filter: Some(filter.clone()),
            limit: 100,
            cursor,
            with_tracebacks: false,
            newest_first: false,
            just_ended: false,
        };
        let begun = Instant::now();
        let page = match reader.request(Request::ListTasks(list)).await {
            Ok(Answer::TaskPage(page)) => page,
            other => bail!("no TaskPage but {other:?}"),
        };
        times.push(begun.elapsed());
        most = most.max(page.tasks.len());
        // After the last page it starts again.
        cursor = page.cursor;
    }
    ensure!(most > 0 || what.ends_with("none"), "nothing is listed {what}");
    Ok((times, most))
}
