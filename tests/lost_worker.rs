//! Worker processes that die or are told to end while they run a task.

use std::fs;

use celeriac_proto::wire;
use celeriac_proto::wire::TaskState;
use celeriac_tests::{BrokerProcess, RawConnection, Setup, WorkerProcess, raw, until};

const PROGRAM: &str = env!("CARGO_BIN_EXE_celeriac-test-worker");

fn hold(id: &str, file: &std::path::Path) -> wire::Task {
    let payload = serde_json::json!([[file], {}]).to_string();
    wire::Task { queue: "held".into(), payload: payload.into(), ..raw::task(id, "test.hold") }
}

#[tokio::test]
async fn the_task_of_a_killed_worker_is_run_again_by_another() {
    let broker = Setup::new().set("heartbeat_ms = 200").set("lease_ms = 600").start().await;
    let file = broker.home().join("go on");
    let mut connection = RawConnection::open(broker.address()).await;
    connection.submit_one(hold("task", &file)).await;
    let mut first = WorkerProcess::start(PROGRAM, &broker.url(), &["held"]);
    assert_eq!(first.line().await, "started task 1");
    connection.reached("task", TaskState::Started).await;
    let first_pid = first.pid();
    let mut second = WorkerProcess::start(PROGRAM, &broker.url(), &["held"]);
    first.kill().await;
    assert!(second.line().await.starts_with("started task"), "another worker begins it");
    assert_eq!(connection.reached("task", TaskState::Started).await.deliveries, 2);
    fs::write(&file, "").expect("the temporary folder is writable");
    let info = connection.ended("task").await;
    assert_eq!(info.state(), TaskState::Success);
    let by: u32 = serde_json::from_slice(&info.result).expect("the result is a process id");
    assert!(by == second.pid() && by != first_pid, "run by {by}");
}

fn poison(id: &str) -> wire::Task {
    wire::Task { queue: "held".into(), payload: "[[],{}]".into(), ..raw::task(id, "test.poison") }
}

#[tokio::test]
async fn one_task_that_kills_its_workers_takes_no_other_with_it() {
    let broker = Setup::new().set("heartbeat_ms = 100").set("lease_ms = 300").start().await;
    let mut connection = RawConnection::open(broker.address()).await;
    let echo = |number: u32| wire::Task {
        queue: "held".into(),
        payload: "[[\"text\"],{}]".into(),
        ..raw::task(&format!("task-{number}"), "test.echo")
    };
    let retry = wire::RetryPolicy { max_attempts: Some(3), ..Default::default() };
    connection.submit((0..4).map(echo).collect()).await;
    connection.submit_one(wire::Task { retry: Some(retry), ..poison("poison") }).await;
    connection.submit((4..40).map(echo).collect()).await;
    // The poison ends each worker until it has used up its attempts. The last worker runs the
    // harmless tasks.
    let mut attempts = Vec::new();
    while connection.info("poison").await.state() != TaskState::Failure {
        let worker = WorkerProcess::start(PROGRAM, &broker.url(), &["held"]);
        attempts.extend(
            worker.lines_until_exit().await.into_iter().filter(|line| line.starts_with("poisoned")),
        );
        assert!(attempts.len() <= 3, "{attempts:?}");
        until("the loss is noticed", || async {
            let state = RawConnection::open(broker.address()).await.info("poison").await.state();
            !matches!(state, TaskState::Leased | TaskState::Started)
        })
        .await;
    }
    let _harmless = WorkerProcess::start(PROGRAM, &broker.url(), &["held"]);
    for number in 0..40 {
        let info = connection.ended(&format!("task-{number}")).await;
        assert_eq!(info.state(), TaskState::Success, "{info:?}");
    }
    let info = connection.info("poison").await;
    // The first two tasks may have ended before they were reported. The last one does not begin
    // before that.
    assert!((1..=3).contains(&info.attempts), "{info:?}");
    assert_eq!(info.errors.last().map(|error| error.kind.as_str()), Some("worker_lost"));
    assert_eq!(attempts.len(), 3, "{attempts:?}");
}

