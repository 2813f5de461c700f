//! Which worker gets which task, when and in which order, seen on raw connections.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use celeriac_proto::wire::submit_outcome::Kind;
use celeriac_proto::wire::{self, ErrorCode, TaskState, WaitingFor, task_report};
use celeriac_tests::raw::{self, Answer, Request};
use celeriac_tests::{BrokerProcess, RawConnection, Setup, until};

fn now_ms() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is past 1970");
    i64::try_from(now.as_millis()).expect("for a long time yet")
}

fn release() -> task_report::Report {
    task_report::Report::Release(wire::Release::default())
}

#[tokio::test]
async fn right_after_a_confirmed_submit_any_other_connection_sees_it() {
    let broker = BrokerProcess::start().await;
    let mut producer = RawConnection::open(broker.address()).await;
    let mut reader = RawConnection::open(broker.address()).await;
    for number in 0..50 {
        let id = format!("task-{number}");
        producer.submit_one(raw::task(&id, "n")).await;
        assert_eq!(reader.info(&id).await.state(), TaskState::Queued);
    }
    let later = wire::Task { countdown_ms: Some(3_600_000), ..raw::task("later", "n") };
    producer.submit_one(later).await;
    let info = reader.info("later").await;
    assert_eq!((info.state(), info.waiting_for()), (TaskState::Scheduled, WaitingFor::Time));
}

#[tokio::test]
async fn higher_priorities_go_first_and_equal_ones_in_order_of_submission() {
    let broker = BrokerProcess::start().await;
    let mut producer = RawConnection::open(broker.address()).await;
    let mut tasks = Vec::new();
    for (number, priority) in
        [Some(0), None, Some(9), Some(5), Some(9), None, Some(0)].into_iter().enumerate()
    {
        tasks.push(wire::Task { priority, ..raw::task(&format!("{number}"), "n") });
    }
    producer.submit(tasks).await;
    let mut worker = RawConnection::worker(broker.address(), &["default"], &["n"], 1).await;
    let mut order = Vec::new();
    for _ in 0..7 {
        let delivery = worker.delivery().await;
        worker.report_one(raw::report(&delivery, raw::complete(b"1"))).await;
        order.push(delivery.id);
    }
    assert_eq!(order, ["2", "4", "3", "1", "5", "0", "6"]);
}

#[tokio::test]
async fn no_session_holds_more_leases_than_its_credit() {
    let broker = BrokerProcess::start().await;
    let mut worker = RawConnection::worker(broker.address(), &["default"], &["n"], 0).await;
    worker.submit((0..10).map(|number| raw::task(&number.to_string(), "n")).collect()).await;
    assert_eq!(worker.pushed_so_far().await, []);
    worker.credit(3).await;
    let held = worker.deliveries(3).await;
    assert_eq!(worker.pushed_so_far().await, []);
    worker.report_one(raw::report(&held[0], raw::complete(b"1"))).await;
    worker.delivery().await;
    worker.credit(1).await;
    worker.report_one(raw::report(&held[1], raw::complete(b"1"))).await;
    assert_eq!(worker.pushed_so_far().await, [], "a lower credit waits until the leases are fewer");
}

#[tokio::test]
async fn a_task_whose_name_nobody_knows_waits_and_blocks_no_other() {
    let broker = BrokerProcess::start().await;
    let mut worker = RawConnection::worker(broker.address(), &["default"], &["known"], 10).await;
    worker.submit(vec![raw::task("first", "unknown"), raw::task("second", "known")]).await;
    assert_eq!(worker.delivery().await.id, "second");
    let waiting = worker.info("first").await;
    assert_eq!((waiting.state(), waiting.waiting_for()), (TaskState::Queued, WaitingFor::Worker));
    let mut newcomer = RawConnection::worker(broker.address(), &["default"], &["unknown"], 1).await;
    assert_eq!(newcomer.delivery().await.id, "first");
}

