//! Tasks whose workers are frozen, killed for good, busy, or told to stop: rules of leases and of
//! cancelling that only show with real processes. `lost_worker.rs` has simple deaths of workers.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use celeriac_client::{CancelMode, CancelOutcome, Error, State, Submission, TaskHandle};
use celeriac_tests::{
    BrokerProcess, InProcessWorker, PATIENCE, Setup, WorkerProcess, held, until, within,
};
use celeriac_worker::{Context, TaskFailure, Worker};
use serde_json::json;
use tokio::sync::{Semaphore, mpsc};

const PROGRAM: &str = env!("CARGO_BIN_EXE_celeriac-test-worker");

async fn short_leases() -> BrokerProcess {
    Setup::new().set("heartbeat_ms = 200").set("lease_ms = 600").start().await
}

fn assert_failed<T: std::fmt::Debug>(outcome: Result<T, Error>, expected: &str) {
    match outcome {
        Err(Error::TaskFailed { kind, .. }) => assert_eq!(kind, expected),
        other => panic!("not TaskFailed but {other:?}"),
    }
}

#[tokio::test]
async fn a_frozen_worker_that_thaws_is_refused_and_its_result_does_not_count() {
    let broker = short_leases().await;
    let file = broker.home().join("go on");
    let client = broker.client().await;
    let task = client.submit::<u32>(held("task", &file)).await.expect("submitted");
    let mut frozen = WorkerProcess::start(PROGRAM, &broker.url(), &["held"]);
    assert_eq!(frozen.line().await, "started task 1");
    frozen.freeze();
    let mut second = WorkerProcess::start(PROGRAM, &broker.url(), &["held"]);
    assert!(second.line().await.starts_with("started task"), "another worker begins it");
    fs::write(&file, "").expect("the temporary folder is writable");
    let by = second.pid();
    assert_eq!(task.get(PATIENCE).await.expect("it succeeds"), by);
    let ended = task.info().await.expect("known");

    second.kill().await;
    frozen.thaw();
    // The late report is sent before the worker takes another task.
    let text = json!(["awake"]);
    let echo: TaskHandle<String> = client
        .submit(Submission::new("test.echo").args(text).queue("held"))
        .await
        .expect("submitted");
    assert_eq!(echo.get(PATIENCE).await.expect("it succeeds"), "awake");
    assert_eq!(task.info().await.expect("known").version, ended.version);
    assert_eq!(task.get(PATIENCE).await.expect("it succeeds"), by);
}

#[tokio::test]
async fn a_task_that_kills_every_worker_is_dead_in_the_end() {
    let broker = short_leases().await;
    let client = broker.client().await;
    let never = broker.home().join("never");
    let task =
        client.submit::<u32>(held("deadly", &never).max_deliveries(2)).await.expect("submitted");
    for _ in 0..2 {
        let mut worker = WorkerProcess::start(PROGRAM, &broker.url(), &["held"]);
        assert!(worker.line().await.starts_with("started deadly"));
        until("the start is known", || async {
            task.state().await.expect("known") == State::Started
        })
        .await;
        worker.kill().await;
    }
    assert_failed(task.get(PATIENCE).await, "worker_lost");
    assert_eq!(client.queue("held").await.expect("answered").expect("it is there").dead, 1);
}

#[tokio::test]
async fn a_task_with_early_ack_is_not_run_twice() {
    let broker = short_leases().await;
    let client = broker.client().await;
    let never = broker.home().join("never");
    let task = client.submit::<u32>(held("once", &never).early_ack()).await.expect("submitted");
    let mut worker = WorkerProcess::start(PROGRAM, &broker.url(), &["held"]);
    assert_eq!(worker.line().await, "started once 1");
    until("the start is known", || async { task.state().await.expect("known") == State::Started })
        .await;
    worker.kill().await;
    assert_failed(task.get(PATIENCE).await, "worker_lost");
    assert_eq!(task.info().await.expect("known").deliveries, 1);
}

/// A worker with one slot whose `gate` says when it begins, and ends when there is a permit.
fn gated(
    broker: &BrokerProcess,
    begun: &mpsc::UnboundedSender<String>,
    gate: &Arc<Semaphore>,
    credit: u32,
) -> InProcessWorker {
    let (begun, gate) = (begun.clone(), Arc::clone(gate));
    InProcessWorker::start(
        Worker::builder(broker.url())
            .queues(["default"])
            .concurrency(1)
            .credit(credit)
            .register_fn("gate", move |context: Context, (): ()| {
                let (begun, gate) = (begun.clone(), Arc::clone(&gate));
                async move {
                    begun.send(context.id().to_owned()).expect("the test listens");
                    gate.acquire().await.expect("never closed").forget();
                    Ok::<_, TaskFailure>(())
                }
            }),
    )
}

