//! The load of a soak: tasks are submitted at a steady rate. Each is waited for, its result is
//! compared, and it is forgotten.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use celeriac_client::{Client, RetryPolicy, State, Submission, TaskError, WaitMode};
use serde_json::json;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::{BrokerProcess, until};

/// The queue of all tasks.
pub(super) const QUEUE: &str = "soak";
/// Batches per second.
const BATCHES: u32 = 10;
/// The most batches in flight, so that a stalled broker is not flooded afterwards.
const UNDER_WAY_MAX: usize = 600;
/// A task that takes longer than this is lost. A bad series of kills and frozen leases takes much
/// less.
const LOST_AFTER: Duration = Duration::from_secs(120);

#[derive(Debug, Default)]
struct Counts {
    accepted: AtomicU64,
    verified: AtomicU64,
}

/// Submits in the background.
#[derive(Debug)]
pub(super) struct Load {
    counts: Arc<Counts>,
    submitting: tokio::sync::Mutex<Option<JoinHandle<()>>>,
}

impl Load {
    pub(super) async fn start(url: &str, rate: u32, span: Duration) -> Self {
        let client = Client::connect(url).await.expect("the broker takes clients");
        let counts = Arc::new(Counts::default());
        let submitting =
            tokio::spawn(submit(client, rate.div_ceil(BATCHES).into(), span, Arc::clone(&counts)));
        Self { counts, submitting: tokio::sync::Mutex::new(Some(submitting)) }
    }

    pub(super) fn accepted(&self) -> u64 {
        self.counts.accepted.load(Ordering::SeqCst)
    }

    pub(super) fn verified(&self) -> u64 {
        self.counts.verified.load(Ordering::SeqCst)
    }

    /// Waits until everything was submitted and verified.
    pub(super) async fn settled(&self) {
        let submitting = self.submitting.lock().await.take().expect("it settles once");
        submitting.await.expect("every task succeeds");
    }

    pub(super) async fn assert_nothing_is_left(&self, broker: &BrokerProcess) {
        assert_eq!(self.accepted(), self.verified(), "every task is accounted for");
        let client = Client::connect(&broker.url()).await.expect("the broker takes clients");
        until("nothing is left", || async {
            let queue = client.queue(QUEUE).await.expect("answered");
            queue.is_none_or(|queue| queue.ready + queue.scheduled + queue.leased + queue.dead == 0)
        })
        .await;
    }
}

async fn submit(client: Client, batch: u64, span: Duration, counts: Arc<Counts>) {
    let begun = Instant::now();
    let room = Arc::new(Semaphore::new(UNDER_WAY_MAX));
    let mut pace = tokio::time::interval(Duration::from_secs(1) / BATCHES);
    pace.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut verifying = tokio::task::JoinSet::new();
    let mut next = 0;
    while begun.elapsed() < span {
        pace.tick().await;
        let permit = Arc::clone(&room).acquire_owned().await.expect("never closed");
        let (client, counts) = (client.clone(), Arc::clone(&counts));
        let numbers = next..next + batch;
        next += batch;
        verifying.spawn(async move {
            lifecycle(&client, numbers, &counts).await;
            drop(permit);
        });
        // A lost task is reported at once and not at the end.
        while let Some(done) = verifying.try_join_next() {
            done.expect("every task succeeds");
        }
    }
    while let Some(done) = verifying.join_next().await {
        done.expect("every task succeeds");
    }
}

/// Submits, waits, compares, forgets. The client reconnects by itself when the broker ends, until
/// its deadline.
async fn lifecycle(client: &Client, numbers: std::ops::Range<u64>, counts: &Counts) {
    let client = client.clone().with_timeout(LOST_AFTER);
    let ids: Vec<String> = numbers.clone().map(|number| format!("soak-{number}")).collect();
    let tasks = numbers.clone().zip(&ids).map(|(number, id)| {
        // A killed worker costs its tasks an attempt. A failure of a handler does not happen here.
        Submission::new("test.work")
            .queue(QUEUE)
            .task_id(id)
            .args(json!([number]))
            .retry(RetryPolicy::new().max_attempts(1_000))
            .max_deliveries(1_000)
    });
    let outcomes =
        client.submit_many(tasks.collect::<Vec<_>>()).await.expect("answered over every kill");
    assert!(outcomes.iter().all(Result::is_ok), "a submit was refused: {outcomes:?}");
    counts.accepted.fetch_add(ids.len() as u64, Ordering::SeqCst);
    let waited =
        client.wait(&ids, WaitMode::All, LOST_AFTER).await.expect("answered over every kill");
    assert!(
        waited.satisfied,
        "lost: {:?}",
        waited.tasks.iter().find(|task| !task.state.is_ended())
    );
    let infos = client.info_with_results(&ids).await.expect("answered over every kill");
    for (info, number) in infos.iter().zip(numbers) {
        // Workers are killed meanwhile. A task keeps the attempts that it lost with them.
        let is_lost = |error: &TaskError| error.kind == "worker_lost";
        assert!(info.state == State::Success && info.errors.iter().all(is_lost), "{info:?}");
        assert_eq!(info.output::<u64>().expect("a number"), number, "{info:?}");
    }
    client.forget(&ids).await.expect("answered over every kill");
    counts.verified.fetch_add(ids.len() as u64, Ordering::SeqCst);
}
