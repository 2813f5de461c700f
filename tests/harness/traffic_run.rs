//! Runs producers and workers while a test injects faults into their broker, and judges their
//! history.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::{AbortHandle, JoinHandle};
use tokio::time::{Instant, sleep, timeout};

use crate::traffic::Traffic;
use celeriac_history::History;

/// How long the clients may take to finish. It is longer than a test usually waits, because many
/// tasks may wait by then.
const FINISH: Duration = Duration::from_secs(120);

/// So many findings are printed with what the history has about their ids.
const SHOWN: usize = 5;

/// How many clients gather the same chords.
const GATHERERS: usize = 3;

/// Running producers and workers of one broker.
#[derive(Debug)]
pub struct TrafficRun {
    traffic: Arc<Traffic>,
    producers: Vec<JoinHandle<()>>,
    workers: Vec<JoinHandle<()>>,
    /// Handles of all tasks. They are aborted when this value is dropped.
    aborts: Vec<AbortHandle>,
}

impl TrafficRun {
    /// Starts so many tame producers and so many workers. All their tasks end in SUCCESS.
    pub fn start(address: SocketAddr, each: usize) -> Self {
        let traffic = Traffic::new(address);
        let producers =
            (0..each).map(|number| tokio::spawn(traffic.clone().produce(number))).collect();
        let workers = (0..each).map(|number| tokio::spawn(traffic.clone().work(number))).collect();
        Self::of(traffic, producers, workers)
    }

    /// Starts so many wild producers and so many workers, and one more of each for a queue whose
    /// order is judged. The broker should have a lease time of about a second.
    pub fn wild(address: SocketAddr, each: usize, seed: u64) -> Self {
        let traffic = Traffic::wild(address, seed);
        let mut producers: Vec<_> =
            (0..each).map(|number| tokio::spawn(traffic.clone().produce(number))).collect();
        let mut workers: Vec<_> =
            (0..each).map(|number| tokio::spawn(traffic.clone().work(number))).collect();
        producers.push(tokio::spawn(traffic.clone().produce_in_order()));
        producers.extend((0..GATHERERS).map(|number| tokio::spawn(traffic.clone().gather(number))));
        workers.push(tokio::spawn(traffic.clone().work_in_order()));
        Self::of(traffic, producers, workers)
    }

    /// Starts so many wild producers. The caller starts the workers.
    pub fn producing(address: SocketAddr, each: usize, seed: u64) -> Self {
        let traffic = Traffic::wild(address, seed);
        let producers =
            (0..each).map(|number| tokio::spawn(traffic.clone().produce(number))).collect();
        Self::of(traffic, producers, Vec::new())
    }

    fn of(
        traffic: Arc<Traffic>,
        producers: Vec<JoinHandle<()>>,
        workers: Vec<JoinHandle<()>>,
    ) -> Self {
        let aborts = producers.iter().chain(&workers).map(JoinHandle::abort_handle).collect();
        Self { traffic, producers, workers, aborts }
    }

    /// The history of all clients.
    pub fn history(&self) -> &History {
        self.traffic.history()
    }

    /// How many results were confirmed so far.
    pub fn finished(&self) -> u64 {
        self.traffic.finished()
    }

    /// Whether so many more results are confirmed within this time.
    pub async fn completes(&self, more: u64, patience: Duration) -> bool {
        let enough = self.finished() + more;
        let deadline = Instant::now() + patience;
        while self.finished() < enough {
            if Instant::now() >= deadline {
                return false;
            }
            sleep(Duration::from_millis(2)).await;
        }
        true
    }

    /// Call this between the broker's death and its next start.
    pub fn note_restart(&self) {
        self.traffic.note_restart();
    }

    /// Lets all clients finish and returns every broken promise as a sentence. The broker must be
    /// up.
    pub async fn verdict(mut self) -> Vec<String> {
        let traffic = self.traffic.clone();
        traffic.stop_producing();
        let (producers, workers) =
            (std::mem::take(&mut self.producers), std::mem::take(&mut self.workers));
        let finish = tokio::spawn(async move {
            for producer in producers {
                producer.await?;
            }
            traffic.read_all().await;
            traffic.stop_working();
            for worker in workers {
                worker.await?;
            }
            Ok::<(), tokio::task::JoinError>(())
        });
        self.aborts.push(finish.abort_handle());
        let finished = timeout(FINISH, finish).await;
        let mut broken = self.traffic.broken_promises();
        show(self.history(), &broken);
        match finished {
            Ok(Ok(Ok(()))) => {}
            Ok(Ok(Err(panic)) | Err(panic)) => {
                broken.push(format!("a client gave up: {}", panic_text(panic)))
            }
            Err(_) => broken.push(format!("the clients did not finish within {FINISH:?}")),
        }
        broken
    }
}

impl Drop for TrafficRun {
    fn drop(&mut self) {
        for abort in &self.aborts {
            abort.abort();
        }
    }
}

/// Prints what the history has about the first ids of which something is wrong.
pub(crate) fn show(history: &History, found: &[String]) {
    for sentence in found.iter().take(SHOWN) {
        let about = sentence.strip_prefix("promise ").and_then(|rest| rest.split_once(": "));
        let named = about.map_or(sentence.as_str(), |(_, rest)| rest);
        let id = named.split(": ").next().unwrap_or(named);
        eprintln!("{sentence}\n  {}", history.about(id).join("\n  "));
    }
}

/// The message of a panic in a task of the harness.
pub(crate) fn panic_text(error: tokio::task::JoinError) -> String {
    let Ok(panic) = error.try_into_panic() else { return "it was aborted".to_owned() };
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default()
}
