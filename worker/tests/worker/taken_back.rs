//! Leases that the broker takes back for an idle worker, at every moment of their life here: the
//! worker reports nothing of them, and the tasks do not run on.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use celeriac_proto::wire::cancel_signal::Kind as SignalKind;
use celeriac_proto::wire::{CancelSignal, ErrorCode, server_frame};
use celeriac_worker::{Context, TaskFailure, Worker};
use tokio::sync::{Notify, mpsc};

use crate::broker::{FakeBroker, Peer, Running, delivery, run, within, words};

/// The steps of a handler.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    Began(String),
    Dropped(String),
}

struct SayDropped(mpsc::UnboundedSender<Step>, String);

impl Drop for SayDropped {
    fn drop(&mut self) {
        // The test may be over.
        let _ = self.0.send(Step::Dropped(self.1.clone()));
    }
}

struct Setting {
    broker: FakeBroker,
    _worker: Running,
    gate: Arc<Notify>,
    steps: mpsc::UnboundedReceiver<Step>,
}

/// A worker with one execution and a handler `wait` that ends when the gate opens.
async fn one_execution() -> (Setting, Peer) {
    let broker = FakeBroker::start().await;
    let (said, steps) = mpsc::unbounded_channel();
    let gate = Arc::new(Notify::new());
    let builder = Worker::builder(broker.url()).concurrency(1).credit(10).register_fn("wait", {
        let gate = gate.clone();
        move |context: Context, ()| {
            let gate = gate.clone();
            let said = said.clone();
            async move {
                said.send(Step::Began(context.id().to_owned())).expect("the test listens");
                let _dropped = SayDropped(said, context.id().to_owned());
                gate.notified().await;
                Ok::<_, TaskFailure>("done")
            }
        }
    });
    let worker = run(builder);
    let (session, _) = broker.welcome().await;
    (Setting { broker, _worker: worker, gate, steps }, session)
}

async fn signal(session: &mut Peer, leases: &[u64], kind: SignalKind) {
    let signal =
        CancelSignal { leases: leases.to_vec(), kind: kind.into(), reason: "test".to_owned() };
    session.push(server_frame::Body::CancelSignal(signal)).await;
}

async fn take_back(session: &mut Peer, leases: &[u64]) {
    signal(session, leases, SignalKind::TakenBack).await;
}

/// Returns when a worker whose execution is busy has received everything so far: delivers one more
/// lease, cancels it, and waits for the answer.
async fn until_heard(session: &mut Peer) {
    deliver(session, [99]).await;
    signal(session, &[99], SignalKind::Cooperative).await;
    assert_eq!(session.words(1).await, ["99 release"]);
}

async fn deliver(session: &mut Peer, leases: impl IntoIterator<Item = u64>) {
    session.deliver(leases.into_iter().map(|lease| delivery(lease, "wait", "[[], {}]"))).await;
}

fn began(lease: u64) -> Option<Step> {
    Some(Step::Began(format!("task-{lease}")))
}

fn dropped(lease: u64) -> Option<Step> {
    Some(Step::Dropped(format!("task-{lease}")))
}

#[tokio::test]
async fn leases_taken_back_while_they_wait_are_dropped_silently() {
    let (mut setting, mut session) = one_execution().await;
    deliver(&mut session, 1..=5).await;
    assert_eq!(session.words(1).await, ["1 started"]);
    take_back(&mut session, &[2, 3, 5]).await;
    until_heard(&mut session).await;
    setting.gate.notify_one();
    // The remaining delivery follows at once, and nothing is reported of the others.
    let mut reports = session.words(2).await;
    reports.sort();
    assert_eq!(reports, ["1 complete \"done\"", "4 started"]);
    setting.gate.notify_one();
    assert_eq!(session.words(1).await, ["4 complete \"done\""]);
    deliver(&mut session, [7]).await;
    assert_eq!(session.words(1).await, ["7 started"]);
    let mut seen = Vec::new();
    for _ in 0..5 {
        seen.extend(within(setting.steps.recv()).await);
    }
    assert_eq!(
        Some(seen),
        [began(1), dropped(1), began(4), dropped(4), began(7)].into_iter().collect()
    );
}

