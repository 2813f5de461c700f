//! Broken connections: which requests are sent again, which are not, and when the client gives up.

use std::time::Duration;

use celeriac_client::connection::{Connection, ConnectionOptions, Event};
use celeriac_client::{Client, Error, ErrorCode};
use celeriac_proto::wire::{self, TaskState, client_frame, server_frame};

use crate::broker::{FakeBroker, SOON, info, refusal};

const SHORT: Duration = Duration::from_millis(200);

#[tokio::test]
async fn a_request_whose_connection_broke_is_sent_again_on_the_same_session() {
    let broker = FakeBroker::bind().await;
    let (client, mut peer) = broker.client().await;
    let ids = ["a"];
    let (tasks, ()) = tokio::join!(client.info(&ids), async {
        peer.receive().await;
        drop(peer);
        let mut again = broker.welcome().await;
        assert_eq!(again.hello.session_id, "session-1");
        assert_eq!(again.answer_get(vec![info("a", TaskState::Started, 3)]).await, ["a"]);
    });
    assert_eq!(tasks.expect("answered")[0].version, 3);
}

#[tokio::test]
async fn garbage_from_the_broker_is_a_broken_connection() {
    let broker = FakeBroker::bind().await;
    let (client, mut peer) = broker.client().await;
    let ids = ["a"];
    for bytes in [vec![0; 4], vec![0xff; 16], vec![0, 0, 0, 1, 0xff]] {
        let (tasks, next) = tokio::join!(client.info(&ids), async {
            peer.receive().await;
            peer.send_bytes(&bytes).await;
            let mut again = broker.welcome().await;
            again.answer_get(vec![info("a", TaskState::Queued, 1)]).await;
            again
        });
        tasks.expect("answered by the next connection");
        peer = next;
    }
}

#[tokio::test]
async fn half_a_frame_and_then_nothing_is_a_broken_connection() {
    let broker = FakeBroker::bind().await;
    let (client, mut peer) = broker.client().await;
    let ids = ["a"];
    let (tasks, ()) = tokio::join!(client.info(&ids), async {
        peer.receive().await;
        peer.send_bytes(&[0, 0, 1, 0, 8]).await;
        drop(peer);
        broker.welcome().await.answer_get(vec![info("a", TaskState::Queued, 1)]).await;
    });
    tasks.expect("answered by the next connection");
}

#[tokio::test]
async fn a_request_that_nobody_answers_times_out() {
    let broker = FakeBroker::bind().await;
    let (client, _peer) = broker.client_of(Client::builder(broker.url()).timeout(SHORT)).await;
    let error = client.info(&["a"]).await.expect_err("nobody answers");
    assert!(matches!(error, Error::Timeout { trouble: None, .. }), "{error}");
}

#[tokio::test]
async fn a_deadline_holds_while_the_broker_is_away_and_the_error_says_so() {
    let broker = FakeBroker::bind().await;
    let (client, peer) = broker.client_of(Client::builder(broker.url()).timeout(SHORT)).await;
    drop(broker);
    drop(peer);
    let error = client.info(&["a"]).await.expect_err("nobody is there");
    assert!(matches!(&error, Error::Timeout { trouble: Some(_), .. }), "{error}");
}

#[tokio::test]
async fn a_request_that_must_not_be_sent_twice_is_not() {
    let broker = FakeBroker::bind().await;
    let (client, mut peer) = broker.client().await;
    let (purged, mut again) = tokio::join!(client.purge_queue("songs"), async {
        peer.receive().await;
        drop(peer);
        broker.welcome().await
    });
    assert!(matches!(purged, Err(Error::Interrupted)));
    let (_, _) = tokio::join!(client.queues(), async {
        let (id, body) = again.receive().await;
        assert!(matches!(body, client_frame::Body::ListQueues(_)), "{body:?}");
        again.answer(id, server_frame::Body::QueueList(wire::QueueList::default())).await;
    });
}

#[tokio::test]
async fn a_request_that_a_closing_broker_refused_is_sent_to_the_next_one() {
    let broker = FakeBroker::bind().await;
    let (client, mut peer) = broker.client().await;
    let (purged, ()) = tokio::join!(client.purge_queue("songs"), async {
        let (id, _) = peer.receive().await;
        peer.answer(id, refusal(ErrorCode::ShuttingDown)).await;
        drop(peer);
        let mut again = broker.welcome().await;
        let (id, _) = again.receive().await;
        again.answer(id, server_frame::Body::CountReply(wire::CountReply { count: 3 })).await;
    });
    assert_eq!(purged.expect("purged once"), 3);
}

