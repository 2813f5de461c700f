//! Bytes as a stream of frames, on the broker's side or the client's, in slices of any length.

use bytes::BytesMut;
use celeriac_proto::limits::{FRAME_BYTES_MAX, FRAME_BYTES_MAX_BEFORE_HELLO};
use celeriac_proto::wire::{ClientFrame, ServerFrame};
use celeriac_proto::{Frame, FrameCodec, FrameError};
use tokio_util::codec::{Decoder, Encoder};

use crate::input::Input;

/// What the codec reserves beyond what has come, at most.
const SPARE_BYTES_MAX: usize = 192 * 1024;

/// Decodes the bytes as a whole and in slices: both give the same frames and the same fault, no
/// buffer grows far beyond what came, and each frame survives its own encoding.
pub fn frame(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let (side, limit, slices) = (input.below(2), input.below(3), input.byte());
    let limit = [FRAME_BYTES_MAX_BEFORE_HELLO, FRAME_BYTES_MAX, 100][usize::from(limit)];
    match side {
        0 => both_ways::<ClientFrame, ServerFrame>(input.rest(), limit, slices),
        _ => both_ways::<ServerFrame, ClientFrame>(input.rest(), limit, slices),
    }
}

fn both_ways<In, Out>(stream: &[u8], limit: usize, slices: u8)
where
    In: Frame + PartialEq,
    Out: Frame,
{
    let whole = decoded::<In, Out>(stream, limit, |left| left);
    let mut turn = u64::from(slices);
    let sliced = decoded::<In, Out>(stream, limit, |left| {
        turn = turn.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let most = if slices < 64 { 1 } else { usize::from(slices) };
        (1 + (turn >> 33) as usize % most).min(left)
    });
    assert_eq!(whole, sliced, "slices change what is decoded");
}

/// Every frame as it is encoded again, then the fault, if there was one.
fn decoded<In, Out>(
    mut stream: &[u8],
    limit: usize,
    mut slice: impl FnMut(usize) -> usize,
) -> (Vec<BytesMut>, Option<String>)
where
    In: Frame + PartialEq,
    Out: Frame,
{
    let mut codec = FrameCodec::<In, Out>::new(limit);
    let (mut buffer, mut frames) = (BytesMut::new(), Vec::new());
    while !stream.is_empty() {
        let (slice, rest) = stream.split_at(slice(stream.len()));
        buffer.extend_from_slice(slice);
        stream = rest;
        loop {
            match codec.decode(&mut buffer) {
                Ok(Some(frame)) => frames.push(again::<In, Out>(&frame)),
                Ok(None) => break,
                Err(error) => return (frames, Some(error.to_string())),
            }
        }
        // A buffer doubles as it grows.
        assert!(
            buffer.capacity() <= 2 * buffer.len() + SPARE_BYTES_MAX,
            "{} bytes reserved",
            buffer.capacity()
        );
    }
    (frames, None)
}

fn again<In, Out>(frame: &In) -> BytesMut
where
    In: Frame + PartialEq,
    Out: Frame,
{
    let mut encoded = BytesMut::new();
    let result: Result<(), FrameError> = FrameCodec::<Out, In>::new(0).encode(frame, &mut encoded);
    result.expect("a frame that was decoded can be encoded");
    if frame.encoded_len() == 0 {
        // Of fields that nobody knows. We never send one, and would not take it back.
        return encoded;
    }
    let decoded = FrameCodec::<In, Out>::new(usize::MAX).decode(&mut encoded.clone());
    let decoded = decoded.expect("what we encode is a frame").expect("what we encode is whole");
    let mut twice = BytesMut::new();
    FrameCodec::<Out, In>::new(0)
        .encode(&decoded, &mut twice)
        .expect("a frame that was decoded can be encoded");
    assert_eq!(encoded, twice, "a frame changes when it is encoded");
    // A number that is none equals nothing.
    let is_equal_to_itself = *frame == *<&In>::clone(&frame);
    assert!(decoded == *frame || !is_equal_to_itself, "a frame changes when it is encoded");
    encoded
}
