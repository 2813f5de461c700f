//! Peers whose bytes are no frames, whose frames are no messages, or that send almost nothing. The
//! broker must close them and must not hold much memory for them.

use std::net::SocketAddr;
use std::time::Duration;

use celeriac_proto::limits;
use celeriac_proto::wire;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use super::STAY;
use crate::RandomSource;
use crate::raw::{self, Request};

pub(super) const KINDS: u64 = 9;

/// Opens a connection, sends the bytes of its kind, and reads until the broker has closed it.
pub(super) async fn peer(
    kind: u64,
    address: SocketAddr,
    random: &mut RandomSource,
) -> Result<(), String> {
    // Under a flood the kernel may refuse a connection. That is no error of the broker.
    let Ok(mut stream) = TcpStream::connect(address).await else { return Ok(()) };
    let greeted = random.below(2) == 0;
    match kind {
        0 => return drip(stream, random).await,
        1 => return silent(stream, address, random).await,
        2 => return half_open(stream, random).await,
        _ => {}
    }
    let mut bytes = if greeted { raw::hello_bytes() } else { Vec::new() };
    let has_an_end = match kind {
        3 => lying_length(&mut bytes, random),
        4 => truncated(&mut bytes, random),
        5 => nested(&mut bytes, random),
        6 => many_fields(&mut bytes, random),
        7 => other_protocol(&mut bytes, random),
        _ => mutated(&mut bytes, random),
    };
    // The broker may close the connection before it has read everything.
    let _ = stream.write_all(&bytes).await;
    if !has_an_end {
        let _ = stream.shutdown().await;
    }
    closed(stream).await
}

async fn closed(mut stream: TcpStream) -> Result<(), String> {
    let mut rest = vec![0; 4096];
    let reading = async { while matches!(stream.read(&mut rest).await, Ok(count) if count > 0) {} };
    timeout(STAY, reading).await.map_err(|_| "the broker does not close it".to_owned())
}

/// Sends one byte now and then of a frame that is valid so far. The whole handshake takes too long.
async fn drip(mut stream: TcpStream, random: &mut RandomSource) -> Result<(), String> {
    let bytes = raw::hello_bytes();
    for byte in &bytes[..bytes.len() - 1] {
        if stream.write_all(&[*byte]).await.is_err() {
            return Ok(());
        }
        // Time itself is what the peer is about.
        sleep(Duration::from_millis(random.between(100, 1_000))).await;
    }
    closed(stream).await
}

/// Many connections that never send anything, and that leave before or after the broker closes
/// them.
async fn silent(
    first: TcpStream,
    address: SocketAddr,
    random: &mut RandomSource,
) -> Result<(), String> {
    let mut streams = vec![first];
    for _ in 0..random.between(1, 50) {
        streams.extend(TcpStream::connect(address).await);
    }
    // Some leave by themselves, and the broker closes the others after five seconds.
    sleep(Duration::from_millis(random.between(0, 6_000))).await;
    match streams.pop() {
        Some(stream) if random.below(2) == 0 => closed(stream).await,
        _ => Ok(()),
    }
}

/// Sends Hello and some requests, and vanishes without a word, as a machine does that loses its
/// power.
async fn half_open(mut stream: TcpStream, random: &mut RandomSource) -> Result<(), String> {
    let mut bytes = raw::hello_bytes();
    for request_id in 2..random.between(2, 40) {
        bytes.extend(frame(request_id, Request::Heartbeat(wire::Heartbeat::default())));
    }
    let _ = stream.write_all(&bytes).await;
    // The peer does not read its answers.
    sleep(Duration::from_millis(random.between(0, 300))).await;
    let _ = stream.set_zero_linger();
    Ok(())
}

pub(super) fn frame(request_id: u64, body: Request) -> Vec<u8> {
    raw::frame_bytes(wire::ClientFrame { request_id, timeout_ms: 0, body: Some(body) })
}

