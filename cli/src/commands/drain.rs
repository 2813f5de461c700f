//! `celeriac drain`: the broker delivers nothing more, until no task is leased.

use std::io::{self, IsTerminal};
use std::time::{Duration, Instant};

use celeriac_client::{BrokerInfo, Client, WorkerStatus};
use clap::Args;
use serde::Serialize;
use tokio::time::{sleep, timeout};

use crate::arguments::SharedOptions;
use crate::connection::{connect, failure, part};
use crate::exit::{Exit, Failure};
use crate::output::{Format, Output, print_to_stderr};
use crate::task_count::counted;
use celeriac_web::printable::clean;

/// The pause between two looks at the broker.
const LOOK: Duration = Duration::from_millis(250);

/// The pause between two sentences about what is left.
const TELL: Duration = Duration::from_secs(5);

/// The most tasks that are named when they do not end in time.
const NAMED_MAX: usize = 10;

/// The arguments of `drain`.
#[derive(Args)]
pub(crate) struct DrainArguments {
    /// End the drain: the broker delivers again, and the command does not wait
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
        false => drain(&client, shared.patience, output).await,
    };
    part(&client, outcome).await
}

async fn end(client: &Client, output: &mut Output) -> Result<Exit, Failure> {
    client.drain(false).await.map_err(failure)?;
    match output.format {
        Format::Json => {
            let leased = client.broker_info().await.map_err(failure)?.leased;
            output.document(&Left::of(client, leased).await?.document(false))?;
        }
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
    let waiting = wait(client, Telling::new(output));
    let waited = match patience {
        None => Some(waiting.await),
        Some(patience) => timeout(patience, waiting).await.ok(),
    };
    if let Some(waited) = waited {
        waited?;
        match output.format {
            Format::Json => output.document(&Left::default().document(true))?,
            Format::Text => output.line("drained: no task is leased")?,
        }
        return Ok(Exit::Success);
    }
    let leased = client.broker_info().await.map_err(failure)?.leased;
    let left = Left::of(client, leased).await?;
    let sentence = format!("{}; the drain goes on", left.in_words());
    if output.is_json() {
        output.document(&left.document(true))?;
    }
    Err(Failure::new(Exit::Unfinished, sentence))
}

/// Looks at the broker until it holds no lease.
async fn wait(client: &Client, mut telling: Telling) -> Result<(), Failure> {
    let mut before = None;
    loop {
        let BrokerInfo { draining, leased, .. } = client.broker_info().await.map_err(failure)?;
        match (draining, leased) {
            (false, _) => return Err(ended_by_another(before)),
            (true, 0) => return Ok(()),
            (true, _) => {}
        }
        if telling.is_due() {
            telling.tell(&Left::of(client, leased).await?);
        }
        before = Some(leased);
        sleep(LOOK).await;
    }
}

/// The failure when the broker delivers again, with the leases that there were at the last look.
fn ended_by_another(leased: Option<u64>) -> Failure {
    let left = leased.map(|leased| format!(", while {} leased", still(leased, "")));
    Failure::error(format!(
        "the drain is over and the broker delivers again{}: somebody ended the drain, or the broker \
         was started again",
        left.unwrap_or_default()
    ))
}

/// When people are told what the command waits for: at its beginning, and on a terminal again and
/// again, so that nobody takes it for a command that hangs.
struct Telling {
    is_first: bool,
    next_at: Option<Instant>,
}

impl Telling {
    fn new(output: &Output) -> Self {
        Self { is_first: true, next_at: (!output.is_json()).then(Instant::now) }
    }

    fn is_due(&self) -> bool {
        self.next_at.is_some_and(|at| at <= Instant::now())
    }

    fn tell(&mut self, left: &Left) {
        let left = left.in_words();
        match std::mem::take(&mut self.is_first) {
            true => print_to_stderr(&format!(
                "the broker delivers nothing more; {left}. Ctrl-C ends this command and not the \
                 drain, `celeriac drain --off` ends the drain"
            )),
            false => print_to_stderr(&left),
        }
        self.next_at = io::stderr().is_terminal().then(|| Instant::now() + TELL);
    }
}

/// The tasks that workers still hold.
#[derive(Default)]
struct Left {
    leased: u64,
    /// Some of them, as far as they have begun.
    running: Vec<Running>,
}

impl Left {
    async fn of(client: &Client, leased: u64) -> Result<Self, Failure> {
        Ok(Self { leased, running: running(&client.workers().await.map_err(failure)?) })
    }

    fn document(self, draining: bool) -> Document {
        Document { draining, leased: self.leased, running: self.running }
    }

    fn in_words(&self) -> String {
        let Self { leased, running } = self;
        let named = running
            .iter()
            .map(|Running { id, worker }| format!("{} on {}", clean(id), clean(worker)));
        let named: Vec<String> = named.collect();
        let more = leased.saturating_sub(named.len() as u64);
        let mut list = match named.is_empty() {
            true => String::new(),
            false => format!(": {}", named.join(", ")),
        };
        if more > 0 && !named.is_empty() {
            list += &format!(" and {more} more");
        }
        format!("{} leased{list}", still(*leased, " still"))
    }
}

/// A number of tasks with its verb: `2 tasks are still`.
fn still(leased: u64, adverb: &str) -> String {
    let verb = if leased == 1 { "is" } else { "are" };
    format!("{} {verb}{adverb}", counted(leased, "task"))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn o22_the_sentence_about_what_is_left_names_ten_tasks_and_counts_the_others() {
        let running = |count: usize| -> Vec<Running> {
            let one = |number| Running { id: format!("t{number}"), worker: "w".to_owned() };
            (0..count).map(one).collect()
        };
        let words = |leased, running| Left { leased, running }.in_words();
        assert_eq!(words(1, running(1)), "1 task is still leased: t0 on w");
        let two = words(5, running(2));
        assert_eq!(two, "5 tasks are still leased: t0 on w, t1 on w and 3 more");
        assert_eq!(words(2, Vec::new()), "2 tasks are still leased");
    }
}
