//! Workers of the worker crate inside the test's own process. Those that are killed or frozen are
//! processes of their own: `worker_process.rs`.

use celeriac_worker::WorkerBuilder;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::within;

/// A worker that runs in the background until it is dropped or stopped.
#[derive(Debug)]
pub struct Pool {
    stop: Option<oneshot::Sender<()>>,
    running: JoinHandle<()>,
}

impl Pool {
    /// Starts the worker that was described.
    pub fn start(builder: WorkerBuilder) -> Self {
        let (stop, stopped) = oneshot::channel::<()>();
        let worker = builder.build();
        let running = tokio::spawn(async move {
            let shutdown = async { drop(stopped.await) };
            worker.run(shutdown).await.expect("the worker runs until it is stopped");
        });
        Self { stop: Some(stop), running }
    }

    /// Tells it to stop, as TERM would, and waits for its end.
    pub async fn stop(mut self) {
        drop(self.stop.take());
        within("the worker to stop", &mut self.running).await.expect("the worker does not panic");
    }

    /// Waits for an end that something else brings about.
    pub async fn ended(mut self) {
        within("the worker to end", &mut self.running).await.expect("the worker does not panic");
    }
}
