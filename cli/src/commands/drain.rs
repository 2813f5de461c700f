//! `celeriac drain`: the broker delivers nothing more, until no task is leased.

use std::time::Duration;

use celeriac_client::{BrokerInfo, Client, WorkerStatus};
use clap::Args;
use serde::Serialize;
use tokio::time::{sleep, timeout};

use crate::arguments::SharedOptions;
use crate::connection::{connect, failure, part};
use crate::exit::{Exit, Failure};
use crate::output::{Format, Output};
use crate::task_count::counted;
use celeriac_web::printable::clean;

/// The pause between two looks at the broker.
const LOOK: Duration = Duration::from_millis(250);

/// The most tasks that are named when they do not end in time.
const NAMED_MAX: usize = 10;

/// The arguments of `drain`.
#[derive(Args)]
pub(crate) struct DrainArguments {
    /// End the drain: the broker delivers again
    #[arg(long)]
    off: bool,
}

/// A drain for programs.
#[derive(Serialize)]
struct Document {
    draining: bool,
    leased: u64,
    running: Vec<Running>,
}

/// A task that a worker still holds.
#[derive(Serialize)]
struct Running {
    id: String,
    worker: String,
}

/// Waits until no task is leased. A given `--timeout` ends the waiting, and the drain goes on.
pub(crate) async fn run(
    arguments: DrainArguments,
    shared: &SharedOptions,
    output: &mut Output,
) -> Result<Exit, Failure> {
    output.outlive_reader();
    let client = connect(shared).await?;
    let outcome = match arguments.off {
        true => end(&client, output).await,
        false => drain(&client, shared.timeout, output).await,
    };
    part(&client, outcome).await
}

async fn end(client: &Client, output: &mut Output) -> Result<Exit, Failure> {
    client.drain(false).await.map_err(failure)?;
    let leased = client.broker_info().await.map_err(failure)?.leased;
    match output.format {
        Format::Json => output.document(&Document { draining: false, leased, running: vec![] })?,
        Format::Text => output.line("the drain has ended: the broker delivers again")?,
    }
    Ok(Exit::Success)
}

async fn drain(
    client: &Client,
    patience: Option<Duration>,
    output: &mut Output,
) -> Result<Exit, Failure> {
    client.drain(true).await.map_err(failure)?;
    let waiting = wait(client);
    let waited = match patience {
        None => Some(waiting.await),
        Some(patience) => timeout(patience, waiting).await.ok(),
    };
    if let Some(waited) = waited {
        waited?;
        match output.format {
            Format::Json => {
                output.document(&Document { draining: true, leased: 0, running: vec![] })?
            }
            Format::Text => output.line("drained: no task is leased")?,
        }
        return Ok(Exit::Success);
    }
    let leased = client.broker_info().await.map_err(failure)?.leased;
    let running = running(&client.workers().await.map_err(failure)?);
    let sentence = still_run(leased, &running);
    if output.is_json() {
        output.document(&Document { draining: true, leased, running })?;
    }
    Err(Failure::new(Exit::Unfinished, sentence))
}

/// Looks at the broker until it holds no lease.
async fn wait(client: &Client) -> Result<(), Failure> {
    loop {
        let BrokerInfo { draining, leased, .. } = client.broker_info().await.map_err(failure)?;
        match (draining, leased) {
            (false, _) => {
                return Err(Failure::error(
                    "the drain has ended before no task was leased: somebody ended it, or the \
                     broker was started again",
                ));
            }
            (true, 0) => return Ok(()),
            (true, _) => sleep(LOOK).await,
        }
    }
}

fn running(workers: &[WorkerStatus]) -> Vec<Running> {
    let tasks =
        workers.iter().flat_map(|worker| worker.running.iter().map(move |task| (worker, task)));
    let running = |(worker, task): (&WorkerStatus, &celeriac_client::TaskInfo)| Running {
        id: task.id.clone(),
        worker: worker.instance_id.clone(),
    };
    tasks.take(NAMED_MAX).map(running).collect()
}

fn still_run(leased: u64, running: &[Running]) -> String {
    let named =
        running.iter().map(|Running { id, worker }| format!("{} on {}", clean(id), clean(worker)));
    let named: Vec<String> = named.collect();
    let more = leased.saturating_sub(named.len() as u64);
    let mut list = if named.is_empty() { String::new() } else { format!(": {}", named.join(", ")) };
    if more > 0 && !named.is_empty() {
        list += &format!(" and {more} more");
    }
    let verb = if leased == 1 { "is" } else { "are" };
    format!("{} {verb} still leased{list}; the drain goes on", counted(leased, "task"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn o22_the_sentence_about_what_is_left_names_ten_tasks_and_counts_the_others() {
        let running = |count: usize| -> Vec<Running> {
            let one = |number| Running { id: format!("t{number}"), worker: "w".to_owned() };
            (0..count).map(one).collect()
        };
        assert_eq!(still_run(1, &running(1)), "1 task is still leased: t0 on w; the drain goes on");
        assert_eq!(
            still_run(5, &running(2)),
            "5 tasks are still leased: t0 on w, t1 on w and 3 more; the drain goes on"
        );
        assert_eq!(still_run(2, &[]), "2 tasks are still leased; the drain goes on");
    }
}
