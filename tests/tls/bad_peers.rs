//! Peers that speak no TLS, or speak it badly: each of them is closed, and costs nobody else
//! anything.

use std::time::Duration;

use celeriac_tests::{BrokerProcess, until, within};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::handshakes::{hello_of_tls_1_2, rest};
use super::{Pki, greeted, shake_hands};

async fn connected(broker: &BrokerProcess) -> TcpStream {
    TcpStream::connect(broker.address()).await.expect("the broker listens")
}

#[tokio::test]
async fn o13_a_plain_byte_is_answered_by_closing() {
    let pki = Pki::new();
    let broker = pki.setup().start().await;
    for plain in [
        &b"\0\0\0\x02\x08\x01"[..],
        b"GET / HTTP/1.1\r\nHost: broker\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"\xff\xff\xff\xff\xff",
        &[0; 4096],
        // The kind of record is right, and the rest is not.
        b"\x16\x03\x01\x00\x05hello",
        b"\x16\x03\x01\xff\xff....",
    ] {
        let mut stream = connected(&broker).await;
        stream.write_all(plain).await.expect("the broker reads");
        let answer = rest(stream).await;
        assert!(answer.is_empty() || answer[0] == 21, "no byte but an alert: {answer:?}");
    }
    until("the log says so", async || {
        broker.stderr().contains("a client was refused: its handshake of TLS failed")
    })
    .await;
    let lines = broker.stderr().matches("its handshake of TLS failed").count();
    assert_eq!(lines, 1, "an address gets one line in ten seconds");
    greeted(pki.client(&broker)).await;
}

#[tokio::test]
async fn o13_a_client_of_tls_on_a_plain_port_is_told_so() {
    let broker = BrokerProcess::start().await;
    let mut stream = connected(&broker).await;
    stream.write_all(&hello_of_tls_1_2()).await.expect("the broker reads");
    // A fatal alert: protocol_version.
    assert_eq!(rest(stream).await, [21, 3, 1, 0, 2, 2, 70]);
}

#[tokio::test]
async fn o18_a_thousand_half_open_handshakes_keep_nobody_out() {
    let pki = Pki::new();
    let broker = pki.setup().set("connections_max = 20").start().await;
    let before = greeted(pki.client(&broker)).await;
    let mut half_open = Vec::new();
    for number in 0..1_000 {
        let mut stream = connected(&broker).await;
        // Half of them say nothing, and half of them begin a handshake.
        if number % 2 == 0 {
            stream.write_all(b"\x16\x03\x01\x02\x00\x01").await.expect("the broker reads");
        }
        half_open.push(stream);
        if number % 100 == 50 {
            greeted(pki.client(&broker)).await;
            before.queues().await.expect("a connection before them goes on");
        }
    }
    greeted(pki.client(&broker)).await;
    before.queues().await.expect("a connection before them goes on");
    // The oldest had to leave, so that there are never more than 256.
    let oldest = half_open.remove(0);
    let _: Vec<u8> = rest(oldest).await;
}

#[tokio::test]
async fn o18_a_handshake_that_trickles_ends_after_ten_seconds() {
    let pki = Pki::new();
    let broker = pki.setup().start().await;
    let began = Instant::now();
    let mut stream = connected(&broker).await;
    // Time itself is what the test is about: a byte in each half of a second is no progress.
    let trickle = async {
        for byte in hello_of_tls_1_2().into_iter().cycle() {
            if stream.write_all(&[byte]).await.is_err() {
                break;
            }
            let read = tokio::time::timeout(Duration::from_millis(500), stream.read_u8()).await;
            if read.is_ok() {
                break;
            }
            if began.elapsed() > Duration::from_secs(4) {
                greeted(pki.client(&broker)).await;
            }
        }
    };
    within("the end of the connection", trickle).await;
    let took = began.elapsed();
    assert!(took > Duration::from_secs(9), "it was closed after {took:?}");
    until("the log says so", async || {
        broker.stderr().contains("it did not end its handshake within 10s")
    })
    .await;
}

#[tokio::test]
async fn o13_who_wants_to_negotiate_again_is_closed_and_nobody_else() {
    let pki = Pki::new();
    let broker = pki.setup().start().await;
    let other = greeted(pki.client(&broker)).await;
    // TLS 1.3 has no second handshake. A Hello in clear text, below the stream:
    let mut stream = shake_hands(broker.address(), pki.handshake(&[])).await.expect("let in");
    let (socket, _) = stream.get_mut();
    socket.write_all(&hello_of_tls_1_2()).await.expect("the broker reads");
    let mut bytes = Vec::new();
    let ended = within("the end", stream.read_to_end(&mut bytes)).await;
    assert!(ended.is_err() || bytes.is_empty(), "{ended:?} {bytes:?}");
    // New keys, again and again:
    let mut stream = shake_hands(broker.address(), pki.handshake(&[])).await.expect("let in");
    let mut sent = 0;
    let flood = async {
        while sent < 10_000 {
            let (_, connection) = stream.get_mut();
            connection.refresh_traffic_keys().expect("the handshake has ended");
            if stream.flush().await.is_err() {
                break;
            }
            sent += 1;
        }
        let _ = stream.read_to_end(&mut bytes).await;
    };
    within("the end of the flood", flood).await;
    other.queues().await.expect("others go on");
    greeted(pki.client(&broker)).await;
}
