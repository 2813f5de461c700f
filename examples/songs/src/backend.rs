//! The broker and the workers. In a real service they run on other machines; here they run in this
//! process.
//!
//! This file starts and stops them. The file `tasks` has the work of a worker, and `main` submits
//! the tasks.

use std::future::Future;
use std::path::Path;
use std::pin::Pin;

use anyhow::Context;
use celeriac_worker::Worker;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::tasks::{cluster_songs, preprocess};

/// A broker and its workers, running in the background until they are stopped.
pub(crate) struct Backend {
    url: String,
    broker: BackgroundTask,
    workers: Vec<BackgroundTask>,
}

impl Backend {
    /// Starts a broker with its data in the folder `data`, and workers that each run one task at a
    /// time.
    pub(crate) async fn start(data: &Path, workers: usize) -> anyhow::Result<Self> {
        // Port 0 takes a free port.
        let listener = TcpListener::bind("127.0.0.1:0").await.context("no port for the broker")?;
        let url = format!(
            "celeriac://{}",
            listener.local_addr().context("the broker's port has no address")?
        );
        let config = celeriac_broker::Config::new(data);
        let broker = BackgroundTask::start(|stop| async move {
            Ok(celeriac_broker::run(config, listener, stop).await?)
        });
        let workers = (1..=workers).map(|number| start_worker(&url, number)).collect();
        Ok(Self { url, broker, workers })
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
        for worker in self.workers {
            worker.stop().await.context("a worker failed")?;
        }
        self.broker.stop().await.context("the broker failed")
    }
}

/// Starts a worker: it registers its tasks, and runs the tasks of the queue `songs`.
fn start_worker(url: &str, number: usize) -> BackgroundTask {
    let worker = Worker::builder(url)
        .instance(format!("worker-{number}"))
        .queues(["songs"])
        .concurrency(1)
        // A song takes long. A worker must not fetch the next song while it is busy, because
        // another worker may be free.
        .look_ahead(0)
        .register(preprocess)
        .register(cluster_songs)
        .build();
    BackgroundTask::start(|stop| async move { Ok(worker.run(stop).await?) })
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
