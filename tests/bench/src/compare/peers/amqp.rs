//! The part of AMQP 0-9-1 that is needed to publish with confirms and to consume with
//! acknowledgements: writing and reading frames. Each connection uses channel 1. `rabbitmq.rs` uses
//! it.

use anyhow::{Context, Result, bail, ensure};

use super::wire::Wire;

const CHANNEL: u16 = 1;
const FRAME_END: u8 = 0xCE;
const METHOD: u8 = 1;
const HEADER: u8 = 2;
const BODY: u8 = 3;
/// Delivery mode 2: the message is on the disk before it is confirmed.
const PERSISTENT: u8 = 2;

/// The class and the method of a frame of the server.
const DELIVER: (u16, u16) = (60, 60);
const ACK: (u16, u16) = (60, 80);

/// An answer of the server.
pub(super) enum Arrived {
    /// The publish with this number is confirmed; with `multiple`, all before it too.
    Confirmed { tag: u64, multiple: bool },
    /// A message, with its id or the id of the message that it answers. Its tag is its number on
    /// this connection.
    Delivered { id: Vec<u8> },
}

/// The properties of a message.
pub(super) enum About<'a> {
    /// A task with its id.
    Task(&'a [u8]),
    /// A result with the id of its task. It expires after an hour.
    Result(&'a [u8]),
}

/// The length of the first answer, if it is complete: a method, and for a delivery its header and
/// body too.
pub(super) fn scan(bytes: &[u8]) -> Result<Option<usize>> {
    let Some(method) = frame_length(bytes)? else { return Ok(None) };
    if called_by(bytes)? != DELIVER {
        return Ok(Some(method));
    }
    let Some(header) = frame_length(&bytes[method..])? else { return Ok(None) };
    let body_bytes = bytes.get(method + 11..method + 19).context("a short header")?;
    if u64::from_be_bytes(body_bytes.try_into()?) == 0 {
        return Ok(Some(method + header));
    }
    // The bodies are far shorter than the longest frame, so each is one frame.
    Ok(frame_length(&bytes[method + header..])?.map(|body| method + header + body))
}

fn frame_length(bytes: &[u8]) -> Result<Option<usize>> {
    let Some(length) = bytes.get(3..7) else { return Ok(None) };
    let length = u32::from_be_bytes(length.try_into()?) as usize + 8;
    let Some(frame) = bytes.get(..length) else { return Ok(None) };
    ensure!(frame.last() == Some(&FRAME_END), "no frame: {}", String::from_utf8_lossy(frame));
    Ok(Some(length))
}

/// The handshake: protocol, login as guest, no heartbeats, the virtual host `/`.
pub(super) async fn greet(wire: &mut Wire) -> Result<()> {
    wire.out.extend_from_slice(b"AMQP\x00\x00\x09\x01");
    called(wire, (10, 10)).await?;
    let mut start_ok = Arguments::default();
    start_ok.long_bytes(b"").short("PLAIN").long_bytes(b"\0guest\0guest").short("en_US");
    method(&mut wire.out, 0, (10, 11), start_ok);
    called(wire, (10, 30)).await?;
    let mut tune_ok = Arguments::default();
    tune_ok.u16(16).u32(128 * 1024).u16(0);
    method(&mut wire.out, 0, (10, 31), tune_ok);
    let mut open = Arguments::default();
    open.short("/").short("").u8(0);
    method(&mut wire.out, 0, (10, 40), open);
    called(wire, (10, 41)).await
}

/// Opens the channel and asks for confirms.
pub(super) async fn open_channel(wire: &mut Wire) -> Result<()> {
    let mut open = Arguments::default();
    open.short("");
    method(&mut wire.out, CHANNEL, (20, 10), open);
    called(wire, (20, 11)).await?;
    let mut select = Arguments::default();
    select.u8(0);
    method(&mut wire.out, CHANNEL, (85, 10), select);
    called(wire, (85, 11)).await
}

/// Declares a durable queue of this type, or checks whether it exists.
pub(super) async fn declare(wire: &mut Wire, queue: &str, kind: &str, passive: bool) -> Result<()> {
    const PASSIVE: u8 = 1;
    const DURABLE: u8 = 2;
    let mut table = Arguments::default();
    table.short("x-queue-type").u8(b'S').long_bytes(kind.as_bytes());
    let mut declare = Arguments::default();
    declare
        .u16(0)
        .short(queue)
        .u8(if passive { PASSIVE | DURABLE } else { DURABLE })
        .long_bytes(&table.0);
    method(&mut wire.out, CHANNEL, (50, 10), declare);
    called(wire, (50, 11)).await
}

/// Consumes a queue with this prefetch.
pub(super) async fn consume(wire: &mut Wire, queue: &str, prefetch: u16) -> Result<()> {
    let mut qos = Arguments::default();
    qos.u32(0).u16(prefetch).u8(0);
    method(&mut wire.out, CHANNEL, (60, 10), qos);
    called(wire, (60, 11)).await?;
    let mut consume = Arguments::default();
    consume.u16(0).short(queue).short("").u8(0).long_bytes(b"");
    method(&mut wire.out, CHANNEL, (60, 20), consume);
    called(wire, (60, 21)).await
}

/// Appends a persistent message to a queue.
pub(super) fn publish(out: &mut Vec<u8>, queue: &str, about: &About<'_>, body: &[u8]) {
    const CORRELATION: u16 = 1 << 10;
    const EXPIRATION: u16 = 1 << 8;
    const MESSAGE_ID: u16 = 1 << 7;
    const DELIVERY_MODE: u16 = 1 << 12;
    let mut publish = Arguments::default();
    publish.u16(0).short("").short(queue).u8(0);
    method(out, CHANNEL, (60, 40), publish);
    let mut header = Arguments::default();
    header.u16(60).u16(0).u64(body.len() as u64);
    match about {
        About::Task(id) => header.u16(DELIVERY_MODE | MESSAGE_ID).u8(PERSISTENT).short_bytes(id),
        About::Result(id) => header
            .u16(DELIVERY_MODE | CORRELATION | EXPIRATION)
            .u8(PERSISTENT)
            .short_bytes(id)
            .short("3600000"),
    };
    frame(out, HEADER, CHANNEL, &header.0);
    frame(out, BODY, CHANNEL, body);
}

/// Appends the acknowledgement of all deliveries up to this one.
pub(super) fn acknowledge(out: &mut Vec<u8>, tag: u64) {
    const MULTIPLE: u8 = 1;
    let mut ack = Arguments::default();
    ack.u64(tag).u8(MULTIPLE);
    method(out, CHANNEL, ACK, ack);
}

/// The content of an answer that [`scan`] found to be complete.
pub(super) fn arrived(answer: &[u8]) -> Result<Arrived> {
    match called_by(answer)? {
        ACK => {
            let multiple = u8::from_be_bytes(argument(answer, 8)?) != 0;
            Ok(Arrived::Confirmed { tag: u64::from_be_bytes(argument(answer, 0)?), multiple })
        }
        DELIVER => {
            let header = frame_length(answer)?
                .and_then(|method| answer.get(method..))
                .context("half a delivery")?;
            Ok(Arrived::Delivered { id: id(header)?.to_vec() })
        }
        other => bail!("refused: {other:?} {}", String::from_utf8_lossy(answer)),
    }
}

/// The id of a message: the first short string of its properties, as this program sets them.
fn id(header: &[u8]) -> Result<&[u8]> {
    const HEADERS: u8 = 1 << 5;
    // Class, weight and body size; then flags, a table that the server adds to redelivered
    // messages, the delivery mode, and the id.
    let mut at = 21;
    if header.get(19).context("a short header")? & HEADERS != 0 {
        let table = header.get(at..at + 4).context("a header without its table")?;
        at += 4 + u32::from_be_bytes(table.try_into()?) as usize;
    }
    let length = usize::from(*header.get(at + 1).context("a header without an id")?);
    header.get(at + 2..at + 2 + length).context("a header without an id")
}

fn called_by(frame: &[u8]) -> Result<(u16, u16)> {
    ensure!(frame.first() == Some(&METHOD), "a frame out of turn");
    let class = frame.get(7..9).context("a method without a class")?;
    let method = frame.get(9..11).context("a method without a number")?;
    Ok((u16::from_be_bytes(class.try_into()?), u16::from_be_bytes(method.try_into()?)))
}

fn argument<const N: usize>(frame: &[u8], at: usize) -> Result<[u8; N]> {
    Ok(frame.get(11 + at..11 + at + N).context("a method without its arguments")?.try_into()?)
}

/// Writes the buffer and reads the answer, which must be this method.
async fn called(wire: &mut Wire, expected: (u16, u16)) -> Result<()> {
    wire.flush().await?;
    let frame = wire.answer().await?;
    let found = called_by(&frame)?;
    ensure!(found == expected, "refused: {found:?} {}", String::from_utf8_lossy(&frame));
    Ok(())
}

fn method(out: &mut Vec<u8>, channel: u16, (class, method): (u16, u16), arguments: Arguments) {
    let mut payload = Arguments::default();
    payload.u16(class).u16(method);
    payload.0.extend_from_slice(&arguments.0);
    frame(out, METHOD, channel, &payload.0);
}

fn frame(out: &mut Vec<u8>, kind: u8, channel: u16, payload: &[u8]) {
    out.push(kind);
    out.extend_from_slice(&channel.to_be_bytes());
    out.extend_from_slice(
        &u32::try_from(payload.len()).expect("payloads of a bench are short").to_be_bytes(),
    );
    out.extend_from_slice(payload);
    out.push(FRAME_END);
}

/// Arguments in the order of the specification.
#[derive(Default)]
struct Arguments(Vec<u8>);

impl Arguments {
    fn u8(&mut self, value: u8) -> &mut Self {
        self.0.push(value);
        self
    }

    fn u16(&mut self, value: u16) -> &mut Self {
        self.0.extend_from_slice(&value.to_be_bytes());
        self
    }

    fn u32(&mut self, value: u32) -> &mut Self {
        self.0.extend_from_slice(&value.to_be_bytes());
        self
    }

    fn u64(&mut self, value: u64) -> &mut Self {
        self.0.extend_from_slice(&value.to_be_bytes());
        self
    }

    fn short(&mut self, text: &str) -> &mut Self {
        self.short_bytes(text.as_bytes())
    }

    fn short_bytes(&mut self, text: &[u8]) -> &mut Self {
        self.0.push(u8::try_from(text.len()).expect("names and ids of a bench are short"));
        self.0.extend_from_slice(text);
        self
    }

    /// A long string, or a table that was written by itself.
    fn long_bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.u32(u32::try_from(bytes.len()).expect("strings of a bench are short"));
        self.0.extend_from_slice(bytes);
        self
    }
}
