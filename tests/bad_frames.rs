//! Bytes that are no frames, and frames that are no messages. The broker answers with a typed error
//! or closes the connection, and serves all other clients.

use celeriac_proto::limits;
use celeriac_proto::wire::{self, ErrorCode};
use celeriac_tests::raw::{self, Answer, Request};
use celeriac_tests::{BrokerProcess, RawConnection, within};
use prost::Message;

/// Sends the bytes on a new connection and on one after its handshake. The broker must close both.
/// Returns the code of the last error, if one came: bytes that were still unread when the broker
/// closed the connection may have replaced it by a reset.
async fn refused(broker: &mut BrokerProcess, bytes: &[u8]) -> Vec<Option<ErrorCode>> {
    let mut codes = Vec::new();
    for mut connection in
        [RawConnection::silent(broker.address()).await, RawConnection::open(broker.address()).await]
    {
        connection.send_bytes(bytes).await.expect("the broker reads");
        codes.push(connection.closed_with().await.map(|error| error.code()));
    }
    still_serves(broker).await;
    codes
}

async fn still_serves(broker: &mut BrokerProcess) {
    assert!(broker.is_running(), "the broker is gone");
    assert!(!broker.stderr().contains("panicked"), "the broker panicked");
    let outcome = RawConnection::open(broker.address())
        .await
        .submit_one(raw::task("still-here", "nothing"))
        .await;
    assert_eq!(outcome.error, None);
}

#[tokio::test]
async fn a_frame_of_length_0_is_malformed() {
    let mut broker = BrokerProcess::start().await;
    let codes = refused(&mut broker, &[0, 0, 0, 0]).await;
    assert_eq!(codes, [Some(ErrorCode::Malformed); 2]);
}

#[tokio::test]
async fn a_frame_of_length_2_to_the_31_is_too_large_and_nothing_is_allocated_for_it() {
    let mut broker = BrokerProcess::start().await;
    let codes = refused(&mut broker, &(1_u32 << 31).to_be_bytes()).await;
    assert_eq!(codes, [Some(ErrorCode::FrameTooLarge); 2]);
    let resident_kib = broker.resident_kib();
    assert!(resident_kib < 512 * 1024, "the broker holds {resident_kib} KiB");
}

#[tokio::test]
async fn a_frame_of_length_2_to_the_32_minus_1_is_too_large() {
    let mut broker = BrokerProcess::start().await;
    let codes = refused(&mut broker, &u32::MAX.to_be_bytes()).await;
    assert_eq!(codes, [Some(ErrorCode::FrameTooLarge); 2]);
}

#[tokio::test]
async fn a_frame_over_the_limit_before_hello_is_too_large_even_when_it_would_be_allowed_later() {
    let broker = BrokerProcess::start().await;
    let mut connection = RawConnection::silent(broker.address()).await;
    let length = u32::try_from(limits::FRAME_BYTES_MAX_BEFORE_HELLO + 1).expect("it is small");
    connection.send_bytes(&length.to_be_bytes()).await.expect("the broker reads");
    assert_eq!(
        connection.closed_with().await.map(|error| error.code()),
        Some(ErrorCode::FrameTooLarge)
    );
}

#[tokio::test]
async fn half_a_frame_and_then_the_end_closes_only_that_connection() {
    let mut broker = BrokerProcess::start().await;
    for cut in [1, 3, 4, 5, raw::hello_bytes().len() - 1] {
        let mut connection = RawConnection::silent(broker.address()).await;
        connection.send_bytes(&raw::hello_bytes()[..cut]).await.expect("the broker reads");
        connection.close_sending().await;
        connection.closed_with().await;
    }
    still_serves(&mut broker).await;
}

#[tokio::test]
async fn garbage_after_a_right_length_is_malformed() {
    let mut broker = BrokerProcess::start().await;
    let codes = refused(&mut broker, b"\0\0\0\x08\xff\xff\xff\xff\xff\xff\xff\xff").await;
    assert_eq!(codes, [Some(ErrorCode::Malformed); 2]);
}

#[tokio::test]
async fn a_message_nested_100_000_deep_is_malformed() {
    let mut broker = BrokerProcess::start().await;
    let mut connection = RawConnection::open(broker.address()).await;
    // Unknown groups within unknown groups: tag 15 with wire type 3, which a decoder must skip.
    let mut bytes = 100_000_u32.to_be_bytes().to_vec();
    bytes.resize(4 + 100_000, (15 << 3) | 3);
    connection.send_bytes(&bytes).await.expect("the broker reads");
    assert_eq!(
        connection.closed_with().await.map(|error| error.code()),
        Some(ErrorCode::Malformed)
    );
    still_serves(&mut broker).await;
}

