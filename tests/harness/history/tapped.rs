//! A stream with a tap in it: whatever a client writes and reads is written down, frame by frame.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::BytesMut;
use celeriac_proto::wire::{ClientFrame, ServerFrame};
use celeriac_proto::{FrameCodec, limits};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::codec::Decoder;

use super::Tap;

/// A client's end of a connection, with a tap or without.
#[derive(Debug)]
pub struct Tapped<S> {
    stream: S,
    tap: Option<Reader>,
}

/// What the tap has read of both directions. Bytes that are no frames are let through and end the
/// reading.
#[derive(Debug)]
struct Reader {
    tap: Tap,
    sent: BytesMut,
    received: BytesMut,
    /// Bytes that the tap has seen and the stream has not taken yet. The caller comes with them
    /// again.
    ahead: usize,
}

impl<S> Tapped<S> {
    /// A stream that writes down what goes over it.
    pub fn new(stream: S, tap: Tap) -> Self {
        let reader = Reader { tap, sent: BytesMut::new(), received: BytesMut::new(), ahead: 0 };
        Self { stream, tap: Some(reader) }
    }

    /// A stream that nobody listens to.
    pub fn untapped(stream: S) -> Self {
        Self { stream, tap: None }
    }
}

impl Reader {
    /// Before the stream takes them, so that no other client can see what came of a request that is
    /// not written down.
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

impl<S: AsyncRead + Unpin> AsyncRead for Tapped<S> {
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

impl<S: AsyncWrite + Unpin> AsyncWrite for Tapped<S> {
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
