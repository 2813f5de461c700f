//! Runs that end from outside: they are cancelled, exceed their limits, or the worker shuts down.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use celeriac_proto::wire::cancel_signal::Kind as SignalKind;
use celeriac_proto::wire::{CancelSignal, Order, order, server_frame};
use celeriac_worker::{Context, RunError, TaskFailure, Worker, WorkerBuilder, task};
use tokio::sync::Notify;

use crate::broker::{FakeBroker, Peer, delivery, run, within};

#[task]
async fn wait_for_ever() {
    std::future::pending().await
}

#[task]
async fn wait_for_cancel(context: Context) -> String {
    context.cancelled().await;
    "stopped".to_owned()
}

#[task]
async fn wait_for_soft_limit(context: &Context) -> String {
    context.soft_limit().await;
    format!("soft {} cancelled {}", context.is_soft_limit_over(), context.is_cancelled())
}

#[task]
fn block_until_cancelled(context: &Context) {
    while !context.is_cancelled() {
        std::thread::yield_now();
    }
}

#[task]
fn block_for_ever() {
    loop {
        std::thread::park();
    }
}

fn waiting(broker: &FakeBroker) -> WorkerBuilder {
    Worker::builder(broker.url())
        .register(wait_for_ever)
        .register(wait_for_cancel)
        .register(wait_for_soft_limit)
        .register(block_until_cancelled)
}

async fn signal(session: &mut Peer, lease: u64, kind: SignalKind) {
    let signal = CancelSignal { leases: vec![lease], kind: kind.into(), reason: "test".to_owned() };
    session.push(server_frame::Body::CancelSignal(signal)).await;
}

async fn order(session: &mut Peer, kind: order::Kind) {
    session.push(server_frame::Body::Order(Order { kind: kind.into() })).await;
}

#[tokio::test]
async fn a_cooperative_cancel_is_seen_by_the_handler() {
    let broker = FakeBroker::start().await;
    let _worker = run(waiting(&broker));
    let (mut session, _) = broker.welcome().await;
    session.deliver([delivery(1, "wait_for_cancel", "[[], {}]")]).await;
    assert_eq!(session.words(1).await, ["1 started"]);
    signal(&mut session, 1, SignalKind::Cooperative).await;
    assert_eq!(session.words(1).await, ["1 complete \"stopped\""]);
}

#[tokio::test]
async fn a_forced_cancel_drops_the_handler_and_frees_its_slot() {
    let broker = FakeBroker::start().await;
    let _worker = run(waiting(&broker).concurrency(1));
    let (mut session, _) = broker.welcome().await;
    session
        .deliver([
            delivery(1, "wait_for_ever", "[[], {}]"),
            delivery(2, "block_until_cancelled", "[[], {}]"),
        ])
        .await;
    assert_eq!(session.words(1).await, ["1 started"]);
    signal(&mut session, 1, SignalKind::Force).await;
    let mut words = session.words(2).await;
    words.sort();
    assert_eq!(words, ["1 release", "2 started"]);
    signal(&mut session, 2, SignalKind::Force).await;
    assert_eq!(session.words(1).await, ["2 release"]);
}

#[tokio::test]
async fn after_the_time_limit_signal_nothing_is_reported() {
    let broker = FakeBroker::start().await;
    let _worker = run(waiting(&broker).concurrency(1));
    let (mut session, _) = broker.welcome().await;
    session.deliver([delivery(1, "wait_for_ever", "[[], {}]")]).await;
    assert_eq!(session.words(1).await, ["1 started"]);
    signal(&mut session, 1, SignalKind::TimeLimit).await;
    session.deliver([delivery(2, "wait_for_ever", "[[], {}]")]).await;
    assert_eq!(session.words(1).await, ["2 started"]);
}

#[tokio::test]
async fn the_worker_watches_the_limits_too() {
    let broker = FakeBroker::start().await;
    let _worker = run(waiting(&broker));
    let (mut session, _) = broker.welcome().await;
    let mut soft = delivery(1, "wait_for_soft_limit", "[[], {}]");
    soft.soft_time_limit_ms = Some(1);
    session.deliver([soft]).await;
    assert_eq!(session.words_but_starts(1).await, ["1 complete \"soft true cancelled false\""]);
    for (lease, name) in [(2, "wait_for_ever"), (3, "block_until_cancelled")] {
        let mut hard = delivery(lease, name, "[[], {}]");
        hard.time_limit_ms = Some(1);
        session.deliver([hard]).await;
        let words = session.words_but_starts(1).await;
        assert!(
            words[0].starts_with(&format!("{lease} fail time_limit"))
                && words[0].ends_with("(final)"),
            "{words:?}"
        );
    }
}

