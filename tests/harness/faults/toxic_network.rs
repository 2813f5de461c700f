//! A bad network between all clients and the broker. Producers and workers of the crates, and raw
//! ones that write a history, connect through proxies of their own, which delay, split, slow,
//! stall, half-close and reset connections in turn. Every confirmed task must end with the right
//! result, and none may run after its confirmed end.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use celeriac_client::{Client, State, Submission};
use celeriac_worker::{Context, TaskFailure, Worker};
use serde_json::json;
use tokio::time::{Instant, sleep, timeout};

use super::Tally;
use crate::proxy::{Ending, Proxy, Toxic, Toxics};
use crate::traffic::Traffic;
use crate::{BrokerProcess, InProcessWorker, RandomSource, Setup};

const HEARTBEAT: &str = "heartbeat_ms = 400";
const LEASE: &str = "lease_ms = 1600";
const QUEUE: &str = "toxic";
const PRODUCERS: usize = 3;
const WORKERS: usize = 2;
/// Tasks that a producer has in flight.
const BATCH: usize = 8;
/// Some clients wait this long for a heartbeat that never comes, and then pause before they connect
/// again.
const CALM: Duration = Duration::from_secs(60);
/// The deadline of one request, over all its reconnects.
const REQUEST: Duration = Duration::from_secs(120);

/// Applies so many toxics.
pub async fn run(runs: u64, seed: u64) -> Tally {
    let mut tally = Tally::new("a bad network around producers and workers", "toxics");
    let mut random = RandomSource::new(seed);
    let broker = Setup::new().set(HEARTBEAT).set(LEASE).start().await;
    let mut wires = Vec::new();
    for _ in 0..=PRODUCERS + WORKERS {
        wires.push(Proxy::toxic(broker.address(), Toxics::default(), random.bits()).await);
    }
    let scene = Scene::start(&wires).await;
    let traffic = Traffic::new(wires[PRODUCERS + WORKERS].address());
    let raw_producers: Vec<_> =
        (0..2).map(|number| tokio::spawn(traffic.clone().produce(number))).collect();
    let raw_workers: Vec<_> =
        (0..2).map(|number| tokio::spawn(traffic.clone().work(number))).collect();
    for _ in 0..runs {
        let wire = random.below(wires.len() as u64) as usize;
        wires[wire].set(toxics(&mut random));
        tally.runs += 1;
        // Toxics last for different times: from a few frames to more than a heartbeat.
        sleep(Duration::from_millis(random.between(20, 500))).await;
        if random.below(3) > 0 {
            wires[wire].set(Toxics::default());
        }
    }
    wires.iter().for_each(|wire| wire.set(Toxics::default()));
    traffic.stop_producing();
    let mut found = scene.end(&broker).await;
    let produced = ended(raw_producers).await;
    if produced.is_ok() {
        // This may take long: a long run has many tasks to read, and each request has its own
        // deadline.
        traffic.read_all().await;
    }
    traffic.stop_working();
    match produced.and(ended(raw_workers).await) {
        Ok(()) => found.extend(traffic.broken_promises()),
        Err(late) => found.push(late),
    }
    if broker.stderr().contains("panicked") {
        found.push(format!("the broker panicked:\n{}", broker.stderr()));
    }
    tally.violations =
        found.into_iter().map(|what| format!("seed {seed}, {runs} toxics: {what}")).collect();
    let raw = traffic.history().confirmed().len();
    let (verified, late) =
        (scene.verified.load(Ordering::SeqCst), scene.witness.late.load(Ordering::SeqCst));
    tally.remarks = format!(
        "{verified} tasks of the crates and {raw} raw ones ended; {late} began late, in vain"
    );
    tally
}

/// Waits for raw clients that were told to end.
async fn ended(clients: Vec<tokio::task::JoinHandle<()>>) -> Result<(), String> {
    let all = async {
        for client in clients {
            client.await.expect("no client panics");
        }
    };
    timeout(CALM, all)
        .await
        .map_err(|_| format!("the raw clients did not come to an end in {CALM:?} of calm"))
}

/// The next toxics of a proxy. Both directions are chosen, so that requests and answers suffer
/// separately and together.
fn toxics(random: &mut RandomSource) -> Toxics {
    let mut toxics = Toxics { up: toxic(random), down: toxic(random), ends_once: false };
    match random.below(3) {
        0 => toxics.up = Toxic::default(),
        1 => toxics.down = Toxic::default(),
        _ => {}
    }
    toxics
}