/// Whether the broker has a reason to close the connection by itself.
type HasAnEnd = bool;

fn lying_length(bytes: &mut Vec<u8>, random: &mut RandomSource) -> HasAnEnd {
    let before_hello = limits::FRAME_BYTES_MAX_BEFORE_HELLO as u32;
    let lengths =
        [0, 1 << 31, u32::MAX, limits::FRAME_BYTES_MAX as u32 + 1, before_hello + 1, before_hello];
    let length = lengths[random.below(lengths.len() as u64) as usize];
    bytes.extend(length.to_be_bytes());
    let some = random.below(20_000) as usize;
    bytes.extend(random.bytes(some));
    length == 0 || length as usize > limits::FRAME_BYTES_MAX
}

fn truncated(bytes: &mut Vec<u8>, random: &mut RandomSource) -> HasAnEnd {
    let submit = wire::Submit { tasks: vec![raw::task("half", "n"); 20] };
    let whole = frame(2, Request::Submit(submit));
    bytes.extend(&whole[..random.below(whole.len() as u64) as usize]);
    false
}

/// Nested groups or nested messages, up to a hundred thousand deep.
fn nested(bytes: &mut Vec<u8>, random: &mut RandomSource) -> HasAnEnd {
    let depth = random.between(1_000, 100_000) as usize;
    let mut body = vec![(15 << 3) | 3; depth];
    if random.below(2) == 0 {
        body = Vec::new();
        // Built from the inside out: field 17 with the length of its content.
        for _ in 0..depth.min(5_000) {
            let mut around = vec![0x8a, 0x01];
            prost::encoding::encode_varint(body.len() as u64, &mut around);
            around.extend(&body);
            body = around;
        }
    }
    bytes.extend(u32::try_from(body.len()).expect("it is short").to_be_bytes());
    bytes.extend(body);
    false
}

/// Up to a million fields, known and unknown ones.
fn many_fields(bytes: &mut Vec<u8>, random: &mut RandomSource) -> HasAnEnd {
    let count = random.between(1, 1_000_000) as usize;
    let tag = [1 << 3, 15 << 3, 2 << 3][random.below(3) as usize];
    bytes.extend(u32::try_from(2 * count).expect("it is short").to_be_bytes());
    bytes.extend([tag, 1].repeat(count));
    false
}

fn other_protocol(bytes: &mut Vec<u8>, random: &mut RandomSource) -> HasAnEnd {
    let greetings: [&[u8]; 7] = [
        b"GET / HTTP/1.1\r\nHost: broker\r\nUser-Agent: x\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0",
        b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03",
        b"SSH-2.0-OpenSSH_9.9\r\n",
        b"*1\r\n$4\r\nPING\r\n",
        b"AMQP\0\0\x09\x01",
        b"",
    ];
    let greeting = greetings[random.below(greetings.len() as u64) as usize];
    bytes.extend(greeting);
    let some = random.below(2_000) as usize;
    bytes.extend(random.bytes(some));
    false
}

/// A valid frame with wrong bytes in it: text that is no UTF-8, wrong lengths, unknown enum values.
fn mutated(bytes: &mut Vec<u8>, random: &mut RandomSource) -> HasAnEnd {
    let hello = raw::worker_hello(&["hostile"], &["n"]);
    let mut right = frame(1, Request::Hello(hello));
    let submit = wire::Submit { tasks: vec![raw::task("mutated", "n"); 3] };
    right.extend(frame(2, Request::Submit(submit)));
    right.extend(frame(3, Request::Credit(wire::Credit { credit: 3 })));
    right.extend(frame(4, Request::ListTasks(wire::ListTasks { limit: 5, ..Default::default() })));
    for _ in 0..random.between(1, 6) {
        let at = random.below(right.len() as u64) as usize;
        right[at] = random.bits() as u8;
    }
    *bytes = right;
    false
}
