//! Compares the protocol with what the broker offers, and with what it refuses.

use celeriac_proto::wire::{self, ErrorCode, TaskState};
use celeriac_tests::raw::{self, Answer, Request};
use celeriac_tests::{BrokerProcess, RawConnection, within};

/// One empty request of each kind.
fn each() -> Vec<(&'static str, Request)> {
    macro_rules! requests {
        ($($kind:ident),*) => { vec![$((stringify!($kind), Request::$kind(wire::$kind::default()))),*] };
    }
    requests![
        Heartbeat,
        Submit,
        Get,
        Wait,
        Unwait,
        Watch,
        Unwatch,
        Cancel,
        Forget,
        Credit,
        Report,
        ListQueues,
        ConfigureQueue,
        PauseQueues,
        PurgeQueue,
        DeleteQueue,
        ListTasks,
        ReplayDead,
        DiscardDead,
        ListWorkers,
        OrderWorkers,
        Backup,
        Info,
        Drain,
        LogFilter,
        Stats,
        DeclareMailbox,
        DeleteMailbox,
        PurgeMailbox,
        Consume,
        Unconsume,
        FetchMail,
        AckMail,
        PutBackMail,
        Publish,
        DeclareExchange,
        DeleteExchange,
        Bind,
        Unbind,
        ListMailboxes,
        ListBindings
    ]
}

#[tokio::test]
async fn every_request_of_the_protocol_is_offered() {
    let broker = BrokerProcess::start().await;
    for (name, request) in each() {
        let answer = RawConnection::open(broker.address()).await.request(request).await;
        let refused = matches!(&answer, Err(error) if error.code() == ErrorCode::Unsupported);
        assert!(!refused, "{name}: {answer:?}");
    }
}

async fn refusal(connection: &mut RawConnection, request: Request) -> String {
    match connection.request(request).await {
        Err(error) if error.code() == ErrorCode::InvalidArgument => error.message,
        other => panic!("not refused: {other:?}"),
    }
}

#[tokio::test]
async fn what_destroys_all_dead_tasks_says_so() {
    let broker = BrokerProcess::start().await;
    let mut connection = RawConnection::open(broker.address()).await;
    let mut worker = RawConnection::worker(broker.address(), &["default"], &["n"], 2).await;
    for id in ["one", "other"] {
        connection.submit_one(raw::task(id, "n")).await;
        let lease = worker.delivery().await;
        worker
            .report_one(raw::report(
                &lease,
                wire::task_report::Report::Reject(wire::Reject::default()),
            ))
            .await;
    }
    let discard = |ids: &[&str], filter: Option<wire::TaskFilter>, all: bool| {
        let ids = ids.iter().map(|id| (*id).to_owned()).collect();
        Request::DiscardDead(wire::DiscardDead { ids, filter, all })
    };
    let (nothing, songs) = (
        wire::TaskFilter::default(),
        wire::TaskFilter { queue: "songs".into(), ..Default::default() },
    );
    for (request, reason) in [
        (discard(&[], Some(nothing.clone()), false), "all dead tasks are named by `all`"),
        (discard(&[], None, false), "by ids or by a filter"),
        (discard(&["one"], Some(songs.clone()), false), "by ids or by a filter"),
        (discard(&["one"], None, true), "one of the three"),
        (discard(&[], Some(nothing), true), "one of the three"),
        (discard(&[], Some(songs.clone()), true), "one of the three"),
    ] {
        let message = refusal(&mut connection, request).await;
        assert!(message.contains(reason), "{message}");
    }
    for (request, count) in [(discard(&[], Some(songs), false), 0), (discard(&[], None, true), 2)] {
        let answer = connection.request(request).await;
        assert!(
            matches!(&answer, Ok(Answer::CountReply(reply)) if reply.count == count),
            "{answer:?}"
        );
    }
}

