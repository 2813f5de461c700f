//! A whole conversation is cut at each of its bytes in either direction: on a raw connection,
//! between a client and the broker, and between a worker and the broker. Afterwards each request
//! took effect once or not at all, and repeating it leads to the same end.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use celeriac_client::{CancelMode, CancelOutcome, Client, Submission};
use celeriac_worker::{Context, TaskFailure, Worker};
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::Tally;
use crate::proxy::{Ending, Proxy, Toxic, Toxics};
use crate::{BrokerProcess, InProcessWorker, PATIENCE, RandomSource};

mod script;

use script::Script;

/// Conversations at once.
const SIDE_BY_SIDE: usize = 16;
const REQUEST: Duration = Duration::from_secs(60);

/// The party whose connection is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Party {
    Raw,
    Client,
    Worker,
}

#[derive(Debug, Clone, Copy)]
struct Cut {
    party: Party,
    /// True: from the party to the broker. False: the other direction.
    up: bool,
    at: u64,
    ending: Ending,
}

/// Cuts so often. With as many runs as there are bytes, each byte is a place of a cut, in all three
/// conversations and both directions. More runs cut in other ways too. Fewer runs leave out bytes
/// evenly.
pub async fn run(runs: u64, seed: u64) -> Tally {
    let mut tally = Tally::new("a conversation cut at each of its bytes", "cuts");
    let broker = Arc::new(BrokerProcess::start().await);
    let mut places = Vec::new();
    for party in [Party::Raw, Party::Client, Party::Worker] {
        match lengths(&broker, party).await {
            Ok(lengths) => {
                tally.remarks +=
                    &format!("{party:?}: {} bytes up, {} down. ", lengths[0], lengths[1]);
                for (up, length) in [(true, lengths[0]), (false, lengths[1])] {
                    places.extend((0..=length).map(|at| (party, up, at)));
                }
            }
            Err(what) => tally.violations.push(format!("{party:?}, not cut at all: {what}")),
        }
    }
    let mut cuts = JoinSet::new();
    for cut in chosen(&places, runs, seed) {
        while cuts.len() >= SIDE_BY_SIDE {
            collect(&mut tally, cuts.join_next().await);
        }
        let (broker, number) = (broker.clone(), tally.runs);
        tally.runs += 1;
        cuts.spawn(async move { (cut, carried_out(&broker, cut, number).await) });
    }
    while !cuts.is_empty() {
        collect(&mut tally, cuts.join_next().await);
    }
    if broker.stderr().contains("panicked") {
        tally.violations.push(format!("the broker panicked:\n{}", broker.stderr()));
    }
    tally
}

type Outcome = Option<Result<(Cut, Result<(), String>), tokio::task::JoinError>>;

fn collect(tally: &mut Tally, outcome: Outcome) {
    match outcome {
        Some(Ok((cut, Err(what)))) => tally.violations.push(format!("{cut:?}: {what}")),
        Some(Err(panicked)) => {
            tally.violations.push(format!("a conversation panicked: {panicked}"))
        }
        _ => {}
    }
}

/// The number of bytes of each direction of a conversation that is not cut.
async fn lengths(broker: &BrokerProcess, party: Party) -> Result<[u64; 2], String> {
    let proxy = Proxy::start(broker.address()).await;
    converse(broker, &proxy, party, "whole").await?;
    Ok(proxy.passed())
}

/// The places and the kinds of cuts.
fn chosen(places: &[(Party, bool, u64)], runs: u64, seed: u64) -> Vec<Cut> {
    const ENDINGS: [Ending; 3] = [Ending::Reset, Ending::Close, Ending::HalfClose];
    let mut random = RandomSource::new(seed);
    let (count, first) = (places.len() as u64, random.bits());
    let place =
        |run| if runs >= count { run % count } else { (first + run * count / runs.max(1)) % count };
    let cut = |run: u64| {
        let (party, up, at) = places[place(run) as usize];
        // In each round the same place is cut in another way.
        let ending = ENDINGS[((run + run / count + seed) % 3) as usize];
        Cut { party, up, at, ending }
    };
    if places.is_empty() { Vec::new() } else { (0..runs).map(cut).collect() }
}