fn toxic(random: &mut RandomSource) -> Toxic {
    let nothing = Toxic::default();
    match random.below(7) {
        0 => Toxic {
            delay: Duration::from_millis(random.between(1, 40)),
            jitter: Duration::from_millis(random.between(0, 80)),
            ..nothing
        },
        1 => Toxic { slice: random.between(1, 7) as usize, ..nothing },
        2 => Toxic { rate: random.between(2_000, 100_000), slice: 512, ..nothing },
        3 => Toxic { stalled: true, ..nothing },
        4 => Toxic { end: Some((random.between(0, 3_000), Ending::Reset)), slice: 61, ..nothing },
        5 => Toxic { end: Some((random.between(0, 3_000), Ending::Close)), ..nothing },
        _ => Toxic { end: Some((random.between(0, 3_000), Ending::HalfClose)), ..nothing },
    }
}

/// The clients and workers of the crates.
struct Scene {
    producing: Arc<AtomicBool>,
    verified: Arc<AtomicU64>,
    producers: Mutex<Vec<tokio::task::JoinHandle<()>>>,
    workers: Mutex<Vec<InProcessWorker>>,
    witness: Witness,
}

/// The violations so far, and the tasks that must not begin any more.
#[derive(Debug, Clone, Default)]
struct Witness {
    found: Arc<Mutex<Vec<String>>>,
    tasks: Arc<Mutex<BTreeMap<String, Seen>>>,
    late: Arc<AtomicU64>,
}

/// What was seen of one task.
#[derive(Debug, Default)]
struct Seen {
    /// The leases under which it began.
    leases: BTreeSet<u64>,
    /// Its result was confirmed when this lease was the highest.
    ended: Option<u64>,
}

impl Witness {
    fn finds(&self, what: String) {
        self.found.lock().expect("no thread panics while it holds this lock").push(what);
    }

    fn seen(&self, id: &str, see: impl FnOnce(&mut Seen)) {
        see(self
            .tasks
            .lock()
            .expect("no thread panics while it holds this lock")
            .entry(id.to_owned())
            .or_default());
    }

    fn begins(&self, id: &str, lease: u64) {
        self.seen(id, |seen| {
            if !seen.leases.insert(lease) {
                self.finds(format!("{id} began twice under lease {lease}"));
            }
            match seen.ended {
                Some(last) if lease > last => {
                    self.finds(format!("{id} was delivered after its result was confirmed"))
                }
                // The task was on its way to a worker that did not know yet that it had lost the
                // lease. Its report is stale.
                Some(_) => drop(self.late.fetch_add(1, Ordering::SeqCst)),
                None => {}
            }
        });
    }

    fn ends(&self, id: &str) {
        self.seen(id, |seen| seen.ended = seen.leases.last().copied());
    }
}

