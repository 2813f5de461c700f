//! Submits of an id that has a task, from outside: submits that come again under their key, tasks
//! beside others, handlers that submit their own id again, tasks before their eta.

use std::time::Duration;

use celeriac_client::{OnConflict, Submission};
use celeriac_proto::wire::{self, ErrorCode, TaskState, submit_outcome::Kind};
use celeriac_tests::raw;
use celeriac_tests::{BrokerProcess, RawConnection, Setup};

fn keyed(id: &str, key: &str, policy: wire::OnConflict) -> wire::Task {
    wire::Task { submit_key: key.into(), on_conflict: policy.into(), ..raw::task(id, "n") }
}

#[tokio::test]
async fn a_submit_is_known_again_by_its_key_over_a_kill_and_after_the_end() {
    let mut broker = BrokerProcess::start().await;
    let mut worker = RawConnection::worker(broker.address(), &["default"], &["n"], 1).await;
    let submit = || keyed("task", "one", wire::OnConflict::RunAgainIfFinished);
    assert_eq!(worker.submit_one(submit()).await.kind(), Kind::Created);
    let delivery = worker.delivery().await;
    worker.report_one(raw::report(&delivery, raw::complete(b"1"))).await;
    broker.kill().await;
    broker.restart().await;
    let mut producer = RawConnection::open(broker.address()).await;
    let again = producer.submit_one(submit()).await;
    assert_eq!(
        (again.kind(), again.generation, again.state()),
        (Kind::Joined, 1, TaskState::Success)
    );
    let other = keyed("task", "two", wire::OnConflict::RunAgainIfFinished);
    assert_eq!(producer.submit_one(other).await.kind(), Kind::NewGeneration);
}

#[tokio::test]
async fn two_submits_beside_each_other_both_run() {
    let broker = BrokerProcess::start().await;
    let mut worker = RawConnection::worker(broker.address(), &["default"], &["n"], 9).await;
    let first = worker.submit_one(keyed("task", "one", wire::OnConflict::Beside)).await;
    assert_eq!((first.kind(), &*first.id), (Kind::Created, ""));
    for kind in [Kind::Created, Kind::Joined] {
        let second = worker.submit_one(keyed("task", "two", wire::OnConflict::Beside)).await;
        assert_eq!((second.kind(), &*second.id), (kind, "task~two"));
    }
    for id in ["task", "task~two"] {
        let delivery = worker.delivery().await;
        assert_eq!(delivery.id, id);
        worker.report_one(raw::report(&delivery, raw::complete(id.as_bytes()))).await;
        assert_eq!(worker.info(id).await.result, id.as_bytes());
    }
    let keyless = keyed("task", "", wire::OnConflict::Beside);
    let long = keyed(&"x".repeat(255), "one", wire::OnConflict::Beside);
    worker.submit_one(long.clone()).await;
    let stray = wire::Task { supersedes_lease: 1, ..raw::task("other", "n") };
    let large = keyed("other", &"k".repeat(65), wire::OnConflict::Beside);
    for task in [keyless, wire::Task { submit_key: "two".into(), ..long }, stray, large] {
        let refused = worker.submit_one(task).await;
        let code = refused.error.map(|error| error.code());
        assert_eq!((refused.kind, code), (Kind::Refused.into(), Some(ErrorCode::InvalidArgument)));
    }
}

#[tokio::test]
async fn the_client_names_the_id_of_a_task_beside_another() {
    let broker = BrokerProcess::start().await;
    let client = broker.client().await;
    let submission = || Submission::new("n").task_id("task").on_conflict(OnConflict::Beside);
    let first = client.submit::<()>(submission()).await.expect("the broker takes it");
    assert_eq!(first.id(), "task");
    let second = submission();
    let ids = [
        client.submit::<()>(second.clone()).await.expect("the broker takes it").id().to_owned(),
        client.submit::<()>(second).await.expect("the broker knows it").id().to_owned(),
    ];
    assert!(ids[0].starts_with("task~") && ids[0] == ids[1], "{ids:?}");
}

