//! `celeriac queues`: what waits, what runs, what is dead, queue by queue. What is done to queues
//! is in `queues::orders`.

use celeriac_client::QueueInfo;
use celeriac_proto::QueueName;
use clap::Args;
use serde::Serialize;

use crate::arguments::Global;
use crate::connection::{connect, failure};
use crate::exit::{Exit, Failure};
use crate::output::{Output, clean};
use crate::submit::parse_queue;
use crate::time::{rough, whole_ms};

mod orders;

/// The arguments of `queues`. A queue that is called as one of the subcommands is listed by `queues
/// -- NAME`.
#[derive(Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Queues {
    #[command(subcommand)]
    command: Option<orders::Command>,

    /// Only these queues [default: all]
    #[arg(value_parser = parse_queue, value_name = "QUEUE")]
    queues: Vec<QueueName>,
}

/// What a program reads about one queue.
#[derive(Serialize)]
pub(crate) struct QueueDocument<'a> {
    queue: &'a str,
    ready: u64,
    scheduled: u64,
    leased: u64,
    dead: u64,
    oldest_ready_ms: u64,
    paused: bool,
    workers: u32,
    submitted_total: u64,
    ended_total: u64,
    bytes: u64,
    submitted_per_second: f64,
    ended_per_second: f64,
    #[serde(flatten)]
    settings: orders::SettingsDocument,
}

impl QueueDocument<'_> {
    /// With rates of the caller's own.
    pub(crate) fn with_rates(self, submitted_per_second: f64, ended_per_second: f64) -> Self {
        Self { submitted_per_second, ended_per_second, ..self }
    }
}

const HEADINGS: [&str; 10] = [
    "QUEUE",
    "READY",
    "SCHEDULED",
    "LEASED",
    "DEAD",
    "OLDEST",
    "WORKERS",
    "SUBMITTED",
    "ENDED",
    "NOTE",
];

/// Lists the queues, or does something to them.
pub(crate) async fn run(
    arguments: Queues,
    global: &Global,
    output: &mut Output,
) -> Result<Exit, Failure> {
    match arguments.command {
        Some(command) => orders::run(command, global, output).await,
        None => list(&arguments.queues, global, output).await,
    }
}

/// Lists the queues, sorted by name. The exit code is 4 when one that was named does not exist.
async fn list(wanted: &[QueueName], global: &Global, output: &mut Output) -> Result<Exit, Failure> {
    let client = connect(global).await?;
    let mut queues = client.queues().await.map_err(failure)?;
    client.close().await;
    queues
        .retain(|queue| wanted.is_empty() || wanted.iter().any(|name| name.as_str() == queue.name));
    queues.sort_by(|left, right| left.name.cmp(&right.name));
    match output.json {
        true => queues.iter().try_for_each(|queue| output.document(&document(queue)))?,
        false => output.table(HEADINGS, &queues.iter().map(row).collect::<Vec<_>>())?,
    }
    match wanted.iter().find(|name| !queues.iter().any(|queue| queue.name == name.as_str())) {
        Some(name) => Err(Failure::new(Exit::NotFound, format!("no queue {}", clean(name)))),
        None => Ok(Exit::Success),
    }
}

/// A queue for programs.
pub(crate) fn document(queue: &QueueInfo) -> QueueDocument<'_> {
    QueueDocument {
        queue: &queue.name,
        ready: queue.ready,
        scheduled: queue.scheduled,
        leased: queue.leased,
        dead: queue.dead,
        oldest_ready_ms: whole_ms(queue.oldest_ready),
        paused: queue.paused,
        workers: queue.workers,
        submitted_total: queue.submitted_total,
        ended_total: queue.ended_total,
        bytes: queue.bytes,
        submitted_per_second: queue.submitted_per_second,
        ended_per_second: queue.ended_per_second,
        settings: orders::settings_document(&queue.settings),
    }
}

/// Why a queue does not do what one might expect of it.
pub(crate) fn note(queue: &QueueInfo) -> &'static str {
    let unfinished = queue.ready + queue.scheduled + queue.leased;
    let reached = |bound: Option<u64>, present: u64| bound.is_some_and(|bound| present >= bound);
    match (queue.paused, queue.workers) {
        (true, _) => "paused",
        (false, 0) if queue.ready > 0 => "no worker",
        _ if reached(queue.settings.tasks_max, unfinished) => "full",
        _ if reached(queue.settings.bytes_max, queue.bytes) => "full",
        _ => "",
    }
}

fn row(queue: &QueueInfo) -> [String; 10] {
    [
        clean(&queue.name),
        queue.ready.to_string(),
        queue.scheduled.to_string(),
        queue.leased.to_string(),
        queue.dead.to_string(),
        if queue.ready > 0 { rough(whole_ms(queue.oldest_ready)) } else { "-".to_owned() },
        queue.workers.to_string(),
        queue.submitted_total.to_string(),
        queue.ended_total.to_string(),
        note(queue).to_owned(),
    ]
}
