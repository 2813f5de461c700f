//! A poison queue: all its tasks succeed, except one whose handler ends every process that runs it.
//! Faults happen to the broker and not to its workers. At the end that task must be dead, and all
//! others must have succeeded.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use celeriac_client::{Client, RetryPolicy, State, Submission, TaskInfo};
use tokio::task::JoinHandle;

use crate::findings::Findings;
use crate::network::Node;
use crate::producer::{Environment, TaskIds, expect};
use crate::worker::{Failure, NAME, Plan, SimulatedWorker, URL};
use celeriac_tests::RandomSource;

const QUEUE: &str = "ward";
const POISON: &str = "ward-poison";
/// The results are kept until they are judged.
const RESULT_TTL: Duration = Duration::from_secs(30 * 24 * 3_600);

/// One poison queue.
pub struct PoisonQueue {
    producing: JoinHandle<()>,
    workers: Vec<SimulatedWorker>,
    task_ids: TaskIds,
    confirmed: Arc<Mutex<Vec<String>>>,
}

impl PoisonQueue {
    /// Starts these programs: the first one is the producer, the others are workers.
    pub fn open(nodes: &[Node], environment: &Environment, random: &mut RandomSource) -> Self {
        // Other producers do not know its tasks, so they do not cancel them.
        let task_ids = TaskIds::default();
        let queues = vec![QUEUE.to_owned()];
        let environment = Environment {
            queues,
            task_ids: task_ids.clone(),
            may_operate: false,
            ..environment.clone()
        };
        let confirmed = Arc::new(Mutex::new(Vec::new()));
        let (producer, workers) = nodes.split_first().expect("there is a producer");
        let workers = workers
            .iter()
            .map(|node| {
                SimulatedWorker::start(
                    *node,
                    format!("ward-{node}"),
                    &environment.queues,
                    &environment,
                    random,
                )
            })
            .collect();
        let producing =
            tokio::spawn(produce(*producer, environment, random.fork(), confirmed.clone()));
        Self { producing, workers, task_ids, confirmed }
    }

    /// Waits until its producer has no request in flight.
    pub async fn end(&mut self) {
        // A panic is among the findings already.
        let _ = (&mut self.producing).await;
    }

    /// The ids of all its tasks.
    pub fn ids(&self) -> Vec<String> {
        self.task_ids.all()
    }

    /// Its workers. The caller stops them.
    pub fn close(self) -> Vec<SimulatedWorker> {
        self.workers
    }

    /// Judges the states of the confirmed tasks.
    pub fn judge(&self, infos: &[TaskInfo], findings: &Findings) {
        for id in self.confirmed.lock().expect("no thread panics while it holds this lock").iter() {
            let Some(info) = infos.iter().find(|info| info.id == *id) else { continue };
            let wanted = if id == POISON { State::Failure } else { State::Success };
            if info.state != wanted {
                let (state, attempts, deliveries) = (info.state, info.attempts, info.deliveries);
                let errors: Vec<&str> = info.errors.iter().map(|error| &*error.kind).collect();
                findings.add(format!(
                    "the poison_queue: {id} is {state:?} after {attempts} attempts and {deliveries} deliveries, {errors:?}"
                ));
            }
        }
    }
}

async fn produce(
    node: Node,
    environment: Environment,
    mut random: RandomSource,
    confirmed: Arc<Mutex<Vec<String>>>,
) {
    let name = format!("ward-{node}");
    let connector = environment.network.connector(node, &name, &environment.history);
    let client = Client::builder(URL)
        .connector(connector)
        .instance(name)
        .wait_for_broker(Duration::from_secs(3_600));
    let Ok(client) = client.connect().await else { return };
    let mut is_over = environment.is_over.clone();
    let (mut made, poisoned_at) = (0, random.between(1, 20));
    while !*is_over.borrow() {
        for _ in 0..random.between(1, 12) {
            made += 1;
            let is_poison = made == poisoned_at;
            let id = if is_poison { POISON.to_owned() } else { format!("ward-{node}-{made}") };
            environment.task_ids.add(&id);
            let outcome = client.submit_many([task(&id, is_poison, &mut random)]).await;
            if outcome.as_ref().is_ok_and(|receipts| receipts.iter().all(|receipt| receipt.is_ok()))
            {
                confirmed.lock().expect("no thread panics while it holds this lock").push(id);
            }
            expect(&environment.findings, "submit", outcome);
        }
        let pause = random.span(100, 30_000);
        tokio::select! {
            _ = tokio::time::sleep(pause) => {}
            _ = is_over.wait_for(|over| *over) => break,
        }
    }
    client.close().await;
}

fn task(id: &str, is_poison: bool, random: &mut RandomSource) -> Submission {
    let plan = Plan {
        millis: if is_poison { random.below(30) } else { random.span(1, 4_000).as_millis() as u64 },
        failures: 0,
        failure: Failure::Fatal,
        result_bytes: 10,
        progress: 0,
        heeds: false,
        children: 0,
        kills: is_poison,
        filling: String::new(),
    };
    // Tasks that run in a process when it is ended lose an attempt each time. They have enough
    // attempts.
    let attempts = if is_poison { random.between(1, 4) as u32 } else { 8 };
    let retry = RetryPolicy::fixed(Duration::from_secs(1)).max_attempts(attempts);
    Submission::new(NAME).task_id(id).args((plan,)).queue(QUEUE).result_ttl(RESULT_TTL).retry(retry)
}