#[tokio::test]
async fn a_handler_that_submits_its_own_id_again_has_one_run_whatever_becomes_of_it() {
    let mut broker = Setup::new().set("heartbeat_ms = 200").set("lease_ms = 600").start().await;
    let mut reader = RawConnection::open(broker.address()).await;
    reader.watch(&["task"]).await;
    let mut worker = RawConnection::worker(broker.address(), &["default"], &["n"], 1).await;
    worker.submit_one(raw::task("task", "n")).await;
    let delivery = worker.delivery().await;
    worker.report_one(raw::report(&delivery, raw::started())).await;
    let again = |lease| wire::Task {
        supersedes_lease: lease,
        countdown_ms: Some(100),
        ..keyed("task", "again", wire::OnConflict::Supersede)
    };
    let outcome = reader.submit_one(again(delivery.lease)).await;
    assert_eq!(
        (outcome.kind(), outcome.generation, outcome.state()),
        (Kind::NewGeneration, 2, TaskState::Scheduled)
    );
    broker.kill().await;
    broker.restart().await;
    let mut other = RawConnection::worker(broker.address(), &["default"], &["n"], 9).await;
    let second = other.delivery().await;
    assert_eq!((second.generation, second.attempt), (2, 1));
    let resent = other.submit_one(again(delivery.lease)).await;
    assert_eq!((resent.kind(), resent.generation), (Kind::Joined, 2));
    other.report_one(raw::report(&second, raw::complete(b"2"))).await;
    assert_eq!(other.info("task").await.generation, 2);
    for _ in 0..9 {
        // The lease of the superseded run would be lost in this time, with its worker.
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert_eq!(other.info("task").await.state(), TaskState::Success);
    }
    assert!(other.pushed_so_far().await.is_empty(), "the superseded run came back");
}

#[tokio::test]
async fn a_task_with_a_lead_comes_before_its_eta_and_names_it() {
    let broker = BrokerProcess::start().await;
    let mut worker = RawConnection::worker(broker.address(), &["default"], &["n"], 1).await;
    let early =
        wire::Task { countdown_ms: Some(5_000), lead_ms: Some(10_000), ..raw::task("early", "n") };
    worker.submit_one(early).await;
    let delivery = worker.delivery().await;
    let eta = delivery.eta_at_ms.expect("the delivery has the eta");
    assert_eq!(eta - delivery.submitted_at_ms, 5_000);
}

#[tokio::test]
async fn a_worker_announces_the_end_of_a_task_that_expired_before_it_began() {
    let broker = BrokerProcess::start().await;
    let mut worker = RawConnection::worker(broker.address(), &["default"], &["n"], 1).await;
    let task = wire::Task {
        countdown_ms: Some(3_600_000),
        expires_in_ms: Some(50),
        announce_end: true,
        ..raw::task("member", "n")
    };
    worker.submit_one(task).await;
    let delivery = worker.delivery().await;
    assert_eq!(delivery.revoked_reason, "expired");
    assert!(worker.info("member").await.cancel_requested);
    let outcome = worker.report_one(raw::report(&delivery, raw::complete(b""))).await;
    assert_eq!((outcome.code(), outcome.state()), (ErrorCode::Unspecified, TaskState::Revoked));
    assert_eq!(worker.info("member").await.revoked_reason, "expired");
}

#[tokio::test]
async fn a_task_that_is_forgotten_at_its_end_leaves_no_dead_task() {
    let broker = BrokerProcess::start().await;
    let mut worker = RawConnection::worker(broker.address(), &["default"], &["n"], 1).await;
    let passing = wire::Task { forget_at_end: true, ..raw::task("passing", "n") };
    worker.submit_one(passing).await;
    let delivery = worker.delivery().await;
    let reject = wire::task_report::Report::Reject(wire::Reject::default());
    let outcome = worker.report_one(raw::report(&delivery, reject)).await;
    assert_eq!((outcome.code(), outcome.state()), (ErrorCode::Unspecified, TaskState::Failure));
    assert_eq!(worker.info("passing").await.state(), TaskState::Unknown);
}
