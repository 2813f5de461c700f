//! The producers of a world: real clients on the simulated network. They send every kind of
//! request, mostly with ids that they chose, so that several requests concern the same id.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use celeriac_client::{
    Backoff, CancelMode, Client, Error, Jitter, OnConflict, RetryPolicy, Submission, WaitMode,
};
use celeriac_history::History;
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};

use crate::findings::Findings;
use crate::host::{Counts, Order};
use crate::network::{Network, Node};
use crate::worker::{Failure, NAME, Plan, URL};
use celeriac_tests::RandomSource;

/// Ids that several producers use.
const SHARED_IDS: u64 = 12;
/// The longest countdown of a task, and the longest delay between attempts.
const LATER_MS: u64 = 10 * 60 * 1_000;

/// All task ids of a world, in the order of their first use.
#[derive(Debug, Clone, Default)]
pub struct TaskIds(Arc<Mutex<(Vec<String>, BTreeSet<String>)>>);

impl TaskIds {
    pub fn add(&self, id: &str) {
        let (ids, seen) = &mut *self.0.lock().expect("no thread panics while it holds this lock");
        if seen.insert(id.to_owned()) {
            ids.push(id.to_owned());
        }
    }

    pub fn all(&self) -> Vec<String> {
        self.0.lock().expect("no thread panics while it holds this lock").0.clone()
    }

    /// Some of the latest ids.
    pub fn some(&self, random: &mut RandomSource, most: u64) -> Vec<String> {
        let (ids, _) = &*self.0.lock().expect("no thread panics while it holds this lock");
        let recent = &ids[ids.len().saturating_sub(60)..];
        if recent.is_empty() {
            return Vec::new();
        }
        (0..random.between(1, most)).map(|_| random.pick(recent).clone()).collect()
    }
}

/// What the producers and workers of a world share.
#[derive(Clone)]
pub struct Environment {
    pub network: Network,
    pub history: History,
    pub findings: Findings,
    pub task_ids: TaskIds,
    pub queues: Vec<String>,
    /// The longest pause between two requests of a producer.
    pub pause_max_ms: u64,
    /// Whether the producers also send the requests of operators.
    pub may_operate: bool,
    /// Orders to the host, for a crash at a moment that a producer chose.
    pub orders: mpsc::UnboundedSender<Order>,
    pub counts: Arc<Counts>,
    /// True when the producers must send no more requests.
    pub is_over: watch::Receiver<bool>,
}

/// One producer.
pub struct Producer {
    pub node: Node,
    running: JoinHandle<()>,
}

impl Producer {
    pub fn start(node: Node, environment: &Environment, random: RandomSource) -> Self {
        let running = tokio::spawn(
            ProducerProgram { node, environment: environment.clone(), random, made: 0 }.run(),
        );
        Self { node, running }
    }

    /// Ends its process now.
    pub fn kill(self, network: &Network) {
        network.kill(self.node);
        self.running.abort();
    }

    /// Waits until it has no request in flight.
    pub async fn end(self) {
        // The task was aborted or panicked. A panic is among the findings already.
        let _ = self.running.await;
    }
}

pub struct ProducerProgram {
    node: Node,
    pub environment: Environment,
    pub random: RandomSource,
    made: u64,
}

impl ProducerProgram {
    async fn run(mut self) {
        let name = format!("producer-{}", self.node);
        let connector =
            self.environment.network.connector(self.node, &name, &self.environment.history);
        let client = Client::builder(URL)
            .connector(connector)
            .instance(name)
            .timeout(self.random.span(2_000, 120_000))
            .wait_for_broker(Duration::from_secs(3_600));
        let Ok(client) = client.connect().await else { return };
        let mut is_over = self.environment.is_over.clone();
        let mut under_way = JoinSet::new();
        while !*is_over.borrow() {
            let pause = self.random.span(5, self.environment.pause_max_ms);
            tokio::select! {
                _ = tokio::time::sleep(pause) => {}
                _ = is_over.wait_for(|over| *over) => break,
            }
            self.act(&client, &mut under_way);
            while under_way.try_join_next().is_some() {}
        }
        while under_way.join_next().await.is_some() {}
        client.close().await;
    }