#[tokio::test]
async fn answers_may_overtake_each_other() {
    let broker = FakeBroker::bind().await;
    let (client, mut peer) = broker.client().await;
    let (a, b) = (["a"], ["b"]);
    let (first, second, ()) = tokio::join!(client.info(&a), client.info(&b), async {
        let mut ids = Vec::new();
        for _ in 0..2 {
            let (id, client_frame::Body::Get(get)) = peer.receive().await else { panic!("a get") };
            ids.push((id, get.ids[0].clone()));
        }
        for (id, task) in ids.into_iter().rev() {
            let tasks = vec![info(&task, TaskState::Queued, 1)];
            peer.answer(
                id,
                server_frame::Body::GetReply(wire::GetReply { tasks, ..Default::default() }),
            )
            .await;
        }
    });
    assert_eq!(first.expect("answered")[0].id, "a");
    assert_eq!(second.expect("answered")[0].id, "b");
}

#[tokio::test]
async fn a_silent_broker_is_taken_for_dead() {
    let mut broker = FakeBroker::bind().await;
    broker.heartbeat_ms = 20;
    let (client, silent) = broker.client().await;
    // The peer stays open and is never read: only its silence shows that it is dead.
    broker.heartbeat_ms = 60_000;
    let mut again = broker.welcome().await;
    let ids = ["a"];
    let (tasks, _) =
        tokio::join!(client.info(&ids), again.answer_get(vec![info("a", TaskState::Queued, 1)]));
    tasks.expect("answered by the next connection");
    drop(silent);
}

#[tokio::test]
async fn heartbeats_keep_a_connection_that_has_nothing_else_to_say() {
    let mut broker = FakeBroker::bind().await;
    broker.heartbeat_ms = 100;
    let (client, mut peer) = broker.client().await;
    peer.answer_heartbeats(5).await;
    assert!(client.connection().is_connected());
}

#[tokio::test]
async fn a_session_that_was_taken_over_is_not_asked_for_again() {
    let broker = FakeBroker::bind().await;
    let (_client, mut peer) = broker.client().await;
    let closing = wire::Closing { error: Some(crate::broker::error(ErrorCode::SessionLost)) };
    peer.push(server_frame::Body::Closing(closing)).await;
    drop(peer);
    assert_eq!(broker.welcome().await.hello.session_id, "");
}

#[tokio::test]
async fn the_owner_of_a_connection_hears_of_its_ups_and_downs_and_of_pushes() {
    let broker = FakeBroker::bind().await;
    let (opened, mut peer) =
        tokio::join!(Connection::open(ConnectionOptions::new(broker.address())), broker.welcome());
    let (_connection, mut events) = opened.expect("let in");
    assert!(matches!(events.recv().await, Some(Event::Connected { resumed: false, .. })));
    peer.push(server_frame::Body::Deliver(wire::Deliver::default())).await;
    assert!(matches!(events.recv().await, Some(Event::Push(server_frame::Body::Deliver(_)))));
    drop(peer);
    assert!(matches!(events.recv().await, Some(Event::Disconnected)));
    let _peer = broker.welcome().await;
    assert!(matches!(events.recv().await, Some(Event::Connected { resumed: true, .. })));
}

#[tokio::test]
async fn an_owner_that_reads_no_events_loses_none_and_does_not_stop_the_heartbeats() {
    const PUSHES: u64 = 40_000;
    let mut broker = FakeBroker::bind().await;
    broker.heartbeat_ms = 100;
    let (opened, mut peer) =
        tokio::join!(Connection::open(ConnectionOptions::new(broker.address())), broker.welcome());
    let (_connection, mut events) = opened.expect("let in");
    let pushing = async {
        for lease in 0..PUSHES {
            let signal = wire::CancelSignal { leases: vec![lease], ..Default::default() };
            peer.push(server_frame::Body::CancelSignal(signal)).await;
        }
        peer.answer_heartbeats(5).await;
    };
    pushing.await;
    let mut next = 0;
    while next < PUSHES {
        if let Some(Event::Push(server_frame::Body::CancelSignal(signal))) = events.recv().await {
            assert_eq!(signal.leases, [next]);
            next += 1;
        }
    }
}

#[test]
fn a_connection_on_its_own_thread_sends_heartbeats_while_the_programs_runtime_is_blocked() {
    let runtime =
        || tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let (address_sender, address) = std::sync::mpsc::channel();
    let (seen_sender, seen) = std::sync::mpsc::channel();
    let broker = std::thread::spawn(move || {
        runtime().block_on(async {
            let mut broker = FakeBroker::bind().await;
            broker.heartbeat_ms = 100;
            address_sender.send(broker.address()).expect("the test lives");
            let mut peer = broker.welcome().await;
            peer.answer_heartbeats(5).await;
            seen_sender.send(()).expect("the test lives");
            while peer.next().await.is_some() {}
        });
    });
    runtime().block_on(async {
        let mut options = ConnectionOptions::new(address.recv().expect("an address"));
        options.own_thread = true;
        let (connection, _events) = Connection::open(options).await.expect("let in");
        // Blocks this runtime on purpose.
        seen.recv_timeout(SOON).expect("five heartbeats");
        connection.close(SHORT).await;
    });
    broker.join().expect("the broker's assertions hold");
}
