//! Producers of a world: the real client on the simulated network, doing everything that programs
//! do, mostly with ids that they chose, so that ids meet again.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use celeriac_client::{
    Backoff, CancelMode, Client, Error, Jitter, OnConflict, RetryPolicy, Submission, WaitMode,
};
use celeriac_tests::history::History;
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};

use crate::dice::Dice;
use crate::findings::Findings;
use crate::host::{Counts, Order};
use crate::network::{Network, Node};
use crate::worker::{Failure, NAME, Plan, URL};

/// Ids that several producers use.
const SHARED_IDS: u64 = 12;
/// The longest that a task is put off, or may wait between attempts.
const LATER_MS: u64 = 10 * 60 * 1_000;

/// All ids of a world, in the order in which they were first used.
#[derive(Debug, Clone, Default)]
pub struct Known(Arc<Mutex<(Vec<String>, BTreeSet<String>)>>);

impl Known {
    pub fn add(&self, id: &str) {
        let (ids, seen) = &mut *self.0.lock().expect("nothing panics with this lock");
        if seen.insert(id.to_owned()) {
            ids.push(id.to_owned());
        }
    }

    pub fn all(&self) -> Vec<String> {
        self.0.lock().expect("nothing panics with this lock").0.clone()
    }

    /// Some of the latest.
    pub fn some(&self, dice: &mut Dice, most: u64) -> Vec<String> {
        let (ids, _) = &*self.0.lock().expect("nothing panics with this lock");
        let recent = &ids[ids.len().saturating_sub(60)..];
        if recent.is_empty() {
            return Vec::new();
        }
        (0..dice.between(1, most)).map(|_| dice.pick(recent).clone()).collect()
    }
}

/// What all producers of a world share.
#[derive(Clone)]
pub struct Trade {
    pub network: Network,
    pub history: History,
    pub findings: Findings,
    pub known: Known,
    pub queues: Vec<String>,
    /// The longest pause between two requests of a producer.
    pub pause_max_ms: u64,
    /// Whether its producers pause and purge queues too, and order workers about.
    pub may_operate: bool,
    /// What befalls the broker at a moment that a producer chose.
    pub orders: mpsc::UnboundedSender<Order>,
    pub counts: Arc<Counts>,
    /// True when no more is to be asked.
    pub is_over: watch::Receiver<bool>,
}

/// One producer.
pub struct Producer {
    pub node: Node,
    running: JoinHandle<()>,
}

impl Producer {
    pub fn start(node: Node, trade: &Trade, dice: Dice) -> Self {
        let running = tokio::spawn(Maker { node, trade: trade.clone(), dice, made: 0 }.run());
        Self { node, running }
    }

    /// The end of its process.
    pub fn kill(self, network: &Network) {
        network.kill(self.node);
        self.running.abort();
    }

    /// Waits until it has nothing under way.
    pub async fn end(self) {
        // An abort or a panic; the latter was written down.
        let _ = self.running.await;
    }
}

pub struct Maker {
    node: Node,
    pub trade: Trade,
    pub dice: Dice,
    made: u64,
}

