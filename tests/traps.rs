//! Seven things that surprise users of Celery, as they are in Celeriac. The tests use a client and
//! workers as users do, a real broker, and processes of their own where a process is killed.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use celeriac_client::{
    CancelMode, CancelOutcome, Error, State, Submission, TaskHandle, WaitingFor,
};
use celeriac_tests::{
    BrokerProcess, InProcessWorker, PATIENCE, Setup, WorkerProcess, held, until, within,
};
use celeriac_worker::{Context, TaskFailure, Worker, WorkerBuilder};
use serde_json::json;

const PROGRAM: &str = env!("CARGO_BIN_EXE_celeriac-test-worker");

/// A worker with `trap.echo`, which returns its argument and counts how often it ran.
fn echo(broker: &BrokerProcess, runs: &Arc<AtomicU32>) -> WorkerBuilder {
    let counted = Arc::clone(runs);
    Worker::builder(broker.url()).queues(["default"]).register_fn(
        "trap.echo",
        move |_: Context, (text,): (String,)| {
            counted.fetch_add(1, Ordering::SeqCst);
            async move { Ok::<_, TaskFailure>(text) }
        },
    )
}

fn echoed(id: &str, text: &str) -> Submission {
    Submission::new("trap.echo").args(json!([text])).task_id(id)
}

