//! `celeriac workers`: who runs tasks, and orders to them.

use celeriac_client::{Client, TaskInfo, WorkerOrder, WorkerStatus};
use clap::{ArgGroup, Args, Subcommand};
use serde::Serialize;

use crate::arguments::{EXIT_CODES, Global};
use crate::confirm::Confirm;
use crate::connection::{connect, failure};
use crate::exit::{Exit, Failure};
use crate::output::{Output, clean, table_lines};
use crate::task_document::TaskDocument;
use crate::time::{both, ms, now_ms, relative, rough};

/// The arguments of `workers`.
#[derive(Args)]
pub(crate) struct Workers {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// List the workers; one that is named is shown in full
    #[command(after_help = EXIT_CODES)]
    List(List),
    /// Take no new tasks, finish those that run
    #[command(after_help = EXIT_CODES)]
    Quiet(Which),
    /// Take tasks again after `quiet`
    #[command(after_help = EXIT_CODES)]
    Resume(Which),
    /// Shut down as on SIGTERM: running tasks get their grace, then they go back to their queues
    #[command(after_help = EXIT_CODES)]
    Shutdown(Shutdown),
}

/// The arguments of `workers list`.
#[derive(Args, Default)]
struct List {
    /// Only these workers [default: all]
    #[arg(value_name = "INSTANCE")]
    instances: Vec<String>,
}

/// The arguments of `workers quiet` and `workers resume`.
#[derive(Args)]
#[command(group(ArgGroup::new("which").args(["instances", "all"]).required(true)))]
struct Which {
    /// The workers, by their instance
    #[arg(value_name = "INSTANCE")]
    instances: Vec<String>,

    /// Every worker
    #[arg(long)]
    all: bool,
}

/// The arguments of `workers shutdown`.
#[derive(Args)]
struct Shutdown {
    #[command(flatten)]
    which: Which,
    #[command(flatten)]
    confirm: Confirm,
}

/// What a program reads about one worker.
#[derive(Serialize)]
pub(crate) struct WorkerDocument<'a> {
    instance_id: &'a str,
    hostname: &'a str,
    pid: u32,
    queues: &'a [String],
    task_names: &'a [String],
    concurrency: u32,
    credit: u32,
    running: Vec<TaskDocument<'a>>,
    running_left_out: u32,
    memory_bytes: u64,
    connected_at_ms: i64,
    seen_at_ms: i64,
    quiet: bool,
    lost: bool,
}

/// What a program reads about an order.
#[derive(Serialize)]
struct Ordered<'a> {
    instance_id: &'a str,
    order: &'a str,
}

/// What stands above [`row`].
pub(crate) const HEADINGS: [&str; 8] =
    ["INSTANCE", "STATE", "RUNNING", "MEMORY", "CONNECTED", "HOST", "PID", "QUEUES"];

/// Lists the workers, or gives them an order. The exit code is 4 when one that was named is not
/// there.
pub(crate) async fn run(
    workers: Workers,
    global: &Global,
    output: &mut Output,
) -> Result<Exit, Failure> {
    match workers.command.unwrap_or(Command::List(List::default())) {
        Command::List(which) => {
            let client = connect(global).await?;
            let workers = present(&client, &which.instances).await?;
            client.close().await;
            print(&workers, which.instances.len() == 1, output)?;
            Ok(Exit::Success)
        }
        Command::Quiet(which) => order(&which, WorkerOrder::Quiet, "quiet", global, output).await,
        Command::Resume(which) => {
            order(&which, WorkerOrder::Resume, "resume", global, output).await
        }
        Command::Shutdown(Shutdown { which, confirm }) => {
            let who = if which.all {
                "every worker".to_owned()
            } else {
                clean(&which.instances.join(", "))
            };
            confirm.consent("a shutdown")?.ask(&format!("Shut down {who}?")).await?;
            order(&which, WorkerOrder::Shutdown, "shutdown", global, output).await
        }
    }
}

/// The workers of these instances, or all of them, sorted.
async fn present(client: &Client, instances: &[String]) -> Result<Vec<WorkerStatus>, Failure> {
    let mut workers = client.workers().await.map_err(failure)?;
    workers.sort_by(|left, right| left.instance_id.cmp(&right.instance_id));
    if let Some(name) =
        instances.iter().find(|name| !workers.iter().any(|worker| worker.instance_id == **name))
    {
        return Err(Failure::new(Exit::NotFound, format!("no worker {}", clean(name))));
    }
    workers.retain(|worker| instances.is_empty() || instances.contains(&worker.instance_id));
    Ok(workers)
}

