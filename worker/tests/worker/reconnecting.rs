//! Lost connections and lost leases.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use celeriac_proto::wire::ErrorCode;
use celeriac_worker::{RunError, TaskFailure, Worker, WorkerBuilder};
use tokio::sync::{Notify, mpsc};

use crate::broker::{FakeBroker, delivery, run, within, words};

/// Sends its text when it is dropped.
struct Dropped(mpsc::UnboundedSender<String>, String);

impl Drop for Dropped {
    fn drop(&mut self) {
        let _ = self.0.send(std::mem::take(&mut self.1));
    }
}

/// A worker with a handler `wait` that ends when the gate opens, and says when it is gone.
fn waiting(
    broker: &FakeBroker,
    gate: &Arc<Notify>,
) -> (WorkerBuilder, mpsc::UnboundedReceiver<String>) {
    let (gone, receiver) = mpsc::unbounded_channel();
    let gate = gate.clone();
    let builder = Worker::builder(broker.url()).concurrency(2).credit(10).register_fn(
        "wait",
        move |context, ()| {
            let gate = gate.clone();
            let dropped = Dropped(gone.clone(), celeriac_worker::Context::id(&context).to_owned());
            async move {
                let _dropped = dropped;
                gate.notified().await;
                Ok::<_, TaskFailure>("done")
            }
        },
    );
    (builder, receiver)
}

#[tokio::test]
async fn a_report_whose_connection_broke_is_sent_again() {
    let broker = FakeBroker::start().await;
    let gate = Arc::new(Notify::new());
    let (builder, _gone) = waiting(&broker, &gate);
    let _worker = run(builder);
    let (mut session, _) = broker.welcome().await;
    session.deliver([delivery(1, "wait", "[[], {}]")]).await;
    assert_eq!(session.words(1).await, ["1 started"]);
    gate.notify_one();
    let (_, unanswered) = session.batch().await;
    assert_eq!(words(&unanswered), ["1 complete \"done\""]);
    drop(session);
    let mut session = broker.accept_hello().await;
    session.say_welcome(true, &[1]).await;
    // Credit and report may come in either order.
    let mut reported = Vec::new();
    for _ in 0..2 {
        let (request_id, body) = session.receive().await;
        match body {
            celeriac_proto::wire::client_frame::Body::Report(report) => {
                session
                    .answer_batch(request_id, report.reports.iter().map(|_| ErrorCode::Unspecified))
                    .await;
                reported = words(&report.reports);
            }
            body => assert!(
                matches!(body, celeriac_proto::wire::client_frame::Body::Credit(_)),
                "{body:?}"
            ),
        }
    }
    assert_eq!(reported, ["1 complete \"done\""]);
}

#[tokio::test]
async fn a_resumed_session_goes_on_with_its_leases_and_ignores_repeated_deliveries() {
    let broker = FakeBroker::start().await;
    let runs = Arc::new(AtomicU32::new(0));
    let gate = Arc::new(Notify::new());
    let builder = Worker::builder(broker.url()).concurrency(2).register_fn("count", {
        let (runs, gate) = (runs.clone(), gate.clone());
        move |_, ()| {
            let run = runs.fetch_add(1, Ordering::SeqCst) + 1;
            let gate = gate.clone();
            async move {
                gate.notified().await;
                Ok::<_, TaskFailure>(run)
            }
        }
    });
    let _worker = run(builder);
    let (mut session, _) = broker.welcome().await;
    session.deliver([delivery(1, "count", "[[], {}]")]).await;
    assert_eq!(session.words(1).await, ["1 started"]);
    drop(session);
    let mut session = broker.resume(&[1, 2]).await;
    session.deliver([delivery(1, "count", "[[], {}]"), delivery(2, "count", "[[], {}]")]).await;
    assert_eq!(session.words(1).await, ["2 started"]);
    gate.notify_one();
    assert_eq!(session.words(1).await, ["1 complete 1"]);
    gate.notify_one();
    assert_eq!(session.words(1).await, ["2 complete 2"]);
    assert_eq!(runs.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_lease_that_the_broker_lost_while_away_is_dropped() {
    let broker = FakeBroker::start().await;
    let gate = Arc::new(Notify::new());
    let (builder, mut gone) = waiting(&broker, &gate);
    let _worker = run(builder);
    let (mut session, _) = broker.welcome().await;
    session.deliver([delivery(1, "wait", "[[], {}]"), delivery(2, "wait", "[[], {}]")]).await;
    session.reports(2).await;
    drop(session);
    let mut session = broker.resume(&[2]).await;
    assert_eq!(within(gone.recv()).await.as_deref(), Some("task-1"));
    gate.notify_one();
    assert_eq!(session.words(1).await, ["2 complete \"done\""]);
}

#[tokio::test]
async fn a_lost_session_drops_its_handlers_and_reports_nothing_of_them() {
    let broker = FakeBroker::start().await;
    let gate = Arc::new(Notify::new());
    let (builder, mut gone) = waiting(&broker, &gate);
    let _worker = run(builder);
    let (mut session, _) = broker.welcome().await;
    session.deliver((1..=4).map(|lease| delivery(lease, "wait", "[[], {}]"))).await;
    session.reports(2).await;
    drop(session);
    let (mut session, _) = broker.welcome().await;
    let mut dropped = [within(gone.recv()).await, within(gone.recv()).await];
    dropped.sort();
    assert_eq!(dropped, [Some("task-1".to_owned()), Some("task-2".to_owned())]);
    // The first report of the new session is about a new lease.
    session.deliver([delivery(5, "wait", "[[], {}]")]).await;
    assert_eq!(session.words(1).await, ["5 started"]);
}

#[tokio::test]
async fn a_stale_lease_stops_its_handler() {
    let broker = FakeBroker::start().await;
    let gate = Arc::new(Notify::new());
    let (builder, mut gone) = waiting(&broker, &gate);
    let _worker = run(builder);
    let (mut session, _) = broker.welcome().await;
    session.deliver([delivery(1, "wait", "[[], {}]")]).await;
    let (request_id, started) = session.batch().await;
    assert_eq!(words(&started), ["1 started"]);
    session.answer_batch(request_id, [ErrorCode::StaleLease]).await;
    assert_eq!(within(gone.recv()).await.as_deref(), Some("task-1"));
    session.deliver([delivery(2, "wait", "[[], {}]")]).await;
    assert_eq!(session.words(1).await, ["2 started"]);
}

#[tokio::test]
async fn a_worker_that_is_not_let_in_ends_with_the_reason() {
    let broker = FakeBroker::start().await;
    let gate = Arc::new(Notify::new());
    let worker = run(waiting(&broker, &gate).0);
    let mut session = broker.accept_hello().await;
    let error = celeriac_proto::wire::Error {
        code: ErrorCode::Unauthenticated.into(),
        message: "the token is wrong".to_owned(),
        ..Default::default()
    };
    session.answer(1, celeriac_proto::wire::server_frame::Body::Error(error)).await;
    let error = worker.ended().await.expect_err("not let in");
    assert!(
        matches!(&error, RunError::Connection(_))
            && error.to_string().contains("the token is wrong"),
        "{error}"
    );
    assert!(!error.is_retryable());
}

#[tokio::test]
async fn an_address_that_is_none_is_an_error() {
    let error = Worker::builder("http://localhost")
        .build()
        .run(std::future::pending())
        .await
        .expect_err("no address");
    assert!(error.to_string().contains("celeriac://"), "{error}");
}
