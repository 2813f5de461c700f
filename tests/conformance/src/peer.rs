//! The address to which the client connects, and what comes from there, in the order in which it
//! comes.

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

/// More than any client may send: a longer frame is not read, and told.
const READ_FRAME_BYTES_MAX: usize = 64 * 1024 * 1024;

/// What happens outside.
#[derive(Debug)]
pub(crate) enum Event {
    /// A connection of this number is there.
    Connected(u64, OwnedWriteHalf),
    /// A frame came, with its bytes.
    Frame(u64, Box<ClientFrame>, BytesMut),
    /// What came is no frame.
    NoFrame(u64, String),
    /// The client closed it.
    Ended(u64),
    /// The subject printed a line.
    Line(String),
}

/// Where connections are taken, unless the broker is away.
#[derive(Debug)]
pub(crate) struct Door {
    pub(crate) address: SocketAddr,
    events: UnboundedSender<Event>,
    accepting: JoinHandle<()>,
}

impl Door {
    pub(crate) async fn open(events: UnboundedSender<Event>) -> std::io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let accepting = tokio::spawn(accept(listener, 0, events.clone()));
        Ok(Self { address, events, accepting })
    }

    /// Takes no connections for so long. `first` is the number of the next one, less one.
    pub(crate) async fn close_for(&mut self, span: Duration, first: u64) -> std::io::Result<()> {
        self.accepting.abort();
        // The listener is dropped with its task.
        while !self.accepting.is_finished() {
            tokio::task::yield_now().await;
        }
        // The script says for how long nobody is let in.
        tokio::time::sleep(span).await;
        let listener = TcpListener::bind(self.address).await?;
        self.accepting = tokio::spawn(accept(listener, first, self.events.clone()));
        Ok(())
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, mut number: u64, events: UnboundedSender<Event>) {
    while let Ok((stream, _)) = listener.accept().await {
        number += 1;
        let (read, write) = TcpStream::into_split(stream);
        // Nobody listens any more when the script has ended.
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

/// Sends a frame, with bytes after its last field.
pub(crate) async fn send(write: &mut OwnedWriteHalf, frame: &impl Message, extra: &[u8]) -> bool {
    let mut message = frame.encode_to_vec();
    message.extend_from_slice(extra);
    let mut bytes = (message.len() as u32).to_be_bytes().to_vec();
    bytes.extend(message);
    write.write_all(&bytes).await.is_ok()
}
