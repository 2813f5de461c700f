//! What operators do with queues, dead tasks and workers, through the client crate.

use std::time::Duration;

use celeriac_client::{
    Client, Error, ErrorCode, QueueSettings, State, Submission, TaskFilter, WaitingFor, WorkerOrder,
};
use celeriac_proto::wire::{self, ErrorCode as WireCode};
use celeriac_tests::raw::{self, Answer, Request};
use celeriac_tests::{BrokerProcess, InProcessWorker, PATIENCE, RawConnection, until};
use celeriac_worker::{Context, TaskFailure, Worker, WorkerBuilder};

/// A worker with `fine`, which succeeds, and `broken`, which fails for good.
fn worker(broker: &BrokerProcess) -> WorkerBuilder {
    Worker::builder(broker.url())
        .queues(["default"])
        .register_fn("fine", |_: Context, (): ()| async { Ok::<_, TaskFailure>(()) })
        .register_fn("broken", |_: Context, (): ()| async {
            Err::<(), _>(TaskFailure::fatal("Broken", "for good"))
        })
}

fn ids(page: &celeriac_client::TaskPage) -> Vec<&str> {
    page.tasks.iter().map(|task| task.id.as_str()).collect()
}

#[tokio::test]
async fn a_paused_queue_stays_paused_over_a_restart() {
    let mut broker = BrokerProcess::start().await;
    let before = broker.client().await;
    before.pause_queues(&["default"]).await.expect("answered");
    let task = before
        .submit::<()>(Submission::new("fine").task_id("task"))
        .await
        .expect("a pause stops no submit");
    assert_eq!(task.info().await.expect("known").waiting_for, WaitingFor::Queue);
    broker.kill().await;
    broker.restart().await;
    let after = broker.client().await;
    let _pool = InProcessWorker::start(worker(&broker));
    let free = after
        .submit::<()>(Submission::new("fine").queue("default").task_id("free"))
        .await
        .expect("submitted");
    until("the worker is there", || async { !after.workers().await.expect("answered").is_empty() })
        .await;
    let infos = after.info(&["task", "free"]).await.expect("answered");
    assert!(infos.iter().all(|info| info.waiting_for == WaitingFor::Queue), "{infos:?}");
    after.resume_queues(&["default"]).await.expect("answered");
    free.get(PATIENCE).await.expect("it succeeds");
    after.result::<()>("task").get(PATIENCE).await.expect("it succeeds");
}

#[tokio::test]
async fn a_full_queue_says_when_to_come_again() {
    let broker = BrokerProcess::start().await;
    let client = broker.client().await;
    let bounded = QueueSettings { tasks_max: Some(1), ..QueueSettings::default() };
    client.configure_queue("small", bounded).await.expect("answered");
    let submit = || client.submit::<()>(Submission::new("fine").queue("small"));
    submit().await.expect("there is room");
    match submit().await {
        Err(Error::Refused { code, retryable, retry_after, .. }) => {
            assert_eq!((code, retryable), (ErrorCode::QueueFull, true));
            assert!(retry_after.is_some());
        }
        other => panic!("not refused but {:?}", other.map(|handle| handle.id().to_owned())),
    }
    assert_eq!(client.purge_queue("small").await.expect("answered"), 1);
    submit().await.expect("there is room again");
    assert_eq!(client.delete_queue("small").await.expect("answered"), 1);
    assert!(client.queue("small").await.expect("answered").is_none());
}

#[tokio::test]
async fn a_queue_gives_its_tasks_the_times_they_do_not_name() {
    let broker = BrokerProcess::start().await;
    let client = broker.client().await;
    let hour = Duration::from_secs(3_600);
    let settings =
        QueueSettings { expires_in: Some(Duration::from_millis(100)), ..QueueSettings::default() };
    client.configure_queue("default", settings).await.expect("answered");
    let short = client.submit::<()>(Submission::new("fine")).await.expect("submitted");
    let long =
        client.submit::<()>(Submission::new("fine").expires_in(hour)).await.expect("submitted");
    assert!(matches!(short.get(PATIENCE).await, Err(Error::TaskRevoked { .. })));
    assert_eq!(long.state().await.expect("known"), State::Queued);
}

