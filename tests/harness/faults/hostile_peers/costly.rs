//! Clients that complete the handshake and send frames that cost as much as possible: few bytes for
//! each item, many items, many megabytes. No honest client loses a session or runs a task twice,
//! and its waits are short.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use celeriac_proto::limits;
use celeriac_proto::wire;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::frames::frame;
use crate::faults::Tally;
use crate::honest::Honest;
use crate::raw::{self, Request};
use crate::{RandomSource, Setup};

/// The number of hostile connections, in one round after the other.
const CONNECTIONS: [usize; 3] = [4, 24, 80];
/// The longest allowed 99th percentile of honest tasks in a long run with a release build. Short
/// runs of a debug build share two cores with other tests, and only print it.
const P99_MAX: Duration = Duration::from_millis(100);
/// The number of honest tasks in a round.
const TASKS: u64 = 100;

/// Runs so many rounds, each with another number of connections. A long run also judges the
/// latency.
pub async fn run(runs: u64, seed: u64) -> Tally {
    let mut tally = Tally::new("frames that cost as much as they can", "rounds");
    let mut random = RandomSource::new(seed);
    for number in 0..runs {
        let connections = CONNECTIONS[number as usize % CONNECTIONS.len()];
        let (found, p99) = round(connections, &mut random).await;
        let late = runs > CONNECTIONS.len() as u64 && !cfg!(debug_assertions) && p99 > P99_MAX;
        tally.violations.extend(
            found.into_iter().map(|what| format!("seed {seed}, {connections} connections: {what}")),
        );
        if late {
            tally.violations.push(format!(
                "seed {seed}, {connections} connections: honest p99 of {} ms",
                p99.as_millis()
            ));
        }
        tally.remarks += &format!("{connections}: p99 {} ms. ", p99.as_millis());
        tally.runs += 1;
    }
    tally
}

async fn round(connections: usize, random: &mut RandomSource) -> (Vec<String>, Duration) {
    let mut broker = Setup::new().set("heartbeat_ms = 1000").set("lease_ms = 5000").start().await;
    let honest = Honest::start(&broker.url()).await;
    let frames = Arc::new(frames());
    let mut hostile = JoinSet::new();
    for _ in 0..connections {
        let first = random.below(frames.len() as u64) as usize;
        hostile.spawn(flood(broker.address(), frames.clone(), first));
    }
    let enough = honest.done() + TASKS;
    let goes_on = async {
        while honest.done() < enough {
            // A pause between two checks. Nothing depends on its length.
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let mut found = Vec::new();
    if timeout(Duration::from_secs(60), goes_on).await.is_err() {
        found.push("honest work came to an end".to_owned());
    }
    hostile.shutdown().await;
    let work = honest.end().await;
    found.extend(work.found);
    if work.ran != work.done {
        found.push(format!("{} honest tasks ran {} times", work.done, work.ran));
    }
    let stderr = broker.stderr();
    if stderr.matches("worker connected").count() > 1 {
        found.push("the honest worker lost its connection".to_owned());
    }
    if !broker.is_running() || stderr.contains("panicked") {
        found.push(format!("the broker is gone or panicked:\n{stderr}"));
    }
    (found, work.p99)
}

/// Sends one frame after the other for ever, on a new connection whenever the broker has closed
/// one.
async fn flood(address: SocketAddr, frames: Arc<Vec<Vec<u8>>>, first: usize) {
    let mut next = first;
    loop {
        let Ok(stream) = TcpStream::connect(address).await else { continue };
        let (mut read, mut write) = stream.into_split();
        let sending = async {
            write.write_all(&raw::hello_bytes()).await?;
            loop {
                write.write_all(&frames[next % frames.len()]).await?;
                next += 1;
            }
            #[allow(unreachable_code)]
            Ok::<(), std::io::Error>(())
        };
        let reading = async {
            let mut answers = vec![0; 64 * 1024];
            while matches!(read.read(&mut answers).await, Ok(count) if count > 0) {}
        };
        tokio::select! {
            _ = sending => {}
            () = reading => {}
        }
    }
}

fn frames() -> Vec<Vec<u8>> {
    let submit = |tasks| frame(2, Request::Submit(wire::Submit { tasks }));
    let empty = |tags: usize| wire::Task { tags: vec![String::new(); tags], ..Default::default() };
    let ids = (0..limits::BATCH_ITEMS_MAX).map(|number| number.to_string()).collect();
    vec![
        // Frames that are refused before they are decoded.
        submit(vec![empty(5_000_000)]),
        submit(vec![wire::Task::default(); 100_000]),
        unknown_fields(),
        // Frames that are decoded and refused item by item.
        submit(vec![wire::Task::default(); limits::BATCH_ITEMS_MAX]),
        submit(vec![empty(60); limits::BATCH_ITEMS_MAX]),
        // Valid and large frames.
        frame(3, Request::Get(wire::Get { ids, with_results: false, ..Default::default() })),
    ]
}

fn unknown_fields() -> Vec<u8> {
    let mut bytes = 2_000_000_u32.to_be_bytes().to_vec();
    bytes.extend([15 << 3, 1].repeat(1_000_000));
    bytes
}
