//! Handshakes: clients that the broker accepts or refuses, and peers that are no broker.

use std::time::Duration;

use celeriac_client::{Client, Error, ErrorCode};

use crate::broker::{FakeBroker, SOON, info};
use celeriac_proto::wire::{self, TaskState, server_frame};

#[tokio::test]
async fn the_token_and_the_instance_are_shown_in_hello() {
    let broker = FakeBroker::bind().await;
    let url = format!("celeriac://s%40cret@{}", broker.address());
    let (_client, peer) = broker.client_of(Client::builder(url).instance("web-1")).await;
    assert_eq!((peer.hello.token.as_str(), peer.hello.instance_id.as_str()), ("s@cret", "web-1"));
    assert_eq!((peer.hello.protocol_min, peer.hello.protocol_max), (1, 1));
    assert!(peer.hello.worker.is_none());
}

#[tokio::test]
async fn the_token_file_is_read_again_before_each_reconnect() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("token");
    let write = |text: &str| {
        let new = folder.path().join("new");
        std::fs::write(&new, text).expect("writable");
        std::fs::rename(new, &file).expect("writable");
    };
    let broker = FakeBroker::bind().await;
    let patient = || Client::builder(broker.url()).wait_for_broker(SOON).token_file(&file);
    let error = patient().connect().await.expect_err("there is no file");
    assert!(matches!(&error, Error::TokenFile { path, .. } if *path == file), "{error}");
    assert!(error.to_string().contains("cannot be used") && !error.is_retryable(), "{error}");
    write("first\n");
    let (client, mut peer) = broker.client_of(patient()).await;
    assert_eq!(peer.hello.token, "first");
    let ids = ["a"];
    // A file that is broken or gone for a moment changes nothing.
    for (text, token) in [("second\n", "second"), ("two words", "second"), ("third", "third")] {
        write(text);
        drop(peer);
        let (tasks, next) = tokio::join!(client.info(&ids), async {
            let mut again = broker.welcome().await;
            assert_eq!(again.hello.token, token, "{text}");
            again.answer_get(vec![info("a", TaskState::Queued, 1)]).await;
            again
        });
        tasks.expect("answered by the next connection");
        peer = next;
    }
    std::fs::remove_file(&file).expect("it is there");
    drop(peer);
    let last = broker.welcome().await;
    assert_eq!(last.hello.token, "third");
    drop(client);
    // The URL's own token counts first, and the file's from the next connection on.
    write("of-the-file");
    let url = format!("celeriac://own@{}", broker.address());
    let (_client, peer) = broker.client_of(Client::builder(url).token_file(&file)).await;
    assert_eq!(peer.hello.token, "own");
    drop(peer);
    assert_eq!(broker.welcome().await.hello.token, "of-the-file");
}

#[tokio::test]
async fn a_first_connect_fails_at_once_when_nobody_listens() {
    let broker = FakeBroker::bind().await;
    let url = broker.url();
    drop(broker);
    let error = Client::connect(&url).await.expect_err("nobody listens");
    assert!(matches!(error, Error::Connect { .. }), "{error}");
    assert!(error.is_retryable());
}

#[tokio::test]
async fn a_client_that_was_told_to_wait_for_the_broker_tries_again() {
    let broker = FakeBroker::bind().await;
    let patient = Client::builder(broker.url()).wait_for_broker(SOON).connect();
    let late = async {
        drop(broker.accept().await);
        broker.welcome().await
    };
    let (client, _peer) = tokio::join!(patient, late);
    client.expect("the second attempt was let in");
}

#[tokio::test]
async fn a_wrong_token_is_the_answer_to_the_connect() {
    let broker = FakeBroker::bind().await;
    let url = broker.url();
    let patient = Client::builder(&url).wait_for_broker(SOON).connect();
    let (client, ()) = tokio::join!(patient, broker.refuse(ErrorCode::Unauthenticated));
    let error = client.expect_err("the token is wrong");
    assert!(matches!(error, Error::Handshake { code: ErrorCode::Unauthenticated, .. }), "{error}");
    assert!(!error.is_retryable());
}

#[tokio::test]
async fn a_token_that_stopped_being_good_ends_every_call() {
    let broker = FakeBroker::bind().await;
    let (client, peer) = broker.client().await;
    drop(peer);
    broker.refuse(ErrorCode::Unauthenticated).await;
    for _ in 0..2 {
        let error = client.info(&["a"]).await.expect_err("no longer let in");
        assert!(
            matches!(error, Error::Handshake { code: ErrorCode::Unauthenticated, .. }),
            "{error}"
        );
    }
}

#[tokio::test]
async fn a_broker_that_is_closing_down_is_tried_again() {
    let broker = FakeBroker::bind().await;
    let (client, peer) = broker.client().await;
    drop(peer);
    let ids = ["a"];
    let (tasks, ()) = tokio::join!(client.info(&ids), async {
        broker.refuse(ErrorCode::ShuttingDown).await;
        broker.welcome().await.answer_get(vec![info("a", TaskState::Queued, 1)]).await;
    });
    assert_eq!(tasks.expect("answered")[0].id, "a");
}

#[tokio::test]
async fn a_hello_that_came_too_late_is_said_again() {
    let broker = FakeBroker::bind().await;
    let (client, peer) = broker.client().await;
    drop(peer);
    let ids = ["a"];
    let (tasks, ()) = tokio::join!(client.info(&ids), async {
        // A broker answers so when Hello did not come within five seconds. The network was slow,
        // and the client made no mistake.
        broker.refuse(ErrorCode::Handshake).await;
        broker.welcome().await.answer_get(vec![info("a", TaskState::Queued, 1)]).await;
    });
    assert_eq!(tasks.expect("answered")[0].id, "a");
}

#[tokio::test]
async fn another_version_of_the_protocol_is_refused_by_the_client_too() {
    let broker = FakeBroker::bind().await;
    let url = broker.url();
    let (client, ()) = tokio::join!(Client::connect(&url), async {
        let mut peer = broker.accept().await;
        let id = peer.receive_hello().await;
        let welcome = wire::Welcome { protocol: 7, ..Default::default() };
        peer.answer(id, server_frame::Body::Welcome(welcome)).await;
    });
    let error = client.expect_err("version 7");
    assert!(matches!(error, Error::Handshake { code: ErrorCode::VersionMismatch, .. }), "{error}");
}

#[tokio::test]
async fn peers_that_are_no_brokers_are_named_as_such() {
    let broker = FakeBroker::bind().await;
    let url = broker.url();
    let answers: [&[u8]; 4] = [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        &[0, 0, 0, 0],
        &[0xff; 64],
        &[0, 0, 0, 2, 0xff, 0xff],
    ];
    for bytes in answers {
        let (client, ()) = tokio::join!(Client::connect(&url), async {
            let mut peer = broker.accept().await;
            peer.receive_hello().await;
            peer.send_bytes(bytes).await;
        });
        let error = client.expect_err("not a broker");
        assert!(matches!(error, Error::Handshake { code: ErrorCode::Unspecified, .. }), "{error}");
    }
}

#[tokio::test]
async fn a_peer_that_says_nothing_is_given_up() {
    let broker = FakeBroker::bind().await;
    let connecting =
        Client::builder(broker.url()).connect_timeout(Duration::from_millis(50)).connect();
    let (client, _peer) = tokio::join!(connecting, broker.accept());
    assert!(matches!(client, Err(Error::Connect { .. })));
}
