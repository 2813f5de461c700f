//! The life of a task as its user sees it: a producer, a worker and a reader, which use the client
//! and worker crates. Each has its own connection to a real broker process.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime};

use celeriac_client::{
    Client, Error, ErrorCode, OnConflict, RetryPolicy, State, Submission, Task, TaskHandle,
    WaitMode,
};
use celeriac_tests::{BrokerProcess, InProcessWorker, PATIENCE, Setup, within};
use celeriac_worker::{Context, TaskFailure, Worker, WorkerBuilder, task};
use serde_json::json;
use tokio::sync::{Semaphore, mpsc};

mod failures;
mod lasting;
mod record;

const DAY: Duration = Duration::from_secs(24 * 3_600);

/// Adds its two arguments.
#[task(name = "story.add")]
async fn add(left: i64, right: i64) -> i64 {
    left + right
}

/// Fails until its third attempt.
#[task(name = "story.flaky", max_attempts = 4, retry_delay = "20ms", backoff = "fixed")]
async fn flaky(context: &Context) -> Result<u32, TaskFailure> {
    match context.attempt() {
        3 => Ok(3),
        attempt => Err(TaskFailure::new("TooEarly", format!("attempt {attempt}"))),
    }
}

/// Never succeeds.
#[task(name = "story.hopeless", max_attempts = 2, retry_delay = "10ms")]
async fn hopeless() -> Result<(), TaskFailure> {
    Err(TaskFailure::new("NoHope", "there is none"))
}

/// Fails for good at its first attempt.
#[task(name = "story.fatal", max_attempts = 9)]
async fn fatal() -> Result<(), TaskFailure> {
    Err(TaskFailure::fatal("Broken", "the file is no song"))
}

/// Panics.
#[task(name = "story.panics", max_attempts = 1)]
async fn panics() {
    panic!("this handler panics on purpose")
}

/// Blocks its thread.
#[task(name = "story.blocking")]
fn blocking(text: String) -> String {
    // It blocks its thread, as real blocking handlers do.
    std::thread::sleep(Duration::from_millis(5));
    text.to_uppercase()
}

/// Never ends by itself.
#[task(name = "story.endless", time_limit = "100ms", max_attempts = 1)]
async fn endless() {
    std::future::pending::<()>().await;
}

/// Returns a text of this many bytes.
#[task(name = "story.long", max_attempts = 1)]
async fn long(bytes: usize) -> String {
    "x".repeat(bytes)
}

fn worker(broker: &BrokerProcess) -> WorkerBuilder {
    Worker::builder(broker.url())
        .queues(["default"])
        .concurrency(4)
        .register(add)
        .register(flaky)
        .register(hopeless)
        .register(fatal)
        .register(panics)
        .register(blocking)
        .register(endless)
        .register(long)
}

#[tokio::test]
async fn a_task_runs_and_its_result_is_read_by_its_producer() {
    let broker = BrokerProcess::start().await;
    let _pool = InProcessWorker::start(worker(&broker));
    let client = broker.client().await;
    let handle = client.delay(&add, (19, 23)).await.expect("submitted");
    assert_eq!(handle.get(PATIENCE).await.expect("it succeeds"), 42);
    assert_eq!(handle.state().await.expect("known"), State::Success);
    let handle = client.delay(&blocking, ("dynamite".to_owned(),)).await.expect("submitted");
    assert_eq!(handle.get(PATIENCE).await.expect("it succeeds"), "DYNAMITE");
}

#[tokio::test]
async fn a_chosen_id_shadow_and_expiry_are_seen_by_another_client() {
    const ADD: Task<(i64, i64), i64> = Task::new("story.add");
    let broker = BrokerProcess::start().await;
    let producer = broker.client().await;
    let handle = producer
        .apply_async(&ADD, (1, 2))
        .task_id("token-4711")
        .shadow("add: one and two")
        .expires_in(DAY)
        .priority(7)
        .header("traceparent", "00-1-2-03")
        .tag("sums")
        .send()
        .await
        .expect("submitted");
    assert_eq!(handle.id(), "token-4711");
    let reader = broker.client().await;
    let result = reader.result::<i64>("token-4711");
    let info = result.info().await.expect("known");
    assert_eq!(
        (info.state, info.shadow.as_str(), info.priority),
        (State::Queued, "add: one and two", 7)
    );
    let expires = info.expires_at.expect("it was asked for");
    let left = expires.duration_since(SystemTime::now()).expect("it lies ahead");
    assert!(left < DAY && left > DAY - Duration::from_secs(60), "{left:?}");
    let _pool = InProcessWorker::start(worker(&broker));
    assert_eq!(result.get(PATIENCE).await.expect("it succeeds"), 3);
}

