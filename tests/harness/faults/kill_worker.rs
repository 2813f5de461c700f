//! kill -9 of workers in mid-load: worker processes of the worker crate, behind wires that write
//! down what is said, killed at any moment and replaced. What they held is run by others; every
//! history is judged.

use std::path::Path;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::Tally;
use crate::{BrokerProcess, Crowd, Luck, RecordingProxy, Setup, WorkerProcess, worker_binary};

const PRODUCERS: usize = 2;
const WORKERS: usize = 4;
/// Kills in one history.
const KILLS_PER_ROUND: u64 = 100;
const PATIENCE: Duration = Duration::from_secs(60);

/// Kills so often.
pub async fn run(runs: u64, seed: u64) -> Tally {
    let mut tally = Tally::new("kill -9 of workers under load", "kills");
    let mut luck = Luck::new(seed);
    let program = worker_binary();
    let mut left = runs;
    while left > 0 {
        let kills = left.min(KILLS_PER_ROUND);
        let from = tally.runs;
        let found = round(kills, &program, luck.fork(), &mut tally).await;
        let to = tally.runs;
        tally.violations.extend(
            found.into_iter().map(|what| format!("seed {seed}, kills {from} to {to}: {what}")),
        );
        left -= kills;
    }
    tally.with_counts_as_remarks()
}

async fn round(kills: u64, program: &Path, mut luck: Luck, tally: &mut Tally) -> Vec<String> {
    let broker: BrokerProcess =
        Setup::new().set("heartbeat_ms = 150").set("lease_ms = 600").start().await;
    let crowd = Crowd::producing(broker.address(), PRODUCERS, luck.bits());
    let wire = RecordingProxy::start(broker.address(), crowd.history(), "a worker process").await;
    let hire = || WorkerProcess::start(program, &wire.url(), &["traffic"]);
    let mut workers: Vec<WorkerProcess> = (0..WORKERS).map(|_| hire()).collect();
    let mut found = Vec::new();
    for kill in 0..kills {
        let enough = crowd.history().len() + luck.between(50, 1_000) as usize;
        if !grows_to(&crowd, enough).await {
            found.push(format!("before kill {kill} nothing got done for {PATIENCE:?}"));
            break;
        }
        let victim = luck.below(WORKERS as u64) as usize;
        let victim = std::mem::replace(&mut workers[victim], hire());
        victim.kill().await;
        tally.runs += 1;
    }
    let history = crowd.history().clone();
    found.extend(crowd.verdict().await);
    *tally.counts.entry("entries judged").or_default() += history.len() as u64;
    found
}

async fn grows_to(crowd: &Crowd, enough: usize) -> bool {
    let deadline = Instant::now() + PATIENCE;
    while crowd.history().len() < enough {
        if Instant::now() >= deadline {
            return false;
        }
        sleep(Duration::from_millis(2)).await;
    }
    true
}
