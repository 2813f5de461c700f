//! kill -9 of the broker under load: producers and workers over TCP use all options of a task. The
//! broker is killed at any moment and started again on the same folder. Every history is judged.

use std::time::{Duration, Instant};

use tokio::time::sleep;

use super::{Tally, backlog};
use crate::{BrokerProcess, RandomSource, Setup, TrafficRun};

/// The number of producers and of workers, besides the two of the queue whose order is judged.
const CLIENTS: usize = 4;
/// Kills in one history. Each round has a folder of its own.
const KILLS_PER_ROUND: u64 = 50;
/// So many kills should show every event that the rules are about. On a busy machine it may take
/// several times as many.
const ENOUGH: u64 = 20;
const MORE_MAX: u64 = 4;
/// With so many kills the folder holds additional waiting tasks, so that the time to ready says
/// something.
const LONG: u64 = 100;
const BACKLOG: u64 = 100_000;
/// The longest time that one run of the broker may take to complete its share of the load, however
/// busy the machine is.
const PATIENCE: Duration = Duration::from_secs(60);

/// Kills so often, and goes on until the history has every event that the rules are about.
pub async fn run(runs: u64, seed: u64) -> Tally {
    let mut tally = Tally::new("kill -9 of the broker under load", "kills");
    let mut random = RandomSource::new(seed);
    let tasks = if runs >= LONG { BACKLOG } else { 0 };
    let mut left = runs;
    while left > 0 || lacks_something(&tally, runs) {
        let kills = if left > 0 { left.min(KILLS_PER_ROUND) } else { ENOUGH };
        let from = tally.runs;
        let found = round(kills, tasks, random.fork(), &mut tally).await;
        tally.add_kills(seed, from, found);
        left = left.saturating_sub(kills);
    }
    // A rule that finds nothing proves something only if there was something to find.
    let missing = missing(&tally);
    if runs >= ENOUGH && !missing.is_empty() {
        tally
            .violations
            .push(format!("seed {seed}: the traffic had none of {missing:?}, so it proves little"));
    }
    tally.remarks =
        format!("{tasks} more tasks in the folder, {} entries judged", count(&tally, ENTRIES));
    tally
}

/// Whether more kills may show the missing events.
fn lacks_something(tally: &Tally, runs: u64) -> bool {
    let is_clean = tally.violations.is_empty() && tally.failed_starts.is_empty();
    runs >= ENOUGH && is_clean && tally.runs < MORE_MAX * runs && !missing(tally).is_empty()
}

/// The events that the history does not have.
fn missing(tally: &Tally) -> Vec<&'static str> {
    tally.counts.iter().filter(|(_, count)| **count == 0).map(|(kind, _)| *kind).collect()
}

const ENTRIES: &str = "entries judged";

fn count(tally: &Tally, what: &str) -> u64 {
    tally.counts.get(what).copied().unwrap_or(0)
}

/// Kills the broker at any moment, and starts it again. Returns whether it has started.
pub(super) async fn kill_and_restart(
    kill: u64,
    broker: &mut BrokerProcess,
    traffic: &TrafficRun,
    random: &mut RandomSource,
    tally: &mut Tally,
) -> bool {
    sleep(Duration::from_micros(random.below(60_000))).await;
    broker.kill().await;
    traffic.note_restart();
    tally.runs += 1;
    let begun = Instant::now();
    if let Err(exit) = broker.try_restart().await {
        tally.failed_starts.push(format!("after kill {kill} of a round: {exit:?}"));
        return false;
    }
    tally.ready_after(begun.elapsed());
    true
}

/// Several kills on one folder. Returns what was wrong.
async fn round(kills: u64, tasks: u64, mut random: RandomSource, tally: &mut Tally) -> Vec<String> {
    let mut broker = Setup::new().set("heartbeat_ms = 300").set("lease_ms = 1000").start().await;
    backlog::fill(broker.address(), tasks).await;
    let traffic = TrafficRun::wild(broker.address(), CLIENTS, random.bits());
    let mut found = Vec::new();
    for kill in 0..kills {
        if !traffic.completes(random.between(1, 200), PATIENCE).await {
            found.push(format!("before kill {kill} nothing got done for {PATIENCE:?}"));
            break;
        }
        if !kill_and_restart(kill, &mut broker, &traffic, &mut random, tally).await {
            return found;
        }
        found.extend(backlog::look(broker.address(), tasks).await);
    }
    let history = traffic.history().clone();
    found.extend(traffic.verdict().await);
    *tally.counts.entry(ENTRIES).or_default() += history.len() as u64;
    for (kind, count) in history.event_counts() {
        *tally.counts.entry(kind).or_default() += count;
    }
    found
}