#[tokio::test]
async fn a_task_with_one_attempt_that_kills_its_worker_runs_once() {
    let broker = Setup::new().set("heartbeat_ms = 100").set("lease_ms = 300").start().await;
    let mut connection = RawConnection::open(broker.address()).await;
    let retry = wire::RetryPolicy { max_attempts: Some(1), ..Default::default() };
    connection.submit_one(wire::Task { retry: Some(retry), ..poison("once") }).await;
    let worker = WorkerProcess::start(PROGRAM, &broker.url(), &["held"]);
    assert_eq!(worker.lines_until_exit().await, ["poisoned by once 1"]);
    let info = connection.ended("once").await;
    assert_eq!((info.state(), info.attempts, info.deliveries), (TaskState::Failure, 1, 1));
}

#[tokio::test]
async fn a_busy_worker_process_keeps_its_lease_for_longer_than_the_lease_time() {
    let broker = Setup::new().set("heartbeat_ms = 50").set("lease_ms = 150").start().await;
    let file = broker.home().join("go on");
    let mut connection = RawConnection::open(broker.address()).await;
    connection.submit_one(hold("task", &file)).await;
    let mut worker = WorkerProcess::start(PROGRAM, &broker.url(), &["held"]);
    assert_eq!(worker.line().await, "started task 1");
    // Waits for five lease times, counted by the broker: a wait that times out.
    let wait = wire::Wait { ids: vec!["task".into()], ..Default::default() };
    let answer = connection.request_with_timeout(raw::Request::Wait(wait), 750).await;
    assert!(matches!(answer, Ok(raw::Answer::WaitReply(reply)) if !reply.satisfied));
    fs::write(&file, "").expect("the temporary folder is writable");
    let info = connection.ended("task").await;
    assert_eq!((info.state(), info.deliveries), (TaskState::Success, 1));
}

#[tokio::test]
async fn term_lets_a_running_task_end_and_gives_unstarted_ones_back() {
    let broker = BrokerProcess::start().await;
    let file = broker.home().join("go on");
    let mut connection = RawConnection::open(broker.address()).await;
    connection.submit((0..6).map(|number| hold(&format!("task-{number}"), &file)).collect()).await;
    let mut worker = WorkerProcess::start(PROGRAM, &broker.url(), &["held"]);
    let mut running = vec![worker.line().await, worker.line().await];
    running.sort();
    assert_eq!(running, ["started task-0 1", "started task-1 1"]);
    worker.terminate();
    for number in 2..6 {
        let id = format!("task-{number}");
        until("the unstarted ones are back", || async {
            // Each question uses its own connection, because the closure cannot hold the other one.
            let mut asking = RawConnection::open(broker.address()).await;
            asking.info(&id).await.state() == TaskState::Queued
        })
        .await;
    }
    fs::write(&file, "").expect("the temporary folder is writable");
    assert_eq!(connection.ended("task-0").await.state(), TaskState::Success);
    assert_eq!(connection.ended("task-1").await.state(), TaskState::Success);
    assert!(worker.exit().await.success(), "a worker that was told to end ends well");
    assert_eq!(connection.info("task-2").await.attempts, 0);
}

#[tokio::test]
async fn a_second_term_gives_running_tasks_back_at_once() {
    let broker = BrokerProcess::start().await;
    let file = broker.home().join("never");
    let mut connection = RawConnection::open(broker.address()).await;
    connection.submit_one(hold("task", &file)).await;
    let mut worker = WorkerProcess::start(PROGRAM, &broker.url(), &["held"]);
    assert_eq!(worker.line().await, "started task 1");
    worker.terminate();
    worker.terminate_again(&broker).await;
    worker.exit().await;
    let mut other = WorkerProcess::start(PROGRAM, &broker.url(), &["held"]);
    assert!(other.line().await.starts_with("started task"), "another worker begins it");
}
