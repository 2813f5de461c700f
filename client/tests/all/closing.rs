//! Closing a client: unanswered requests are answered first, then the client sends Goodbye, and
//! later calls fail.

use std::time::Duration;

use celeriac_client::{Error, State};
use celeriac_proto::wire::{self, TaskState, client_frame, server_frame};

use crate::broker::{FakeBroker, SOON, info};

#[tokio::test]
async fn closing_waits_for_what_is_under_way_and_says_goodbye() {
    let broker = FakeBroker::bind().await;
    let (client, mut peer) = broker.client().await;
    let ids = ["a"];
    let closer = client.clone();
    let (tasks, (), ()) = tokio::join!(client.info(&ids), closer.close(), async {
        peer.answer_get(vec![info("a", TaskState::Queued, 1)]).await;
        let (id, body) = peer.receive().await;
        assert!(matches!(body, client_frame::Body::Goodbye(_)), "{body:?}");
        peer.answer(id, server_frame::Body::Done(wire::Done {})).await;
        assert!(peer.next().await.is_none());
    });
    assert_eq!(tasks.expect("answered before the end")[0].state, State::Queued);
    assert!(matches!(client.info(&ids).await, Err(Error::Closed)));
}

#[tokio::test]
async fn closing_does_not_wait_for_those_who_wait() {
    let broker = FakeBroker::bind().await;
    let (client, mut peer) = broker.client().await;
    let handle = client.result::<()>("a");
    let (output, ()) = tokio::join!(handle.get(SOON), async {
        peer.receive().await;
        let (_, _) = tokio::join!(client.close(), async {
            let (_, body) = peer.receive().await;
            assert!(matches!(body, client_frame::Body::Goodbye(_)), "{body:?}");
            drop(peer);
        });
    });
    assert!(matches!(output, Err(Error::Closed)));
}

#[tokio::test]
async fn the_last_handle_that_is_dropped_says_goodbye() {
    let broker = FakeBroker::bind().await;
    let (client, mut peer) = broker.client().await;
    let handle = client.result::<()>("a");
    drop(client);
    drop(handle);
    assert!(matches!(peer.receive().await, (_, client_frame::Body::Goodbye(_))));
}

#[tokio::test]
async fn a_client_without_a_connection_closes_at_once() {
    let broker = FakeBroker::bind().await;
    let (client, peer) = broker.client().await;
    let ids = ["a"];
    let (tasks, ()) = tokio::join!(client.info(&ids), async {
        drop(broker);
        drop(peer);
        client.close().await;
    });
    assert!(matches!(tasks, Err(Error::Closed)), "{tasks:?}");
}

#[tokio::test]
async fn closing_ends_only_after_goodbye_was_answered() {
    let broker = FakeBroker::bind().await;
    let (client, mut peer) = broker.client().await;
    let mut closing = std::pin::pin!(client.close());
    let goodbye = tokio::select! {
        biased;
        () = &mut closing => panic!("closed before Goodbye was said"),
        (id, body) = peer.receive() => {
            assert!(matches!(body, client_frame::Body::Goodbye(_)), "{body:?}");
            id
        }
    };
    peer.answer(goodbye, server_frame::Body::Done(wire::Done {})).await;
    closing.await;
    assert!(peer.next().await.is_none(), "the socket is closed by now");
}

#[tokio::test]
async fn closing_waits_for_answers_no_longer_than_it_is_told() {
    let broker = FakeBroker::bind().await;
    let (client, mut peer) = broker.client().await;
    let ids = ["a"];
    let (asked, ()) = tokio::join!(client.info(&ids), async {
        assert!(matches!(peer.receive().await, (_, client_frame::Body::Get(_))));
        // The request is never answered.
        tokio::join!(client.connection().close(Duration::from_millis(1)), async {
            let (id, body) = peer.receive().await;
            assert!(matches!(body, client_frame::Body::Goodbye(_)), "{body:?}");
            peer.answer(id, server_frame::Body::Done(wire::Done {})).await;
        });
    });
    assert!(matches!(asked, Err(Error::Closed)), "{asked:?}");
}
