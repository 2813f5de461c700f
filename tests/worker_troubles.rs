//! Workers that are told to end, or fail, while they run tasks that must not begin twice. The
//! broker is a real process, and the workers use the worker crate as users do.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use celeriac_client::{Client, RetryPolicy, State, Submission, TaskInfo};
use celeriac_proto::wire;
use celeriac_proto::wire::TaskState;
use celeriac_tests::{
    BrokerProcess, InProcessWorker, PATIENCE, RawConnection, WorkerProcess, raw, until,
};
use celeriac_worker::{Context, Handler, Payload, Run, TaskFailure, Worker, WorkerBuilder};
use serde_json::json;

const PROGRAM: &str = env!("CARGO_BIN_EXE_celeriac-test-worker");

/// A handler that counts its runs and then does what its first argument says.
struct Counted {
    name: &'static str,
    blocking: bool,
    runs: Arc<AtomicU32>,
}

impl Handler for Counted {
    fn name(&self) -> &str {
        self.name
    }

    fn start(&self, context: Context, payload: Payload<'_>) -> Result<Run, TaskFailure> {
        let (how,): (String,) = payload.arguments(&[])?;
        let runs = self.runs.clone();
        if self.blocking {
            return Ok(Run::blocking(move || {
                runs.fetch_add(1, Ordering::SeqCst);
                while how == "hold" && !context.is_cancelled() {
                    std::thread::yield_now();
                }
                end(&how)
            }));
        }
        Ok(Run::future(async move {
            runs.fetch_add(1, Ordering::SeqCst);
            if how == "hold" {
                std::future::pending::<()>().await;
            }
            end(&how)
        }))
    }
}

fn end(how: &str) -> Result<bytes::Bytes, TaskFailure> {
    match how {
        "fail" => Err(TaskFailure::new("Busy", "not now")),
        "later" => Err(TaskFailure::new("Busy", "not now").retry_after(Duration::ZERO)),
        "panic" => panic!("as it was told"),
        _ => Ok("null".into()),
    }
}

fn worker(broker: &BrokerProcess, runs: &Arc<AtomicU32>) -> WorkerBuilder {
    let counted = |name, blocking| Counted { name, blocking, runs: runs.clone() };
    let builder = Worker::builder(broker.url()).queues(["default"]).concurrency(4);
    builder.register(counted("once.async", false)).register(counted("once.blocking", true))
}

fn once(name: &str, how: &str) -> Submission {
    let retry = RetryPolicy::fixed(Duration::ZERO).max_attempts(5);
    Submission::new(name)
        .args(json!([how]))
        .task_id(format!("{name} {how}"))
        .early_ack()
        .retry(retry)
}

async fn state(client: &Client, id: &str, wanted: State) -> TaskInfo {
    until("the task is that far", || async {
        client.result::<()>(id).info().await.is_ok_and(|info| info.state == wanted)
    })
    .await;
    client.result::<()>(id).info().await.expect("it is kept")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failure_of_a_task_with_early_ack_is_its_end() {
    let broker = BrokerProcess::start().await;
    let runs = Arc::new(AtomicU32::new(0));
    let _pool = InProcessWorker::start(worker(&broker, &runs));
    let client = Client::connect(&broker.url()).await.expect("the broker takes clients");
    for (number, (name, how)) in (1..).zip([
        ("once.async", "fail"),
        ("once.async", "later"),
        ("once.async", "panic"),
        ("once.blocking", "fail"),
        ("once.blocking", "later"),
        ("once.blocking", "panic"),
    ]) {
        let handle = client.submit::<()>(once(name, how)).await.expect("submitted");
        handle.get(PATIENCE).await.expect_err("it fails");
        let info = handle.info().await.expect("known");
        assert_eq!(
            (info.state, info.attempts, info.errors.len()),
            (State::Failure, 1, 1),
            "{name} {how}"
        );
        assert_eq!(runs.load(Ordering::SeqCst), number, "{name} {how}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_runs_with_early_ack_when_the_grace_is_over_is_lost_and_not_begun_again() {
    let broker = BrokerProcess::start().await;
    let runs = Arc::new(AtomicU32::new(0));
    let client = Client::connect(&broker.url()).await.expect("the broker takes clients");
    let running_worker =
        InProcessWorker::start(worker(&broker, &runs).shutdown_grace(Duration::ZERO));
    for name in ["once.async", "once.blocking"] {
        client.submit::<()>(once(name, "hold")).await.expect("submitted");
        // Without `early_ack` the task is handed back, as usual.
        client
            .submit::<()>(Submission::new(name).args(json!(["hold"])).task_id(name))
            .await
            .expect("submitted");
    }
    until("all of them run", || async { runs.load(Ordering::SeqCst) == 4 }).await;
    running_worker.stop().await;
    for name in ["once.async", "once.blocking"] {
        let info = state(&client, &format!("{name} hold"), State::Failure).await;
        assert_eq!(
            info.errors.last().map(|error| error.kind.as_str()),
            Some("worker_lost"),
            "{info:?}"
        );
        assert_eq!(client.result::<()>(name).info().await.expect("known").state, State::Queued);
    }
    let second = Arc::new(AtomicU32::new(0));
    let running_worker =
        InProcessWorker::start(worker(&broker, &second).shutdown_grace(Duration::ZERO));
    until("the others run again", || async { second.load(Ordering::SeqCst) == 2 }).await;
    running_worker.stop().await;
    assert_eq!((runs.load(Ordering::SeqCst), second.load(Ordering::SeqCst)), (4, 2));
}

#[tokio::test]
async fn a_second_term_ends_a_task_with_early_ack_for_good() {
    let broker = BrokerProcess::start().await;
    let file = broker.home().join("never");
    let hold = |id: &str, early_ack| {
        let payload = json!([[file], {}]).to_string();
        wire::Task {
            queue: "held".into(),
            payload: payload.into(),
            early_ack,
            ..raw::task(id, "test.hold")
        }
    };
    let mut connection = RawConnection::open(broker.address()).await;
    connection.submit(vec![hold("once", true), hold("again", false)]).await;
    let mut worker = WorkerProcess::start(PROGRAM, &broker.url(), &["held"]);
    let mut lines = vec![worker.line().await, worker.line().await];
    lines.sort();
    assert_eq!(lines, ["started again 1", "started once 1"]);
    worker.terminate();
    worker.terminate_again(&broker).await;
    worker.exit().await;
    let info = connection.ended("once").await;
    assert_eq!((info.state(), info.attempts), (TaskState::Failure, 1));
    assert_eq!(info.errors.last().map(|error| error.kind.as_str()), Some("worker_lost"));
    let mut other = WorkerProcess::start(PROGRAM, &broker.url(), &["held"]);
    assert_eq!(other.line().await, "started again 1");
}
