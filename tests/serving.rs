//! Workers that change what they serve and take tasks by a request, and declared queues, from
//! outside.

use celeriac_proto::wire::{self, ErrorCode};
use celeriac_tests::raw::{self, Answer, Request};
use celeriac_tests::{BrokerProcess, RawConnection};

fn task_of(queue: &str, id: &str) -> wire::Task {
    wire::Task { queue: queue.into(), ..raw::task(id, "n") }
}

async fn count(connection: &mut RawConnection, take: wire::Take) -> u64 {
    match connection.request(Request::Take(take)).await {
        Ok(Answer::CountReply(reply)) => reply.count,
        other => panic!("no CountReply but {other:?}"),
    }
}

async fn declare(
    connection: &mut RawConnection,
    queue: &str,
    passive: bool,
) -> Result<wire::DeclareQueueReply, ErrorCode> {
    let declare =
        wire::DeclareQueue { queue: queue.into(), passive, ..wire::DeclareQueue::default() };
    match connection.request(Request::DeclareQueue(declare)).await {
        Ok(Answer::DeclareQueueReply(reply)) => Ok(reply),
        Err(error) => Err(error.code()),
        other => panic!("no DeclareQueueReply but {other:?}"),
    }
}

#[tokio::test]
async fn a_worker_serves_another_queue_while_it_is_connected() {
    let broker = BrokerProcess::start().await;
    let mut worker = RawConnection::worker(broker.address(), &["one"], &["n"], 9).await;
    worker.submit_one(task_of("two", "first")).await;
    let two = wire::QueueSubscription { queue: "two".into(), weight: 1 };
    let serve = wire::Serve { add_queues: vec![two], ..wire::Serve::default() };
    assert!(matches!(worker.request(Request::Serve(serve)).await, Ok(Answer::Done(_))));
    assert_eq!(worker.delivery().await.id, "first");
    let less = wire::Serve { remove_queues: vec!["two".into()], ..wire::Serve::default() };
    assert!(matches!(worker.request(Request::Serve(less)).await, Ok(Answer::Done(_))));
    worker.submit_one(task_of("two", "second")).await;
    worker.submit_one(task_of("one", "third")).await;
    assert_eq!(worker.delivery().await.id, "third");
    let wrong = wire::Serve { remove_queues: vec![String::new()], ..wire::Serve::default() };
    let refused = worker.request(Request::Serve(wrong)).await.expect_err("a queue has a name");
    assert_eq!(refused.code(), ErrorCode::InvalidArgument);
}

#[tokio::test]
async fn a_worker_of_any_name_takes_ready_tasks_at_once() {
    let broker = BrokerProcess::start().await;
    let worker = wire::WorkerInfo { any_name: true, ..wire::WorkerInfo::default() };
    let hello = wire::Hello { worker: Some(worker), ..raw::hello() };
    let (mut worker, _) = RawConnection::greeted(broker.address(), hello).await;
    for id in ["a", "b", "c"] {
        worker.submit_one(task_of("songs", id)).await;
    }
    let take = |count| wire::Take { queue: "songs".into(), count };
    assert_eq!(count(&mut worker, take(0)).await, 1);
    assert_eq!(count(&mut worker, take(9)).await, 2);
    assert_eq!(count(&mut worker, take(9)).await, 0);
    let ids: Vec<_> = worker.deliveries(3).await.into_iter().map(|each| each.id).collect();
    assert_eq!(ids, ["a", "b", "c"]);
    let refused = worker.request(Request::Take(take(u32::MAX))).await.expect_err("too many");
    assert_eq!(refused.code(), ErrorCode::InvalidArgument);
    let mut producer = RawConnection::open(broker.address()).await;
    let refused = producer.request(Request::Take(take(1))).await.expect_err("no worker");
    assert_eq!(refused.code(), ErrorCode::InvalidArgument);
}

#[tokio::test]
async fn a_declared_queue_is_there_after_a_kill() {
    let mut broker = BrokerProcess::start().await;
    let mut client = RawConnection::open(broker.address()).await;
    assert_eq!(declare(&mut client, "songs", true).await, Err(ErrorCode::NotFound));
    assert!(declare(&mut client, "songs", false).await.expect("it is new").created);
    broker.kill().await;
    broker.restart().await;
    let mut client = RawConnection::open(broker.address()).await;
    client.submit_one(task_of("songs", "a")).await;
    let known = declare(&mut client, "songs", true).await.expect("it is there");
    assert_eq!((known.created, known.ready, known.workers), (false, 1, 0));
    assert_eq!(declare(&mut client, "", false).await, Err(ErrorCode::InvalidArgument));
}
