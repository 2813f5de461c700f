//! More connections than the limit, and fewer file descriptors than needed. Connected clients are
//! served. New ones are told that there is no room, and are accepted as soon as there is room.

use celeriac_client::{Client, Error, ErrorCode};
use celeriac_proto::wire;
use tokio::time::timeout;

use super::Tally;
use crate::honest::Honest;
use crate::raw::{self, Answer, Request};
use crate::{BrokerProcess, PATIENCE, RandomSource, RawConnection, Setup};

const CONNECTIONS_MAX: usize = 40;
/// The limit of the whole process. The broker keeps some descriptors for its files.
const DESCRIPTORS: usize = 64;

/// Connects so often: half of the connections to a broker with a low limit of connections, half to
/// one with few descriptors.
pub async fn run(runs: u64, seed: u64) -> Tally {
    let mut tally = Tally::new("connection flood and too few descriptors", "connects");
    let mut random = RandomSource::new(seed);
    let mut found = full_broker(runs.div_ceil(2), &mut random, &mut tally).await;
    found.extend(starved(runs.div_ceil(2), &mut random, &mut tally).await);
    tally.violations =
        found.into_iter().map(|what| format!("seed {seed}, {runs} connects: {what}")).collect();
    tally
}

/// The outcome of one attempt to connect.
#[derive(Debug)]
enum Attempt {
    Accepted(Box<RawConnection>),
    Refused,
    /// Neither accepted nor refused properly. The sentence says what happened.
    Wrong(String),
}

async fn attempt(broker: &BrokerProcess) -> Attempt {
    let attempting = async {
        let mut connection = match RawConnection::try_silent(broker.address()).await {
            Ok(connection) => connection,
            Err(lost) => return Attempt::Wrong(format!("no connection: {lost:?}")),
        };
        // The broker may refuse a client before the client has sent anything.
        let _ = connection.send(Request::Hello(raw::hello()), 0).await;
        match connection.next().await {
            Ok((_, Answer::Welcome(_))) => Attempt::Accepted(Box::new(connection)),
            Ok((_, Answer::Error(error)))
                if error.code() == wire::ErrorCode::Overloaded && error.retryable =>
            {
                Attempt::Refused
            }
            other => Attempt::Wrong(format!("neither accepted nor refused: {other:?}")),
        }
    };
    timeout(PATIENCE, attempting)
        .await
        .unwrap_or_else(|_| Attempt::Wrong(format!("no answer in {PATIENCE:?}")))
}

/// As many clients as allowed are connected, and the others are refused. The honest worker and
/// client count too.
async fn full_broker(runs: u64, random: &mut RandomSource, tally: &mut Tally) -> Vec<String> {
    let mut broker = Setup::new().set(format!("connections_max = {CONNECTIONS_MAX}")).start().await;
    let honest = Honest::start(&broker.url()).await;
    let mut found = Vec::new();
    let mut inside = Vec::new();
    for _ in 0..runs {
        tally.runs += 1;
        match attempt(&broker).await {
            Attempt::Accepted(connection) => inside.push(connection),
            Attempt::Refused if inside.len() + 2 < CONNECTIONS_MAX && random.below(2) == 0 => {
                // The broker may not have noticed yet that a client has left. It accepts another
                // one later.
            }
            Attempt::Refused => drop_some(&mut inside, random),
            Attempt::Wrong(what) => found.push(format!("{} are in: {what}", inside.len())),
        }
        if inside.len() + 2 > CONNECTIONS_MAX {
            found.push(format!("{} are in, and {CONNECTIONS_MAX} may be", inside.len() + 2));
        }
    }
    while inside.len() + 2 < CONNECTIONS_MAX {
        match attempt(&broker).await {
            Attempt::Accepted(connection) => inside.push(connection),
            Attempt::Refused => tokio::task::yield_now().await,
            Attempt::Wrong(what) => {
                found.push(what);
                break;
            }
        }
    }
    match Client::connect(&broker.url()).await {
        Err(Error::Handshake { code: ErrorCode::Overloaded, .. }) => {}
        other => found.push(format!(
            "a client that comes too late should be told so: {:?}",
            other.map(|_| "it is in")
        )),
    }
    ended(&mut broker, honest, found, tally, "with few places").await
}

#[allow(clippy::vec_box, reason = "they are made in boxes, and only moved")]
fn drop_some(inside: &mut Vec<Box<RawConnection>>, random: &mut RandomSource) {
    for _ in 0..=random.below(4) {
        if !inside.is_empty() {
            inside.swap_remove(random.below(inside.len() as u64) as usize);
        }
    }
}

/// Many more clients connect than the process has descriptors for.
async fn starved(runs: u64, random: &mut RandomSource, tally: &mut Tally) -> Vec<String> {
    let limit = format!("ulimit -n {DESCRIPTORS}; exec \"$@\"");
    let mut broker = Setup::new().under(["sh", "-c", &limit, "sh"]).start().await;
    let honest = Honest::start(&broker.url()).await;
    let mut found = Vec::new();
    let mut made = 0;
    while made < runs && found.is_empty() {
        let wave = random.between(1, 3 * DESCRIPTORS as u64).min(runs - made);
        let mut silent = Vec::new();
        for _ in 0..wave {
            if let Ok(connection) = RawConnection::try_silent(broker.address()).await {
                silent.push(connection);
            }
        }
        made += wave;
        tally.runs += wave;
        if let Attempt::Wrong(what) = attempt(&broker).await {
            found.push(format!("while {wave} silent connections are there: {what}"));
        }
        let enough = honest.done() + 3;
        let goes_on = async {
            while honest.done() < enough && broker_lives(&broker) {
                tokio::task::yield_now().await;
            }
        };
        if timeout(PATIENCE * 3, goes_on).await.is_err() || !broker.is_running() {
            found.push(format!(
                "with {wave} silent connections honest work came to an end: {}",
                broker.stderr()
            ));
        }
        drop(silent);
        found.extend(let_in_again(&broker).await.err());
    }
    ended(&mut broker, honest, found, tally, "with few descriptors").await
}

fn broker_lives(broker: &BrokerProcess) -> bool {
    !broker.stderr().contains("panicked")
}

/// When the other clients are gone, a new one is accepted.
async fn let_in_again(broker: &BrokerProcess) -> Result<(), String> {
    let accepted = async { while !matches!(attempt(broker).await, Attempt::Accepted(_)) {} };
    timeout(PATIENCE, accepted)
        .await
        .map_err(|_| "no client is accepted although all others have left".to_owned())
}

async fn ended(
    broker: &mut BrokerProcess,
    honest: Honest,
    mut found: Vec<String>,
    tally: &mut Tally,
    what: &str,
) -> Vec<String> {
    let work = honest.end().await;
    tally.remarks += &format!(
        "{what}: {} honest tasks, the slowest in {} ms. ",
        work.done,
        work.worst.as_millis()
    );
    found.extend(work.found);
    let stderr = broker.stderr();
    if !broker.is_running() || stderr.contains("panicked") {
        found.push(format!("the broker {what} is gone or panicked:\n{stderr}"));
    }
    found
}
