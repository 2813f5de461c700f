//! Tasks that begin only when the broker has the report of their start, and what can come between
//! the report and its answer; tasks that come before their ETA; tasks that never begin.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use celeriac_proto::wire::cancel_signal::Kind as SignalKind;
use celeriac_proto::wire::task_report::Report;
use celeriac_proto::wire::{CancelSignal, Delivery, ErrorCode, TaskReport, server_frame};
use celeriac_worker::{Context, TaskFailure, Worker};

use crate::broker::{FakeBroker, Peer, Running, delivery, run, within, words};

/// A worker with one execution, and how often its handler has begun.
async fn one_execution() -> (Running, Peer, Arc<AtomicU32>) {
    let broker = FakeBroker::start().await;
    let begun = Arc::new(AtomicU32::new(0));
    let counting = begun.clone();
    let worker =
        run(Worker::builder(broker.url()).concurrency(1).credit(10).register_fn("count", {
            move |_context: Context, ()| {
                counting.fetch_add(1, Ordering::SeqCst);
                async { Ok::<_, TaskFailure>("done") }
            }
        }));
    let (session, _) = broker.welcome().await;
    (worker, session, begun)
}

fn told(lease: u64) -> Delivery {
    Delivery { report_start: true, ..delivery(lease, "count", "[[], {}]") }
}

fn says_not_begun(report: &TaskReport) -> bool {
    matches!(&report.report, Some(Report::Release(release)) if release.not_begun)
}

#[tokio::test]
async fn a_forced_cancel_before_the_start_was_answered_gives_the_lease_back_and_frees_the_execution()
 {
    let (mut worker, mut session, begun) = one_execution().await;
    session.deliver([told(1)]).await;
    let (started, reports) = session.batch().await;
    assert_eq!(words(&reports), ["1 started"]);
    let signal =
        CancelSignal { leases: vec![1], kind: SignalKind::Force.into(), reason: "test".to_owned() };
    session.push(server_frame::Body::CancelSignal(signal)).await;
    session.answer_batch(started, [ErrorCode::Unspecified]).await;
    let reports = session.reports(1).await;
    assert!(words(&reports) == ["1 release"] && says_not_begun(&reports[0]), "{reports:?}");
    session.deliver([delivery(2, "count", "[[], {}]")]).await;
    assert_eq!(session.words_but_starts(1).await, ["2 complete \"done\""]);
    assert_eq!(begun.load(Ordering::SeqCst), 1);
    worker.shut_down();
    assert_eq!(session.credit().await, 0);
    session.goodbye().await;
    within(worker.ended()).await.expect("in good order");
}

#[tokio::test]
async fn what_waits_for_the_answer_to_its_start_goes_back_at_once_when_the_worker_is_told_to_end() {
    let (mut worker, mut session, begun) = one_execution().await;
    session.deliver([told(1)]).await;
    let (started, reports) = session.batch().await;
    assert_eq!(words(&reports), ["1 started"]);
    worker.shut_down();
    assert_eq!(session.credit().await, 0);
    session.answer_batch(started, [ErrorCode::Unspecified]).await;
    let reports = session.reports(1).await;
    assert!(words(&reports) == ["1 release"] && says_not_begun(&reports[0]), "{reports:?}");
    session.goodbye().await;
    within(worker.ended()).await.expect("in good order");
    assert_eq!(begun.load(Ordering::SeqCst), 0);
}

/// The execution may have the answer already, and then counts as begun.
#[tokio::test]
async fn what_has_begun_is_no_longer_said_not_to_have() {
    let (mut worker, mut session, begun) = one_execution().await;
    session.deliver([told(1)]).await;
    assert_eq!(session.words(2).await, ["1 started", "1 complete \"done\""]);
    assert_eq!(begun.load(Ordering::SeqCst), 1);
    worker.shut_down();
    assert_eq!(session.credit().await, 0);
    session.goodbye().await;
    within(worker.ended()).await.expect("in good order");
}

#[tokio::test]
async fn a_task_that_was_called_off_does_not_begin_and_is_reported() {
    let (mut worker, mut session, begun) = one_execution().await;
    let called_off =
        Delivery { revoked_reason: "expired".to_owned(), ..delivery(1, "count", "[[], {}]") };
    session.deliver([called_off, delivery(2, "count", "[[], {}]")]).await;
    let words = session.words_but_starts(2).await;
    assert_eq!(words, ["1 reject revoked", "2 complete \"done\""]);
    assert_eq!(begun.load(Ordering::SeqCst), 1);
    worker.shut_down();
    assert_eq!(session.credit().await, 0);
    session.goodbye().await;
    within(worker.ended()).await.expect("in good order");
}

#[tokio::test]
async fn a_task_that_comes_before_its_eta_begins_at_its_eta() {
    let (mut worker, mut session, begun) = one_execution().await;
    let now_ms = || {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a time after 1970");
        now.as_millis() as i64
    };
    let eta_at_ms = now_ms() + 700;
    let early = |lease, eta_at_ms| Delivery {
        eta_at_ms: Some(eta_at_ms),
        ..delivery(lease, "count", "[[], {}]")
    };
    session.deliver([early(1, eta_at_ms)]).await;
    assert_eq!(session.words_but_starts(1).await, ["1 complete \"done\""]);
    assert!(now_ms() >= eta_at_ms, "the handler began before the eta");
    // A task that is taken back meanwhile does not begin.
    session.deliver([early(2, now_ms() + 3_600_000)]).await;
    let taken_back = CancelSignal {
        leases: vec![2],
        kind: SignalKind::TakenBack.into(),
        reason: "test".to_owned(),
    };
    session.push(server_frame::Body::CancelSignal(taken_back)).await;
    session.deliver([delivery(3, "count", "[[], {}]")]).await;
    let words = session.words_but_starts(1).await;
    assert!(words.contains(&"3 complete \"done\"".to_owned()), "{words:?}");
    assert_eq!(begun.load(Ordering::SeqCst), 2);
    worker.shut_down();
    assert_eq!(session.credit().await, 0);
    session.goodbye().await;
    within(worker.ended()).await.expect("in good order");
}
