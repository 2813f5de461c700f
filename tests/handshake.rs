//! The first frame: which clients are accepted, with which settings, and which are refused. Later
//! requests are in the files of their subjects.

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
    assert!(
        !welcome.session_id.is_empty() && !welcome.resumed && welcome.leases.is_empty(),
        "{welcome:?}"
    );
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
    let error =
        connection.request(Request::Hello(raw::hello())).await.expect_err("one Hello is enough");
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
    RawConnection::greeted(
        broker.address(),
        wire::Hello { token: "open-sesame".into(), ..raw::hello() },
    )
    .await;
}

#[tokio::test]
async fn a_session_that_never_was_is_not_resumed() {
    let broker = BrokerProcess::start().await;
    let hello = wire::Hello { session_id: "never-was".into(), ..raw::worker_hello(&["q"], &["n"]) };
    let mut connection = RawConnection::silent(broker.address()).await;
    match connection.request(Request::Hello(hello)).await {
        // The client gets a new session or a refusal with a code, and never the leases of another
        // client.
        Ok(Answer::Welcome(welcome)) => {
            assert!(!welcome.resumed && welcome.leases.is_empty(), "{welcome:?}")
        }
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
        let error =
            connection.request(Request::Hello(hello)).await.expect_err("it cannot be served");
        assert_eq!(
            error.code(),
            ErrorCode::InvalidArgument,
            "queue of {} bytes, name of {}",
            queue.len(),
            name.len()
        );
    }
}

#[tokio::test]
async fn a_client_whose_name_or_version_is_too_long_is_refused() {
    let broker = BrokerProcess::start().await;
    let long = || "x".repeat(256);
    for hello in [
        wire::Hello { client_name: long(), ..raw::hello() },
        wire::Hello { client_version: long(), ..raw::hello() },
        wire::Hello { instance_id: long(), ..raw::hello() },
    ] {
        assert_eq!(turned_away(&broker, hello).await, ErrorCode::InvalidArgument);
    }
}

/// A Hello of a worker with the most queues and names, each of the greatest length.
fn largest_hello() -> wire::Hello {
    let name = |number: usize| format!("{number:0>length$}", length = limits::NAME_BYTES_MAX);
    let names: Vec<String> = (0..limits::SUBSCRIPTIONS_MAX).map(name).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    raw::worker_hello(&names, &names)
}

#[tokio::test]
async fn a_worker_of_ten_thousand_queues_and_names_is_welcome() {
    for token in ["", "open-sesame"] {
        let setup = Setup::new();
        let setup =
            if token.is_empty() { setup } else { setup.set(format!("token = \"{token}\"")) };
        let broker = setup.start().await;
        let hello = wire::Hello { token: token.into(), ..largest_hello() };
        let (mut connection, _) = RawConnection::greeted(broker.address(), hello).await;
        connection.credit(1).await;
        let last = format!("{:0>255}", limits::SUBSCRIPTIONS_MAX - 1);
        connection
            .submit_one(wire::Task { queue: last.clone(), ..raw::task("an-id", &last) })
            .await;
        assert_eq!(connection.delivery().await.id, "an-id");
    }
}

#[tokio::test]
async fn a_hello_with_one_name_more_than_there_may_be_is_refused() {
    let broker = BrokerProcess::start().await;
    let names = vec!["n"; limits::SUBSCRIPTIONS_MAX + 1];
    assert_eq!(
        turned_away(&broker, raw::worker_hello(&["q"], &names)).await,
        ErrorCode::InvalidArgument
    );
    let names = vec!["n"; 2 * limits::SUBSCRIPTIONS_MAX];
    assert_eq!(turned_away(&broker, raw::worker_hello(&["q"], &names)).await, ErrorCode::Malformed);
}

#[tokio::test]
async fn the_token_is_judged_before_the_rest_of_a_hello_has_come() {
    let broker = Setup::new().set("token = \"open-sesame\"").start().await;
    let bytes = |hello| {
        raw::frame_bytes(wire::ClientFrame {
            request_id: 7,
            timeout_ms: 0,
            body: Some(Request::Hello(hello)),
        })
    };
    let late =
        wire::Hello { client_name: "x".repeat(limits::HELLO_PREFIX_BYTES), ..largest_hello() };
    for hello in [wire::Hello { token: "wrong".into(), ..largest_hello() }, largest_hello(), late] {
        let mut connection = RawConnection::silent(broker.address()).await;
        connection
            .send_bytes(&bytes(hello)[..limits::HELLO_PREFIX_BYTES + 4])
            .await
            .expect("the broker reads");
        let (request, answer) = connection.next().await.expect("it is told");
        assert!(
            matches!(&answer, Answer::Error(error) if error.code() == ErrorCode::Unauthenticated),
            "{answer:?}"
        );
        assert_eq!(request, 7);
    }
}

#[tokio::test]
async fn a_second_token_in_one_hello_does_not_replace_the_right_one() {
    let broker = Setup::new().set("token = \"open-sesame\"").start().await;
    let mut bytes = raw::frame_bytes(wire::ClientFrame {
        request_id: 7,
        timeout_ms: 0,
        body: Some(Request::Hello(wire::Hello { token: "open-sesame".into(), ..raw::hello() })),
    });
    // Field 16 again, with a token of one byte: the decoder would merge the two.
    bytes.extend([0x82, 0x01, 3, 0x2a, 1, b'x']);
    let length = u32::try_from(bytes.len() - 4).expect("it is short");
    bytes[..4].copy_from_slice(&length.to_be_bytes());
    let mut connection = RawConnection::silent(broker.address()).await;
    connection.send_bytes(&bytes).await.expect("the broker reads");
    assert_eq!(
        connection.closed_with().await.map(|error| error.code()),
        Some(ErrorCode::Unauthenticated)
    );
}
