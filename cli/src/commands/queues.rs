//! `celeriac queues`: lists the queues with their counts. `queues::actions` changes queues.

use celeriac_proto::QueueName;
use celeriac_web::documents::QueueDocument;
use clap::Args;

use crate::arguments::{SharedOptions, parse_queue};
use crate::connection::{connect, failure};
use crate::draining;
use crate::exit::{Exit, Failure};
use crate::output::Output;
use crate::queue_view::{details, table};
use celeriac_web::printable::clean;

mod actions;

/// The arguments of `queues`. A queue with the name of a subcommand is listed by `queues -- NAME`.
#[derive(Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct QueuesArguments {
    #[command(subcommand)]
    action: Option<actions::QueuesSubcommand>,

    /// List only these queues [default: all]; one alone is shown with its settings
    #[arg(value_parser = parse_queue, value_name = "QUEUE")]
    queues: Vec<QueueName>,
}

/// Lists the queues, or runs a subcommand.
pub(crate) async fn run(
    arguments: QueuesArguments,
    shared: &SharedOptions,
    output: &mut Output,
) -> Result<Exit, Failure> {
    match arguments.action {
        Some(action) => actions::run(action, shared, output).await,
        None => list(&arguments.queues, shared, output).await,
    }
}

/// Lists the queues, sorted by name. A wanted queue that does not exist is a failure, after the
/// others are listed.
async fn list(
    wanted: &[QueueName],
    shared: &SharedOptions,
    output: &mut Output,
) -> Result<Exit, Failure> {
    let client = connect(shared).await?;
    let mut queues = client.queues().await.map_err(failure)?;
    queues
        .retain(|queue| wanted.is_empty() || wanted.iter().any(|name| name.as_str() == queue.name));
    queues.sort_by(|left, right| left.name.cmp(&right.name));
    match queues.as_slice() {
        queues if output.is_json() => {
            for queue in queues {
                output.document(&QueueDocument::new(queue))?;
            }
        }
        [queue] if wanted.len() == 1 => output.details(&details(queue))?,
        [] if !wanted.is_empty() => {}
        queues => output.table(&table(queues))?,
    }
    draining::tell(&client, queues.iter().any(|queue| queue.ready > 0), output).await;
    client.close().await;
    match wanted.iter().find(|name| !queues.iter().any(|queue| queue.name == name.as_str())) {
        Some(name) => Err(Failure::new(Exit::NotFound, format!("no queue {}", clean(name)))),
        None => Ok(Exit::Success),
    }
}
