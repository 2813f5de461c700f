//! kill -9 of a broker that is starting: 1 to 100 ms after its exec, on a folder that a killed
//! broker has left, and now and then several times in a row. The next start must work and must have
//! everything, while the clients go on.

use std::time::{Duration, Instant};

use tokio::time::sleep;

use super::{Tally, backlog};
use crate::{RandomSource, Setup, TrafficRun};

const CLIENTS: usize = 2;
/// Waiting tasks in the folder, so that a start has something to read.
const BACKLOG: u64 = 5_000;
const BACKLOG_OF_LONG_RUNS: u64 = 100_000;
const LONG: u64 = 100;
/// Kills in one history. Each round has a folder of its own.
const KILLS_PER_ROUND: u64 = 50;
const PATIENCE: Duration = Duration::from_secs(60);

/// Kills so often.
pub async fn run(runs: u64, seed: u64) -> Tally {
    let mut tally = Tally::new("kill -9 of a broker that is starting", "kills");
    let mut random = RandomSource::new(seed);
    let tasks = if runs >= LONG { BACKLOG_OF_LONG_RUNS } else { BACKLOG };
    let mut left = runs;
    while left > 0 {
        let kills = left.min(KILLS_PER_ROUND);
        let from = tally.runs;
        let found = round(kills, tasks, random.fork(), &mut tally).await;
        tally.add_kills(seed, from, found);
        left -= kills;
    }
    tally.remarks = format!("{tasks} more tasks in the folder");
    tally
}

async fn round(kills: u64, tasks: u64, mut random: RandomSource, tally: &mut Tally) -> Vec<String> {
    let mut broker = Setup::new().set("heartbeat_ms = 300").set("lease_ms = 1000").start().await;
    backlog::fill(broker.address(), tasks).await;
    let traffic = TrafficRun::wild(broker.address(), CLIENTS, random.bits());
    let mut found = Vec::new();
    if !traffic.completes(300, PATIENCE).await {
        found.push(format!("before the first kill nothing got done for {PATIENCE:?}"));
    }
    broker.kill().await;
    traffic.note_restart();
    for kill in 0..kills {
        let after = Duration::from_micros(random.between(1_000, 100_000));
        broker.restart_and_kill(after).await;
        traffic.note_restart();
        tally.runs += 1;
        if random.below(3) == 0 && kill + 1 < kills {
            continue;
        }
        let begun = Instant::now();
        if let Err(exit) = broker.try_restart().await {
            tally.failed_starts.push(format!("after a kill {after:?} after its start: {exit:?}"));
            return found;
        }
        tally.ready_after(begun.elapsed());
        found.extend(backlog::look(broker.address(), tasks).await);
        if kill + 1 < kills {
            // Some tasks run between the kills, so that the folder is never the same.
            sleep(Duration::from_micros(random.below(50_000))).await;
            broker.kill().await;
            traffic.note_restart();
        }
    }
    found.extend(traffic.verdict().await);
    found
}