#[tokio::test]
async fn a_task_of_another_queue_is_not_delivered() {
    let broker = BrokerProcess::start().await;
    let mut worker = RawConnection::worker(broker.address(), &["mine"], &["n"], 10).await;
    let theirs = wire::Task { queue: "theirs".into(), ..raw::task("theirs", "n") };
    let mine = wire::Task { queue: "mine".into(), ..raw::task("mine", "n") };
    worker.submit(vec![theirs, mine]).await;
    assert_eq!(worker.delivery().await.id, "mine");
    assert_eq!(worker.pushed_so_far().await, []);
}

#[tokio::test]
async fn nothing_starts_before_its_eta() {
    let broker = BrokerProcess::start().await;
    let mut worker = RawConnection::worker(broker.address(), &["default"], &["n"], 10).await;
    let eta = now_ms() + 400;
    let late = wire::Task { eta_at_ms: Some(eta), ..raw::task("eta", "n") };
    let later = wire::Task { countdown_ms: Some(600), ..raw::task("countdown", "n") };
    let past = wire::Task { eta_at_ms: Some(1_000), ..raw::task("past", "n") };
    let submitted = now_ms();
    let outcomes = worker.submit(vec![later, late, past]).await;
    let states: Vec<_> = outcomes.iter().map(wire::SubmitOutcome::state).collect();
    assert_eq!(states, [TaskState::Scheduled, TaskState::Scheduled, TaskState::Queued]);
    assert_eq!(worker.delivery().await.id, "past");
    assert_eq!(worker.delivery().await.id, "eta");
    assert!(now_ms() >= eta, "delivered {} ms early", eta - now_ms());
    assert_eq!(worker.delivery().await.id, "countdown");
    assert!(now_ms() >= submitted + 600, "delivered {} ms early", submitted + 600 - now_ms());
}

#[tokio::test]
async fn a_task_that_nobody_started_in_time_is_revoked_with_and_without_a_worker() {
    let broker = BrokerProcess::start().await;
    let mut connection = RawConnection::open(broker.address()).await;
    let mut task = wire::Task { expires_in_ms: Some(200), ..raw::task("alone", "n") };
    connection.submit_one(task.clone()).await;
    let info = connection.ended("alone").await;
    assert_eq!((info.state(), info.revoked_reason.as_str()), (TaskState::Revoked, "expired"));

    let mut worker = RawConnection::worker(broker.address(), &["default"], &["n"], 1).await;
    worker.submit_one(raw::task("busy", "n")).await;
    let busy = worker.delivery().await;
    task.id = "behind".into();
    connection.submit_one(task).await;
    assert_eq!(connection.ended("behind").await.state(), TaskState::Revoked);
    worker.report_one(raw::report(&busy, raw::complete(b"1"))).await;
    assert_eq!(worker.pushed_so_far().await, [], "what was revoked never runs");
}

#[tokio::test]
async fn an_expiry_that_passes_while_the_broker_is_down_still_counts() {
    let mut broker = BrokerProcess::start().await;
    let task = wire::Task { expires_in_ms: Some(50), ..raw::task("task", "n") };
    RawConnection::open(broker.address()).await.submit_one(task).await;
    broker.kill().await;
    let due = now_ms() + 60;
    until("the expiry has passed", || async { now_ms() > due }).await;
    broker.restart().await;
    let mut worker = RawConnection::worker(broker.address(), &["default"], &["n"], 1).await;
    assert_eq!(worker.ended("task").await.revoked_reason, "expired");
    assert_eq!(worker.pushed_so_far().await, []);
}

#[tokio::test]
async fn a_released_task_goes_in_front_and_counts_no_attempt() {
    let broker = BrokerProcess::start().await;
    let mut worker = RawConnection::worker(broker.address(), &["default"], &["n"], 1).await;
    worker.submit(vec![raw::task("first", "n"), raw::task("second", "n")]).await;
    let delivery = worker.delivery().await;
    worker.report_one(raw::report(&delivery, release())).await;
    let again = worker.delivery().await;
    assert_eq!((again.id.as_str(), again.attempt), ("first", 1));
    assert!(again.lease > delivery.lease, "leases rise");
}