impl Scene {
    async fn start(wires: &[Proxy]) -> Self {
        let witness = Witness::default();
        let (producing, verified) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicU64::new(0)));
        let workers = wires[PRODUCERS..PRODUCERS + WORKERS].iter().map(|wire| {
            let witness = witness.clone();
            let worker = Worker::builder(wire.url()).queue(QUEUE).concurrency(4);
            InProcessWorker::start(worker.register_fn(
                "toxic.double",
                move |context: Context, (number,): (u64,)| {
                    witness.begins(context.id(), context.lease());
                    async move {
                        // A handler takes some time, so that a connection can break while it runs.
                        sleep(Duration::from_millis(number % 15)).await;
                        Ok::<_, TaskFailure>(number * 2)
                    }
                },
            ))
        });
        let workers = workers.collect();
        let mut producers = Vec::new();
        for (producer, wire) in wires[..PRODUCERS].iter().enumerate() {
            let client = Client::builder(wire.url())
                .timeout(REQUEST)
                .wait_for_broker(REQUEST)
                .connect()
                .await;
            let client = client.expect("the wires are free yet");
            let (producing, verified, witness) =
                (producing.clone(), verified.clone(), witness.clone());
            producers.push(tokio::spawn(async move {
                let mut number = 0;
                while producing.load(Ordering::SeqCst) {
                    produce(&client, producer, number, &witness, &verified).await;
                    number += BATCH as u64;
                }
            }));
        }
        let (producers, workers) = (Mutex::new(producers), Mutex::new(workers));
        Self { producing, verified, producers, workers, witness }
    }

    /// Lets all clients end on connections without toxics. Returns what was found so far and at the
    /// end.
    async fn end(&self, broker: &BrokerProcess) -> Vec<String> {
        self.producing.store(false, Ordering::SeqCst);
        let producers = std::mem::take(
            &mut *self.producers.lock().expect("no thread panics while it holds this lock"),
        );
        let deadline = Instant::now() + CALM;
        for producer in producers {
            match tokio::time::timeout_at(deadline, producer).await {
                Ok(ended) => ended.expect("no producer panics"),
                Err(_) => self
                    .witness
                    .finds(format!("a producer did not come to an end in {CALM:?} of calm")),
            }
        }
        let workers = std::mem::take(
            &mut *self.workers.lock().expect("no thread panics while it holds this lock"),
        );
        for worker in workers {
            worker.stop().await;
        }
        self.look_back(broker).await;
        std::mem::take(
            &mut *self.witness.found.lock().expect("no thread panics while it holds this lock"),
        )
    }

    /// Every task ran in its first generation and ended well.
    async fn look_back(&self, broker: &BrokerProcess) {
        let ids: Vec<String> = self
            .witness
            .tasks
            .lock()
            .expect("no thread panics while it holds this lock")
            .keys()
            .cloned()
            .collect();
        let client = Client::connect(&broker.url()).await.expect("the broker takes clients");
        for task in client.info(&ids).await.expect("the broker answers") {
            if (task.state, task.generation) != (State::Success, 1) {
                self.witness.finds(format!(
                    "{}: {:?} of generation {}",
                    task.id, task.state, task.generation
                ));
            }
        }
    }
}

/// Submits a few tasks one by one, watches them, and waits for all.
async fn produce(
    client: &Client,
    producer: usize,
    first: u64,
    witness: &Witness,
    verified: &AtomicU64,
) {
    let numbers: Vec<u64> = (first..first + BATCH as u64).collect();
    let ids: Vec<String> =
        numbers.iter().map(|number| format!("toxic-{producer}-{number}")).collect();
    ids.iter().for_each(|id| witness.seen(id, |_| {}));
    let watch = match client.watch(&ids).await {
        Ok(watch) => watch,
        Err(error) => return witness.finds(format!("watching {}: {error}", ids[0])),
    };
    let watching = tokio::spawn(watched(watch, ids.clone(), witness.clone()));
    let tasks = numbers.iter().zip(&ids).map(|(&number, id)| async move {
        let submission =
            Submission::new("toxic.double").args(json!([number])).task_id(id).queue(QUEUE);
        let handle = match client.submit::<u64>(submission.max_deliveries(1_000)).await {
            Ok(handle) => handle,
            Err(error) => return witness.finds(format!("submitting {id}: {error}")),
        };
        match handle.get(REQUEST).await {
            Ok(output) if output == number * 2 => {
                witness.ends(id);
                verified.fetch_add(1, Ordering::SeqCst);
            }
            outcome => {
                witness.finds(format!("{id} should give {} and gave {outcome:?}", number * 2))
            }
        }
    });
    futures_util::future::join_all(tasks).await;
    match timeout(REQUEST, watching).await {
        Ok(ended) => ended.expect("watching does not panic"),
        Err(_) => witness
            .finds(format!("the watch of {} and those after it never told of every end", ids[0])),
    }
}

/// Watches until every task has ended. A watch never goes back.
async fn watched(mut watch: celeriac_client::Watch, ids: Vec<String>, witness: Witness) {
    let mut open: BTreeSet<String> = ids.into_iter().collect();
    let mut latest = BTreeMap::new();
    while !open.is_empty() {
        let Some(task) = watch.next().await else {
            return witness.finds(format!("a watch ended before {open:?} did"));
        };
        let seen = (task.generation, task.version);
        if latest.insert(task.id.clone(), seen).is_some_and(|before| before > seen) {
            witness.finds(format!("the watch of {} went back to {seen:?}", task.id));
        }
        if task.state.is_ended() {
            open.remove(&task.id);
        }
    }
}
