//! A stream with a tap: it writes down, frame by frame, what a client writes and reads.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::BytesMut;
use celeriac_proto::wire::{ClientFrame, ServerFrame};
use celeriac_proto::{FrameCodec, limits};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::codec::Decoder;

use super::Tap;

/// The client's end of a connection, with or without a tap.
#[derive(Debug)]
pub struct TappedStream<S> {
    stream: S,
    tap: Option<Reader>,
}

/// The bytes of both directions that form no whole frame yet. Bytes that are no frames are passed
/// on, and the tap reads no more.
#[derive(Debug)]
struct Reader {
    tap: Tap,
    sent: BytesMut,
    received: BytesMut,
    /// The number of bytes that the tap has read and the stream has not taken yet. The caller
    /// passes them again.
    ahead: usize,
}

impl<S> TappedStream<S> {
    /// A stream with this tap.
    pub fn new(stream: S, tap: Tap) -> Self {
        let reader = Reader { tap, sent: BytesMut::new(), received: BytesMut::new(), ahead: 0 };
        Self { stream, tap: Some(reader) }
    }

    /// A stream without a tap.
    pub fn untapped(stream: S) -> Self {
        Self { stream, tap: None }
    }
}

impl Reader {
    /// The tap reads bytes before the stream takes them. So no other client can see an effect of a
    /// request that is not yet written down.
    fn will_send(&mut self, bytes: &[u8]) {
        if let Some(new) = bytes.get(self.ahead..) {
            self.sent.extend_from_slice(new);
            self.ahead = bytes.len();
        }
        let mut codec = FrameCodec::<ClientFrame, ServerFrame>::new(limits::FRAME_BYTES_MAX);
        while let Ok(Some(frame)) = codec.decode(&mut self.sent) {
            self.tap.sent(&frame);
        }
    }

    fn received(&mut self, bytes: &[u8]) {
        self.received.extend_from_slice(bytes);
        let mut codec = FrameCodec::<ServerFrame, ClientFrame>::new(limits::FRAME_BYTES_MAX);
        while let Ok(Some(frame)) = codec.decode(&mut self.received) {
            self.tap.received(frame);
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for TappedStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let outcome = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if let Some(reader) = &mut self.tap {
            reader.received(&buffer.filled()[before..]);
        }
        outcome
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for TappedStream<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if let Some(reader) = &mut self.tap {
            reader.will_send(bytes);
        }
        let outcome = Pin::new(&mut self.stream).poll_write(cx, bytes);
        if let (Some(reader), Poll::Ready(Ok(taken))) = (&mut self.tap, &outcome) {
            reader.ahead = reader.ahead.saturating_sub(*taken);
        }
        outcome
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
