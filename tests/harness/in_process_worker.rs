//! Workers of the worker crate in the test's own process. Workers that a test kills or freezes are
//! processes of their own: `worker_process.rs`.

use celeriac_worker::WorkerBuilder;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::within;

/// A worker that runs in the background until it is dropped or stopped.
#[derive(Debug)]
pub struct InProcessWorker {
    stop: Option<oneshot::Sender<()>>,
    running: JoinHandle<()>,
}

impl InProcessWorker {
    /// Starts the worker that this builder describes.
    pub fn start(builder: WorkerBuilder) -> Self {
        let (stop, stopped) = oneshot::channel::<()>();
        let worker = builder.build();
        let running = tokio::spawn(async move {
            let shutdown = async { drop(stopped.await) };
            worker.run(shutdown).await.expect("the worker runs until it is stopped");
        });
        Self { stop: Some(stop), running }
    }

    /// Tells it to stop, as SIGTERM would, and waits for its end.
    pub async fn stop(mut self) {
        drop(self.stop.take());
        within("the worker to stop", &mut self.running).await.expect("the worker does not panic");
    }

    /// Waits until it ends for another reason.
    pub async fn ended(mut self) {
        within("the worker to end", &mut self.running).await.expect("the worker does not panic");
    }
}