#[tokio::test]
async fn a_start_that_crosses_the_taking_back_is_stopped_and_its_end_is_not_reported() {
    let (mut setting, mut session) = one_execution().await;
    deliver(&mut session, [1]).await;
    let (request_id, started) = session.batch().await;
    assert_eq!(words(&started), ["1 started"]);
    assert_eq!(within(setting.steps.recv()).await, began(1));
    // The signal was on its way when the handler began. The answer to the report of the start
    // comes after it.
    take_back(&mut session, &[1]).await;
    assert_eq!(within(setting.steps.recv()).await, dropped(1));
    session.answer_batch(request_id, [ErrorCode::StaleLease]).await;
    deliver(&mut session, [2]).await;
    assert_eq!(session.words(1).await, ["2 started"]);
}

#[tokio::test]
async fn a_start_that_is_answered_stale_is_stopped_even_without_a_signal() {
    let (mut setting, mut session) = one_execution().await;
    deliver(&mut session, [1, 2]).await;
    let (request_id, started) = session.batch().await;
    assert_eq!(words(&started), ["1 started"]);
    session.answer_batch(request_id, [ErrorCode::StaleLease]).await;
    assert_eq!(within(setting.steps.recv()).await, began(1));
    assert_eq!(within(setting.steps.recv()).await, dropped(1));
    assert_eq!(session.words(1).await, ["2 started"]);
    // The late signal has no effect.
    take_back(&mut session, &[1]).await;
    setting.gate.notify_one();
    assert_eq!(session.words(1).await, ["2 complete \"done\""]);
}

#[tokio::test]
async fn an_end_that_crosses_the_taking_back_is_reported_once_and_not_again() {
    let (mut setting, mut session) = one_execution().await;
    deliver(&mut session, [1]).await;
    setting.gate.notify_one();
    let batch = session.batch_with_end().await;
    take_back(&mut session, &[1]).await;
    session.answer_end(batch, ErrorCode::StaleLease).await;
    deliver(&mut session, [2]).await;
    assert_eq!(session.words(1).await, ["2 started"]);
    assert_eq!(within(setting.steps.recv()).await, began(1));
}

#[tokio::test]
async fn an_end_that_the_broker_could_not_take_is_not_sent_again_after_the_taking_back() {
    let (setting, mut session) = one_execution().await;
    deliver(&mut session, [1]).await;
    setting.gate.notify_one();
    let batch = session.batch_with_end().await;
    take_back(&mut session, &[1]).await;
    session.answer_end(batch, ErrorCode::Overloaded).await;
    deliver(&mut session, [2]).await;
    assert_eq!(session.words(1).await, ["2 started"]);
}

#[tokio::test]
async fn leases_taken_back_while_the_connection_was_lost_do_not_begin() {
    let (mut setting, mut session) = one_execution().await;
    deliver(&mut session, 1..=3).await;
    assert_eq!(session.words(1).await, ["1 started"]);
    drop(session);
    let mut session = setting.broker.resume(&[1, 3]).await;
    setting.gate.notify_one();
    let mut reports = session.words(2).await;
    reports.sort();
    assert_eq!(reports, ["1 complete \"done\"", "3 started"]);
    assert_eq!(within(setting.steps.recv()).await, began(1));
    assert_eq!(within(setting.steps.recv()).await, dropped(1));
    assert_eq!(within(setting.steps.recv()).await, began(3));
}

#[tokio::test]
async fn the_same_task_may_come_back_under_another_lease() {
    let broker = FakeBroker::start().await;
    let runs = Arc::new(AtomicU32::new(0));
    let gate = Arc::new(Notify::new());
    let builder = Worker::builder(broker.url()).concurrency(1).credit(10).register_fn("count", {
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
    let again = |lease| celeriac_proto::wire::Delivery {
        id: "same".to_owned(),
        ..delivery(lease, "count", "[[], {}]")
    };
    session.deliver([delivery(1, "count", "[[], {}]"), again(2)]).await;
    assert_eq!(session.words(1).await, ["1 started"]);
    take_back(&mut session, &[2]).await;
    session.deliver([again(3)]).await;
    until_heard(&mut session).await;
    gate.notify_one();
    let mut reports = session.words(2).await;
    reports.sort();
    assert_eq!(reports, ["1 complete 1", "3 started"]);
    gate.notify_one();
    assert_eq!(session.words(1).await, ["3 complete 2"]);
}
