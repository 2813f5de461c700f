//! Outcomes that clients put, from outside: the broker is killed between the steps, and workers
//! die.

use std::time::Duration;

use bytes::Bytes;
use celeriac_proto::wire::{self, ErrorCode, StoredOutcome, TaskState, submit_outcome::Kind};
use celeriac_proto::{OUTCOME_TASK_NAME, PROGRESS_TASK_NAME};
use celeriac_tests::raw::{self, Answer, Request};
use celeriac_tests::{BrokerProcess, RawConnection, Setup};

fn outcome(id: &str, lease: u64, state: &str, body: &[u8]) -> wire::TaskOutcome {
    wire::TaskOutcome {
        id: id.into(),
        lease,
        state: state.into(),
        body: Bytes::copy_from_slice(body),
        ..wire::TaskOutcome::default()
    }
}

async fn put_all(
    connection: &mut RawConnection,
    outcomes: Vec<wire::TaskOutcome>,
) -> Vec<StoredOutcome> {
    match connection.request(Request::PutOutcome(wire::PutOutcome { outcomes })).await {
        Ok(Answer::PutOutcomeReply(reply)) => reply.outcomes,
        other => panic!("no PutOutcomeReply but {other:?}"),
    }
}

/// The state and the generation after an outcome that the broker takes.
async fn put(connection: &mut RawConnection, outcome: wire::TaskOutcome) -> (TaskState, u32) {
    let stored = put_all(connection, vec![outcome]).await.pop().expect("one answer per outcome");
    assert_eq!(stored.error, None);
    (stored.state(), stored.generation)
}

async fn refused(connection: &mut RawConnection, outcome: wire::TaskOutcome) -> ErrorCode {
    let stored = put_all(connection, vec![outcome]).await.pop().expect("one answer per outcome");
    stored.error.expect("the broker refuses the outcome").code()
}

/// Kills the broker, starts it again, and connects.
async fn over_a_kill(broker: &mut BrokerProcess) -> RawConnection {
    broker.kill().await;
    broker.restart().await;
    RawConnection::open(broker.address()).await
}

#[tokio::test]
async fn an_outcome_of_a_run_survives_a_kill_between_each_pair_of_steps() {
    let mut broker = BrokerProcess::start().await;
    let mut worker = RawConnection::worker(broker.address(), &["default"], &["n"], 1).await;
    worker.submit_one(raw::task("task", "n")).await;
    let delivery = worker.delivery().await;
    let lease = delivery.lease;
    let mut child = over_a_kill(&mut broker).await;
    let started = put(&mut child, outcome("task", lease, "STARTED", b"{}")).await;
    assert_eq!(started, (TaskState::Started, 1));
    let mut child = over_a_kill(&mut broker).await;
    let info = child.info("task").await;
    assert_eq!((info.state(), info.attempts), (TaskState::Started, 1));
    put(&mut child, outcome("task", lease, "HALF", b"50")).await;
    let mut child = over_a_kill(&mut broker).await;
    let progress = child.info("task").await.progress.expect("the progress is kept");
    assert_eq!((&*progress.state, &*progress.meta), ("HALF", &b"50"[..]));
    put(&mut child, outcome("task", lease, "SUCCESS", b"3")).await;
    let mut child = over_a_kill(&mut broker).await;
    // The answer may have been lost: the same outcome comes again, and then another.
    for state in ["SUCCESS", "FAILURE"] {
        let again = put(&mut child, outcome("task", lease, state, b"4")).await;
        assert_eq!(again, (TaskState::Success, 1));
    }
    let mut worker = RawConnection::worker(broker.address(), &["default"], &["n"], 1).await;
    let counted = worker.report_one(raw::report(&delivery, raw::complete(b"5"))).await;
    assert_eq!((counted.code(), counted.state()), (ErrorCode::Unspecified, TaskState::Success));
    let stale = worker.report_one(raw::report(&delivery, raw::fail("late"))).await;
    assert_eq!(stale.code(), ErrorCode::StaleLease);
    let info = worker.info("task").await;
    assert_eq!((info.state(), info.generation, &*info.result), (TaskState::Success, 1, &b"3"[..]));
    assert!(worker.pushed_so_far().await.is_empty(), "the task came again");
}

