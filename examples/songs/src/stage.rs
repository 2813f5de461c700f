//! What would be other machines in a real service, here in one process: the broker and the workers.
//!
//! Lives here: starting and stopping them. Does not live here: what they do for a song (see
//! `tasks`) or who asks for it (see `main`).

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
pub(crate) struct Stage {
    url: String,
    broker: Running,
    workers: Vec<Running>,
}

impl Stage {
    /// Starts a broker on the folder `data` and `workers` workers that each run one task at a time.
    pub(crate) async fn open(data: &Path, workers: usize) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.context("no port for the broker")?;
        let url = format!(
            "celeriac://{}",
            listener.local_addr().context("the broker's port has no address")?
        );
        let config = celeriac_broker::Config::new(data);
        let broker = Running::start(|stop| async move {
            Ok(celeriac_broker::run(config, listener, stop).await?)
        });
        let workers = (1..=workers).map(|number| start_worker(&url, number)).collect();
        Ok(Self { url, broker, workers })
    }

    /// Where producers and readers connect.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Stops the workers, then the broker, each after what it has begun. Says so if one of them had
    /// failed.
    pub(crate) async fn close(self) -> anyhow::Result<()> {
        for worker in self.workers {
            worker.stop().await.context("a worker failed")?;
        }
        self.broker.stop().await.context("the broker failed")
    }
}

fn start_worker(url: &str, number: usize) -> Running {
    let worker = Worker::builder(url)
        .instance(format!("worker-{number}"))
        .queues(["songs"])
        .concurrency(1)
        // Songs take long: none shall wait at a busy worker while another is free.
        .look_ahead(0)
        .register(preprocess)
        .register(cluster_songs)
        .build();
    Running::start(|stop| async move { Ok(worker.run(stop).await?) })
}

/// Resolves when it is time to stop.
type Stop = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Something that runs in the background and can be told to stop.
struct Running {
    stop: oneshot::Sender<()>,
    end: JoinHandle<anyhow::Result<()>>,
}

impl Running {
    fn start<F>(run: impl FnOnce(Stop) -> F) -> Self
    where
        F: Future<Output = anyhow::Result<()>> + Send + 'static,
    {
        let (stop, stopped) = oneshot::channel();
        let stopped = Box::pin(async move {
            // A sender that was dropped means the same as one that spoke.
            let _word = stopped.await;
        });
        Self { stop, end: tokio::spawn(run(stopped)) }
    }

    async fn stop(self) -> anyhow::Result<()> {
        // Nobody listens any more if it has ended by itself; then its result says why.
        let _ended = self.stop.send(());
        self.end.await?
    }
}
