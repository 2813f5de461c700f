//! What a broker says on SIGTERM, and what it still has after a restart. `faults.rs` kills brokers
//! with SIGKILL.

use std::time::{Duration, Instant};

use celeriac_proto::wire::{self, ErrorCode, TaskState};
use celeriac_tests::{BrokerProcess, RawConnection, raw};

#[tokio::test]
async fn term_commits_closes_and_exits_with_0() {
    let mut broker = BrokerProcess::start().await;
    let mut connection = RawConnection::open(broker.address()).await;
    connection.submit_one(raw::task("task", "n")).await;
    let begun = Instant::now();
    let exit = broker.stop().await;
    assert_eq!(exit.status.code(), Some(0), "{exit:?}");
    assert!(begun.elapsed() < Duration::from_secs(5), "it took {:?}", begun.elapsed());
    let closing = connection.closed_with().await.expect("it says why");
    assert_eq!(
        (closing.code(), closing.retryable, closing.retry_after_ms),
        (ErrorCode::ShuttingDown, true, 1_000)
    );
    broker.restart().await;
    assert_eq!(
        RawConnection::open(broker.address()).await.info("task").await.state(),
        TaskState::Queued
    );
}

#[tokio::test]
async fn a_version_names_one_state_over_a_restart() {
    let mut broker = BrokerProcess::start().await;
    let mut connection = RawConnection::open(broker.address()).await;
    connection.submit_one(wire::Task { countdown_ms: Some(50), ..raw::task("task", "n") }).await;
    let queued = connection.reached("task", TaskState::Queued).await;
    broker.kill().await;
    broker.restart().await;
    let mut worker = RawConnection::worker(broker.address(), &["default"], &["n"], 0).await;
    let again = worker.info("task").await;
    assert_eq!((again.state(), again.version), (TaskState::Queued, queued.version));
    worker.credit(1).await;
    worker.delivery().await;
    let leased = worker.info("task").await;
    assert_eq!(leased.state(), TaskState::Leased);
    assert!(leased.version > queued.version, "{} after {}", leased.version, queued.version);
}

#[tokio::test]
async fn a_restart_loses_no_lease_number_no_retry_count_and_no_schedule() {
    let mut broker = BrokerProcess::start().await;
    let mut worker = RawConnection::worker(broker.address(), &["default"], &["n"], 1).await;
    worker.submit_one(raw::task("first", "n")).await;
    let before = worker.delivery().await;
    worker.report_one(raw::report(&before, raw::started())).await;
    worker.report_one(raw::report(&before, raw::fail("once"))).await;
    let due = worker.info("first").await.eta_at_ms;
    broker.kill().await;
    broker.restart().await;
    let mut worker = RawConnection::worker(broker.address(), &["default"], &["n"], 1).await;
    let info = worker.info("first").await;
    assert_eq!((info.attempts, info.eta_at_ms), (1, due));
    let after = worker.delivery().await;
    assert_eq!(after.attempt, 2);
    assert!(after.lease > before.lease, "{} after {}", after.lease, before.lease);
}