/// Orders nothing of anybody unless all that were named are there.
async fn order(
    which: &Which,
    order: WorkerOrder,
    name: &str,
    global: &Global,
    output: &mut Output,
) -> Result<Exit, Failure> {
    let client = connect(global).await?;
    let workers = present(&client, &which.instances).await?;
    client.order_workers(&which.instances, order).await.map_err(failure)?;
    client.close().await;
    for worker in &workers {
        match output.json {
            true => output.document(&Ordered { instance_id: &worker.instance_id, order: name })?,
            false => output.line(&format!(
                "{}  was told to {}",
                clean(&worker.instance_id),
                in_words(order)
            ))?,
        }
    }
    if workers.is_empty() && !output.json {
        output.line("no worker is connected")?;
    }
    Ok(Exit::Success)
}

fn in_words(order: WorkerOrder) -> &'static str {
    match order {
        WorkerOrder::Quiet => "take no new tasks",
        WorkerOrder::Resume => "take tasks again",
        _ => "shut down",
    }
}

fn print(workers: &[WorkerStatus], in_full: bool, output: &mut Output) -> Result<(), Failure> {
    let now_ms = now_ms();
    match workers {
        workers if output.json => {
            workers.iter().try_for_each(|worker| output.document(&document(worker)))?
        }
        [worker] if in_full => {
            output.details(&details(worker, now_ms))?;
            if !worker.running.is_empty() {
                let rows: Vec<_> =
                    worker.running.iter().map(|task| running_row(task, now_ms)).collect();
                output.line("")?;
                output
                    .lines(&table_lines(["RUNNING", "TASK", "QUEUE", "STATE", "SINCE"], &rows))?;
                if worker.running_left_out > 0 {
                    output.line(&format!("… and {} more", worker.running_left_out))?;
                }
            }
        }
        workers => output.table(
            HEADINGS,
            &workers.iter().map(|worker| row(worker, now_ms)).collect::<Vec<_>>(),
        )?,
    }
    Ok(())
}

/// A worker for programs.
pub(crate) fn document(worker: &WorkerStatus) -> WorkerDocument<'_> {
    WorkerDocument {
        instance_id: &worker.instance_id,
        hostname: &worker.hostname,
        pid: worker.pid,
        queues: &worker.queues,
        task_names: &worker.task_names,
        concurrency: worker.concurrency,
        credit: worker.credit,
        running: worker.running.iter().map(TaskDocument::new).collect(),
        running_left_out: worker.running_left_out,
        memory_bytes: worker.memory_bytes,
        connected_at_ms: ms(worker.connected_at),
        seen_at_ms: ms(worker.seen_at),
        quiet: worker.quiet,
        lost: worker.lost,
    }
}

/// A worker among others.
pub(crate) fn row(worker: &WorkerStatus, now_ms: i64) -> [String; 8] {
    [
        clean(&worker.instance_id),
        state(worker).to_owned(),
        format!("{}/{}", held(worker), worker.concurrency),
        memory(worker.memory_bytes),
        relative(ms(worker.connected_at), now_ms),
        clean(&worker.hostname),
        worker.pid.to_string(),
        clean(&worker.queues.join(", ")),
    ]
}

fn details(worker: &WorkerStatus, now_ms: i64) -> Vec<(&'static str, String)> {
    vec![
        ("instance", clean(&worker.instance_id)),
        ("state", state(worker).to_owned()),
        ("host", clean(&worker.hostname)),
        ("pid", worker.pid.to_string()),
        ("memory", memory(worker.memory_bytes)),
        ("connected", both(ms(worker.connected_at), now_ms)),
        ("seen", both(ms(worker.seen_at), now_ms)),
        ("running", format!("{} of {} at once", held(worker), worker.concurrency)),
        ("credit", worker.credit.to_string()),
        ("queues", clean(&worker.queues.join(", "))),
        ("tasks", clean(&worker.task_names.join(", "))),
    ]
}

/// How many tasks it holds; not all of them are listed.
fn held(worker: &WorkerStatus) -> usize {
    worker.running.len() + worker.running_left_out as usize
}

fn running_row(task: &TaskInfo, now_ms: i64) -> [String; 5] {
    let since = task.started_at.or(task.leased_at);
    [
        clean(&task.id),
        clean(task.title()),
        clean(&task.queue),
        task.state.to_string(),
        since
            .map(|at| rough(now_ms.saturating_sub(ms(at)).max(0).unsigned_abs()))
            .unwrap_or_default(),
    ]
}

fn state(worker: &WorkerStatus) -> &'static str {
    match (worker.lost, worker.quiet) {
        (true, _) => "lost",
        (false, true) => "quiet",
        (false, false) if held(worker) == 0 => "idle",
        (false, false) => "busy",
    }
}

/// `0` is a worker that has not said it.
fn memory(bytes: u64) -> String {
    const MIB: u64 = 1024 * 1024;
    match bytes {
        0 => "-".to_owned(),
        bytes => format!("{} MiB", bytes.div_ceil(MIB)),
    }
}