    /// Begins one request, which runs beside the others.
    fn act(&mut self, client: &Client, under_way: &mut JoinSet<()>) {
        let (client, findings) = (client.clone(), self.environment.findings.clone());
        match self.random.below(20) {
            0..11 => self.submit(client, under_way),
            11 => {
                let (ids, force) =
                    (self.environment.task_ids.some(&mut self.random, 3), self.random.one_in(2));
                let grace = Some(self.random.span(1, 20_000));
                let mode =
                    if force { CancelMode::Force { grace } } else { CancelMode::Cooperative };
                under_way.spawn(async move {
                    expect(&findings, "cancel", client.cancel(&ids, mode).await)
                });
            }
            12 => {
                let ids = self.environment.task_ids.some(&mut self.random, 2);
                under_way
                    .spawn(async move { expect(&findings, "forget", client.forget(&ids).await) });
            }
            13 if self.environment.may_operate && self.random.one_in(2) => {
                self.operate(client, under_way)
            }
            13..16 => {
                let ids = self.environment.task_ids.some(&mut self.random, 10);
                under_way.spawn(async move {
                    expect(&findings, "info", client.info_with_results(&ids).await)
                });
            }
            16..18 => {
                let ids = self.environment.task_ids.some(&mut self.random, 5);
                let mode = if self.random.one_in(2) { WaitMode::All } else { WaitMode::Any };
                let time = self.random.span(100, 300_000);
                // Some callers give up before the answer.
                let patience =
                    if self.random.one_in(3) { self.random.span(10, 5_000) } else { Duration::MAX };
                under_way.spawn(async move {
                    if let Ok(waited) =
                        tokio::time::timeout(patience, client.wait(&ids, mode, time)).await
                    {
                        expect(&findings, "wait", waited);
                    }
                });
            }
            _ => {
                let ids = self.environment.task_ids.some(&mut self.random, 4);
                let time = self.random.span(1_000, 120_000);
                under_way.spawn(async move {
                    if ids.is_empty() {
                        return;
                    }
                    match client.watch(&ids).await {
                        Ok(mut watch) => {
                            let looking = async { while watch.next().await.is_some() {} };
                            // The watcher gives up after this time.
                            let _ = tokio::time::timeout(time, looking).await;
                        }
                        Err(error) => expect::<()>(&findings, "watch", Err(error)),
                    }
                });
            }
        }
    }

    fn submit(&mut self, client: Client, under_way: &mut JoinSet<()>) {
        let many = if self.random.one_in(5) { self.random.between(2, 30) } else { 1 };
        let tasks: Vec<Submission> = (0..many).map(|_| self.task()).collect();
        let Environment { findings, task_ids, .. } = self.environment.clone();
        under_way.spawn(async move {
            let submitted = client.submit_many(tasks).await;
            // A task beside another has an id of its own.
            for task in submitted.iter().flatten().flatten() {
                task_ids.add(&task.id);
            }
            expect(&findings, "submit", submitted);
        });
    }

    fn task_id(&mut self) -> Option<String> {
        match self.random.below(10) {
            0 => Some(format!("shared-{}", self.random.below(SHARED_IDS))),
            1 => self.environment.task_ids.some(&mut self.random, 1).pop(),
            2 => None,
            _ => {
                self.made += 1;
                Some(format!("p{}-{}", self.node, self.made))
            }
        }
    }