#[tokio::test]
async fn a_failed_attempt_is_tried_again_after_its_delay_until_none_is_left() {
    let broker = BrokerProcess::start().await;
    let mut worker = RawConnection::worker(broker.address(), &["default"], &["n"], 1).await;
    let retry = wire::RetryPolicy {
        max_attempts: Some(3),
        delay_ms: Some(100),
        backoff: wire::Backoff::Exponential.into(),
        ..Default::default()
    };
    worker.submit_one(wire::Task { retry: Some(retry), ..raw::task("task", "n") }).await;
    let mut waited = Vec::new();
    for attempt in 1..=3 {
        let delivery = worker.delivery().await;
        assert_eq!((delivery.attempt, delivery.attempts_max), (attempt, 3));
        worker.report_one(raw::report(&delivery, raw::started())).await;
        let outcome =
            worker.report_one(raw::report(&delivery, raw::fail(&format!("no {attempt}")))).await;
        assert_eq!(
            outcome.state(),
            if attempt < 3 { TaskState::Retry } else { TaskState::Failure }
        );
        let info = worker.info("task").await;
        if attempt < 3 {
            waited.push(
                info.eta_at_ms.expect("a retry has a time")
                    - info.errors.last().expect("an error").at_ms,
            );
        }
    }
    assert_eq!(waited, [100, 200], "the delay doubles");
    let info = worker.info("task").await;
    let messages: Vec<_> =
        info.errors.iter().map(|error| (error.attempt, error.message.as_str())).collect();
    assert_eq!((info.state(), info.attempts), (TaskState::Failure, 3));
    assert_eq!(messages, [(1, "no 1"), (2, "no 2"), (3, "no 3")]);
}

#[tokio::test]
async fn a_lost_connection_is_not_a_lost_worker() {
    let broker = BrokerProcess::start().await;
    let (mut worker, welcome) =
        RawConnection::greeted(broker.address(), raw::worker_hello(&["default"], &["n"])).await;
    worker.credit(5).await;
    worker.submit_one(raw::task("task", "n")).await;
    let delivery = worker.delivery().await;
    drop(worker);
    let hello =
        wire::Hello { session_id: welcome.session_id, ..raw::worker_hello(&["default"], &["n"]) };
    let (mut worker, welcome) = RawConnection::greeted(broker.address(), hello).await;
    assert_eq!((welcome.resumed, welcome.leases), (true, vec![delivery.lease]));
    assert_eq!(
        worker.report_one(raw::report(&delivery, raw::complete(b"1"))).await.code(),
        ErrorCode::Unspecified
    );
    assert_eq!(worker.info("task").await.deliveries, 1);
}

#[tokio::test]
async fn a_worker_keeps_its_lease_over_a_broker_restart() {
    let mut broker = BrokerProcess::start().await;
    let (mut worker, welcome) =
        RawConnection::greeted(broker.address(), raw::worker_hello(&["default"], &["n"])).await;
    worker.credit(5).await;
    worker.submit_one(raw::task("task", "n")).await;
    let delivery = worker.delivery().await;
    worker.report_one(raw::report(&delivery, raw::started())).await;
    broker.kill().await;
    broker.restart().await;
    let hello =
        wire::Hello { session_id: welcome.session_id, ..raw::worker_hello(&["default"], &["n"]) };
    let (mut worker, welcome) = RawConnection::greeted(broker.address(), hello).await;
    assert_eq!((welcome.resumed, welcome.leases), (true, vec![delivery.lease]));
    assert_eq!(
        worker.report_one(raw::report(&delivery, raw::complete(b"1"))).await.code(),
        ErrorCode::Unspecified
    );
    let info = worker.info("task").await;
    assert_eq!((info.state(), info.deliveries), (TaskState::Success, 1));
}