#[tokio::test]
async fn a_worker_that_dies_after_its_outcome_was_put_causes_no_second_run() {
    let broker = Setup::new().set("heartbeat_ms = 200").set("lease_ms = 600").start().await;
    let mut worker = RawConnection::worker(broker.address(), &["default"], &["n"], 2).await;
    worker.submit(vec![raw::task("done", "n"), raw::task("open", "n")]).await;
    let deliveries = worker.deliveries(2).await;
    let mut child = RawConnection::open(broker.address()).await;
    let state = put(&mut child, outcome("done", deliveries[0].lease, "SUCCESS", b"1")).await;
    assert_eq!(state, (TaskState::Success, 1));
    drop(worker);
    let other = RawConnection::worker(broker.address(), &["default"], &["n"], 9).await;
    let mut other = other.beating(Duration::from_millis(100));
    // The tasks of the lost worker come in one step: so the other task would be here as well.
    assert_eq!(other.delivery().await.id, "open");
    assert_eq!(other.info("done").await.result, &b"1"[..]);
}

#[tokio::test]
async fn a_superseded_run_tells_only_of_its_retry_over_kills() {
    let mut broker = BrokerProcess::start().await;
    let mut worker = RawConnection::worker(broker.address(), &["default"], &["n"], 1).await;
    worker.submit_one(raw::task("task", "n")).await;
    let lease = worker.delivery().await.lease;
    let again = wire::Task {
        on_conflict: wire::OnConflict::Supersede.into(),
        supersedes_lease: lease,
        countdown_ms: Some(3_600_000),
        ..raw::task("task", "n")
    };
    assert_eq!(worker.submit_one(again).await.kind(), Kind::NewGeneration);
    let mut child = over_a_kill(&mut broker).await;
    for state in ["SUCCESS", "FAILURE", "REVOKED", "STARTED"] {
        let late = outcome("task", lease, state, b"");
        assert_eq!(refused(&mut child, late).await, ErrorCode::StaleLease, "{state}");
    }
    let error = wire::TaskError { message: "once more".into(), ..wire::TaskError::default() };
    let retry =
        wire::TaskOutcome { error: Some(error), ..outcome("task", lease, "RETRY", b"meta") };
    child.watch(&["task"]).await;
    assert_eq!(put(&mut child, retry).await, (TaskState::Scheduled, 2));
    assert_eq!(child.transition().await.version, 2);
    let mut child = over_a_kill(&mut broker).await;
    let info = child.info("task").await;
    assert_eq!((info.state(), info.generation), (TaskState::Scheduled, 2));
    assert_eq!(info.progress.expect("it is kept").meta, &b"meta"[..]);
    assert_eq!(info.errors[0].message, "once more");
}

#[tokio::test]
async fn a_waiting_task_that_was_revoked_by_its_outcome_never_runs() {
    let mut broker = BrokerProcess::start().await;
    let mut client = RawConnection::open(broker.address()).await;
    client.submit(vec![raw::task("revoked", "n"), raw::task("open", "n")]).await;
    let ended = put(&mut client, outcome("revoked", 0, "REVOKED", b"{}")).await;
    assert_eq!(ended, (TaskState::Revoked, 1));
    over_a_kill(&mut broker).await;
    let mut worker = RawConnection::worker(broker.address(), &["default"], &["n"], 9).await;
    assert_eq!(worker.delivery().await.id, "open");
    let info = worker.info("revoked").await;
    assert_eq!((info.state(), &*info.revoked_reason), (TaskState::Revoked, "revoked"));
}

