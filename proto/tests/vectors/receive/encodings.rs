//! The same frames in other bytes: protobuf allows them, and another broker may write them.

use bytes::{BufMut, Bytes, BytesMut};
use prost::Message;
use prost::encoding::{DecodeContext, WireType, decode_key, encode_key, encode_varint, skip_field};

use super::{Received, Then, frame_of, received};

/// A frame of these bytes, which need not be a message.
pub(super) fn raw(message: &[u8]) -> Bytes {
    let mut bytes = BytesMut::new();
    bytes.put_u32(u32::try_from(message.len()).expect("it is short"));
    bytes.put_slice(message);
    bytes.freeze()
}

/// One field that holds bytes: a text, a message, or numbers that are packed.
pub(super) fn field(number: u32, content: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode_key(number, WireType::LengthDelimited, &mut bytes);
    encode_varint(content.len() as u64, &mut bytes);
    bytes.extend_from_slice(content);
    bytes
}

/// The fields of a message, each with its number and all of its bytes.
fn fields(mut message: &[u8]) -> Vec<(u32, &[u8])> {
    let mut fields = Vec::new();
    while !message.is_empty() {
        let start = message;
        let (number, wire_type) = decode_key(&mut message).expect("it was encoded here");
        skip_field(wire_type, number, &mut message, DecodeContext::default())
            .expect("it was encoded here");
        fields.push((number, &start[..start.len() - message.len()]));
    }
    fields
}

/// The content of a field that holds a message.
fn content(mut field: &[u8]) -> &[u8] {
    decode_key(&mut field).expect("it was encoded here");
    prost::encoding::decode_varint(&mut field).expect("it was encoded here");
    field
}

/// The message with its last field first, and the same inside the fields of `path`, from the outer
/// message to the inner one.
fn backwards(message: &[u8], path: &[u32]) -> Vec<u8> {
    let turned = |(number, bytes): &(u32, &[u8])| match path.split_first() {
        Some((first, rest)) if first == number => field(*number, &backwards(content(bytes), rest)),
        _ => bytes.to_vec(),
    };
    fields(message).iter().rev().flat_map(turned).collect()
}

/// Other bytes for a frame of broker.txt.
pub(super) fn same(
    name: &'static str,
    about: &'static str,
    given: &'static str,
    as_name: &'static str,
    message: &[u8],
) -> Received {
    Received {
        bytes: raw(message),
        ..received(name, about, given, frame_of(as_name), Then::SameAs(as_name))
    }
}

pub(super) fn encodings() -> Vec<Received> {
    let deliver = backwards(&frame_of("deliver").encode_to_vec(), &[128, 1]);
    // Kind and reason stay as they are; the leases are encoded in another way.
    let signal = |leases: &[u8]| {
        let known = frame_of("cancel-signal/batch").encode_to_vec();
        let (_, body) = fields(&known)[0];
        let rest = fields(content(body))
            .into_iter()
            .filter(|(number, _)| *number != 1)
            .flat_map(|(_, bytes)| bytes);
        field(129, &leases.iter().chain(rest).copied().collect::<Vec<u8>>())
    };
    let order = [&[0x08, 0x00][..], &frame_of("order").encode_to_vec()].concat();
    vec![
        same(
            "encoding/backwards",
            "Every message has its last field first.",
            "C: credit",
            "deliver",
            &deliver,
        ),
        same(
            "encoding/leases-unpacked",
            "The leases are written one by one, where protobuf packs them by default.",
            "C: credit, B: deliver/batch",
            "cancel-signal/batch",
            &signal(&[0x08, 42, 0x08, 43]),
        ),
        same(
            "encoding/leases-in-parts",
            "One lease is packed, and the next is not.",
            "C: credit, B: deliver/batch",
            "cancel-signal/batch",
            &signal(&[0x0a, 1, 42, 0x08, 43]),
        ),
        same(
            "encoding/long-numbers",
            "The request id and the length of the body take more bytes than they need.",
            "C: credit",
            "done",
            &[0x08, 0x82, 0x80, 0x00, 0x92, 0x01, 0x80, 0x00],
        ),
        same("encoding/zero-written", "A request id of 0 is written.", "", "order", &order),
        same(
            "encoding/number-twice",
            "The request id is there twice: the last one counts.",
            "C: credit",
            "done",
            &[0x08, 0x09, 0x08, 0x02, 0x92, 0x01, 0x00],
        ),
    ]
}
