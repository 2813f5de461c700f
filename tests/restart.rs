//! kill -9 while producers and workers are at it: nothing confirmed is lost, nothing runs after its
//! confirmed end, and everybody goes on by themselves. `RUNS=1000` kills for longer.

use std::time::{Duration, Instant};

use celeriac_proto::wire::TaskState;
use celeriac_tests::traffic::Traffic;
use celeriac_tests::{BrokerProcess, RawConnection, raw, runs, until, within};

const KILLS: usize = 5;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_confirmed_is_lost_over_kills_and_restarts() {
    let mut broker = BrokerProcess::start().await;
    let traffic = Traffic::new(broker.address());
    let producers: Vec<_> = (0..4).map(|number| tokio::spawn(traffic.clone().produce(number))).collect();
    let workers: Vec<_> = (0..4).map(|number| tokio::spawn(traffic.clone().work(number))).collect();
    for kill in 0..runs(KILLS) {
        // Each life has to get something done, and dies at another moment of it.
        let enough = traffic.finished() + 200 + 137 * (kill as u64 % 7);
        until("the next tasks have ended", || async { traffic.finished() >= enough }).await;
        broker.kill().await;
        traffic.begin_next_life();
        broker.restart().await;
    }
    let enough = traffic.finished() + 200;
    until("tasks end in the last life", || async { traffic.finished() >= enough }).await;
    traffic.stop_producing();
    for producer in producers {
        within("a producer to confirm its last batch", producer).await.expect("no producer panics");
    }
    traffic.read_all().await;
    traffic.stop_working();
    for worker in workers {
        within("a worker to end", worker).await.expect("no worker panics");
    }
    assert!(!traffic.history().confirmed().is_empty());
    traffic.history().assert_kept();
}

#[tokio::test]
async fn a_broker_that_is_killed_while_it_starts_starts_again() {
    let mut broker = BrokerProcess::start().await;
    RawConnection::open(broker.address()).await.submit_one(raw::task("task", "n")).await;
    let data = broker.data().to_owned();
    broker.kill().await;
    for run in 0..runs(20) {
        let mut starting = tokio::process::Command::new(celeriac_tests::celeriac_binary())
            .args(["serve", "--listen", "127.0.0.1:0", "--data"])
            .arg(&data)
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .expect("the broker can be started");
        // The moment of death is the point of this test: 1 to 40 ms after the start.
        tokio::time::sleep(Duration::from_millis(1 + (run as u64 * 7) % 40)).await;
        starting.kill().await.expect("our own child can be killed");
    }
    broker.restart().await;
    assert_eq!(RawConnection::open(broker.address()).await.info("task").await.state(), TaskState::Queued);
}

#[tokio::test]
async fn term_commits_closes_and_exits_with_0() {
    let mut broker = BrokerProcess::start().await;
    let mut connection = RawConnection::open(broker.address()).await;
    connection.submit_one(raw::task("task", "n")).await;
    let begun = Instant::now();
    let exit = broker.stop().await;
    assert_eq!(exit.status.code(), Some(0), "{exit:?}");
    assert!(begun.elapsed() < Duration::from_secs(5), "it took {:?}", begun.elapsed());
    connection.closed_with().await;
    broker.restart().await;
    assert_eq!(RawConnection::open(broker.address()).await.info("task").await.state(), TaskState::Queued);
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
