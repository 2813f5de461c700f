//! Reports and requests of workers of other systems, from outside: tasks that are settled before
//! they run, handlers whose process died, failures with a result, payloads for readers.

use bytes::Bytes;
use celeriac_client::{CancelMode, CancelOutcome};
use celeriac_proto::wire::{self, ErrorCode, TaskState, task_report::Report};
use celeriac_tests::raw::{self, Answer, Request};
use celeriac_tests::{BrokerProcess, RawConnection, Setup};

#[tokio::test]
async fn a_settled_task_whose_worker_is_lost_has_failed() {
    let broker = Setup::new().set("heartbeat_ms = 200").set("lease_ms = 600").start().await;
    let mut reader = RawConnection::open(broker.address()).await;
    let mut worker = RawConnection::worker(broker.address(), &["default"], &["n"], 1).await;
    for id in ["settled", "leased"] {
        reader.submit_one(raw::task(id, "n")).await;
    }
    let settled = worker.delivery().await;
    assert!(!settled.redelivered);
    let settle = raw::report(&settled, Report::Settle(wire::Settle {}));
    for _ in 0..2 {
        let outcome = worker.report_one(settle.clone()).await;
        assert_eq!((outcome.code(), outcome.state()), (ErrorCode::Unspecified, TaskState::Started));
    }
    // The settled lease left the credit of one.
    assert_eq!(worker.delivery().await.id, "leased");
    drop(worker);
    let lost = reader.ended("settled").await;
    assert_eq!((lost.state(), &*lost.errors[0].kind), (TaskState::Failure, "worker_lost"));
    let mut other = RawConnection::worker(broker.address(), &["default"], &["n"], 9).await;
    let again = other.delivery().await;
    assert_eq!((&*again.id, again.redelivered), ("leased", true));
}

#[tokio::test]
async fn a_settled_task_stays_settled_over_a_kill_of_the_broker() {
    let mut broker = Setup::new().set("heartbeat_ms = 200").set("lease_ms = 600").start().await;
    let mut worker = RawConnection::worker(broker.address(), &["default"], &["n"], 1).await;
    worker.submit_one(raw::task("settled", "n")).await;
    let settled = worker.delivery().await;
    worker.report_one(raw::report(&settled, Report::Settle(wire::Settle {}))).await;
    broker.kill().await;
    broker.restart().await;
    let mut reader = RawConnection::open(broker.address()).await;
    let lost = reader.ended("settled").await;
    assert_eq!((lost.state(), &*lost.errors[0].kind), (TaskState::Failure, "worker_lost"));
}

#[tokio::test]
async fn a_handler_whose_process_died_runs_again_and_counts() {
    let broker = BrokerProcess::start().await;
    let mut worker = RawConnection::worker(broker.address(), &["default"], &["n"], 1).await;
    worker.submit_one(raw::task("task", "n")).await;
    let first = worker.delivery().await;
    let both = wire::Release { not_begun: true, lost: true };
    let outcome = worker.report_one(raw::report(&first, Report::Release(both))).await;
    assert_eq!(outcome.code(), ErrorCode::InvalidArgument);
    let lost = wire::Release { lost: true, ..wire::Release::default() };
    worker.report_one(raw::report(&first, Report::Release(lost))).await;
    let second = worker.delivery().await;
    assert_eq!((second.attempt, second.deliveries, second.redelivered), (2, 2, true));
}

#[tokio::test]
async fn a_failure_shows_the_result_that_its_worker_reported() {
    let broker = BrokerProcess::start().await;
    let mut worker = RawConnection::worker(broker.address(), &["default"], &["n"], 1).await;
    worker.submit_one(raw::task("task", "n")).await;
    let delivery = worker.delivery().await;
    let fail = wire::Fail {
        error: Some(wire::TaskError { kind: "ValueError".into(), ..wire::TaskError::default() }),
        r#final: true,
        result: Bytes::from_static(b"{\"exc_type\":\"ValueError\"}"),
        content_type: "application/json".into(),
        result_ttl_ms: Some(3_600_000),
    };
    worker.report_one(raw::report(&delivery, Report::Fail(fail))).await;
    let info = worker.info("task").await;
    assert_eq!(info.state(), TaskState::Failure);
    assert_eq!(&info.result[..], b"{\"exc_type\":\"ValueError\"}");
    assert_eq!(info.result_content_type, "application/json");
    let kept_ms = info.forget_at_ms.expect("it ended") - info.finished_at_ms.expect("it ended");
    assert_eq!(kept_ms, 3_600_000);
}

