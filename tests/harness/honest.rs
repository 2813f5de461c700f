//! An honest client and an honest worker, which work while other peers misbehave. They submit one
//! task after the other, run it, wait for it and compare its result. They measure how long each
//! task takes and do not judge it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use celeriac_client::{Client, Submission};
use celeriac_worker::{Context, TaskFailure, Worker};
use serde_json::json;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

use crate::{InProcessWorker, PATIENCE};

const QUEUE: &str = "honest";
/// A task that takes longer than this counts as lost and not as slow.
const TASK: Duration = Duration::from_secs(60);

/// An honest client and an honest worker that run in the background.
#[derive(Debug)]
pub struct Honest {
    client: Client,
    worker: InProcessWorker,
    going_on: Arc<AtomicBool>,
    done: Arc<AtomicU64>,
    ran: Arc<AtomicU64>,
    working: JoinHandle<Work>,
}

/// The outcome.
#[derive(Debug, Default)]
pub struct Work {
    /// Tasks that ended with the right result.
    pub done: u64,
    /// The longest time from submit to result.
    pub worst: Duration,
    /// The 99th percentile of that time.
    pub p99: Duration,
    /// How often a handler ran.
    pub ran: u64,
    /// Everything that went wrong. Each is a sentence.
    pub found: Vec<String>,
}

impl Honest {
    /// Connects both, before other peers misbehave.
    ///
    /// # Panics
    /// When the broker does not let them in.
    pub async fn start(url: &str) -> Self {
        let ran = Arc::new(AtomicU64::new(0));
        let runs = ran.clone();
        let worker = Worker::builder(url).queue(QUEUE).concurrency(4).register_fn(
            "honest.length",
            move |_context: Context, (text,): (String,)| {
                runs.fetch_add(1, Ordering::SeqCst);
                async move { Ok::<_, TaskFailure>(text.len()) }
            },
        );
        let worker = InProcessWorker::start(worker);
        let client =
            Client::builder(url).timeout(TASK).connect().await.expect("the broker takes clients");
        let (going_on, done) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicU64::new(0)));
        let working = tokio::spawn(work(client.clone(), going_on.clone(), done.clone()));
        let honest = Self { client, worker, going_on, done, ran, working };
        crate::until("the honest worker works", || async { honest.done() > 0 }).await;
        honest
    }

    /// Tasks that ended with the right result so far.
    pub fn done(&self) -> u64 {
        self.done.load(Ordering::SeqCst)
    }

    /// Waits until the current task has ended, and returns the outcome.
    ///
    /// # Panics
    /// When the worker does not stop.
    pub async fn end(self) -> Work {
        self.going_on.store(false, Ordering::SeqCst);
        let mut work = match timeout(TASK + PATIENCE, self.working).await {
            Ok(work) => work.expect("it writes down what it finds"),
            Err(_) => Work {
                found: vec![format!("an honest task did not end in {TASK:?}")],
                ..Work::default()
            },
        };
        self.worker.stop().await;
        self.client.close().await;
        work.ran = self.ran.load(Ordering::SeqCst);
        work
    }
}

async fn work(client: Client, going_on: Arc<AtomicBool>, done: Arc<AtomicU64>) -> Work {
    let mut work = Work::default();
    let mut times = Vec::new();
    while going_on.load(Ordering::SeqCst) && work.found.len() < 10 {
        let text = "x".repeat(work.done as usize % 300);
        let begun = Instant::now();
        let submission = Submission::new("honest.length").args(json!([text])).queue(QUEUE);
        let id = submission.id().to_owned();
        let output = match client.submit::<usize>(submission).await {
            Ok(handle) => handle.get(TASK).await,
            Err(error) => Err(error),
        };
        match output {
            Ok(output) if output == text.len() => {
                work.done += 1;
                done.store(work.done, Ordering::SeqCst);
            }
            output => work
                .found
                .push(format!("honest task {id} should give {} and gave {output:?}", text.len())),
        }
        times.push(begun.elapsed());
    }
    times.sort_unstable();
    work.worst = times.last().copied().unwrap_or_default();
    work.p99 = times.get(times.len() * 99 / 100).copied().unwrap_or_default();
    work
}