#[tokio::test]
async fn values_that_break_the_rules_are_refused_wherever_they_stand() {
    let broker = BrokerProcess::start().await;
    let mut connection = RawConnection::open(broker.address()).await;
    let (long, list) = ("x".repeat(256), |filter| {
        Request::ListTasks(wire::ListTasks { filter: Some(filter), ..Default::default() })
    });
    let none = wire::TaskFilter::default;
    for request in [
        list(wire::TaskFilter { queue: long.clone(), ..none() }),
        list(wire::TaskFilter { name: long.clone(), ..none() }),
        list(wire::TaskFilter { tag: long.clone(), ..none() }),
        list(wire::TaskFilter { root_id: long.clone(), ..none() }),
        list(wire::TaskFilter { id_prefix: long.clone(), ..none() }),
        list(wire::TaskFilter { submitted_before_ms: Some(-1), ..none() }),
        list(wire::TaskFilter { submitted_after_ms: Some(i64::MAX), ..none() }),
        Request::OrderWorkers(wire::OrderWorkers {
            instance_ids: vec![long],
            order: wire::order::Kind::Quiet.into(),
        }),
    ] {
        refusal(&mut connection, request).await;
    }
}

#[tokio::test]
async fn an_expiry_that_is_over_already_revokes_the_task_and_refuses_nothing() {
    let broker = BrokerProcess::start().await;
    let mut connection = RawConnection::open(broker.address()).await;
    for (id, expires_at_ms, expires_in_ms) in [("past", Some(1_000), None), ("now", None, Some(0))]
    {
        let task = wire::Task { expires_at_ms, expires_in_ms, ..raw::task(id, "n") };
        assert_eq!(connection.submit_one(task).await.kind(), wire::submit_outcome::Kind::Created);
        let info = connection.ended(id).await;
        assert_eq!(
            (info.state(), info.revoked_reason.as_str()),
            (TaskState::Revoked, "expired"),
            "{id}"
        );
    }
}

#[tokio::test]
async fn nothing_is_delivered_before_the_credit() {
    let broker = BrokerProcess::start().await;
    let mut worker = RawConnection::worker(broker.address(), &["default"], &["n"], 0).await;
    worker.submit_one(raw::task("a", "n")).await;
    assert_eq!(worker.info("a").await.state(), TaskState::Queued);
    assert!(worker.pushed_so_far().await.is_empty());
    worker.credit(1).await;
    assert_eq!(worker.delivery().await.id, "a");
}

#[tokio::test]
async fn queues_that_are_named_twice_are_listed_once() {
    let broker = BrokerProcess::start().await;
    let mut connection = RawConnection::open(broker.address()).await;
    let queues = ["default", "nowhere", "default"].map(String::from).into();
    let list = Request::ListQueues(wire::ListQueues { queues, cursor: Default::default() });
    let Ok(Answer::QueueList(list)) = connection.request(list).await else { panic!("no list") };
    assert_eq!(
        list.queues.iter().map(|queue| queue.name.as_str()).collect::<Vec<_>>(),
        ["default"]
    );
}

#[tokio::test]
async fn an_order_reaches_a_worker_that_was_away_and_ends_with_its_session() {
    let mut broker = BrokerProcess::start().await;
    let hello =
        || wire::Hello { instance_id: "w".into(), ..raw::worker_hello(&["default"], &["n"]) };
    let (worker, welcome) = RawConnection::greeted(broker.address(), hello()).await;
    let resume = || wire::Hello { session_id: welcome.session_id.clone(), ..hello() };
    drop(worker);
    broker.kill().await;
    broker.restart().await;
    // The worker has not connected again, and the broker knows its session only from the disk.
    for kind in [wire::order::Kind::Quiet, wire::order::Kind::Resume] {
        let order = wire::OrderWorkers { instance_ids: vec!["w".into()], order: kind.into() };
        let answer =
            RawConnection::open(broker.address()).await.request(Request::OrderWorkers(order)).await;
        assert!(matches!(&answer, Ok(Answer::CountReply(reply)) if reply.count == 1), "{answer:?}");
        let (mut worker, again) = RawConnection::greeted(broker.address(), resume()).await;
        assert!(again.resumed);
        let pushed = within("the order", worker.push()).await.expect("it is pushed");
        assert!(matches!(pushed, Answer::Order(order) if order.kind() == kind), "{pushed:?}");
    }
    let (mut other, _) = RawConnection::greeted(broker.address(), hello()).await;
    other.info("nothing").await;
    assert!(other.pushed_so_far().await.is_empty(), "a new session has no order");
}
