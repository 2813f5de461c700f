//! The broker and the workers. In a real service they run on other machines; here they run in this
//! process, except for a worker that the program kills.
//!
//! This file starts and stops them. The file `tasks` has the work of a worker, and `main` submits
//! the tasks.

use std::future::Future;
use std::io::Read;
use std::path::Path;
use std::pin::Pin;
use std::process::{Child, Command, Stdio};

use anyhow::Context;
use celeriac_worker::Worker;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::tasks::{cluster_songs, preprocess};

/// With a doomed worker the lease time is short, so that its song is soon begun again. A real
/// service keeps the default of 15 s, which tolerates short pauses of a worker.
const DOOMED_LEASE_MS: u64 = 2_000;
const DOOMED_HEARTBEAT_MS: u64 = 500;

/// A broker and its workers, running in the background until they are stopped.
pub(crate) struct Backend {
    url: String,
    broker: BackgroundTask,
    workers: Vec<BackgroundTask>,
    doomed: Option<ChildWorker>,
}

impl Backend {
    /// Starts a broker with its data in the folder `data`, and workers that each run one task at a
    /// time. With `is_one_doomed` the last worker is a process of its own, which can be killed.
    ///
    /// # Errors
    /// There is no free port, or the process did not start.
    pub(crate) async fn start(
        data: &Path,
        workers: usize,
        is_one_doomed: bool,
    ) -> anyhow::Result<Self> {
        // Port 0 takes a free port.
        let listener = TcpListener::bind("127.0.0.1:0").await.context("no port for the broker")?;
        let url = format!(
            "celeriac://{}",
            listener.local_addr().context("the broker's port has no address")?
        );
        let mut config = celeriac_broker::Config::new(data);
        if is_one_doomed {
            config.heartbeat_ms = DOOMED_HEARTBEAT_MS;
            config.lease_ms = DOOMED_LEASE_MS;
        }
        let broker = BackgroundTask::start(|stop| async move {
            Ok(celeriac_broker::run(config, listener, stop).await?)
        });
        let here = if is_one_doomed { workers - 1 } else { workers };
        let doomed = if is_one_doomed { Some(ChildWorker::start(&url, workers)?) } else { None };
        let workers = (1..=here)
            .map(|number| {
                let worker = worker(&url, &name(number));
                BackgroundTask::start(|stop| async move { Ok(worker.run(stop).await?) })
            })
            .collect();
        Ok(Self { url, broker, workers, doomed })
    }

    /// Kills the worker of this name with SIGKILL, if it is the doomed one and still runs. True if
    /// it was killed.
    ///
    /// # Errors
    /// The system did not kill the process.
    pub(crate) fn kill(&mut self, name: &str) -> anyhow::Result<bool> {
        let Some(doomed) = self.doomed.take_if(|doomed| doomed.name == name) else {
            return Ok(false);
        };
        doomed.kill().with_context(|| format!("{name} was not killed"))?;
        Ok(true)
    }

    /// The address of the broker, for every client.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Stops the workers, then the broker. Each finishes the work that it has begun.
    ///
    /// # Errors
    /// A worker or the broker failed.
    pub(crate) async fn stop(self) -> anyhow::Result<()> {
        // A worker that was not killed before is killed here. All songs have ended.
        drop(self.doomed);
        for worker in self.workers {
            worker.stop().await.context("a worker failed")?;
        }
        self.broker.stop().await.context("the broker failed")
    }
}

/// The name of a worker.
fn name(number: usize) -> String {
    format!("worker-{number}")
}

/// A worker: it registers its tasks, and runs the tasks of the queue `songs`.
fn worker(url: &str, name: &str) -> Worker {
    Worker::builder(url)
        .instance(name)
        .queues(["songs"])
        .concurrency(1)
        // A song takes long. A worker must not fetch the next song while it is busy, because
        // another worker may be free.
        .look_ahead(0)
        .register(preprocess)
        .register(cluster_songs)
        .build()
}

/// Runs a worker as a process of its own until its standard input ends.
///
/// # Errors
/// The worker failed.
pub(crate) async fn run_child_worker(url: &str, name: &str) -> anyhow::Result<()> {
    let (stop, stopped) = oneshot::channel::<()>();
    std::thread::spawn(move || {
        // The input ends with the program that started this process, however that program ends.
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        drop(stop);
    });
    let stopped = async move {
        let _ = stopped.await;
    };
    Ok(worker(url, name).run(stopped).await?)
}

/// A worker that is a process of its own.
struct ChildWorker {
    name: String,
    process: Child,
}

impl ChildWorker {
    fn start(url: &str, number: usize) -> anyhow::Result<Self> {
        let name = name(number);
        let program = std::env::current_exe().context("the program does not know its own file")?;
        let process = Command::new(program)
            .args(["--worker-of", url, "--worker-name", &name])
            .stdin(Stdio::piped())
            .spawn()
            .with_context(|| format!("{name} did not start"))?;
        Ok(Self { name, process })
    }

    fn kill(mut self) -> std::io::Result<()> {
        self.process.kill()
    }
}

impl Drop for ChildWorker {
    fn drop(&mut self) {
        // Both fail only if the process has already ended.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A future that completes when the task has to stop.
type Stop = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A task of the runtime that can be stopped.
struct BackgroundTask {
    stop: oneshot::Sender<()>,
    handle: JoinHandle<anyhow::Result<()>>,
}

impl BackgroundTask {
    fn start<F>(run: impl FnOnce(Stop) -> F) -> Self
    where
        F: Future<Output = anyhow::Result<()>> + Send + 'static,
    {
        let (stop, stopped) = oneshot::channel();
        let stopped = Box::pin(async move {
            // If the sender was dropped, this is an error, which also means to stop.
            let _ = stopped.await;
        });
        Self { stop, handle: tokio::spawn(run(stopped)) }
    }

    async fn stop(self) -> anyhow::Result<()> {
        // If the task has already ended, nothing receives this, and the handle has its error.
        let _ = self.stop.send(());
        self.handle.await?
    }
}