impl Maker {
    async fn run(mut self) {
        let name = format!("producer-{}", self.node);
        let connector = self.trade.network.connector(self.node, &name, &self.trade.history);
        let client = Client::builder(URL)
            .connector(connector)
            .instance(name)
            .timeout(self.dice.span(2_000, 120_000))
            .wait_for_broker(Duration::from_secs(3_600));
        let Ok(client) = client.connect().await else { return };
        let mut is_over = self.trade.is_over.clone();
        let mut under_way = JoinSet::new();
        while !*is_over.borrow() {
            let pause = self.dice.span(5, self.trade.pause_max_ms);
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

    /// Begins one request, which goes on beside the others.
    fn act(&mut self, client: &Client, under_way: &mut JoinSet<()>) {
        let (client, findings) = (client.clone(), self.trade.findings.clone());
        match self.dice.below(20) {
            0..11 => {
                let many = if self.dice.one_in(5) { self.dice.between(2, 30) } else { 1 };
                let tasks: Vec<Submission> = (0..many).map(|_| self.task()).collect();
                under_way.spawn(async move {
                    expect(&findings, "submit", client.submit_many(tasks).await);
                });
            }
            11 => {
                let (ids, force) = (self.trade.known.some(&mut self.dice, 3), self.dice.one_in(2));
                let grace = Some(self.dice.span(1, 20_000));
                let mode =
                    if force { CancelMode::Force { grace } } else { CancelMode::Cooperative };
                under_way.spawn(async move {
                    expect(&findings, "cancel", client.cancel(&ids, mode).await)
                });
            }
            12 => {
                let ids = self.trade.known.some(&mut self.dice, 2);
                under_way
                    .spawn(async move { expect(&findings, "forget", client.forget(&ids).await) });
            }
            13 if self.trade.may_operate && self.dice.one_in(2) => self.operate(client, under_way),
            13..16 => {
                let ids = self.trade.known.some(&mut self.dice, 10);
                under_way.spawn(async move {
                    expect(&findings, "info", client.info_with_results(&ids).await)
                });
            }
            16..18 => {
                let ids = self.trade.known.some(&mut self.dice, 5);
                let mode = if self.dice.one_in(2) { WaitMode::All } else { WaitMode::Any };
                let time = self.dice.span(100, 300_000);
                // Some callers go away before the answer.
                let patience =
                    if self.dice.one_in(3) { self.dice.span(10, 5_000) } else { Duration::MAX };
                under_way.spawn(async move {
                    if let Ok(waited) =
                        tokio::time::timeout(patience, client.wait(&ids, mode, time)).await
                    {
                        expect(&findings, "wait", waited);
                    }
                });
            }
            _ => {
                let ids = self.trade.known.some(&mut self.dice, 4);
                let time = self.dice.span(1_000, 120_000);
                under_way.spawn(async move {
                    if ids.is_empty() {
                        return;
                    }
                    match client.watch(&ids).await {
                        Ok(mut watch) => {
                            let looking = async { while watch.next().await.is_some() {} };
                            // Until it is weary of it.
                            let _ = tokio::time::timeout(time, looking).await;
                        }
                        Err(error) => expect::<()>(&findings, "watch", Err(error)),
                    }
                });
            }
        }
    }

    pub fn task(&mut self) -> Submission {
        let dice = &mut self.dice;
        let id = match dice.below(10) {
            0 => Some(format!("shared-{}", dice.below(SHARED_IDS))),
            1 => self.trade.known.some(dice, 1).pop(),
            2 => None,
            _ => {
                self.made += 1;
                Some(format!("p{}-{}", self.node, self.made))
            }
        };
        let (mut plan, is_brief) = (plan(dice), dice.one_in(15));
        if is_brief {
            plan = Plan {
                millis: dice.span(1, 300).as_millis() as u64,
                failures: 3,
                failure: Failure::Retryable,
                ..plan
            };
        }
        let mut task =
            Submission::new(NAME).args((plan,)).queue(dice.pick(&self.trade.queues).clone());
        if let Some(id) = id {
            task = task.task_id(id);
        }
        self.trade.known.add(task.id());
        task = match dice.below(6) {
            0 => task.on_conflict(OnConflict::Reject),
            1 => task.on_conflict(OnConflict::Replace),
            _ => task,
        };
        if dice.one_in(3) {
            task = task.priority(dice.below(10) as u32);
        }
        task = match dice.below(10) {
            0 => task.countdown(dice.span(1, LATER_MS)),
            1 => task.eta(SystemTime::now() + dice.span(1, LATER_MS)),
            _ => task,
        };
        if dice.one_in(10) {
            task = task.expires_in(dice.span(100, LATER_MS));
        }
        task = match dice.below(12) {
            0 => task.result_ttl(dice.span(1, 1_200_000)),
            1 => task.ignore_result(),
            _ => task,
        };
        if dice.one_in(3) {
            task = task.retry(retry(dice));
        }
        if dice.one_in(12) {
            task = task.time_limit(dice.span(50, 60_000));
        }
        if dice.one_in(10) {
            task = task.early_ack();
        }
        if dice.one_in(10) {
            task = task.max_deliveries(dice.between(1, 4) as u32);
        }
        if is_brief {
            // Its time is over between two attempts.
            let (delay, time) = (dice.span(100, 20_000), dice.span(100, 30_000));
            task = task.retry(RetryPolicy::fixed(delay)).expires_in(time);
        }
        if dice.one_in(6) {
            task = task.tag(format!("tag-{}", dice.below(6)));
        }
        task
    }
}

/// A refusal is an answer, and a timeout says that nothing is known. What a client must not do is
/// break down.
pub fn expect<T>(findings: &Findings, what: &str, outcome: Result<T, Error>) {
    if let Err(error @ (Error::Encode(_) | Error::Url(_) | Error::Handshake { .. })) = outcome {
        findings.add(format!("{what}: {error}"));
    }
}

fn plan(dice: &mut Dice) -> Plan {
    Plan {
        millis: match dice.below(40) {
            0 => dice.span(60_000, 900_000).as_millis() as u64,
            1..6 => dice.between(1_000, 60_000),
            _ => dice.span(1, 2_000).as_millis() as u64,
        },
        failures: if dice.one_in(4) { dice.between(1, 4) as u32 } else { 0 },
        failure: *dice.pick(&[
            Failure::Retryable,
            Failure::Retryable,
            Failure::Later,
            Failure::Fatal,
            Failure::Panic,
            Failure::NastyPanic,
            Failure::EndlessError,
        ]),
        result_bytes: match dice.below(60) {
            0 => dice.between(20_000, 90_000) as usize,
            _ => dice.span(1, 400).as_millis() as usize,
        },
        progress: if dice.one_in(6) { dice.between(1, 4) as u32 } else { 0 },
        heeds: dice.one_in(2),
        children: if dice.one_in(12) { dice.between(1, 3) as u32 } else { 0 },
        kills: false,
        filling: "f".repeat(match dice.below(60) {
            0 => dice.between(20_000, 90_000) as usize,
            _ => dice.below(200) as usize,
        }),
    }
}

fn retry(dice: &mut Dice) -> RetryPolicy {
    let delay = dice.span(1, 60_000);
    let policy = match dice.below(5) {
        0 => RetryPolicy::never(),
        1 => RetryPolicy::exponential(delay),
        2 => RetryPolicy::polynomial(delay),
        3 => RetryPolicy::fixed(delay).backoff(Backoff::Fixed),
        _ => RetryPolicy::fixed(delay),
    };
    let policy = if dice.one_in(2) { policy.jitter(Jitter::Full) } else { policy };
    if dice.one_in(3) {
        policy
    } else {
        policy.max_attempts(dice.between(1, 5) as u32).delay_max(Duration::from_secs(600))
    }
}
