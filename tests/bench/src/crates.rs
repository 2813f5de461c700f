//! The same load through the crates that users have: `submit_many` of the client, and handlers of
//! the worker. The difference of the two tables is the cost of the crates.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use celeriac_client::{Client, ClientBuilder, Submission};
use celeriac_worker::{Context, TaskFailure, Worker, WorkerBuilder};
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, JoinSet};

use crate::load::{self, NAME, QUEUE, Quota, Shape, Submitted};

/// A broker for clients and workers of the crates.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub(crate) url: String,
    /// The CA of its certificate, when it speaks TLS.
    pub(crate) ca: Option<PathBuf>,
}

impl Target {
    pub(crate) fn client(&self) -> ClientBuilder {
        self.ca.iter().fold(Client::builder(&self.url), ClientBuilder::ca_file)
    }

    pub(crate) fn worker(&self) -> WorkerBuilder {
        self.ca.iter().fold(Worker::builder(&self.url), WorkerBuilder::ca_file)
    }
}

/// As [`load::produce`], through the client crate: `window` submits in flight on one connection.
pub(crate) async fn produce(
    target: Target,
    producer: usize,
    shape: Shape,
    quota: Quota,
) -> Result<Submitted> {
    let client = target.client().connect().await?;
    let payload = load::payload(shape.payload);
    let mut submitters = JoinSet::new();
    for submitter in 0..shape.window {
        let (client, payload, quota, batch) =
            (client.clone(), payload.clone(), quota.clone(), shape.batch);
        submitters.spawn_local(async move {
            let mut submitted = Submitted::default();
            loop {
                let tasks = quota.take(batch) as u64;
                if tasks == 0 {
                    return Ok::<_, anyhow::Error>(submitted);
                }
                let tasks = (submitted.tasks..submitted.tasks + tasks).map(|number| {
                    Submission::new(NAME)
                        .queue(QUEUE)
                        .task_id(format!("{producer:02}-{submitter:02}-{number:012}"))
                        .payload(payload.clone(), "application/json")
                });
                let tasks = tasks.collect::<Vec<_>>();
                let begun = Instant::now();
                let outcomes = client.submit_many(tasks).await?;
                submitted.latencies.push(begun.elapsed());
                submitted.tasks += outcomes.len() as u64;
                let refused = outcomes.iter().find_map(|outcome| outcome.as_ref().err());
                ensure!(refused.is_none(), "a submit was refused: {refused:?}");
            }
        });
    }
    let mut all = Submitted::default();
    while let Some(done) = submitters.join_next().await {
        let done = done??;
        all.tasks += done.tasks;
        all.latencies.extend(done.latencies);
    }
    Ok(all)
}

/// Handlers that a worker runs at once, when it may hold so many leases.
const CONCURRENCY: u32 = 16;

/// Workers of the worker crate, each with its own connection.
pub(crate) struct Workers {
    counts: tokio::sync::mpsc::UnboundedReceiver<()>,
    stops: Vec<oneshot::Sender<()>>,
    running: Vec<JoinHandle<Result<(), celeriac_worker::RunError>>>,
}

impl Workers {
    pub(crate) fn start(target: &Target, shape: &Shape) -> Self {
        let (count, counts) = tokio::sync::mpsc::unbounded_channel();
        let result = "r".repeat(shape.result.saturating_sub(2));
        let (mut stops, mut running) = (Vec::new(), Vec::new());
        for _ in 0..shape.workers {
            let (stop, stopped) = oneshot::channel::<()>();
            let (count, result) = (count.clone(), result.clone());
            let worker = target
                .worker()
                .queues([QUEUE])
                .concurrency(CONCURRENCY.min(shape.credit))
                .credit(shape.credit)
                .register_fn(NAME, move |_: Context, (_text,): (String,)| {
                    // When the bench ends before the workers do, nothing counts any more.
                    let _ = count.send(());
                    let result = result.clone();
                    async move { Ok::<_, TaskFailure>(result) }
                })
                .build();
            running.push(tokio::spawn(worker.run(async { drop(stopped.await) })));
            stops.push(stop);
        }
        Self { counts, stops, running }
    }

    /// Waits until this many have run, and then until the workers have ended, which they do when
    /// their last reports are confirmed.
    pub(crate) async fn finish(mut self, tasks: u64) -> Result<u64> {
        let mut ran = 0;
        while ran < tasks {
            let next = tokio::time::timeout(Duration::from_secs(60), self.counts.recv()).await;
            ensure!(
                matches!(next, Ok(Some(()))),
                "{ran} of {tasks} ran, then nothing for a minute"
            );
            ran += 1;
        }
        drop(self.stops);
        for worker in self.running {
            worker.await??;
        }
        Ok(ran)
    }
}
