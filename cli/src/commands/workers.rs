//! `celeriac workers`: lists the workers, and gives them orders.

use celeriac_client::{Client, TaskInfo, WorkerOrder, WorkerStatus};
use clap::{ArgGroup, Args, Subcommand};
use serde::Serialize;

use crate::arguments::SharedOptions;
use crate::confirm::ConfirmOptions;
use crate::connection::{connect, failure};
use crate::exit::{EXIT_CODES, Exit, Failure};
use crate::output::{Format, Output, table_lines};
use crate::printable::clean;
use crate::time::{absolute_and_relative, ms, now_ms, rough};
use crate::worker_view::{HEADINGS, WorkerDocument, held, memory, row, state};

/// The arguments of `workers`.
#[derive(Args)]
pub(crate) struct WorkersArguments {
    #[command(subcommand)]
    subcommand: Option<WorkersSubcommand>,
}

#[derive(Subcommand)]
enum WorkersSubcommand {
    /// List the workers; one worker alone is shown in detail
    #[command(after_help = EXIT_CODES)]
    List(ListArguments),
    /// Tell workers to take no new tasks, and to finish the running ones
    #[command(after_help = EXIT_CODES)]
    Quiet(OrderArguments),
    /// Tell quiet workers to take tasks again
    #[command(after_help = EXIT_CODES)]
    Resume(OrderArguments),
    /// Tell workers to shut down as on SIGTERM; tasks that outlast the grace period return to their
    /// queues
    #[command(after_help = EXIT_CODES)]
    Shutdown(ShutdownArguments),
}

/// The arguments of `workers list`.
#[derive(Args, Default)]
struct ListArguments {
    /// List only these workers [default: all]
    #[arg(value_name = "INSTANCE")]
    instances: Vec<String>,
}

/// The arguments of `workers quiet` and `workers resume`.
#[derive(Args)]
#[command(group(ArgGroup::new("which").args(["instances", "all"]).required(true)))]
struct OrderArguments {
    /// The instances of the workers
    #[arg(value_name = "INSTANCE")]
    instances: Vec<String>,

    /// All workers
    #[arg(long)]
    all: bool,
}

/// The arguments of `workers shutdown`.
#[derive(Args)]
struct ShutdownArguments {
    #[command(flatten)]
    order: OrderArguments,
    #[command(flatten)]
    confirm: ConfirmOptions,
}

/// An order to one worker, for programs.
#[derive(Serialize)]
struct OrderDocument<'a> {
    instance_id: &'a str,
    order: &'a str,
}

/// Lists the workers, or gives them an order. A named worker that is not connected is a failure.
pub(crate) async fn run(
    arguments: WorkersArguments,
    shared: &SharedOptions,
    output: &mut Output,
) -> Result<Exit, Failure> {
    match arguments.subcommand.unwrap_or(WorkersSubcommand::List(ListArguments::default())) {
        WorkersSubcommand::List(ListArguments { instances }) => {
            let client = connect(shared).await?;
            let workers = connected(&client, &instances).await?;
            client.close().await;
            match workers.as_slice() {
                workers if output.is_json() => print_documents(workers, output)?,
                [worker] if instances.len() == 1 => print_details(worker, output)?,
                workers => print_table(workers, output)?,
            }
            Ok(Exit::Success)
        }
        WorkersSubcommand::Quiet(arguments) => {
            order(&arguments, WorkerOrder::Quiet, "quiet", shared, output).await
        }
        WorkersSubcommand::Resume(arguments) => {
            order(&arguments, WorkerOrder::Resume, "resume", shared, output).await
        }
        WorkersSubcommand::Shutdown(arguments) => shutdown(&arguments, shared, output).await,
    }
}

/// The workers of these instances, or all workers, sorted.
async fn connected(client: &Client, instances: &[String]) -> Result<Vec<WorkerStatus>, Failure> {
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

async fn shutdown(
    arguments: &ShutdownArguments,
    shared: &SharedOptions,
    output: &mut Output,
) -> Result<Exit, Failure> {
    let OrderArguments { instances, all } = &arguments.order;
    let who = if *all { "every worker".to_owned() } else { clean(&instances.join(", ")) };
    arguments.confirm.consent("a shutdown")?.ask(&format!("Shut down {who}?")).await?;
    order(&arguments.order, WorkerOrder::Shutdown, "shutdown", shared, output).await
}

/// Gives an order to the workers. If one named worker is not connected, no worker gets the order.
async fn order(
    arguments: &OrderArguments,
    order: WorkerOrder,
    name: &str,
    shared: &SharedOptions,
    output: &mut Output,
) -> Result<Exit, Failure> {
    let client = connect(shared).await?;
    let workers = connected(&client, &arguments.instances).await?;
    client.order_workers(&arguments.instances, order).await.map_err(failure)?;
    client.close().await;
    for worker in &workers {
        let instance_id = &worker.instance_id;
        match output.format {
            Format::Json => output.document(&OrderDocument { instance_id, order: name })?,
            Format::Text => {
                output.line(&format!("{}  was told to {}", clean(instance_id), in_words(order)))?
            }
        }
    }
    if workers.is_empty() && !output.is_json() {
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

fn print_documents(workers: &[WorkerStatus], output: &mut Output) -> Result<(), Failure> {
    for worker in workers {
        output.document(&WorkerDocument::new(worker))?;
    }
    Ok(())
}

fn print_table(workers: &[WorkerStatus], output: &mut Output) -> Result<(), Failure> {
    let now_ms = now_ms();
    let rows: Vec<_> = workers.iter().map(|worker| row(worker, now_ms)).collect();
    Ok(output.table(HEADINGS, &rows)?)
}

/// Prints one worker in detail, with the tasks that it holds.
fn print_details(worker: &WorkerStatus, output: &mut Output) -> Result<(), Failure> {
    const TASK_HEADINGS: [&str; 5] = ["RUNNING", "TASK", "QUEUE", "STATE", "SINCE"];
    let now_ms = now_ms();
    output.details(&details(worker, now_ms))?;
    if !worker.running.is_empty() {
        let rows: Vec<_> = worker.running.iter().map(|task| task_row(task, now_ms)).collect();
        output.line("")?;
        output.lines(&table_lines(TASK_HEADINGS, &rows))?;
        if worker.running_left_out > 0 {
            output.line(&format!("… and {} more", worker.running_left_out))?;
        }
    }
    Ok(())
}

fn details(worker: &WorkerStatus, now_ms: i64) -> Vec<(&'static str, String)> {
    vec![
        ("instance", clean(&worker.instance_id)),
        ("state", state(worker).to_owned()),
        ("host", clean(&worker.hostname)),
        ("pid", worker.pid.to_string()),
        ("memory", memory(worker.memory_bytes)),
        ("connected", absolute_and_relative(ms(worker.connected_at), now_ms)),
        ("seen", absolute_and_relative(ms(worker.seen_at), now_ms)),
        ("running", format!("{} of {} at once", held(worker), worker.concurrency)),
        ("credit", worker.credit.to_string()),
        ("queues", clean(&worker.queues.join(", "))),
        ("tasks", clean(&worker.task_names.join(", "))),
    ]
}

fn task_row(task: &TaskInfo, now_ms: i64) -> [String; 5] {
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