async fn carried_out(broker: &BrokerProcess, cut: Cut, number: u64) -> Result<(), String> {
    let toxic = Toxic { end: Some((cut.at, cut.ending)), ..Toxic::default() };
    let (up, down) = if cut.up { (toxic, Toxic::default()) } else { (Toxic::default(), toxic) };
    let proxy = Proxy::toxic(broker.address(), Toxics { up, down, ends_once: true }, number).await;
    let name = format!("cut-{number}");
    let conversation = converse(broker, &proxy, cut.party, &name);
    timeout(PATIENCE * 4, conversation)
        .await
        .unwrap_or_else(|_| Err("it came to no end".to_owned()))
}

async fn converse(
    broker: &BrokerProcess,
    proxy: &Proxy,
    party: Party,
    name: &str,
) -> Result<(), String> {
    match party {
        Party::Raw => Script::new(broker.address(), proxy.address(), name).go().await,
        Party::Client => crates(name, &proxy.url(), &broker.url()).await,
        Party::Worker => crates(name, &broker.url(), &proxy.url()).await,
    }
}

/// The client and the worker of the crates, one of them behind the proxy. They notice nothing but a
/// pause.
async fn crates(name: &str, client_url: &str, worker_url: &str) -> Result<(), String> {
    let ran = Arc::new(AtomicU64::new(0));
    let counted = ran.clone();
    let worker = Worker::builder(worker_url).queue(name).register_fn(
        "cut.add",
        move |context: Context, (a, b): (u64, u64)| {
            let counted = counted.clone();
            async move {
                counted.fetch_add(1, Ordering::SeqCst);
                // Nothing waits for this signal: it may arrive or not.
                let _ = context.progress("ADDING", &a).await;
                Ok::<u64, TaskFailure>(a + b)
            }
        },
    );
    let worker = InProcessWorker::start(worker);
    let outcome = client_side(name, client_url).await;
    worker.stop().await;
    outcome?;
    match ran.load(Ordering::SeqCst) {
        1 => Ok(()),
        runs => Err(format!("the handler ran {runs} times")),
    }
}

async fn client_side(name: &str, url: &str) -> Result<(), String> {
    let failed =
        |what: &'static str| move |error: celeriac_client::Error| format!("{what}: {error:?}");
    let client = Client::builder(url).timeout(REQUEST).wait_for_broker(REQUEST).connect().await;
    let client = client.map_err(failed("connect"))?;
    let waiting = Submission::new("cut.never")
        .task_id(format!("{name}-never"))
        .queue(format!("{name}-elsewhere"));
    let waiting =
        client.submit::<()>(waiting).await.map_err(failed("submit of the one that waits"))?;
    let task =
        Submission::new("cut.add").args(json!([2, 3])).task_id(format!("{name}-sum")).queue(name);
    let task = client.submit::<u64>(task).await.map_err(failed("submit"))?;
    let mut watch = task.watch().await.map_err(failed("watch"))?;
    let sum = task.get(REQUEST).await.map_err(failed("get"))?;
    let info = task.info().await.map_err(failed("info"))?;
    if (sum, info.generation, info.attempts, info.deliveries) != (5, 1, 1, 1) {
        return Err(format!("the sum is {sum}: {info:?}"));
    }
    let ended = async { while watch.next().await.is_some_and(|task| !task.state.is_ended()) {} };
    timeout(REQUEST, ended).await.map_err(|_| "the watch never told of the end")?;
    let cancelled =
        client.cancel(&[waiting.id()], CancelMode::Cooperative).await.map_err(failed("cancel"))?;
    // When the answer was lost and the client asks again, the task has ended already.
    if !matches!(cancelled[0].outcome, CancelOutcome::Revoked | CancelOutcome::AlreadyEnded) {
        return Err(format!("the cancel said {:?}", cancelled[0].outcome));
    }
    for id in [task.id(), waiting.id()] {
        let forgotten = client.forget(&[id]).await.map_err(failed("forget"))?;
        if !matches!(forgotten[0], Ok(()) | Err(celeriac_client::ErrorCode::NotFound)) {
            return Err(format!("the forget said {forgotten:?}"));
        }
        if client.result::<()>(id).state().await.map_err(failed("state"))?
            != celeriac_client::State::Unknown
        {
            return Err(format!("{id} is still there"));
        }
    }
    client.close().await;
    Ok(())
}
