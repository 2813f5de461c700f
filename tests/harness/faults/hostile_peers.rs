//! Slow, broken and hostile peers and peers of other protocols, in a seeded mix and many at the
//! same time. The broker answers with an error or closes the connection. It does not panic, its
//! memory stays bounded, and honest clients are served.

use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::timeout;

use super::Tally;
use crate::honest::Honest;
use crate::{PATIENCE, RandomSource, Setup};

pub mod costly;
mod frames;
mod requests;

/// Hostile peers at the same time.
const SIDE_BY_SIDE: usize = 32;
/// The unfinished frames of all peers share 256 MiB. The answers that they do not read come on top.
const RESIDENT_KIB_MAX: u64 = 1024 * 1024;
/// Longer than any of them has a reason to stay.
const STAY: Duration = Duration::from_secs(60);

/// Connects so many of them.
pub async fn run(runs: u64, seed: u64) -> Tally {
    let mut tally = Tally::new("slow and hostile peers", "peers");
    let mut random = RandomSource::new(seed);
    let mut broker = Setup::new().set("heartbeat_ms = 1000").set("lease_ms = 5000").start().await;
    let honest = Honest::start(&broker.url()).await;
    let mut resident_kib = 0;
    let mut peers: JoinSet<Option<String>> = JoinSet::new();
    let mut number = 0;
    while number < runs || !peers.is_empty() {
        if number < runs && peers.len() < SIDE_BY_SIDE {
            peers.spawn(peer(broker.address(), number, random.fork()));
            number += 1;
            continue;
        }
        if let Some(ended) = peers.join_next().await {
            let found =
                ended.unwrap_or_else(|panicked| Some(format!("the harness panicked: {panicked}")));
            tally.violations.extend(found.map(|what| format!("seed {seed}: {what}")));
            tally.runs += 1;
        }
        if !broker.is_running() {
            tally
                .violations
                .push(format!("seed {seed}: the broker is gone after {} peers", tally.runs));
            break;
        }
        resident_kib = resident_kib.max(broker.resident_kib());
    }
    peers.abort_all();
    let work = honest.end().await;
    tally.violations.extend(work.found.into_iter().map(|what| format!("seed {seed}: {what}")));
    tally.judge_broker(seed, &mut broker, resident_kib, RESIDENT_KIB_MAX);
    tally.remarks = format!(
        "{} honest tasks, the slowest in {} ms; the broker held {} MiB at most.",
        work.done,
        work.worst.as_millis(),
        resident_kib / 1024
    );
    tally
}

/// One peer of a random kind. Returns what it found, if the broker did something wrong.
async fn peer(
    address: std::net::SocketAddr,
    number: u64,
    mut random: RandomSource,
) -> Option<String> {
    let kind = random.below(frames::KINDS + requests::KINDS);
    let staying = async {
        if kind < frames::KINDS {
            frames::peer(kind, address, &mut random).await
        } else {
            requests::peer(kind - frames::KINDS, address, &mut random).await
        }
    };
    let what = match timeout(STAY + PATIENCE, staying).await {
        Ok(Ok(())) => return None,
        Ok(Err(what)) => what,
        Err(_) => "it came to no end".to_owned(),
    };
    Some(format!("peer {number} of kind {kind}: {what}"))
}