    pub fn task(&mut self) -> Submission {
        let id = self.task_id();
        let random = &mut self.random;
        let (mut plan, is_brief) = (plan(random), random.one_in(15));
        if is_brief {
            plan = Plan {
                millis: random.span(1, 300).as_millis() as u64,
                failures: 3,
                failure: Failure::Retryable,
                ..plan
            };
        }
        let mut task = Submission::new(NAME)
            .args((plan,))
            .queue(random.pick(&self.environment.queues).clone());
        if let Some(id) = id {
            task = task.task_id(id);
        }
        self.environment.task_ids.add(task.id());
        task = match random.below(7) {
            0 => task.on_conflict(OnConflict::Reject),
            1 => task.on_conflict(OnConflict::Replace),
            2 => task.on_conflict(OnConflict::Beside),
            _ => task,
        };
        if random.one_in(3) {
            task = task.priority(random.below(10) as u32);
        }
        task = match random.below(10) {
            0 => task.countdown(random.span(1, LATER_MS)),
            1 => task.eta(SystemTime::now() + random.span(1, LATER_MS)),
            _ => task,
        };
        if random.one_in(10) {
            task = task.expires_in(random.span(100, LATER_MS));
        }
        task = match random.below(12) {
            0 => task.result_ttl(random.span(1, 1_200_000)),
            1 => task.ignore_result(),
            _ => task,
        };
        if random.one_in(3) {
            task = task.retry(retry(random));
        }
        if random.one_in(12) {
            task = task.time_limit(random.span(50, 60_000));
        }
        if random.one_in(10) {
            task = task.early_ack();
        }
        if random.one_in(10) {
            task = task.max_deliveries(random.between(1, 4) as u32);
        }
        if is_brief {
            // The task expires between two attempts.
            let (delay, time) = (random.span(100, 20_000), random.span(100, 30_000));
            task = task.retry(RetryPolicy::fixed(delay)).expires_in(time);
        }
        if random.one_in(6) {
            task = task.tag(format!("tag-{}", random.below(6)));
        }
        task
    }
}

/// A refusal is an answer, and after a timeout the outcome is unknown. Both are fine. These errors
/// must not occur.
pub fn expect<T>(findings: &Findings, what: &str, outcome: Result<T, Error>) {
    if let Err(error @ (Error::Encode(_) | Error::Url(_) | Error::Handshake { .. })) = outcome {
        findings.add(format!("{what}: {error}"));
    }
}

fn plan(random: &mut RandomSource) -> Plan {
    Plan {
        millis: match random.below(40) {
            0 => random.span(60_000, 900_000).as_millis() as u64,
            1..6 => random.between(1_000, 60_000),
            _ => random.span(1, 2_000).as_millis() as u64,
        },
        failures: if random.one_in(4) { random.between(1, 4) as u32 } else { 0 },
        failure: *random.pick(&[
            Failure::Retryable,
            Failure::Retryable,
            Failure::Later,
            Failure::Fatal,
            Failure::Panic,
            Failure::NastyPanic,
            Failure::EndlessError,
        ]),
        result_bytes: match random.below(60) {
            0 => random.between(20_000, 90_000) as usize,
            _ => random.span(1, 400).as_millis() as usize,
        },
        progress: if random.one_in(6) { random.between(1, 4) as u32 } else { 0 },
        heeds: random.one_in(2),
        children: if random.one_in(12) { random.between(1, 3) as u32 } else { 0 },
        kills: false,
        filling: "f".repeat(match random.below(60) {
            0 => random.between(20_000, 90_000) as usize,
            _ => random.below(200) as usize,
        }),
    }
}

fn retry(random: &mut RandomSource) -> RetryPolicy {
    let delay = random.span(1, 60_000);
    let policy = match random.below(5) {
        0 => RetryPolicy::never(),
        1 => RetryPolicy::exponential(delay),
        2 => RetryPolicy::polynomial(delay),
        3 => RetryPolicy::fixed(delay).backoff(Backoff::Fixed),
        _ => RetryPolicy::fixed(delay),
    };
    let policy = if random.one_in(2) { policy.jitter(Jitter::Full) } else { policy };
    if random.one_in(3) {
        policy
    } else {
        policy.max_attempts(random.between(1, 5) as u32).delay_max(Duration::from_secs(600))
    }
}