#[tokio::test]
async fn a_cancel_of_what_waits_leaves_a_running_task_alone() {
    let broker = BrokerProcess::start().await;
    let client = broker.client().await;
    let mut worker = RawConnection::worker(broker.address(), &["default"], &["n"], 1).await;
    for id in ["runs", "waits"] {
        worker.submit_one(raw::task(id, "n")).await;
    }
    let runs = worker.delivery().await;
    worker.report_one(raw::report(&runs, raw::started())).await;
    let ids = ["runs", "waits", "nobody"];
    let outcomes = client.cancel(&ids, CancelMode::Waiting).await.expect("answered");
    let outcomes: Vec<CancelOutcome> = outcomes.iter().map(|one| one.outcome).collect();
    use CancelOutcome::{LeftRunning, NotFound, Revoked};
    assert_eq!(outcomes, [LeftRunning, Revoked, NotFound]);
    let info = worker.info("runs").await;
    assert_eq!((info.state(), info.cancel_requested), (TaskState::Started, false));
    assert!(worker.pushed_so_far().await.is_empty(), "the worker hears nothing");
    // The task has attempts left, and does not run again.
    let outcome = worker.report_one(raw::report(&runs, raw::fail("no"))).await;
    assert_eq!(outcome.state(), TaskState::Revoked);
}

#[tokio::test]
async fn a_reader_gets_payloads_when_it_asks_for_them() {
    let broker = BrokerProcess::start().await;
    let mut worker = RawConnection::worker(broker.address(), &["default"], &["n"], 1).await;
    let task = wire::Task { content_type: "text/plain".into(), ..raw::task("task", "n") };
    worker.submit_one(task).await;
    assert!(worker.info("task").await.payload.is_empty());
    let info = with_payload(&mut worker, "task").await;
    assert_eq!((&info.payload[..], &*info.content_type), (&b"[[],{}]"[..], "text/plain"));
    assert!(!info.payload_left_out);
}

#[tokio::test]
async fn a_payload_that_has_no_room_beside_the_result_is_left_out() {
    let broker = Setup::new()
        .set("frame_bytes_max = 2_000_000")
        .set("payload_bytes_max = 1_000_000")
        .set("result_bytes_max = 1_000_000")
        .start()
        .await;
    let mut worker = RawConnection::worker(broker.address(), &["default"], &["n"], 1).await;
    let large = vec![b'x'; 999_999];
    worker.submit_one(wire::Task { payload: large.clone().into(), ..raw::task("task", "n") }).await;
    let delivery = worker.delivery().await;
    let fail = wire::Fail { r#final: true, result: large.clone().into(), ..wire::Fail::default() };
    worker.report_one(raw::report(&delivery, Report::Fail(fail))).await;
    let info = with_payload(&mut worker, "task").await;
    assert_eq!((info.payload_left_out, info.payload.len()), (true, 0));
    assert_eq!(info.result.len(), large.len());
    let get = wire::Get { ids: vec!["task".into()], with_results: false, with_payloads: true };
    let Ok(Answer::GetReply(alone)) = worker.request(Request::Get(get)).await else {
        panic!("no GetReply")
    };
    assert_eq!(alone.tasks[0].payload.len(), large.len());
}

/// A task with its result and its payload.
async fn with_payload(reader: &mut RawConnection, id: &str) -> wire::TaskInfo {
    let get = wire::Get { ids: vec![id.into()], with_results: true, with_payloads: true };
    match reader.request(Request::Get(get)).await {
        Ok(Answer::GetReply(mut reply)) => reply.tasks.pop().expect("one answer per id"),
        other => panic!("no GetReply but {other:?}"),
    }
}
