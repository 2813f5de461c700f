//! `celeriac workers`: lists the workers, and gives them orders.

use celeriac_client::{Client, WorkerOrder, WorkerStatus};
use celeriac_web::documents::WorkerDocument;
use clap::{ArgGroup, Args, Subcommand};
use serde::Serialize;

use crate::arguments::SharedOptions;
use crate::confirm::ConfirmOptions;
use crate::connection::{connect, failure};
use crate::exit::{Exit, Failure};
use crate::output::{Format, Output};
use crate::time::now_ms;
use crate::worker_view::{details, table};
use celeriac_web::printable::clean;

/// The arguments of `workers`.
#[derive(Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct WorkersArguments {
    #[command(subcommand)]
    subcommand: Option<WorkersSubcommand>,

    // Without a subcommand the workers are listed.
    #[command(flatten)]
    list: ListArguments,
}

#[derive(Subcommand)]
enum WorkersSubcommand {
    /// List the workers; one worker alone is shown in detail
    List(ListArguments),
    /// Tell workers to take no new tasks, and to finish the running ones
    #[command(override_usage = which_usage("quiet"))]
    Quiet(OrderArguments),
    /// Tell quiet workers to take tasks again
    #[command(override_usage = which_usage("resume"))]
    Resume(OrderArguments),
    /// Tell workers to shut down as on SIGTERM; tasks that outlast the grace period return to their
    /// queues
    #[command(override_usage = which_usage("shutdown"))]
    Shutdown(ShutdownArguments),
}

/// The arguments of `workers list`.
#[derive(Args)]
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

/// The usage of a command that takes instances or all workers.
fn which_usage(command: &str) -> String {
    format!(
        "celeriac workers {command} [OPTIONS] <INSTANCE>...
       celeriac workers {command} [OPTIONS] --all"
    )
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
    match arguments.subcommand.unwrap_or(WorkersSubcommand::List(arguments.list)) {
        WorkersSubcommand::List(ListArguments { instances }) => {
            let client = connect(shared).await?;
            let (workers, missing) = connected(&client, &instances).await?;
            client.close().await;
            match workers.as_slice() {
                workers if output.is_json() => print_documents(workers, output)?,
                [worker] if instances.len() == 1 => {
                    output.lines(&details(worker, now_ms(), output.size().width))?
                }
                [] if missing.is_some() => {}
                workers => output.table(&table(workers, now_ms()))?,
            }
            missing.map_or(Ok(Exit::Success), Err)
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

/// The workers of these instances, or all workers, sorted; and the failure for the first instance
/// that is not connected.
async fn connected(
    client: &Client,
    instances: &[String],
) -> Result<(Vec<WorkerStatus>, Option<Failure>), Failure> {
    let mut workers = client.workers().await.map_err(failure)?;
    workers.sort_by(|left, right| left.instance_id.cmp(&right.instance_id));
    let missing =
        instances.iter().find(|name| !workers.iter().any(|worker| worker.instance_id == **name));
    let missing =
        missing.map(|name| Failure::new(Exit::NotFound, format!("no worker {}", clean(name))));
    workers.retain(|worker| instances.is_empty() || instances.contains(&worker.instance_id));
    Ok((workers, missing))
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
    output.outlive_reader();
    let client = connect(shared).await?;
    let (workers, missing) = connected(&client, &arguments.instances).await?;
    if let Some(missing) = missing {
        return Err(missing);
    }
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