#[tokio::test]
async fn a_message_of_a_million_unknown_fields_is_malformed_and_costs_little() {
    let broker = BrokerProcess::start().await;
    let mut connection = RawConnection::open(broker.address()).await;
    let mut bytes = 2_000_002_u32.to_be_bytes().to_vec();
    bytes.extend([1 << 3, 77]); // request_id = 77
    bytes.extend([15 << 3, 1].repeat(1_000_000));
    connection.send_bytes(&bytes).await.expect("the broker reads");
    assert_eq!(
        connection.closed_with().await.map(|error| error.code()),
        Some(ErrorCode::Malformed)
    );
    assert!(broker.resident_kib() < 256 * 1024, "the broker holds {} KiB", broker.resident_kib());
}

#[tokio::test]
async fn an_http_request_is_told_what_port_this_is() {
    let broker = BrokerProcess::start().await;
    let mut connection = RawConnection::silent(broker.address()).await;
    connection.send_bytes(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.expect("the broker reads");
    let answer = connection.bytes_until_closed().await;
    let text = String::from_utf8(answer).expect("an HTTP client is answered in its own language");
    assert!(text.starts_with("HTTP/1.1 400 ") && text.contains("Celeriac"), "{text}");
}

#[tokio::test]
async fn a_tls_client_hello_is_closed_with_at_most_an_alert() {
    let mut broker = BrokerProcess::start().await;
    let mut connection = RawConnection::silent(broker.address()).await;
    connection
        .send_bytes(b"\x16\x03\x01\x00\xc8\x01\x00\x00\xc4\x03\x03")
        .await
        .expect("the broker reads");
    let answer = connection.bytes_until_closed().await;
    // The answer is a TLS record of the kind alert, or nothing. A frame of this protocol would mean
    // nothing to a TLS client.
    assert!(answer.is_empty() || answer[0] == 0x15, "{answer:?}");
    still_serves(&mut broker).await;
}

#[tokio::test]
async fn an_unknown_kind_of_request_is_unsupported_and_the_connection_goes_on() {
    let broker = BrokerProcess::start().await;
    let mut connection = RawConnection::open(broker.address()).await;
    let mut message =
        wire::ClientFrame { request_id: 1_000, timeout_ms: 0, body: None }.encode_to_vec();
    // Field 500, an empty message: a request of a later version.
    message.extend([0xa2, 0x1f, 0x00]);
    let mut bytes = u32::try_from(message.len()).expect("it is short").to_be_bytes().to_vec();
    bytes.extend(message);
    connection.send_bytes(&bytes).await.expect("the broker reads");
    let answer =
        within("an answer", connection.answer(1_000)).await.expect("the connection goes on");
    let Answer::Error(error) = answer else { panic!("no Error but {answer:?}") };
    assert_eq!(error.code(), ErrorCode::Unsupported);
    assert_eq!(connection.submit_one(raw::task("after", "nothing")).await.error, None);
}

#[tokio::test]
async fn text_that_is_not_utf_8_is_malformed() {
    let mut broker = BrokerProcess::start().await;
    for field in ["id", "name", "queue", "shadow", "header"] {
        let mut task = raw::task("an-id", "a-name");
        match field {
            "id" => task.id = "@@".into(),
            "name" => task.name = "@@".into(),
            "queue" => task.queue = "@@".into(),
            "shadow" => task.shadow = "@@".into(),
            _ => drop(task.headers.insert("@@".into(), b"value".as_slice().into())),
        }
        let submit = Request::Submit(wire::Submit { tasks: vec![task] });
        let mut bytes = raw::frame_bytes(wire::ClientFrame {
            request_id: 9,
            timeout_ms: 0,
            body: Some(submit),
        });
        let at =
            bytes.windows(2).position(|pair| pair == b"@@").expect("the place holder is there");
        bytes[at..at + 2].copy_from_slice(b"\xff\xfe");
        let mut connection = RawConnection::open(broker.address()).await;
        connection.send_bytes(&bytes).await.expect("the broker reads");
        let error = connection.closed_with().await.expect("an error before the close");
        assert_eq!(error.code(), ErrorCode::Malformed, "{field}");
    }
    still_serves(&mut broker).await;
}