#[tokio::test]
async fn a_silent_worker_loses_its_leases_to_another() {
    let broker = Setup::new().set("heartbeat_ms = 100").set("lease_ms = 300").start().await;
    let mut silent = RawConnection::worker(broker.address(), &["default"], &["n"], 1).await;
    silent.submit_one(raw::task("task", "n")).await;
    let lost = silent.delivery().await;
    silent.report_one(raw::report(&lost, raw::started())).await;
    let other = RawConnection::worker(broker.address(), &["default"], &["n"], 1).await;
    let mut other = other.beating(Duration::from_millis(50));
    let again = other.delivery().await;
    assert!(again.lease > lost.lease && again.deliveries == 2, "{again:?}");
    // The silent worker was told, or finds out now. Its report changes nothing in either case.
    if let Ok(Answer::ReportReply(reply)) = silent
        .try_request(Request::Report(wire::Report {
            reports: vec![raw::report(&lost, raw::complete(b"late"))],
        }))
        .await
    {
        assert_eq!(reply.outcomes[0].code(), ErrorCode::StaleLease);
    }
    assert_eq!(other.info("task").await.state(), TaskState::Leased);
}

#[tokio::test]
async fn a_worker_that_says_goodbye_gives_its_tasks_back_at_once() {
    let broker = BrokerProcess::start().await;
    let mut leaving = RawConnection::worker(broker.address(), &["default"], &["n"], 1).await;
    leaving.submit_one(raw::task("task", "n")).await;
    leaving.delivery().await;
    leaving.send(Request::Goodbye(wire::Goodbye {}), 0).await.expect("the broker reads");
    let mut other = RawConnection::worker(broker.address(), &["default"], &["n"], 1).await;
    assert_eq!(other.delivery().await.id, "task");
}

#[tokio::test]
async fn a_reused_id_follows_the_conflict_policy() {
    let broker = BrokerProcess::start().await;
    let mut worker = RawConnection::worker(broker.address(), &["default"], &["n"], 1).await;
    let reject =
        wire::Task { on_conflict: wire::OnConflict::Reject.into(), ..raw::task("task", "n") };
    assert_eq!(worker.submit_one(raw::task("task", "n")).await.kind(), Kind::Created);
    let delivery = worker.delivery().await;
    let joined = worker.submit_one(raw::task("task", "n")).await;
    assert_eq!(
        (joined.kind(), joined.generation, joined.state()),
        (Kind::Joined, 1, TaskState::Leased)
    );
    worker.report_one(raw::report(&delivery, raw::complete(b"1"))).await;
    let refused = worker.submit_one(reject).await;
    assert_eq!(refused.error.map(|error| error.code()), Some(ErrorCode::TaskExists));
    let again = worker.submit_one(raw::task("task", "n")).await;
    assert_eq!((again.kind(), again.generation), (Kind::NewGeneration, 2));
    let second = worker.delivery().await;
    assert_eq!((second.generation, second.attempt, second.deliveries), (2, 1, 1));
    let stale = worker.report_one(raw::report(&delivery, raw::complete(b"1"))).await;
    assert_eq!(stale.code(), ErrorCode::StaleLease, "the first generation is over");
}

#[tokio::test]
async fn a_wait_is_answered_by_its_deadline_with_what_is_there() {
    let broker = BrokerProcess::start().await;
    let mut connection = RawConnection::open(broker.address()).await;
    connection.submit_one(raw::task("task", "n")).await;
    let wait = Request::Wait(wire::Wait { ids: vec!["task".into()], ..Default::default() });
    let Ok(Answer::WaitReply(reply)) = connection.request_with_timeout(wait, 100).await else {
        panic!("no reply")
    };
    assert!(!reply.satisfied);
    assert_eq!(reply.tasks[0].state(), TaskState::Queued);
}