#[tokio::test]
async fn an_idle_worker_begins_what_a_busy_one_only_holds() {
    let broker = BrokerProcess::start().await;
    let (begun, mut begins) = mpsc::unbounded_channel();
    let gate = Arc::new(Semaphore::new(0));
    let client = broker.client().await;
    let _busy = gated(&broker, &begun, &gate, 4);
    for id in ["one", "two"] {
        client.submit::<()>(Submission::new("gate").task_id(id)).await.expect("submitted");
    }
    let first = within("a task begins", begins.recv()).await.expect("the worker runs");
    let _idle = gated(&broker, &begun, &gate, 1);
    let second = within("the other begins too", begins.recv()).await.expect("the worker runs");
    assert_ne!(first, second);
    gate.add_permits(2);
    for id in ["one", "two"] {
        client.result::<()>(id).get(PATIENCE).await.expect("it succeeds");
        assert_eq!(client.result::<()>(id).info().await.expect("known").attempts, 1);
    }
}

#[tokio::test]
async fn a_forced_cancel_ends_a_handler_that_does_not_listen() {
    let broker = BrokerProcess::start().await;
    let (begun, mut begins) = mpsc::unbounded_channel();
    let gate = Arc::new(Semaphore::new(0));
    let client = broker.client().await;
    let _pool = gated(&broker, &begun, &gate, 1);
    let deaf =
        client.submit::<()>(Submission::new("gate").task_id("deaf")).await.expect("submitted");
    within("it begins", begins.recv()).await.expect("the worker runs");
    until("the start is known", || async { deaf.state().await.expect("known") == State::Started })
        .await;
    let outcomes =
        client.cancel(&["deaf"], CancelMode::Force { grace: Some(Duration::from_secs(5)) }).await;
    assert_eq!(outcomes.expect("answered")[0].outcome, CancelOutcome::Signalled);
    match deaf.get(PATIENCE).await {
        Err(Error::TaskRevoked { .. }) => {}
        other => panic!("not TaskRevoked but {other:?}"),
    }
    // The next handler can begin, although the gate was never open.
    client.submit::<()>(Submission::new("gate").task_id("next")).await.expect("submitted");
    assert_eq!(within("the next begins", begins.recv()).await.as_deref(), Some("next"));
}

#[tokio::test]
async fn a_tree_and_a_tag_are_cancelled_with_one_word() {
    let broker = BrokerProcess::start().await;
    let client = broker.client().await;
    let tasks = [
        Submission::new("nobody").task_id("root"),
        Submission::new("nobody").task_id("child").root_id("root").parent_id("root"),
        Submission::new("nobody").task_id("nightly").tag("night"),
        Submission::new("nobody").task_id("daily").tag("day"),
    ];
    client.submit_many(tasks).await.expect("answered");
    let tree = client.cancel_tree("root", CancelMode::Cooperative).await.expect("answered");
    assert_eq!(tree.len(), 2, "{tree:?}");
    let tagged = client.cancel_tagged("night", CancelMode::Cooperative).await.expect("answered");
    assert_eq!(tagged.len(), 1, "{tagged:?}");
    let infos = client.info(&["root", "child", "nightly", "daily"]).await.expect("answered");
    let states: Vec<_> = infos.iter().map(|info| info.state).collect();
    assert_eq!(states, [State::Revoked, State::Revoked, State::Revoked, State::Queued]);
}

#[tokio::test]
async fn a_cancel_says_of_each_id_what_it_did() {
    let broker = BrokerProcess::start().await;
    let (begun, mut begins) = mpsc::unbounded_channel();
    let gate = Arc::new(Semaphore::new(1));
    let client = broker.client().await;
    let _pool = gated(&broker, &begun, &gate, 1);
    let ended =
        client.submit::<()>(Submission::new("gate").task_id("ended")).await.expect("submitted");
    ended.get(PATIENCE).await.expect("it succeeds");
    let running =
        client.submit::<()>(Submission::new("gate").task_id("running")).await.expect("submitted");
    client.submit::<()>(Submission::new("nobody").task_id("waiting")).await.expect("submitted");
    for _ in 0..2 {
        within("both begin", begins.recv()).await.expect("the worker runs");
    }
    until("the start is known", || async {
        running.state().await.expect("known") == State::Started
    })
    .await;
    let ids = ["ended", "running", "waiting", "unknown"];
    let outcomes = client.cancel(&ids, CancelMode::Cooperative).await.expect("answered");
    let outcomes: Vec<_> = outcomes.iter().map(|each| each.outcome).collect();
    use CancelOutcome::{AlreadyEnded, NotFound, Revoked, Signalled};
    assert_eq!(outcomes, [AlreadyEnded, Signalled, Revoked, NotFound]);
}
