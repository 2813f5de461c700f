//! kill -9 of worker processes under load. A recording proxy writes their history. They are killed
//! at any moment and replaced. Other workers run what they held, and every history is judged.

use std::path::Path;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::Tally;
use crate::{
    BrokerProcess, RandomSource, RecordingProxy, Setup, TrafficRun, WorkerProcess, worker_binary,
};

const PRODUCERS: usize = 2;
const WORKERS: usize = 4;
/// Kills in one history.
const KILLS_PER_ROUND: u64 = 100;
const PATIENCE: Duration = Duration::from_secs(60);

/// Kills so often.
pub async fn run(runs: u64, seed: u64) -> Tally {
    let mut tally = Tally::new("kill -9 of workers under load", "kills");
    let mut random = RandomSource::new(seed);
    let program = worker_binary();
    let mut left = runs;
    while left > 0 {
        let kills = left.min(KILLS_PER_ROUND);
        let from = tally.runs;
        let found = round(kills, &program, random.fork(), &mut tally).await;
        tally.add_kills(seed, from, found);
        left -= kills;
    }
    tally.with_counts_as_remarks()
}

async fn round(
    kills: u64,
    program: &Path,
    mut random: RandomSource,
    tally: &mut Tally,
) -> Vec<String> {
    let broker: BrokerProcess =
        Setup::new().set("heartbeat_ms = 150").set("lease_ms = 600").start().await;
    let traffic = TrafficRun::producing(broker.address(), PRODUCERS, random.bits());
    let wire = RecordingProxy::start(broker.address(), traffic.history(), "a worker process").await;
    let start = || WorkerProcess::start(program, &wire.url(), &["traffic"]);
    let mut workers: Vec<WorkerProcess> = (0..WORKERS).map(|_| start()).collect();
    let mut found = Vec::new();
    for kill in 0..kills {
        let enough = traffic.history().len() + random.between(50, 1_000) as usize;
        if !grows_to(&traffic, enough).await {
            found.push(format!("before kill {kill} nothing got done for {PATIENCE:?}"));
            break;
        }
        let victim = random.below(WORKERS as u64) as usize;
        let victim = std::mem::replace(&mut workers[victim], start());
        victim.kill().await;
        tally.runs += 1;
    }
    let history = traffic.history().clone();
    found.extend(traffic.verdict().await);
    *tally.counts.entry("entries judged").or_default() += history.len() as u64;
    found
}

async fn grows_to(traffic: &TrafficRun, enough: usize) -> bool {
    let deadline = Instant::now() + PATIENCE;
    while traffic.history().len() < enough {
        if Instant::now() >= deadline {
            return false;
        }
        sleep(Duration::from_millis(2)).await;
    }
    true
}