#[tokio::test]
async fn a_reused_id_shows_the_new_result() {
    let broker = BrokerProcess::start().await;
    let runs = Arc::new(AtomicU32::new(0));
    let (producer, reader) = (broker.client().await, broker.client().await);
    let result = reader.result::<String>("token");

    let running_worker = InProcessWorker::start(echo(&broker, &runs));
    producer.submit::<String>(echoed("token", "today")).await.expect("submitted");
    assert_eq!(result.get(PATIENCE).await.expect("it succeeds"), "today");
    running_worker.stop().await;

    let again = producer.submit::<String>(echoed("token", "tomorrow")).await.expect("submitted");
    assert_eq!(again.generation(), Some(2));
    let info = result.info().await.expect("known");
    assert_eq!(
        (info.state, info.generation),
        (State::Queued, 2),
        "nothing of the old run is shown"
    );
    assert!(info.result.is_empty());
    let _pool = InProcessWorker::start(echo(&broker, &runs));
    assert_eq!(result.get(PATIENCE).await.expect("it succeeds"), "tomorrow");
    assert_eq!(runs.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn two_clicks_at_once_run_once_and_give_both_the_result() {
    let broker = BrokerProcess::start().await;
    let runs = Arc::new(AtomicU32::new(0));
    let (one, other) = (broker.client().await, broker.client().await);
    let clicks = tokio::join!(
        one.submit::<String>(echoed("token", "once")),
        other.submit(echoed("token", "once"))
    );
    let (first, second): (TaskHandle<String>, TaskHandle<String>) =
        (clicks.0.expect("submitted"), clicks.1.expect("submitted"));
    assert_eq!((first.generation(), second.generation()), (Some(1), Some(1)));
    let _pool = InProcessWorker::start(echo(&broker, &runs));
    assert_eq!(first.get(PATIENCE).await.expect("it succeeds"), "once");
    assert_eq!(second.get(PATIENCE).await.expect("it succeeds"), "once");
    assert_eq!(runs.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn waiting_differs_from_unknown() {
    let broker = BrokerProcess::start().await;
    let (producer, reader) = (broker.client().await, broker.client().await);
    producer.submit::<String>(echoed("waits", "")).await.expect("submitted");
    let infos = reader.info(&["waits", "nobody-submitted-it"]).await.expect("answered");
    assert_eq!((infos[0].state, infos[0].waiting_for), (State::Queued, WaitingFor::Worker));
    assert_eq!(infos[1].state, State::Unknown);
    // No client waits for a result that never comes.
    let unknown =
        within("the answer", reader.result::<String>("nobody-submitted-it").get(PATIENCE)).await;
    assert!(matches!(unknown, Err(Error::NotFound { .. })), "{unknown:?}");
}

#[tokio::test]
async fn running_differs_from_waiting() {
    let broker = BrokerProcess::start().await;
    let file = broker.home().join("go on");
    let client = broker.client().await;
    client.submit::<u32>(held("runs", &file)).await.expect("submitted");
    let mut worker = WorkerProcess::start(PROGRAM, &broker.url(), &["held"]);
    assert_eq!(worker.line().await, "started runs 1");
    client.submit::<u32>(held("waits", &file).queue("elsewhere")).await.expect("submitted");
    let runs = client.result::<u32>("runs");
    until("the start is known", || async { runs.state().await.expect("known") == State::Started })
        .await;
    let infos = client.info(&["runs", "waits"]).await.expect("answered");
    assert!(infos[0].started_at.is_some() && !infos[0].worker.is_empty(), "{:?}", infos[0]);
    assert_eq!(infos[0].waiting_for, WaitingFor::Nothing);
    assert_eq!((infos[1].state, infos[1].waiting_for), (State::Queued, WaitingFor::Worker));
    assert!(infos[1].started_at.is_none() && infos[1].worker.is_empty(), "{:?}", infos[1]);
    fs::write(&file, "").expect("the temporary folder is writable");
    assert_eq!(runs.get(PATIENCE).await.expect("it succeeds"), worker.pid());
}

#[tokio::test]
async fn a_killed_workers_task_is_run_again_by_another() {
    let broker = Setup::new().set("heartbeat_ms = 200").set("lease_ms = 600").start().await;
    let file = broker.home().join("go on");
    let client = broker.client().await;
    let task = client.submit::<u32>(held("task", &file)).await.expect("submitted");
    let mut first = WorkerProcess::start(PROGRAM, &broker.url(), &["held"]);
    assert_eq!(first.line().await, "started task 1");
    until("the start is known", || async { task.state().await.expect("known") == State::Started })
        .await;
    first.kill().await;
    let mut second = WorkerProcess::start(PROGRAM, &broker.url(), &["held"]);
    assert!(second.line().await.starts_with("started task"), "another worker begins it");
    fs::write(&file, "").expect("the temporary folder is writable");
    assert_eq!(task.get(PATIENCE).await.expect("it succeeds"), second.pid());
    assert_eq!(task.info().await.expect("known").deliveries, 2);
}

#[tokio::test]
async fn an_expired_task_becomes_revoked_with_no_worker_up() {
    let broker = BrokerProcess::start().await;
    let runs = Arc::new(AtomicU32::new(0));
    let client = broker.client().await;
    let soon = echoed("late", "").expires_in(Duration::from_millis(100)).priority(9);
    let late = client.submit::<String>(soon).await.expect("submitted");
    match late.get(PATIENCE).await {
        Err(Error::TaskRevoked { reason, .. }) => assert_eq!(reason, "expired"),
        other => panic!("not TaskRevoked but {other:?}"),
    }
    assert_eq!(late.state().await.expect("known"), State::Revoked);
    // A later worker finds no task.
    let _pool = InProcessWorker::start(echo(&broker, &runs));
    let after = client.submit::<String>(echoed("after", "")).await.expect("submitted");
    after.get(PATIENCE).await.expect("it succeeds");
    assert_eq!(runs.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_cancel_given_while_all_workers_are_down_holds() {
    let mut broker = BrokerProcess::start().await;
    let runs = Arc::new(AtomicU32::new(0));
    let before = broker.client().await;
    for id in ["one", "two"] {
        before.submit::<String>(echoed(id, "").priority(9)).await.expect("submitted");
    }
    let later = echoed("three", "").countdown(Duration::from_millis(200)).priority(9);
    before.submit::<String>(later).await.expect("submitted");
    let cancelled =
        before.cancel(&["one", "two", "three"], CancelMode::Cooperative).await.expect("answered");
    assert!(cancelled.iter().all(|each| each.outcome == CancelOutcome::Revoked), "{cancelled:?}");
    broker.kill().await;
    broker.restart().await;

    let after = broker.client().await;
    let _pool = InProcessWorker::start(echo(&broker, &runs));
    // A task with a lower priority than the cancelled one, submitted later. The cancelled one would
    // have run before it.
    let last = echoed("last", "").countdown(Duration::from_millis(300)).priority(0);
    after
        .submit::<String>(last)
        .await
        .expect("submitted")
        .get(PATIENCE)
        .await
        .expect("it succeeds");
    assert_eq!(runs.load(Ordering::SeqCst), 1);
    let infos = after.info(&["one", "two", "three"]).await.expect("answered");
    assert!(infos.iter().all(|info| info.state == State::Revoked), "{infos:?}");
}

#[tokio::test]
async fn an_unregistered_name_waits_and_fails_nothing() {
    let broker = BrokerProcess::start().await;
    let runs = Arc::new(AtomicU32::new(0));
    let client = broker.client().await;
    let _old = InProcessWorker::start(echo(&broker, &runs));
    let new: TaskHandle<u32> = client
        .submit(Submission::new("trap.of-the-next-version").priority(9))
        .await
        .expect("submitted");
    for number in 0..20 {
        let others =
            client.submit::<String>(echoed(&format!("old-{number}"), "")).await.expect("submitted");
        others.get(PATIENCE).await.expect("it succeeds");
    }
    let info = new.info().await.expect("known");
    assert_eq!((info.state, info.waiting_for), (State::Queued, WaitingFor::Worker));
    assert_eq!((info.attempts, info.deliveries, info.errors.len()), (0, 0, 0));
    let _new = InProcessWorker::start(
        Worker::builder(broker.url())
            .queues(["default"])
            .register_fn("trap.of-the-next-version", |_: Context, (): ()| async {
                Ok::<_, TaskFailure>(2_u32)
            }),
    );
    assert_eq!(new.get(PATIENCE).await.expect("it succeeds"), 2);
}