#[tokio::test]
async fn shutdown_hands_back_what_has_not_begun_and_waits_for_what_runs() {
    let broker = FakeBroker::start().await;
    let gate = Arc::new(Notify::new());
    let builder = waiting(&broker).concurrency(1).credit(5).register_fn("finish", {
        let gate = gate.clone();
        move |_, ()| {
            let gate = gate.clone();
            async move {
                gate.notified().await;
                Ok::<_, TaskFailure>("done")
            }
        }
    });
    let mut worker = run(builder);
    let (mut session, _) = broker.welcome().await;
    session.deliver((1..=3).map(|lease| delivery(lease, "finish", "[[], {}]"))).await;
    assert_eq!(session.words(1).await, ["1 started"]);
    worker.shut_down();
    assert_eq!(session.credit().await, 0);
    assert_eq!(session.words(2).await, ["2 release", "3 release"]);
    // A delivery that was already on its way comes back too.
    session.deliver([delivery(4, "finish", "[[], {}]")]).await;
    assert_eq!(session.words(1).await, ["4 release"]);
    gate.notify_one();
    assert_eq!(session.words(1).await, ["1 complete \"done\""]);
    session.goodbye().await;
    worker.ended().await.expect("in good order");
}

#[tokio::test]
async fn after_the_grace_what_still_runs_is_handed_back() {
    let broker = FakeBroker::start().await;
    let mut worker = run(waiting(&broker).concurrency(2).shutdown_grace(Duration::from_millis(1)));
    let (mut session, _) = broker.welcome().await;
    session
        .deliver([
            delivery(1, "wait_for_ever", "[[], {}]"),
            delivery(2, "block_until_cancelled", "[[], {}]"),
        ])
        .await;
    let mut words = session.words(2).await;
    words.sort();
    assert_eq!(words, ["1 started", "2 started"]);
    worker.shut_down();
    assert_eq!(session.credit().await, 0);
    let mut words = session.words(2).await;
    words.sort();
    assert_eq!(words, ["1 release", "2 release"]);
    session.goodbye().await;
    worker.ended().await.expect("in good order");
}

#[tokio::test]
async fn a_worker_that_is_dropped_hands_everything_back() {
    let broker = FakeBroker::start().await;
    let worker = run(waiting(&broker).concurrency(1));
    let (mut session, _) = broker.welcome().await;
    session
        .deliver([
            delivery(1, "wait_for_ever", "[[], {}]"),
            delivery(2, "wait_for_ever", "[[], {}]"),
        ])
        .await;
    assert_eq!(session.words(1).await, ["1 started"]);
    worker.dropped().await;
    assert_eq!(session.credit().await, 0);
    let mut words = session.words(2).await;
    words.sort();
    assert_eq!(words, ["1 release", "2 release"]);
    session.goodbye().await;
}

#[tokio::test]
async fn quiet_and_resume_are_orders_of_the_broker() {
    let broker = FakeBroker::start().await;
    let _worker = run(waiting(&broker).concurrency(1).credit(5));
    let (mut session, _) = broker.welcome().await;
    session
        .deliver([
            delivery(1, "wait_for_cancel", "[[], {}]"),
            delivery(2, "wait_for_cancel", "[[], {}]"),
        ])
        .await;
    assert_eq!(session.words(1).await, ["1 started"]);
    order(&mut session, order::Kind::Quiet).await;
    assert_eq!(session.credit().await, 0);
    assert_eq!(session.words(1).await, ["2 release"]);
    order(&mut session, order::Kind::Resume).await;
    assert_eq!(session.credit().await, 5);
    signal(&mut session, 1, SignalKind::Cooperative).await;
    assert_eq!(session.words(1).await, ["1 complete \"stopped\""]);
}