#[tokio::test]
async fn a_queue_tells_its_figures() {
    let broker = BrokerProcess::start().await;
    let client = broker.client().await;
    let hour = Duration::from_secs(3_600);
    client.submit::<()>(Submission::new("nobody")).await.expect("submitted");
    client.submit::<()>(Submission::new("nobody").countdown(hour)).await.expect("submitted");
    let _pool = InProcessWorker::start(worker(&broker));
    let broken = client.submit::<()>(Submission::new("broken")).await.expect("submitted");
    broken.get(PATIENCE).await.expect_err("it fails");
    let queue = client.queue("default").await.expect("answered").expect("it is there");
    assert_eq!((queue.ready, queue.scheduled, queue.leased, queue.dead), (1, 1, 0, 1), "{queue:?}");
    assert_eq!((queue.submitted_total, queue.ended_total, queue.workers), (3, 1, 1), "{queue:?}");
    assert!(queue.bytes > 0, "{queue:?}");
    until("the oldest has an age, and the rates of the last seconds are told", || async {
        let queue = client.queue("default").await.expect("answered").expect("it is there");
        queue.oldest_ready > Duration::ZERO
            && queue.submitted_per_second > 0.0
            && queue.ended_per_second > 0.0
    })
    .await;
}

#[tokio::test]
async fn the_broker_tells_its_figures() {
    let broker = BrokerProcess::start().await;
    let client = broker.client().await;
    client.submit::<()>(Submission::new("nobody").queue("songs")).await.expect("submitted");
    let _pool = InProcessWorker::start(worker(&broker));
    let broken = client.submit::<()>(Submission::new("broken")).await.expect("submitted");
    broken.get(PATIENCE).await.expect_err("it fails");
    let info = client.broker_info().await.expect("answered");
    assert_eq!((info.ready, info.leased, info.dead, info.ended), (1, 0, 1, 0), "{info:?}");
    assert_eq!((info.workers, info.queues), (1, 2), "{info:?}");
    assert!((2..=info.connections_max).contains(&info.connections), "{info:?}");
    let data = info.data.expect("the system tells");
    assert!(data.live_bytes > 0 && data.disk_free_bytes <= data.disk_bytes, "{data:?}");
}

#[tokio::test]
async fn dead_tasks_are_listed_replayed_and_discarded() {
    let broker = BrokerProcess::start().await;
    let client = broker.client().await;
    let running_worker = InProcessWorker::start(worker(&broker));
    for id in ["dead-1", "dead-2", "dead-3"] {
        let tag = if id == "dead-3" { "keep" } else { "again" };
        let dead = client
            .submit::<()>(Submission::new("broken").task_id(id).tag(tag))
            .await
            .expect("submitted");
        dead.get(PATIENCE).await.expect_err("it fails");
    }
    running_worker.stop().await;
    let filter = || TaskFilter::new().state(State::Failure);
    let page = client.tasks(filter(), 2, None).await.expect("answered");
    // The one that ended last comes first.
    assert_eq!(ids(&page), ["dead-3", "dead-2"]);
    assert_eq!(page.tasks[0].errors.len(), 1, "{:?}", page.tasks[0]);
    let page = client.tasks(filter(), 2, page.cursor).await.expect("answered");
    assert_eq!(ids(&page), ["dead-1"]);

    assert_eq!(client.replay_dead(&["dead-1"]).await.expect("answered"), 1);
    assert_eq!(client.replay_dead_matching(filter().tag("again")).await.expect("answered"), 1);
    assert_eq!(client.discard_dead(&["dead-3"]).await.expect("answered"), 1);
    let infos = client.info(&["dead-1", "dead-2", "dead-3"]).await.expect("answered");
    let seen: Vec<_> = infos.iter().map(|info| (info.state, info.generation)).collect();
    assert_eq!(seen, [(State::Queued, 2), (State::Queued, 2), (State::Unknown, 0)]);
}

