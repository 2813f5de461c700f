//! Frames on a byte stream: a big-endian u32 length, then one protobuf message.
//!
//! The codec does not trust the peer. It allocates nothing because of an announced length, and it
//! refuses a frame that would take far more memory than its bytes before it decodes the frame. It
//! does not decide how the broker answers a fault, and it does not check what a message means.

use std::io;
use std::marker::PhantomData;

use bytes::{Buf, BufMut, BytesMut};
use prost::Message;
use tokio_util::codec::{Decoder, Encoder};

use crate::measure::{Frame, TooMany, measure};
use crate::wire::{ClientFrame, client_frame};

/// Why the bytes of a peer are not a frame. Each of these errors ends the connection.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// The frame has no bytes. No peer sends such a frame.
    #[error("a frame of length 0")]
    Empty,
    /// The length is over the limit of this connection. The codec allocated nothing for the frame.
    #[error("a frame of {length} bytes, and {max} are allowed")]
    TooLarge {
        /// The length that the peer announced, in bytes.
        length: usize,
        /// The limit, in bytes.
        max: usize,
    },
    /// The frame has too many fields of one kind. The codec did not decode it.
    #[error("a frame with {0}")]
    TooMany(#[from] TooMany),
    /// The first bytes belong to another protocol, which the error names.
    #[error("this is the port of a Celeriac broker, and the bytes are {0}")]
    OtherProtocol(&'static str),
    /// The length was right, but the bytes are not a message of this protocol.
    #[error("a frame that is no message of this protocol: {0}")]
    Malformed(#[from] prost::DecodeError),
    /// The peer closed the connection in the middle of a frame, or the connection failed.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Decodes frames into messages `In`, and encodes messages `Out` into frames.
///
/// It implements [`Decoder`] and [`Encoder`], so a `tokio_util` `Framed` can use it. The limit
/// bounds the frames that arrive. It is low until the handshake is over. The codec does not bound
/// the frames that it encodes: the sender knows the peer's limit.
///
/// ```
/// use bytes::BytesMut;
/// use celeriac_proto::FrameCodec;
/// use celeriac_proto::wire::{ClientFrame, ServerFrame};
/// use tokio_util::codec::Decoder;
///
/// let mut broker = FrameCodec::<ClientFrame, ServerFrame>::new(1024);
/// // The bytes of a frame arrive in parts; the length comes first.
/// let mut buffer = BytesMut::from(&[0, 0, 0, 2, 8][..]);
/// assert_eq!(broker.decode(&mut buffer)?, None);
/// buffer.extend_from_slice(&[7]);
/// let frame = broker.decode(&mut buffer)?.expect("the frame is complete");
/// assert_eq!(frame.request_id, 7);
/// # Ok::<(), celeriac_proto::FrameError>(())
/// ```
#[derive(Debug)]
pub struct FrameCodec<In, Out> {
    frame_bytes_max: usize,
    direction: PhantomData<fn(Out) -> In>,
}

/// The number of bytes in front of every frame that hold its length.
pub const LENGTH_BYTES: usize = 4;

/// The most memory that the codec reserves at once for a frame that has not arrived: one read of a
/// busy socket.
const RESERVE_BYTES_MAX: usize = 64 * 1024;

impl<In, Out> FrameCodec<In, Out> {
    /// A codec that accepts frames of up to `frame_bytes_max` bytes, without the length in front.
    pub fn new(frame_bytes_max: usize) -> Self {
        Self { frame_bytes_max, direction: PhantomData }
    }

    /// Changes the limit for the frames that arrive. Both sides do so after the handshake, to
    /// `Welcome.limits.frame_bytes_max`.
    pub fn set_frame_bytes_max(&mut self, frame_bytes_max: usize) {
        self.frame_bytes_max = frame_bytes_max;
    }

    /// Returns the length of the frame at the beginning of `buffer`, without the four bytes of the
    /// length itself. Returns `None` until these four bytes have arrived. Allocates nothing.
    ///
    /// # Errors
    /// [`FrameError::Empty`] for a length of 0, [`FrameError::TooLarge`] for a length over the
    /// limit, and [`FrameError::OtherProtocol`] when such a length is the beginning of another
    /// protocol.
    ///
    /// ```
    /// use celeriac_proto::wire::{ClientFrame, ServerFrame};
    /// use celeriac_proto::{FrameCodec, FrameError};
    ///
    /// let codec = FrameCodec::<ClientFrame, ServerFrame>::new(1024);
    /// assert_eq!(codec.announced(&[0, 0, 0])?, None);
    /// assert_eq!(codec.announced(&[0, 0, 0, 9])?, Some(9));
    /// let http = codec.announced(b"GET / HTTP/1.1");
    /// assert!(matches!(http, Err(FrameError::OtherProtocol("HTTP"))));
    /// # Ok::<(), FrameError>(())
    /// ```
    pub fn announced(&self, buffer: &[u8]) -> Result<Option<usize>, FrameError> {
        let Some(prefix) = buffer.first_chunk::<LENGTH_BYTES>() else {
            return Ok(None);
        };
        let length = u32::from_be_bytes(*prefix) as usize;
        if length == 0 {
            return Err(FrameError::Empty);
        }
        if length > self.frame_bytes_max {
            if let Some(protocol) = other_protocol(prefix) {
                return Err(FrameError::OtherProtocol(protocol));
            }
            return Err(FrameError::TooLarge { length, max: self.frame_bytes_max });
        }
        Ok(Some(length))
    }

    /// Removes one whole frame from the front of `buffer` and returns the bytes of its message.
    /// Returns `None` until the frame has arrived as a whole. The message is not measured and not
    /// decoded: a broker that shares memory between connections does both later.
    ///
    /// # Errors
    /// The same as [`announced`](Self::announced).
    pub fn split(&self, buffer: &mut BytesMut) -> Result<Option<BytesMut>, FrameError> {
        let Some(length) = self.announced(buffer)? else { return Ok(None) };
        if buffer.len() < LENGTH_BYTES + length {
            return Ok(None);
        }
        buffer.advance(LENGTH_BYTES);
        Ok(Some(buffer.split_to(length)))
    }
}

/// Names the other protocol whose first bytes look like a length over the limit.
fn other_protocol(prefix: &[u8; LENGTH_BYTES]) -> Option<&'static str> {
    match prefix {
        b"GET " | b"POST" | b"PUT " | b"HEAD" | b"OPTI" | b"DELE" | b"PATC" | b"CONN" | b"PRI " => {
            Some("HTTP")
        }
        [0x16, 3, ..] => Some("TLS"),
        b"AMQP" => Some("AMQP"),
        [b'*', b'1'..=b'9', ..] => Some("Redis"),
        b"SSH-" => Some("SSH"),
        _ => None,
    }
}

impl<In: Frame, Out> Decoder for FrameCodec<In, Out> {
    type Item = In;
    type Error = FrameError;

    fn decode(&mut self, buffer: &mut BytesMut) -> Result<Option<In>, FrameError> {
        let Some(frame) = self.split(buffer)? else {
            let whole =
                self.announced(buffer)?.map_or(LENGTH_BYTES, |length| LENGTH_BYTES + length);
            // Memory grows with the bytes that arrive, not with the length that was announced.
            buffer.reserve((whole - buffer.len()).min(RESERVE_BYTES_MAX));
            return Ok(None);
        };
        Ok(Some(measure::<In>(&frame)?.decode(frame.freeze())?))
    }
}

/// Appends one frame whose message `encode` writes. The length is filled in afterwards: to compute
/// it first, the encoder would have to walk through every message twice.
fn encode_frame(
    buffer: &mut BytesMut,
    encode: impl FnOnce(&mut BytesMut),
) -> Result<(), FrameError> {
    let start = buffer.len();
    buffer.put_u32(0);
    encode(buffer);
    let length = buffer.len() - start - LENGTH_BYTES;
    let Ok(prefix) = u32::try_from(length) else {
        buffer.truncate(start);
        return Err(FrameError::TooLarge { length, max: u32::MAX as usize });
    };
    buffer[start..start + LENGTH_BYTES].copy_from_slice(&prefix.to_be_bytes());
    Ok(())
}

/// Appends a request to the bytes for the broker, exactly as [`FrameCodec`] encodes a whole
/// [`ClientFrame`]. The caller keeps the body, because it may have to send the request again.
///
/// `timeout_ms` is how long the client waits for the answer, in milliseconds; 0 means the broker's
/// default.
///
/// # Errors
/// [`FrameError::TooLarge`] for a request of 4 GiB. Then nothing is appended.
///
/// ```
/// use bytes::BytesMut;
/// use celeriac_proto::wire::{Get, client_frame::Body};
///
/// let body = Body::Get(Get { ids: vec!["user-42".to_owned()], ..Get::default() });
/// let mut bytes = BytesMut::new();
/// celeriac_proto::encode_request(1, 0, &body, &mut bytes)?;
/// let length = u32::from_be_bytes(bytes[..4].try_into().expect("four bytes"));
/// assert_eq!(length as usize, bytes.len() - celeriac_proto::LENGTH_BYTES);
/// # Ok::<(), celeriac_proto::FrameError>(())
/// ```
pub fn encode_request(
    request_id: u64,
    timeout_ms: u64,
    body: &client_frame::Body,
    buffer: &mut BytesMut,
) -> Result<(), FrameError> {
    // A frame without a body has all other fields.
    let frame = ClientFrame { request_id, timeout_ms, body: None };
    encode_frame(buffer, |buffer| {
        frame.encode_raw(buffer);
        body.encode(buffer);
    })
}

impl<In, Out: Message> Encoder<&Out> for FrameCodec<In, Out> {
    type Error = FrameError;

    fn encode(&mut self, frame: &Out, buffer: &mut BytesMut) -> Result<(), FrameError> {
        encode_frame(buffer, |buffer| frame.encode_raw(buffer))
    }
}

impl<In, Out: Message> Encoder<Out> for FrameCodec<In, Out> {
    type Error = FrameError;

    fn encode(&mut self, frame: Out, buffer: &mut BytesMut) -> Result<(), FrameError> {
        self.encode(&frame, buffer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Heartbeat, Hello, ServerFrame, Submit, Task, client_frame::Body};

    type BrokerCodec = FrameCodec<ClientFrame, ServerFrame>;
    type ClientCodec = FrameCodec<ServerFrame, ClientFrame>;

    fn encoded(frame: &ClientFrame) -> BytesMut {
        let mut bytes = BytesMut::new();
        ClientCodec::new(1024).encode(frame.clone(), &mut bytes).expect("it encodes");
        bytes
    }

    fn hello() -> ClientFrame {
        ClientFrame { request_id: 1, timeout_ms: 0, body: Some(Body::Hello(Hello::default())) }
    }

    /// The broker's decoding of `bytes`, with a limit of 64 KiB.
    fn received(bytes: &[u8]) -> Result<Option<ClientFrame>, FrameError> {
        BrokerCodec::new(64 * 1024).decode(&mut BytesMut::from(bytes))
    }

    #[test]
    fn frames_that_arrive_byte_by_byte_come_out_whole_and_once() {
        let mut stream = encoded(&hello());
        let second = ClientFrame {
            request_id: 2,
            timeout_ms: 9,
            body: Some(Body::Heartbeat(Heartbeat::default())),
        };
        stream.extend_from_slice(&encoded(&second));

        let mut codec = BrokerCodec::new(1024);
        let mut buffer = BytesMut::new();
        let mut frames = Vec::new();
        for byte in stream {
            buffer.put_u8(byte);
            frames.extend(codec.decode(&mut buffer).expect("every byte is right"));
        }
        assert_eq!(frames, [hello(), second]);
        assert!(buffer.is_empty());
    }

    #[test]
    fn frames_that_arrive_together_come_out_one_by_one() {
        let mut buffer = encoded(&hello());
        buffer.unsplit(encoded(&hello()));
        let mut codec = BrokerCodec::new(1024);
        assert_eq!(codec.decode(&mut buffer).expect("first"), Some(hello()));
        assert_eq!(codec.decode(&mut buffer).expect("second"), Some(hello()));
        assert_eq!(codec.decode(&mut buffer).expect("nothing more"), None);
    }

    #[test]
    fn a_request_is_encoded_as_its_frame_is() {
        let mut whole = BytesMut::from(&b"before"[..]);
        let mut parts = whole.clone();
        for body in [
            Body::Hello(Hello::default()),
            Body::Submit(Submit { tasks: vec![Task::default(); 300] }),
        ] {
            encode_request(7, 8, &body, &mut parts).expect("it encodes");
            let frame = ClientFrame { request_id: 7, timeout_ms: 8, body: Some(body) };
            ClientCodec::new(0).encode(frame, &mut whole).expect("it encodes");
        }
        assert_eq!(whole, parts);
    }

    #[test]
    fn a_frame_of_length_0_is_refused() {
        assert!(matches!(received(&[0, 0, 0, 0]), Err(FrameError::Empty)));
    }

    #[test]
    fn a_frame_of_exactly_the_limit_passes_and_one_byte_more_does_not() {
        let bytes = encoded(&hello());
        let length = bytes.len() - LENGTH_BYTES;
        let decoded = BrokerCodec::new(length).decode(&mut bytes.clone());
        assert_eq!(decoded.expect("it fits"), Some(hello()));
        let refused = BrokerCodec::new(length - 1).decode(&mut bytes.clone());
        assert!(
            matches!(refused, Err(FrameError::TooLarge { length: l, max }) if l == length && max == length - 1)
        );
    }

    #[test]
    fn the_limit_follows_the_handshake() {
        let bytes = [0, 1, 0, 1];
        let mut codec = BrokerCodec::new(64 * 1024);
        assert!(matches!(
            codec.decode(&mut BytesMut::from(&bytes[..])),
            Err(FrameError::TooLarge { .. })
        ));
        codec.set_frame_bytes_max(128 * 1024);
        assert!(matches!(codec.decode(&mut BytesMut::from(&bytes[..])), Ok(None)));
    }

    #[test]
    fn nothing_is_allocated_for_a_length_over_the_limit() {
        for length in [1_u32 << 31, u32::MAX, 64 * 1024 + 1] {
            let mut buffer = BytesMut::from(&length.to_be_bytes()[..]);
            let before = buffer.capacity();
            let refused = BrokerCodec::new(64 * 1024).decode(&mut buffer);
            assert!(matches!(refused, Err(FrameError::TooLarge { .. })), "{length}");
            assert_eq!(buffer.capacity(), before);
        }
    }

    #[test]
    fn a_length_within_the_limit_allocates_only_what_the_next_read_needs() {
        let mut buffer = BytesMut::from(&(16_u32 * 1024 * 1024).to_be_bytes()[..]);
        let waiting = BrokerCodec::new(16 * 1024 * 1024).decode(&mut buffer);
        assert!(matches!(waiting, Ok(None)));
        assert!(buffer.capacity() <= 2 * RESERVE_BYTES_MAX, "{}", buffer.capacity());
    }

    #[test]
    fn a_peer_that_closes_in_the_middle_of_a_frame_is_an_error_and_between_frames_is_not() {
        let whole = encoded(&hello());
        for cut in 1..whole.len() {
            let mut half = BytesMut::from(&whole[..cut]);
            assert!(
                matches!(BrokerCodec::new(1024).decode_eof(&mut half), Err(FrameError::Io(_))),
                "{cut}"
            );
        }
        assert!(matches!(BrokerCodec::new(1024).decode_eof(&mut BytesMut::new()), Ok(None)));
    }

    #[test]
    fn other_protocols_are_named() {
        let cases: [(&[u8], &str); 7] = [
            (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", "HTTP"),
            (b"POST /submit HTTP/1.1\r\n", "HTTP"),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "HTTP"),
            (&[0x16, 3, 1, 2, 0, 1, 0], "TLS"),
            (b"AMQP\0\0\x09\x01", "AMQP"),
            (b"*1\r\n$4\r\nPING\r\n", "Redis"),
            (b"SSH-2.0-OpenSSH_9.9\r\n", "SSH"),
        ];
        for (bytes, name) in cases {
            assert!(
                matches!(received(bytes), Err(FrameError::OtherProtocol(n)) if n == name),
                "{name}"
            );
        }
    }

    #[test]
    fn bytes_that_are_no_message_are_malformed() {
        let bodies: [&[u8]; 5] = [
            // A field number of 0.
            &[0x00, 0x00],
            // A length that goes past the end.
            &[0x82, 0x01, 0x7f, 0x00],
            // A number that never ends.
            &[0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
            // A body that should be a message and is a number.
            &[0x80, 0x01, 0x01],
            // A client name that is not UTF-8.
            &[0x82, 0x01, 0x03, 0x1a, 0x01, 0xff],
        ];
        for body in bodies {
            let mut bytes = BytesMut::new();
            bytes.put_u32(u32::try_from(body.len()).expect("it is short"));
            bytes.put_slice(body);
            assert!(matches!(received(&bytes), Err(FrameError::Malformed(_))), "{body:02x?}");
        }
    }

    #[test]
    fn groups_nested_without_end_are_malformed_and_do_not_overflow_the_stack() {
        for depth in [60_000, 1_000, 120] {
            let mut bytes = BytesMut::new();
            bytes.put_u32(depth);
            bytes.put_bytes(0x0b, depth as usize);
            assert!(
                matches!(received(&bytes), Err(FrameError::TooMany(_) | FrameError::Malformed(_))),
                "{depth}"
            );
        }
    }

    #[test]
    fn unknown_fields_are_skipped() {
        let mut message = BytesMut::new();
        hello().encode_raw(&mut message);
        // Field 1000, three bytes.
        message.put_slice(&[0xc2, 0x3e, 0x03, 1, 2, 3]);
        let mut bytes = BytesMut::new();
        bytes.put_u32(u32::try_from(message.len()).expect("it is short"));
        bytes.unsplit(message);
        assert_eq!(received(&bytes).expect("it decodes"), Some(hello()));
    }

    #[test]
    fn more_items_than_any_batch_has_are_refused_before_they_take_memory() {
        let submit = |tasks| ClientFrame {
            request_id: 1,
            timeout_ms: 0,
            body: Some(Body::Submit(Submit { tasks: vec![Task::default(); tasks] })),
        };
        // Two bytes each on the wire: 60 KB in all, 15 MB once decoded.
        let refused = received(&encoded(&submit(30_000)));
        assert!(matches!(refused, Err(FrameError::TooMany(TooMany { what: "tasks", .. }))));
        let batch =
            BrokerCodec::new(crate::limits::FRAME_BYTES_MAX).decode(&mut encoded(&submit(10_000)));
        assert_eq!(batch.expect("a full batch passes"), Some(submit(10_000)));
    }
}