#[tokio::test]
async fn a_quiet_worker_stays_quiet_in_its_session_until_it_is_told_to_resume() {
    let broker = FakeBroker::start().await;
    let _worker = run(waiting(&broker).concurrency(1).credit(5));
    let (mut session, _) = broker.welcome().await;
    order(&mut session, order::Kind::Quiet).await;
    assert_eq!(session.credit().await, 0);
    drop(session);
    let mut session = broker.accept_hello().await;
    session.say_welcome(true, &[]).await;
    assert_eq!(session.credit().await, 0);
    order(&mut session, order::Kind::Resume).await;
    assert_eq!(session.credit().await, 5);
    session.deliver([delivery(1, "wait_for_cancel", "[[], {}]")]).await;
    assert_eq!(session.words(1).await, ["1 started"]);
}

#[tokio::test]
async fn an_order_ends_with_the_session_that_it_was_given_to() {
    let broker = FakeBroker::start().await;
    let _worker = run(waiting(&broker).concurrency(1).credit(5));
    let (mut session, _) = broker.welcome().await;
    order(&mut session, order::Kind::Quiet).await;
    assert_eq!(session.credit().await, 0);
    drop(session);
    // The broker begins another session, which has no order.
    let (mut session, credit) = broker.welcome().await;
    assert_eq!(credit, 5);
    session.deliver([delivery(1, "wait_for_cancel", "[[], {}]")]).await;
    assert_eq!(session.words(1).await, ["1 started"]);
}

#[tokio::test]
async fn an_ordered_end_waits_for_what_runs_also_in_a_quiet_worker() {
    let broker = FakeBroker::start().await;
    let worker = run(waiting(&broker).concurrency(1).credit(5));
    let (mut session, _) = broker.welcome().await;
    session
        .deliver([
            delivery(1, "wait_for_cancel", "[[], {}]"),
            delivery(2, "wait_for_cancel", "[[], {}]"),
        ])
        .await;
    assert_eq!(session.words(1).await, ["1 started"]);
    order(&mut session, order::Kind::Quiet).await;
    assert_eq!(session.credit().await, 0);
    assert_eq!(session.words(1).await, ["2 release"]);
    order(&mut session, order::Kind::Shutdown).await;
    // This comes too late: the shutdown was ordered.
    order(&mut session, order::Kind::Resume).await;
    session.heartbeats(session.heartbeats.len() + 2).await;
    signal(&mut session, 1, SignalKind::Cooperative).await;
    assert_eq!(session.words(1).await, ["1 complete \"stopped\""]);
    session.goodbye().await;
    worker.ended().await.expect("in good order");
}

#[tokio::test]
async fn heartbeats_say_how_many_handlers_run_and_how_much_memory_is_used() {
    let broker = FakeBroker::start().await;
    let _worker = run(waiting(&broker).concurrency(2).credit(5));
    let (mut session, _) = broker.welcome().await;
    session.deliver((1..=3).map(|lease| delivery(lease, "wait_for_cancel", "[[], {}]"))).await;
    session.reports(2).await;
    for running in [2, 1] {
        while session.heartbeat().running != running {
            session.heartbeats(session.heartbeats.len() + 1).await;
        }
        if running == 2 {
            signal(&mut session, 3, SignalKind::TakenBack).await;
            signal(&mut session, 1, SignalKind::Cooperative).await;
            assert_eq!(session.words(1).await, ["1 complete \"stopped\""]);
        }
    }
    if cfg!(target_os = "linux") {
        assert!(session.heartbeat().memory_bytes > 1024 * 1024, "{:?}", session.heartbeat());
    }
}

#[tokio::test]
async fn the_broker_can_order_the_end() {
    let broker = FakeBroker::start().await;
    let worker = run(waiting(&broker));
    let (mut session, _) = broker.welcome().await;
    order(&mut session, order::Kind::Shutdown).await;
    session.goodbye().await;
    worker.ended().await.expect("in good order");
}

