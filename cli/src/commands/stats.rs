//! `celeriac stats`: the counters of the queues, or those of the broker.

use celeriac_client::{Error, ErrorCode, Stats};
use celeriac_proto::QueueName;
use clap::Args;

use crate::arguments::{SharedOptions, parse_queue};
use crate::connection::{connect, failure};
use crate::exit::{Exit, Failure};
use crate::output::Output;
use crate::stats_view::{BrokerStatsDocument, QueueStatsDocument, broker_details, details, table};
use celeriac_web::printable::clean;

/// The arguments of `stats`.
#[derive(Args)]
pub(crate) struct StatsArguments {
    /// Show only these queues [default: all]; one alone is shown with all its numbers
    #[arg(value_parser = parse_queue, value_name = "QUEUE", conflicts_with = "broker")]
    queues: Vec<QueueName>,

    /// Show what the broker counts for itself: refusals, commits, reloads, its process
    #[arg(long)]
    broker: bool,
}

/// Shows the counters. A wanted queue that does not exist is a failure, after the others are shown.
pub(crate) async fn run(
    arguments: StatsArguments,
    shared: &SharedOptions,
    output: &mut Output,
) -> Result<Exit, Failure> {
    let client = connect(shared).await?;
    let wanted: Vec<&str> = arguments.queues.iter().map(QueueName::as_str).collect();
    let stats = match wanted.is_empty() {
        true => client.stats().await,
        false => client.stats_of(&wanted).await,
    };
    let stats = stats.map_err(|error| match &error {
        Error::Refused { code: ErrorCode::Unsupported, .. } => Failure::error(
            "the broker is older than this command and has no such counters: use `queues`, or \
             install a newer broker",
        ),
        _ => failure(error),
    })?;
    client.close().await;
    if arguments.broker {
        return show_broker(&stats, output);
    }
    match stats.queues.as_slice() {
        queues if output.is_json() => {
            for queue in queues {
                output.document(&QueueStatsDocument::new(queue, stats.at))?;
            }
        }
        [queue] if wanted.len() == 1 => output.details(&details(queue, stats.at))?,
        [] if !wanted.is_empty() => {}
        queues => output.table(&table(queues))?,
    }
    let is_there = |name: &&str| stats.queues.iter().any(|queue| queue.name == **name);
    match wanted.iter().find(|name| !is_there(name)) {
        Some(name) => Err(Failure::new(Exit::NotFound, format!("no queue {}", clean(name)))),
        None => Ok(Exit::Success),
    }
}

fn show_broker(stats: &Stats, output: &mut Output) -> Result<Exit, Failure> {
    let Some(broker) = &stats.broker else {
        let sentence = "the access of this client has some queues alone, and not the broker itself";
        return Err(Failure::error(sentence));
    };
    match output.is_json() {
        true => output.document(&BrokerStatsDocument::new(broker))?,
        false => output.details(&broker_details(broker))?,
    }
    Ok(Exit::Success)
}