#[tokio::test]
async fn a_watch_shows_every_transition_in_order_and_nothing_twice() {
    let broker = BrokerProcess::start().await;
    let mut watcher = RawConnection::open(broker.address()).await;
    let begun = watcher.watch(&["task"]).await;
    assert_eq!(begun.tasks[0].state(), TaskState::Unknown);
    let mut worker = RawConnection::worker(broker.address(), &["default"], &["n"], 1).await;
    worker.submit_one(raw::task("task", "n")).await;
    let delivery = worker.delivery().await;
    worker.report_one(raw::report(&delivery, raw::started())).await;
    let progress = task_report::Report::Progress(wire::ProgressReport {
        state: "DECODING".into(),
        meta: "7".into(),
    });
    worker.report_one(raw::report(&delivery, progress)).await;
    worker.report_one(raw::report(&delivery, raw::complete(b"42"))).await;
    let mut seen = Vec::new();
    let mut version = 0;
    while seen.last() != Some(&TaskState::Success) {
        let info = watcher.transition().await;
        assert!(info.version > version || seen.is_empty(), "versions rise: {info:?}");
        version = info.version;
        if info.progress.is_some() && info.state() == TaskState::Started {
            assert_eq!(
                info.progress.as_ref().map(|progress| progress.state.as_str()),
                Some("DECODING")
            );
        }
        seen.push(info.state());
        if info.state() == TaskState::Success {
            assert_eq!(&info.result[..], b"42");
        }
    }
    use TaskState::{Leased, Queued, Started, Success};
    assert_eq!(seen, [Queued, Leased, Started, Started, Success]);
}

#[tokio::test]
async fn an_ended_task_is_dropped_after_its_result_ttl_and_not_before() {
    let broker = BrokerProcess::start().await;
    let mut worker = RawConnection::worker(broker.address(), &["default"], &["n"], 2).await;
    let short = wire::Task { result_ttl_ms: Some(400), ..raw::task("short", "n") };
    let none = wire::Task { result_ttl_ms: Some(0), ..raw::task("none", "n") };
    worker.submit(vec![short, none]).await;
    for delivery in worker.deliveries(2).await {
        worker.report_one(raw::report(&delivery, raw::complete(b"1"))).await;
    }
    assert_eq!(worker.info("none").await.state(), TaskState::Unknown);
    let info = worker.info("short").await;
    let forget_at = info.forget_at_ms.expect("an ended task has an end");
    assert_eq!(forget_at - info.finished_at_ms.expect("it ended"), 400);
    let mut reader = RawConnection::open(broker.address()).await;
    if reader.watch(&["short"]).await.tasks[0].state() != TaskState::Unknown {
        assert_eq!(reader.transition().await.state(), TaskState::Unknown);
    }
    assert!(now_ms() >= forget_at, "dropped {} ms early", forget_at - now_ms());
}

#[tokio::test]
async fn a_waiting_task_that_is_cancelled_never_runs() {
    let broker = BrokerProcess::start().await;
    let mut connection = RawConnection::open(broker.address()).await;
    connection.submit_one(raw::task("task", "n")).await;
    let cancel = wire::Cancel { ids: vec!["task".into(), "nobody".into()], ..Default::default() };
    let Ok(Answer::CancelReply(reply)) = connection.request(Request::Cancel(cancel)).await else {
        panic!("no reply")
    };
    let kinds: Vec<_> = reply.outcomes.iter().map(wire::CancelOutcome::kind).collect();
    assert_eq!(kinds, [wire::cancel_outcome::Kind::Revoked, wire::cancel_outcome::Kind::NotFound]);
    let mut worker = RawConnection::worker(broker.address(), &["default"], &["n"], 1).await;
    assert_eq!(worker.pushed_so_far().await, []);
    assert_eq!(worker.info("task").await.state(), TaskState::Revoked);
}

#[tokio::test]
async fn tasks_that_run_go_on_when_their_queue_is_paused() {
    let broker = BrokerProcess::start().await;
    let mut worker = RawConnection::worker(broker.address(), &["default"], &["n"], 2).await;
    worker.submit_one(raw::task("runs", "n")).await;
    let delivery = worker.delivery().await;
    worker.report_one(raw::report(&delivery, raw::started())).await;
    let pause = wire::PauseQueues { queues: vec!["default".to_owned()], paused: true };
    worker.request(Request::PauseQueues(pause)).await.expect("answered");
    worker.submit_one(raw::task("waits", "n")).await;
    let outcome = worker.report_one(raw::report(&delivery, raw::complete(b"1"))).await;
    assert_eq!(outcome.state(), TaskState::Success);
    assert_eq!(worker.info("waits").await.waiting_for(), wire::WaitingFor::Queue);
}