#[tokio::test]
async fn tasks_are_listed_by_what_they_are() {
    let broker = BrokerProcess::start().await;
    let client = broker.client().await;
    let hour = Duration::from_secs(3_600);
    let tasks = [
        Submission::new("song").task_id("song-1").tag("night"),
        Submission::new("song").task_id("song-2").queue("songs").countdown(hour),
        Submission::new("film").task_id("film-1").root_id("song-1").parent_id("song-1"),
    ];
    client.submit_many(tasks).await.expect("answered");
    let cases = [
        (TaskFilter::new().queue("songs"), vec!["song-2"]),
        (TaskFilter::new().state(State::Scheduled), vec!["song-2"]),
        (TaskFilter::new().name("song"), vec!["song-1", "song-2"]),
        (TaskFilter::new().tag("night"), vec!["song-1"]),
        (TaskFilter::new().id_prefix("film-"), vec!["film-1"]),
        (TaskFilter::new().root_id("song-1"), vec!["film-1"]),
    ];
    for (filter, expected) in cases {
        let page = client.tasks(filter.clone(), 100, None).await.expect("answered");
        assert_eq!(ids(&page), expected, "{filter:?}");
        assert!(page.cursor.is_none());
    }
}

#[tokio::test]
async fn tasks_are_listed_in_the_orders_of_their_lists() {
    let broker = BrokerProcess::start().await;
    let client = broker.client().await;
    let _pool = InProcessWorker::start(worker(&broker));
    for id in ["one", "two", "three", "four"] {
        let name = if id == "three" { "fine" } else { "broken" };
        let task = Submission::new(name).queue("default").task_id(id);
        let task = client.submit::<()>(task).await.expect("submitted");
        // The outcome does not matter, only that the ends have an order.
        let _ = task.get(PATIENCE).await;
    }
    let dead = || TaskFilter::new().state(State::Failure);
    let (mut found, mut cursor) = (Vec::new(), None);
    loop {
        let page = client.tasks(dead(), 1, cursor).await.expect("answered");
        found.extend(ids(&page).into_iter().map(str::to_owned));
        assert!(page.looked <= page.total && page.total == 3, "{page:?}");
        cursor = page.cursor;
        if cursor.is_none() {
            break;
        }
    }
    assert_eq!(found, ["four", "two", "one"]);
    let page = client.ended_tasks(TaskFilter::new(), 2, None).await.expect("answered");
    assert!(page.just_ended);
    assert_eq!(ids(&page), ["four", "three"]);
    let next = client.ended_tasks(TaskFilter::new(), 100, page.cursor.clone()).await;
    assert_eq!(ids(&next.expect("answered")), ["two", "one"]);
    let other = client.tasks(dead(), 1, page.cursor).await;
    let error = other.expect_err("the cursor is that of another listing");
    let is_invalid = |code| code == ErrorCode::InvalidArgument;
    assert!(matches!(error, Error::Refused { code, .. } if is_invalid(code)), "{error:?}");
}

#[tokio::test]
async fn workers_are_listed_quieted_and_shut_down() {
    let broker = BrokerProcess::start().await;
    let client = broker.client().await;
    let running_worker = InProcessWorker::start(worker(&broker).instance("the-one").concurrency(3));
    until("it is listed", || async { client.workers().await.expect("answered").len() == 1 }).await;
    let worker = client.workers().await.expect("answered").remove(0);
    assert_eq!(
        (worker.instance_id.as_str(), worker.concurrency, worker.quiet),
        ("the-one", 3, false)
    );
    assert_eq!((worker.pid, worker.task_names.len()), (std::process::id(), 2));
    client.order_workers(&["the-one"], WorkerOrder::Quiet).await.expect("answered");
    until("it is quiet", || async { client.workers().await.expect("answered")[0].quiet }).await;
    let waits = client.submit::<()>(Submission::new("fine")).await.expect("submitted");
    assert_eq!(waits.state().await.expect("known"), State::Queued);
    client.order_workers(&["the-one"], WorkerOrder::Resume).await.expect("answered");
    waits.get(PATIENCE).await.expect("it succeeds");
    client.order_workers(&["the-one"], WorkerOrder::Shutdown).await.expect("answered");
    running_worker.ended().await;
    until("it is gone", || async { client.workers().await.expect("answered").is_empty() }).await;
}

async fn names(client: &Client) -> Vec<String> {
    client.queues().await.expect("answered").into_iter().map(|queue| queue.name).collect()
}