#[tokio::test]
async fn another_client_sees_each_state_as_it_comes() {
    let broker = BrokerProcess::start().await;
    let gate = Arc::new(Semaphore::new(0));
    let opened = Arc::clone(&gate);
    let _pool = InProcessWorker::start(worker(&broker).register_fn(
        "story.gate",
        move |context: Context, (): ()| {
            let gate = Arc::clone(&opened);
            async move {
                context.progress("HALF", &json!({"percent": 50})).await?;
                gate.acquire().await.expect("never closed").forget();
                Ok::<_, TaskFailure>("through")
            }
        },
    ));
    let watcher = broker.client().await;
    let mut watch = watcher.watch(&["gated"]).await.expect("watching");
    let producer = broker.client().await;
    producer
        .submit::<String>(
            Submission::new("story.gate").task_id("gated").countdown(Duration::from_millis(50)),
        )
        .await
        .expect("submitted");
    let mut seen = Vec::new();
    loop {
        let info = within("a transition", watch.next()).await.expect("the watch goes on");
        if info.progress.as_ref().is_some_and(|progress| progress.state == "HALF")
            && gate.available_permits() == 0
        {
            gate.add_permits(1);
        }
        seen.push(info.state);
        if info.state.is_ended() {
            break;
        }
    }
    seen.retain(|state| *state != State::Unknown);
    seen.dedup();
    assert_eq!(
        seen,
        [State::Scheduled, State::Queued, State::Leased, State::Started, State::Success]
    );
}

#[tokio::test]
async fn one_bad_task_of_a_batch_spoils_no_other() {
    let broker = BrokerProcess::start().await;
    let _pool = InProcessWorker::start(worker(&broker));
    let client = broker.client().await;
    let good = |number: i64| {
        Submission::new("story.add").args(json!([number, 1])).task_id(format!("sum-{number}"))
    };
    let outcomes =
        client.submit_many(vec![good(1), good(2).priority(10), good(3)]).await.expect("answered");
    assert_eq!(outcomes.len(), 3);
    assert_eq!(outcomes[1].as_ref().expect_err("priority 10").code, ErrorCode::InvalidArgument);
    assert!(outcomes[0].is_ok() && outcomes[2].is_ok());
    assert_eq!(client.result::<i64>("sum-3").get(PATIENCE).await.expect("it succeeds"), 4);
}

#[tokio::test]
async fn a_name_without_a_worker_waits_and_holds_up_nobody() {
    let broker = BrokerProcess::start().await;
    let _pool = InProcessWorker::start(worker(&broker));
    let client = broker.client().await;
    let waits: TaskHandle<()> =
        client.submit(Submission::new("story.nobody-knows-it")).await.expect("submitted");
    let runs = client.delay(&add, (2, 2)).await.expect("submitted");
    assert_eq!(runs.get(PATIENCE).await.expect("it succeeds"), 4);
    assert_eq!(waits.state().await.expect("known"), State::Queued);
}

#[tokio::test]
async fn a_running_handler_sees_that_it_is_cancelled_and_its_task_is_revoked() {
    let broker = BrokerProcess::start().await;
    let (begun, mut begins) = mpsc::unbounded_channel();
    let _pool =
        InProcessWorker::start(Worker::builder(broker.url()).queues(["default"]).register_fn(
            "story.cancellable",
            move |context: Context, (): ()| {
                let begun = begun.clone();
                async move {
                    begun.send(()).expect("the test listens");
                    context.cancelled().await;
                    Err::<(), _>(TaskFailure::new("Cancelled", "as was asked"))
                }
            },
        ));
    let client = broker.client().await;
    let handle: TaskHandle<()> =
        client.submit(Submission::new("story.cancellable")).await.expect("submitted");
    within("the task begins", begins.recv()).await.expect("the worker runs");
    handle.cancel().await.expect("it runs and can be told");
    match handle.get(PATIENCE).await {
        Err(Error::TaskRevoked { reason, .. }) => assert!(!reason.is_empty()),
        other => panic!("not TaskRevoked but {other:?}"),
    }
}

#[tokio::test]
async fn a_task_that_a_handler_submits_knows_its_parent_and_root() {
    let broker = BrokerProcess::start().await;
    let _pool = InProcessWorker::start(worker(&broker).register_fn(
        "story.parent",
        |context: Context, (): ()| async move {
            let child = context.delay(&add, (20, 1)).await?;
            Ok::<_, TaskFailure>(child.id().to_owned())
        },
    ));
    let client = broker.client().await;
    let parent: TaskHandle<String> =
        client.submit(Submission::new("story.parent").task_id("parent")).await.expect("submitted");
    let child = parent.get(PATIENCE).await.expect("it succeeds");
    let child = client.result::<i64>(&child);
    assert_eq!(child.get(PATIENCE).await.expect("it succeeds"), 21);
    let info = child.info().await.expect("known");
    assert_eq!((info.parent_id.as_str(), info.root_id.as_str()), ("parent", "parent"));
}
