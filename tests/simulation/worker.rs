//! Workers of a world: the real worker on the simulated network, with one handler that does what its task says: takes its
//! time, fails, panics, reports progress, heeds a cancel or does not.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use celeriac_client::Submission;
use celeriac_tests::history::{Event, History};
use celeriac_worker::{Context, TaskFailure, Worker};
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::dice::Dice;
use crate::findings::{Findings, ON_PURPOSE};
use crate::network::{Network, Node};
use crate::producer::{Known, Trade};

pub const URL: &str = "celeriac://127.0.0.1:23537";
pub const NAME: &str = "world.work";

/// What a task's handler is to do.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Plan {
    pub millis: u64,
    /// Attempts that fail before one succeeds.
    pub failures: u32,
    pub failure: Failure,
    pub result_bytes: usize,
    pub progress: u32,
    /// Whether it ends when it is told to.
    pub heeds: bool,
    /// Tasks that the handler submits before it ends.
    pub children: u32,
    /// Makes payloads of every length.
    pub filling: String,
}

impl Plan {
    fn of_a_child(&self) -> Self {
        Self { millis: self.millis / 2 + 1, failures: 0, children: 0, filling: String::new(), ..*self }
    }
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub enum Failure {
    Retryable,
    Later,
    Fatal,
    Panic,
}

/// One worker of the world.
pub struct Hand {
    pub node: Node,
    running: JoinHandle<()>,
    stop: Option<oneshot::Sender<()>>,
}

/// What one worker's handlers know of each other and of the world.
struct Shop {
    concurrency: u32,
    running: AtomicU32,
    begun: Mutex<BTreeSet<u64>>,
    history: History,
    findings: Findings,
    known: Known,
}

impl Hand {
    /// A worker that serves these queues.
    pub fn start(node: Node, name: String, queues: &[String], trade: &Trade, dice: &mut Dice) -> Self {
        let Trade { network, history, findings, known, .. } = trade;
        let concurrency = dice.between(1, 4) as u32;
        let mut builder = Worker::builder(URL)
            .own_thread(false)
            .connector(network.connector(node, &name, history))
            .instance(name.clone())
            .concurrency(concurrency)
            .shutdown_grace(dice.span(100, 60_000));
        for queue in queues {
            builder = builder.queue_weighted(queue.clone(), dice.between(1, 3) as u32);
        }
        if dice.one_in(3) {
            builder = builder.look_ahead(dice.below(8) as u32);
        }
        let shop = Arc::new(Shop {
            concurrency,
            running: AtomicU32::new(0),
            begun: Mutex::default(),
            history: history.clone(),
            findings: findings.clone(),
            known: known.clone(),
        });
        let findings = findings.clone();
        let builder = builder.register_fn(NAME, move |context: Context, (plan,): (Plan,)| {
            let shop = shop.clone();
            async move { shop.work(&context, plan).await }
        });
        let (stop, stopped) = oneshot::channel::<()>();
        let running = tokio::spawn(async move {
            let shutdown = async {
                if stopped.await.is_err() {
                    std::future::pending::<()>().await;
                }
            };
            if let Err(error) = builder.build().run(shutdown).await {
                findings.add(format!("{name} ended by itself: {error}"));
            }
        });
        Self { node, running, stop: Some(stop) }
    }

    /// The end of its process.
    pub fn kill(self, network: &Network) {
        network.kill(self.node);
        self.running.abort();
    }

    /// Asks it to end in good order.
    pub fn stop(&mut self) {
        if let Some(stop) = self.stop.take() {
            // It may have ended.
            let _ = stop.send(());
        }
    }

    pub fn has_ended(&self) -> bool {
        self.running.is_finished()
    }
}

/// Counts a handler for as long as it runs, however it ends.
struct Counted<'a>(&'a AtomicU32);

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

impl Shop {
    async fn work(&self, context: &Context, plan: Plan) -> Result<String, TaskFailure> {
        let (id, lease) = (context.id().to_owned(), context.lease());
        if self.running.fetch_add(1, Relaxed) >= self.concurrency {
            self.findings.add(format!("{id}: a worker runs more than {} handlers", self.concurrency));
        }
        let _counted = Counted(&self.running);
        if !self.begun.lock().expect("nothing panics with this lock").insert(lease) {
            self.findings.add(format!("{id}: its handler began twice under lease {lease}"));
        }
        let (generation, deliveries, attempt) = (context.generation(), context.deliveries(), context.attempt());
        self.history.note(Event::Began { id, generation, lease, deliveries, attempt });
        for step in 0..=plan.progress {
            if step > 0 {
                // A lease that is lost says nothing more; the handler need not know.
                let _ = context.progress("WORKING", &step).await;
            }
            // What a handler does takes time, and nothing else tells how much.
            let time = tokio::time::sleep(Duration::from_millis(plan.millis) / (plan.progress + 1));
            tokio::select! {
                () = time => {}
                () = context.cancelled(), if plan.heeds => {
                    return Err(TaskFailure::fatal("Cancelled", "it was told to end"));
                }
            }
        }
        for child in 0..plan.children {
            let child = format!("{}-{child}", context.id());
            self.known.add(&child);
            let task = Submission::new(NAME).task_id(child).args((plan.of_a_child(),)).queue(context.queue());
            // The child may exist already, and the broker may be away.
            let _ = context.client().with_timeout(Duration::from_secs(20)).submit::<String>(task).await;
        }
        if attempt <= plan.failures {
            return match plan.failure {
                Failure::Retryable => Err(TaskFailure::new("Busy", "try again")),
                Failure::Later => {
                    Err(TaskFailure::new("Busy", "try later").retry_after(Duration::from_millis(plan.millis)))
                }
                Failure::Fatal => Err(TaskFailure::fatal("Broken", "for good")),
                Failure::Panic => panic!("{ON_PURPOSE}"),
            };
        }
        Ok("r".repeat(plan.result_bytes))
    }
}
