//! The two ways to test a user's code, on the same code: eager, and with a broker in the test's own
//! process. Everything about a task that needs no queue is the same in both.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use celeriac_broker::testing::TestBroker;
use celeriac_client::{Client, Error, State};
use celeriac_tests::{PATIENCE, within};
use celeriac_worker::{Context, Middleware, TaskFailure, Worker, WorkerBuilder, task};
use tokio::sync::oneshot;

#[task(name = "ways.measure", max_attempts = 3, retry_delay = "1ms", backoff = "fixed")]
async fn measure(context: &Context, word: String) -> Result<usize, TaskFailure> {
    context.progress("READING", &word).await?;
    match (word.as_str(), context.attempt()) {
        ("", _) => Err(TaskFailure::fatal("Empty", "there is nothing to measure")),
        ("late", 1) => Err(TaskFailure::new("TooEarly", "not at the first attempt")),
        _ => Ok(word.len()),
    }
}

/// A handler that submits tasks of its own.
#[task(name = "ways.total")]
async fn total(context: &Context, words: Vec<String>) -> Result<usize, TaskFailure> {
    let mut sum = 0;
    for word in words {
        sum += context.delay(&measure, (word,)).await?.get(PATIENCE).await?;
    }
    Ok(sum)
}

#[derive(Default)]
struct Counts {
    begun: AtomicU32,
    succeeded: AtomicU32,
    retried: AtomicU32,
    failed: AtomicU32,
}

impl Counts {
    fn all(&self) -> [u32; 4] {
        [&self.begun, &self.succeeded, &self.retried, &self.failed]
            .map(|count| count.load(Ordering::SeqCst))
    }
}

impl Middleware for Counts {
    fn before(&self, _context: &Context) {
        self.begun.fetch_add(1, Ordering::SeqCst);
    }

    fn after_success(&self, _context: &Context, _elapsed: Duration) {
        self.succeeded.fetch_add(1, Ordering::SeqCst);
    }

    fn after_retry(&self, _context: &Context, _failure: &TaskFailure, _elapsed: Duration) {
        self.retried.fetch_add(1, Ordering::SeqCst);
    }

    fn after_failure(&self, _context: &Context, _failure: &TaskFailure, _elapsed: Duration) {
        self.failed.fetch_add(1, Ordering::SeqCst);
    }
}

/// Builds a worker as a program does.
fn worker(url: &str, counts: &Arc<Counts>) -> WorkerBuilder {
    Worker::builder(url).concurrency(2).register(measure).register(total).middleware(counts.clone())
}

/// The code under test, and its expected results.
async fn use_tasks(client: &Client, counts: &Counts) {
    let words = ["late", "word"].map(str::to_owned).to_vec();
    let handle = client.delay(&total, (words,)).await.expect("submitted");
    assert_eq!(handle.get(PATIENCE).await.expect("it succeeds"), 8);
    assert_eq!(counts.all(), [4, 3, 1, 0]);

    let handle = client.delay(&measure, ("late".to_owned(),)).await.expect("submitted");
    assert_eq!(handle.get(PATIENCE).await.expect("it succeeds"), 4);
    let info = handle.info().await.expect("it is known");
    assert_eq!((info.state, info.attempts, info.attempts_max), (State::Success, 2, 3));
    assert_eq!(
        info.errors.iter().map(|error| error.kind.as_str()).collect::<Vec<_>>(),
        ["TooEarly"]
    );
    assert_eq!(info.progress.expect("it told").state, "READING");

    let handle = client.delay(&measure, (String::new(),)).await.expect("submitted");
    let error = handle.get(PATIENCE).await.expect_err("it fails");
    assert!(
        matches!(&error, Error::TaskFailed { kind, attempts: 1, .. } if kind == "Empty"),
        "{error}"
    );
    assert_eq!(counts.all(), [7, 4, 2, 1]);
    assert!(matches!(
        client.result::<()>("nobody").get(PATIENCE).await,
        Err(Error::NotFound { .. })
    ));
}

#[tokio::test]
async fn users_code_is_tested_at_once_and_without_a_broker() {
    let counts = Arc::new(Counts::default());
    let client = worker("celeriac://unused", &counts).eager();
    within("the tasks", use_tasks(&client, &counts)).await;
}

#[tokio::test]
async fn users_code_is_tested_against_a_broker_in_the_same_process() {
    let counts = Arc::new(Counts::default());
    let broker = TestBroker::start().await;
    let (stop, stopped) = oneshot::channel::<()>();
    let working =
        tokio::spawn(worker(&broker.url(), &counts).build().run(async { drop(stopped.await) }));
    let client = Client::connect(&broker.url()).await.expect("the broker is there");
    within("the tasks", use_tasks(&client, &counts)).await;
    client.close().await;
    drop(stop);
    within("the worker", working).await.expect("no panic").expect("in good order");
    within("the broker", broker.stop()).await;
}
