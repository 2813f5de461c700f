//! The first frame: who is let in, with what, and who is not. What a connection says later is in
//! the files of its subject.

use celeriac_proto::limits;
use celeriac_proto::wire::{self, ErrorCode};
use celeriac_tests::raw::{self, Answer, Request};
use celeriac_tests::{BrokerProcess, RawConnection, Setup};

async fn turned_away(broker: &BrokerProcess, hello: wire::Hello) -> ErrorCode {
    let mut connection = RawConnection::silent(broker.address()).await;
    connection.send(Request::Hello(hello), 0).await.expect("the broker reads");
    connection.closed_with().await.expect("an error before the close").code()
}

#[tokio::test]
async fn a_welcome_names_the_session_and_the_limits() {
    let broker = BrokerProcess::start().await;
    let (_connection, welcome) = RawConnection::greeted(broker.address(), raw::hello()).await;
    assert_eq!(welcome.protocol, limits::PROTOCOL_VERSION);
    assert!(!welcome.session_id.is_empty() && !welcome.resumed && welcome.leases.is_empty(), "{welcome:?}");
    assert_eq!((welcome.heartbeat_ms, welcome.lease_ms), (5_000, 15_000));
    let told = welcome.limits.expect("a Welcome names the limits");
    assert_eq!(told.payload_bytes_max, limits::PAYLOAD_BYTES_MAX as u64);
    assert_eq!(told.batch_items_max as usize, limits::BATCH_ITEMS_MAX);
    assert_eq!(told.credit_max, limits::CREDIT_MAX);
}

#[tokio::test]
async fn a_request_before_hello_is_refused_and_the_connection_closed() {
    let broker = BrokerProcess::start().await;
    let mut connection = RawConnection::silent(broker.address()).await;
    let submit = Request::Submit(wire::Submit { tasks: vec![raw::task("early", "nothing")] });
    connection.send(submit, 0).await.expect("the broker reads");
    let error = connection.closed_with().await.expect("an error before the close");
    assert_eq!(error.code(), ErrorCode::Handshake);
    let early = RawConnection::open(broker.address()).await.info("early").await;
    assert_eq!(early.state(), wire::TaskState::Unknown);
}

#[tokio::test]
async fn a_second_hello_is_refused() {
    let broker = BrokerProcess::start().await;
    let mut connection = RawConnection::open(broker.address()).await;
    let error = connection.request(Request::Hello(raw::hello())).await.expect_err("one Hello is enough");
    assert_eq!(error.code(), ErrorCode::Handshake);
}

#[tokio::test]
async fn a_version_range_without_ours_is_refused() {
    let broker = BrokerProcess::start().await;
    for (min, max) in [(2, 9), (u32::MAX, u32::MAX), (0, 0)] {
        let hello = wire::Hello { protocol_min: min, protocol_max: max, ..raw::hello() };
        assert_eq!(turned_away(&broker, hello).await, ErrorCode::VersionMismatch, "{min} to {max}");
    }
}

#[tokio::test]
async fn a_version_range_with_ours_in_it_is_welcome() {
    let broker = BrokerProcess::start().await;
    let hello = wire::Hello { protocol_min: 1, protocol_max: 9, ..raw::hello() };
    assert_eq!(RawConnection::greeted(broker.address(), hello).await.1.protocol, 1);
}

#[tokio::test]
async fn only_the_right_token_is_let_in() {
    let broker = Setup::new().set("token = \"open-sesame\"").start().await;
    for token in ["", "open-sesam", "open-sesame!", "Open-sesame"] {
        let hello = wire::Hello { token: token.into(), ..raw::hello() };
        assert_eq!(turned_away(&broker, hello).await, ErrorCode::Unauthenticated, "`{token}`");
    }
    RawConnection::greeted(broker.address(), wire::Hello { token: "open-sesame".into(), ..raw::hello() }).await;
}

#[tokio::test]
async fn a_session_that_never_was_is_not_resumed() {
    let broker = BrokerProcess::start().await;
    let hello = wire::Hello { session_id: "never-was".into(), ..raw::worker_hello(&["q"], &["n"]) };
    let mut connection = RawConnection::silent(broker.address()).await;
    match connection.request(Request::Hello(hello)).await {
        // A new session, or a refusal with a code; never somebody else's leases.
        Ok(Answer::Welcome(welcome)) => assert!(!welcome.resumed && welcome.leases.is_empty(), "{welcome:?}"),
        Err(error) => assert_eq!(error.code(), ErrorCode::SessionLost, "{error:?}"),
        Ok(other) => panic!("neither Welcome nor a refusal but {other:?}"),
    }
}

#[tokio::test]
async fn a_worker_with_an_impossible_queue_or_name_is_refused() {
    let broker = BrokerProcess::start().await;
    let long = "x".repeat(256);
    for (queue, name) in [("", "n"), (long.as_str(), "n"), ("q", ""), ("q", long.as_str())] {
        let mut connection = RawConnection::silent(broker.address()).await;
        let hello = raw::worker_hello(&[queue], &[name]);
        let error = connection.request(Request::Hello(hello)).await.expect_err("it cannot be served");
        assert_eq!(error.code(), ErrorCode::InvalidArgument, "queue of {} bytes, name of {}", queue.len(), name.len());
    }
}