#[tokio::test]
async fn a_worker_whose_last_reports_nobody_answers_says_so_in_the_end() {
    let broker = FakeBroker::start().await;
    let mut worker = run(waiting(&broker).shutdown_grace(Duration::from_millis(1)));
    let (mut session, _) = broker.welcome().await;
    session
        .deliver([
            delivery(1, "wait_for_ever", "[[], {}]"),
            delivery(2, "wait_for_ever", "[[], {}]"),
        ])
        .await;
    assert_eq!(session.words(2).await, ["1 started", "2 started"]);
    drop((session, broker));
    worker.shut_down();
    let error = worker.ended().await.expect_err("the broker does not know");
    assert!(matches!(error, RunError::Unanswered { tasks: 2 }) && error.is_retryable(), "{error}");
}

#[tokio::test]
async fn a_worker_without_a_broker_can_be_ended() {
    let broker = FakeBroker::start().await;
    let builder = waiting(&broker);
    drop(broker);
    let mut worker = run(builder);
    worker.shut_down();
    worker.ended().await.expect("it had nothing to end");
}

#[test]
fn a_handler_that_blocks_the_runtime_does_not_stop_the_heartbeats() {
    let runtime =
        || tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let go_on = Arc::new(AtomicBool::new(false));
    runtime().block_on(async {
        let broker = FakeBroker::start().await;
        let builder = Worker::builder(broker.url()).register_fn("block", {
            let go_on = go_on.clone();
            move |_, ()| {
                let go_on = go_on.clone();
                async move {
                    // The worst case: the handler blocks the only thread of its runtime.
                    while !go_on.load(Ordering::SeqCst) {
                        std::thread::yield_now();
                    }
                    Ok::<_, TaskFailure>(())
                }
            }
        });
        let (end, ended) = tokio::sync::oneshot::channel::<()>();
        let worker = std::thread::spawn(move || {
            runtime().block_on(builder.build().run(async {
                let _ = ended.await;
            }))
        });
        let (mut session, _) = broker.welcome().await;
        session.deliver([delivery(1, "block", "[[], {}]")]).await;
        assert_eq!(session.words(1).await, ["1 started"]);
        let so_far = session.heartbeats.len();
        session.heartbeats(so_far + 3).await;
        go_on.store(true, Ordering::SeqCst);
        assert_eq!(session.words(1).await, ["1 complete null"]);
        end.send(()).expect("the worker listens");
        session.goodbye().await;
        worker.join().expect("no panic").expect("in good order");
    });
}

#[test]
fn a_blocking_handler_that_never_stops_does_not_keep_the_program_from_ending() {
    let (gone, is_gone) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let broker = FakeBroker::start().await;
            let builder =
                Worker::builder(broker.url()).concurrency(1).shutdown_grace(Duration::ZERO);
            let mut worker = run(builder.register(block_for_ever));
            let (mut session, _) = broker.welcome().await;
            session.deliver([delivery(1, "block_for_ever", "[[], {}]")]).await;
            assert_eq!(session.words(1).await, ["1 started"]);
            worker.shut_down();
            assert_eq!(session.credit().await, 0);
            assert_eq!(session.words(1).await, ["1 release"]);
            session.goodbye().await;
            worker.ended().await.expect("in good order");
        });
        drop(runtime);
        gone.send(()).expect("the test waits");
    });
    is_gone
        .recv_timeout(Duration::from_secs(20))
        .expect("the runtime is dropped while the handler's thread goes on");
}

/// The only test whose worker handles signals, which affect the whole process.
#[tokio::test]
async fn the_first_signal_gives_a_grace_and_the_second_none() {
    let broker = FakeBroker::start().await;
    let worker = tokio::spawn(waiting(&broker).concurrency(1).build().run_until_signalled());
    let (mut session, _) = broker.welcome().await;
    session
        .deliver([
            delivery(1, "wait_for_ever", "[[], {}]"),
            delivery(2, "wait_for_ever", "[[], {}]"),
        ])
        .await;
    assert_eq!(session.words(1).await, ["1 started"]);
    let terminate = || {
        let killed = std::process::Command::new("kill")
            .args(["-TERM", &std::process::id().to_string()])
            .status();
        assert!(killed.expect("there is `kill`").success());
    };
    terminate();
    assert_eq!(session.credit().await, 0);
    assert_eq!(session.words(1).await, ["2 release"]);
    terminate();
    assert_eq!(session.words(1).await, ["1 release"]);
    session.goodbye().await;
    within(worker).await.expect("no panic").expect("in good order");
}
