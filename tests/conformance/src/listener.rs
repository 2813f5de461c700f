//! The address to which the client connects. Everything that the client does arrives as an event,
//! in the order in which it happened.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::BytesMut;
use celeriac_proto::FrameCodec;
use celeriac_proto::wire::{ClientFrame, ServerFrame};
use prost::Message;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::UnboundedSender;
use tokio::task::JoinHandle;

/// More than any client may send. A longer frame is not read and is reported as a failure.
const READ_FRAME_BYTES_MAX: usize = 64 * 1024 * 1024;

/// What the subject does.
#[derive(Debug)]
pub(crate) enum Event {
    /// The client opened the connection with this number.
    Connected(u64, OwnedWriteHalf),
    /// A frame came, with its bytes.
    Frame(u64, Box<ClientFrame>, BytesMut),
    /// The client sent bytes that are no frame.
    NoFrame(u64, String),
    /// The client closed the connection.
    Ended(u64),
    /// The subject printed a line.
    Line(String),
}

/// Accepts connections, unless the script says that the broker is away.
#[derive(Debug)]
pub(crate) struct Listener {
    pub(crate) address: SocketAddr,
    events: UnboundedSender<Event>,
    accepting: JoinHandle<()>,
}

impl Listener {
    pub(crate) async fn open(events: UnboundedSender<Event>) -> std::io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let accepting = tokio::spawn(accept(listener, 0, events.clone()));
        Ok(Self { address, events, accepting })
    }

    /// Accepts no connection for this time. `first` is the number of the next connection minus one.
    pub(crate) async fn close_for(&mut self, span: Duration, first: u64) -> std::io::Result<()> {
        self.accepting.abort();
        // The listener is dropped with its task.
        while !self.accepting.is_finished() {
            tokio::task::yield_now().await;
        }
        // The script says for how long the broker is away.
        tokio::time::sleep(span).await;
        let listener = TcpListener::bind(self.address).await?;
        self.accepting = tokio::spawn(accept(listener, first, self.events.clone()));
        Ok(())
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, mut number: u64, events: UnboundedSender<Event>) {
    while let Ok((stream, _)) = listener.accept().await {
        number += 1;
        let (read, write) = TcpStream::into_split(stream);
        // The receiver is gone when the script has ended.
        if events.send(Event::Connected(number, write)).is_err() {
            return;
        }
        tokio::spawn(read_frames(number, read, events.clone()));
    }
}

async fn read_frames(number: u64, mut read: OwnedReadHalf, events: UnboundedSender<Event>) {
    let codec = FrameCodec::<ClientFrame, ServerFrame>::new(READ_FRAME_BYTES_MAX);
    let mut buffer = BytesMut::new();
    let last = loop {
        match codec.split(&mut buffer) {
            Ok(Some(bytes)) => match ClientFrame::decode(&bytes[..]) {
                Ok(frame) => drop(events.send(Event::Frame(number, Box::new(frame), bytes))),
                Err(error) => break Event::NoFrame(number, error.to_string()),
            },
            Ok(None) => match read.read_buf(&mut buffer).await {
                Ok(0) | Err(_) => break Event::Ended(number),
                Ok(_) => {}
            },
            Err(error) => break Event::NoFrame(number, error.to_string()),
        }
    };
    let _ = events.send(last);
}

/// Sends a frame with these bytes after its last field. False when the client has closed the
/// connection.
pub(crate) async fn send(write: &mut OwnedWriteHalf, frame: &impl Message, extra: &[u8]) -> bool {
    let mut message = frame.encode_to_vec();
    message.extend_from_slice(extra);
    let mut bytes = (message.len() as u32).to_be_bytes().to_vec();
    bytes.extend(message);
    write.write_all(&bytes).await.is_ok()
}