#[tokio::test]
async fn a_worker_takes_from_its_queues_by_weight() {
    let broker = BrokerProcess::start().await;
    let mut producer = RawConnection::open(broker.address()).await;
    let task = |number: u32, queue: &str| wire::Task {
        queue: queue.to_owned(),
        ..raw::task(&format!("{queue}-{number}"), "n")
    };
    producer
        .submit(
            (0..18)
                .map(|number| task(number, if number < 9 { "often" } else { "seldom" }))
                .collect(),
        )
        .await;
    let mut hello = raw::worker_hello(&["often", "seldom"], &["n"]);
    hello.worker.as_mut().expect("a worker's").queues[0].weight = 2;
    let (mut worker, _) = RawConnection::greeted(broker.address(), hello).await;
    worker.credit(9).await;
    let often =
        worker.deliveries(9).await.iter().filter(|delivery| delivery.queue == "often").count();
    assert_eq!(often, 6, "two of three");
}

#[tokio::test]
async fn jitter_spreads_the_next_attempts_of_tasks_that_failed_together() {
    const HOUR_MS: i64 = 3_600_000;
    let broker = BrokerProcess::start().await;
    let mut worker = RawConnection::worker(broker.address(), &["default"], &["n"], 20).await;
    let retry = wire::RetryPolicy {
        backoff: wire::Backoff::Fixed.into(),
        delay_ms: Some(HOUR_MS as u64),
        delay_max_ms: Some(HOUR_MS as u64),
        jitter: wire::Jitter::Equal.into(),
        ..wire::RetryPolicy::default()
    };
    let task = |number| wire::Task { retry: Some(retry), ..raw::task(&format!("t{number}"), "n") };
    worker.submit((0..20).map(task).collect()).await;
    let mut delays = std::collections::BTreeSet::new();
    for delivery in worker.deliveries(20).await {
        worker.report_one(raw::report(&delivery, raw::fail("again"))).await;
        let info = worker.info(&delivery.id).await;
        let failed_at = info.errors.last().expect("why it failed").at_ms;
        delays.insert(info.eta_at_ms.expect("when it is tried again") - failed_at);
    }
    assert!(delays.iter().all(|delay| (HOUR_MS / 2..=HOUR_MS).contains(delay)), "{delays:?}");
    assert!(delays.len() > 10, "spread: {delays:?}");
}

#[tokio::test]
async fn a_retry_delay_that_was_asked_for_is_not_cut_by_a_cap_that_was_not() {
    const HOUR_MS: u64 = 3_600_000;
    let broker = BrokerProcess::start().await;
    let mut worker = RawConnection::worker(broker.address(), &["default"], &["n"], 20).await;
    let policy = wire::RetryPolicy {
        backoff: wire::Backoff::Exponential.into(),
        ..wire::RetryPolicy::default()
    };
    for (id, policy, expected) in [
        (
            "longer than the usual cap",
            wire::RetryPolicy { delay_ms: Some(HOUR_MS), ..policy },
            HOUR_MS,
        ),
        ("shorter", wire::RetryPolicy { delay_ms: Some(60_000), ..policy }, 60_000),
        (
            "capped",
            wire::RetryPolicy { delay_ms: Some(HOUR_MS), delay_max_ms: Some(5_000), ..policy },
            5_000,
        ),
    ] {
        let task = wire::Task { retry: Some(policy), ..raw::task(id, "n") };
        worker.submit(vec![task]).await;
        let delivery = worker.delivery().await;
        worker.report_one(raw::report(&delivery, raw::fail("again"))).await;
        let info = worker.info(id).await;
        let failed_at = info.errors.last().expect("why it failed").at_ms;
        assert_eq!(
            info.eta_at_ms.expect("when it is tried again") - failed_at,
            expected as i64,
            "{id}"
        );
    }
}