#[tokio::test]
async fn an_id_without_a_task_keeps_its_outcome_over_kills_until_its_time_is_over() {
    let mut broker = BrokerProcess::start().await;
    let mut client = RawConnection::open(broker.address()).await;
    assert_eq!(put(&mut client, outcome("id", 0, "SAVED", b"[1]")).await, (TaskState::Success, 1));
    let mut client = over_a_kill(&mut broker).await;
    let info = client.info("id").await;
    assert_eq!((&*info.name, &*info.result), (PROGRESS_TASK_NAME, &b"[1]"[..]));
    assert_eq!(info.progress.expect("it says the state").state, "SAVED");
    let failed = put(&mut client, outcome("id", 0, "FAILURE", b"[2]")).await;
    assert_eq!(failed, (TaskState::Failure, 2));
    let mut client = over_a_kill(&mut broker).await;
    let info = client.info("id").await;
    assert_eq!(
        (&*info.name, info.state(), &*info.result, info.errors.len()),
        (OUTCOME_TASK_NAME, TaskState::Failure, &b"[2]"[..], 1)
    );
    let short =
        wire::TaskOutcome { result_ttl_ms: Some(1_000), ..outcome("id", 0, "SUCCESS", b"[3]") };
    assert_eq!(put(&mut client, short).await, (TaskState::Success, 3));
    let mut client = over_a_kill(&mut broker).await;
    celeriac_tests::within("the end of the result's time", async {
        while client.info("id").await.state() != TaskState::Unknown {
            // This test is about time itself.
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
    let mut client = over_a_kill(&mut broker).await;
    assert_eq!(client.info("id").await.state(), TaskState::Unknown);
    let unkept = wire::TaskOutcome { result_ttl_ms: Some(0), ..outcome("id", 0, "SUCCESS", b"") };
    put(&mut client, unkept).await;
    assert_eq!(client.info("id").await.state(), TaskState::Unknown);
}

#[tokio::test]
async fn each_field_of_an_outcome_is_checked_and_one_bad_outcome_spoils_no_other() {
    let broker = Setup::new().set("result_bytes_max = 1000").start().await;
    let mut client = RawConnection::open(broker.address()).await;
    let good = || outcome("good", 0, "SUCCESS", b"1");
    let long = "x".repeat(256);
    let invalid = [
        wire::TaskOutcome { id: String::new(), ..good() },
        wire::TaskOutcome { id: long.clone(), ..good() },
        wire::TaskOutcome { state: String::new(), ..good() },
        wire::TaskOutcome { state: long.clone(), ..good() },
        wire::TaskOutcome { content_type: long, ..good() },
        wire::TaskOutcome { result_ttl_ms: Some(u64::MAX), ..good() },
        wire::TaskOutcome { error: Some(wire::TaskError::default()), ..good() },
    ];
    let large = outcome("large", 0, "SUCCESS", &[0; 1_001]);
    let invented = outcome("invented", 99, "SUCCESS", b"");
    let count = invalid.len();
    let outcomes = invalid.into_iter().chain([large, invented, good()]).collect();
    let stored = put_all(&mut client, outcomes).await;
    let codes: Vec<_> = stored
        .iter()
        .map(|stored| stored.error.as_ref().map(|error| (error.code(), error.message.is_empty())))
        .collect();
    let mut expected = vec![Some((ErrorCode::InvalidArgument, false)); count];
    let others = [ErrorCode::ResultTooLarge, ErrorCode::StaleLease];
    expected.extend(others.map(|code| Some((code, false))));
    expected.push(None);
    assert_eq!(codes, expected);
    let none = Request::PutOutcome(wire::PutOutcome::default());
    let refusal = client.request(none).await.expect_err("a batch has at least one item");
    assert_eq!(refusal.code(), ErrorCode::InvalidArgument);
    for name in [OUTCOME_TASK_NAME, PROGRESS_TASK_NAME] {
        let error = client.submit_one(raw::task("id", name)).await.error;
        assert_eq!(error.map(|error| error.code()), Some(ErrorCode::InvalidArgument));
    }
}