#[tokio::test]
async fn queues_come_and_go_with_what_needs_them() {
    let mut broker = BrokerProcess::start().await;
    let before = broker.client().await;
    assert_eq!(names(&before).await, ["default"]);
    // Nothing of this is anything that a queue is needed for.
    before.resume_queues(&["resumed"]).await.expect("answered");
    before.configure_queue("plain", QueueSettings::default()).await.expect("answered");
    before
        .submit::<()>(Submission::new("fine").queue("deleted").task_id("gone"))
        .await
        .expect("submitted");
    let bounded = || QueueSettings { tasks_max: Some(1), ..QueueSettings::default() };
    before.configure_queue("deleted", bounded()).await.expect("answered");
    before.pause_queues(&["deleted", "paused"]).await.expect("answered");
    assert_eq!(names(&before).await, ["default", "deleted", "paused"]);
    assert_eq!(before.delete_queue("deleted").await.expect("answered"), 1);
    assert_eq!(names(&before).await, ["default", "paused"]);
    broker.kill().await;
    broker.restart().await;
    let after = broker.client().await;
    assert_eq!(names(&after).await, ["default", "paused"]);
    assert_eq!(
        after.info(&["gone"]).await.expect("answered")[0].state,
        State::Revoked,
        "what has ended is kept"
    );
    after.resume_queues(&["paused"]).await.expect("answered");
    assert_eq!(names(&after).await, ["default"]);
    let _pool = InProcessWorker::start(worker(&broker).queues(["deleted"]));
    for _ in 0..2 {
        let task = after
            .submit::<()>(Submission::new("fine").queue("deleted"))
            .await
            .expect("its bound is gone");
        task.get(PATIENCE).await.expect("it succeeds");
    }
    assert_eq!(names(&after).await, ["default", "deleted"], "a worker serves it");
}

/// After the answer to an operator, a worker no longer owns the tasks that it holds and has not
/// begun.
#[tokio::test]
async fn nothing_begins_after_a_pause_a_purge_or_a_delete_is_answered() {
    let broker = BrokerProcess::start().await;
    let mut operator = RawConnection::open(broker.address()).await;
    let queues = || vec!["q".to_owned()];
    let pause = |paused| Request::PauseQueues(wire::PauseQueues { queues: queues(), paused });
    let purge = Request::PurgeQueue(wire::PurgeQueue { queue: "q".into() });
    let delete = Request::DeleteQueue(wire::DeleteQueue { queue: "q".into() });
    for (round, request) in [pause(true), purge, delete].into_iter().enumerate() {
        let mut worker = RawConnection::worker(broker.address(), &["q"], &["n"], 10).await;
        let task = |number| wire::Task {
            queue: "q".into(),
            ..raw::task(&format!("task-{round}-{number}"), "n")
        };
        operator.submit((0..10).map(task).collect()).await;
        let held = worker.deliveries(10).await;
        // The broker refuses a delete while a task runs.
        let running = usize::from(round < 2);
        for delivery in &held[..running] {
            worker.report_one(raw::report(delivery, raw::started())).await;
        }
        operator.request(request).await.expect("it is done");
        for delivery in &held[running..] {
            let late = worker.report_one(raw::report(delivery, raw::started())).await;
            assert_eq!(late.code(), WireCode::StaleLease, "{delivery:?}");
        }
        let taken = worker.pushed_so_far().await.into_iter().filter_map(|push| match push {
            Answer::CancelSignal(signal) => Some((signal.kind(), signal.leases)),
            _ => None,
        });
        let mut taken: Vec<u64> = taken
            .flat_map(|(kind, leases)| {
                assert_eq!(kind, wire::cancel_signal::Kind::TakenBack);
                leases
            })
            .collect();
        taken.sort_unstable();
        assert_eq!(
            taken,
            held[running..].iter().map(|delivery| delivery.lease).collect::<Vec<_>>()
        );
        for delivery in &held[..running] {
            worker.report_one(raw::report(delivery, raw::complete(b"1"))).await;
        }
        worker.request(Request::Goodbye(wire::Goodbye {})).await.expect("it may go");
        operator.request(pause(false)).await.expect("it is done");
        operator.request(Request::PurgeQueue(wire::PurgeQueue { queue: "q".into() })).await.ok();
    }
}
