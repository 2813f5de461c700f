//! The byte stream of a connection: a TCP socket, or another stream, such as one with TLS or one
//! that a [`Connector`] opened. A socket is split into its own two halves, so that the usual case
//! costs one branch and no more.

use std::fmt;
use std::future::{Future, poll_fn};
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

/// The two directions of an open byte stream.
pub struct Halves {
    /// The bytes from the broker.
    pub read: Box<dyn AsyncRead + Send + Unpin>,
    /// The bytes to the broker. The stream may keep some of them until it is flushed.
    pub write: Box<dyn AsyncWrite + Send + Unpin>,
}

type Dialling = Pin<Box<dyn Future<Output = io::Result<Halves>> + Send>>;

/// Opens a byte stream to a broker in place of TCP: through a tunnel, over a socket in the file
/// system, or over a network that exists only in a test. The connection calls it for each attempt
/// to connect, with the address of [`super::ConnectionOptions`].
///
/// Like a socket, the stream must fail when the other side is gone. The connection itself notices a
/// silent broker.
///
/// ```
/// use celeriac_client::connection::{Connector, Halves};
/// use tokio::net::UnixStream;
///
/// let local = Connector::new(|_address| async {
///     let (read, write) = UnixStream::connect("/run/celeriac.sock").await?.into_split();
///     Ok(Halves { read: Box::new(read), write: Box::new(write) })
/// });
/// # let _ = local;
/// ```
#[derive(Clone)]
pub struct Connector(Arc<dyn Fn(String) -> Dialling + Send + Sync>);

impl Connector {
    /// A connector that opens streams with `dial`. The argument of `dial` is the address.
    pub fn new<D, F>(dial: D) -> Self
    where
        D: Fn(String) -> F + Send + Sync + 'static,
        F: Future<Output = io::Result<Halves>> + Send + 'static,
    {
        Self(Arc::new(move |address| Box::pin(dial(address))))
    }

    pub(super) async fn dial(&self, address: &str) -> io::Result<Halves> {
        self.0(address.to_owned()).await
    }
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Connector")
    }
}

/// Opens a socket to one address.
pub(super) async fn dial(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address).await?;
    // This client already writes small frames together. Waiting for more in the kernel would only
    // add delay.
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// The two halves of a socket.
pub(super) fn of_socket(stream: TcpStream) -> (Reader, Writer) {
    let (read, write) = stream.into_split();
    (Reader::Tcp(read), Writer::Tcp(write))
}

/// The two halves of another stream.
pub(super) fn of_other(halves: Halves) -> (Reader, Writer) {
    let Halves { read, write } = halves;
    (Reader::Other(read), Writer::Other(Other { write, is_flushed: true }))
}

/// The half that is read.
pub(super) enum Reader {
    Tcp(OwnedReadHalf),
    Other(Box<dyn AsyncRead + Send + Unpin>),
}

impl Reader {
    #[cfg(test)]
    pub(super) fn peer(&self) -> SocketAddr {
        let Self::Tcp(read) = self else { panic!("it is no socket") };
        read.peer_addr().expect("it is connected")
    }

    /// Reads the bytes that are there already, without waiting. True when there were any.
    pub(super) fn take_ready(&mut self, buffer: &mut BytesMut) -> bool {
        match self {
            Self::Tcp(read) => read.try_read_buf(buffer).is_ok_and(|count| count > 0),
            Self::Other(read) => {
                let mut bytes = [0; 1024];
                let mut ready = ReadBuf::new(&mut bytes);
                let mut nobody = Context::from_waker(Waker::noop());
                let polled = Pin::new(read).poll_read(&mut nobody, &mut ready);
                buffer.extend_from_slice(ready.filled());
                matches!(polled, Poll::Ready(Ok(()))) && !ready.filled().is_empty()
            }
        }
    }
}

impl AsyncRead for Reader {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(read) => Pin::new(read).poll_read(context, buffer),
            Self::Other(read) => Pin::new(read).poll_read(context, buffer),
        }
    }
}

/// The half that is written.
pub(super) enum Writer {
    Tcp(OwnedWriteHalf),
    Other(Other),
}

/// A stream that may keep bytes until it is flushed, as TLS does while its socket takes none.
pub(super) struct Other {
    write: Box<dyn AsyncWrite + Send + Unpin>,
    is_flushed: bool,
}

impl Writer {
    /// Whether bytes that were written may still be here.
    pub(super) fn keeps_bytes(&self) -> bool {
        matches!(self, Self::Other(other) if !other.is_flushed)
    }

    /// Writes some of the bytes, and flushes when it has written all of them. Nothing is lost when
    /// the future is dropped: call it again while there are bytes, or while [`Self::keeps_bytes`].
    pub(super) async fn send(&mut self, bytes: &mut BytesMut) -> io::Result<()> {
        if !bytes.is_empty() && self.write_buf(bytes).await? == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        match self {
            Self::Other(other) if bytes.is_empty() => poll_fn(|cx| other.poll_flush(cx)).await,
            _ => Ok(()),
        }
    }
}

impl Other {
    fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.write).poll_flush(context);
        self.is_flushed = flushed.is_ready();
        flushed
    }
}

impl AsyncWrite for Writer {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(write) => Pin::new(write).poll_write(context, bytes),
            Self::Other(other) => {
                other.is_flushed = false;
                Pin::new(&mut other.write).poll_write(context, bytes)
            }
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(write) => Pin::new(write).poll_write_vectored(context, bytes),
            Self::Other(other) => {
                other.is_flushed = false;
                Pin::new(&mut other.write).poll_write_vectored(context, bytes)
            }
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Tcp(write) => write.is_write_vectored(),
            Self::Other(other) => other.write.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(write) => Pin::new(write).poll_flush(context),
            Self::Other(other) => other.poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(write) => Pin::new(write).poll_shutdown(context),
            Self::Other(other) => Pin::new(&mut other.write).poll_shutdown(context),
        }
    }
}
