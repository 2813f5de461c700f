//! The beginning of a connection's first frame. The broker finds the token here before it reads the
//! rest of the frame. This module does not decide whether the token is right.

use prost::encoding::{WireType, decode_key, decode_varint};

use crate::limits::HELLO_PREFIX_BYTES;
use crate::measure::next_field;

/// The numbers of the fields that [`Opening::read`] looks for. `tests/shapes.rs` compares them with
/// the .proto files.
const REQUEST_ID: u32 = 1;
const HELLO: u32 = 16;
const TOKEN: u32 = 5;

/// The content of the first bytes of a connection's first frame.
///
/// A broker reads no more than the first [`HELLO_PREFIX_BYTES`] of a frame before it has found the
/// right token. So a client without the token cannot make the broker hold a long frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opening<'a> {
    /// The bytes are not enough to decide: read more.
    More,
    /// The frame is a Hello.
    Hello {
        /// The id that the answer must name; 0 when the id comes after the Hello.
        request_id: u64,
        /// The token of the Hello, as the client wrote it. It is empty when the first
        /// [`HELLO_PREFIX_BYTES`] of the frame have no token.
        token: &'a [u8],
    },
    /// The frame is another message.
    Other {
        /// The id that the answer must name; 0 when it is not known.
        request_id: u64,
    },
    /// The bytes are not a message.
    Malformed,
}

impl<'a> Opening<'a> {
    /// Reads the bytes of `frame` that have arrived. `length` is the length of the whole frame;
    /// both are without the four bytes of the length itself. The number of steps is bounded, and
    /// nothing is allocated.
    ///
    /// ```
    /// use celeriac_proto::Opening;
    /// use celeriac_proto::wire::{ClientFrame, Hello, client_frame::Body};
    /// use prost::Message;
    ///
    /// let hello = Hello { token: "secret".to_owned(), ..Hello::default() };
    /// let frame = ClientFrame { request_id: 7, timeout_ms: 0, body: Some(Body::Hello(hello)) };
    /// let bytes = frame.encode_to_vec();
    /// assert_eq!(Opening::read(&bytes[..3], bytes.len()), Opening::More);
    /// let found = Opening::Hello { request_id: 7, token: b"secret" };
    /// assert_eq!(Opening::read(&bytes, bytes.len()), found);
    /// ```
    pub fn read(frame: &'a [u8], length: usize) -> Self {
        let needed = length.min(HELLO_PREFIX_BYTES);
        let mut bytes = &frame[..frame.len().min(needed)];
        let is_all = bytes.len() == needed;
        // The result when a field has not arrived as a whole.
        let cut = |request_id| match (is_all, length > HELLO_PREFIX_BYTES) {
            (false, _) => Opening::More,
            (true, true) => Opening::Other { request_id },
            (true, false) => Opening::Malformed,
        };
        let mut request_id = 0;
        while !bytes.is_empty() {
            let mut field = bytes;
            let Ok((number, wire_type)) = decode_key(&mut field) else { return cut(request_id) };
            match (number, wire_type) {
                (HELLO, WireType::LengthDelimited) => {
                    let Ok(hello_length) = decode_varint(&mut field) else {
                        return cut(request_id);
                    };
                    let hello = &field
                        [..field.len().min(usize::try_from(hello_length).unwrap_or(usize::MAX))];
                    let is_whole = hello.len() as u64 == hello_length;
                    return match token(hello) {
                        Some(token) => Opening::Hello { request_id, token },
                        None if is_whole || is_all => Opening::Hello { request_id, token: &[] },
                        None => Opening::More,
                    };
                }
                (REQUEST_ID, WireType::Varint) => match decode_varint(&mut field) {
                    Ok(id) => request_id = id,
                    Err(_) => return cut(request_id),
                },
                (HELLO.., _) => return Opening::Other { request_id },
                _ => {}
            }
            if next_field(&mut bytes).is_none() {
                return cut(request_id);
            }
        }
        if is_all { Opening::Other { request_id } } else { Opening::More }
    }
}

/// The token of a Hello whose first bytes are these, if it has arrived as a whole.
fn token(mut hello: &[u8]) -> Option<&[u8]> {
    while !hello.is_empty() {
        if let (TOKEN, Some(token)) = next_field(&mut hello)? {
            return Some(token);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;
    use crate::wire::{ClientFrame, Goodbye, Hello, WorkerInfo, client_frame::Body};

    fn frame(body: Option<Body>) -> Vec<u8> {
        ClientFrame { request_id: 300, timeout_ms: 10_000, body }.encode_to_vec()
    }

    fn hello(token: &str) -> Hello {
        let worker =
            WorkerInfo { task_names: vec!["songs.cluster".into(); 10_000], ..Default::default() };
        Hello {
            client_name: "a client".into(),
            token: token.into(),
            worker: Some(worker),
            ..Default::default()
        }
    }

    #[test]
    fn the_token_is_found_as_soon_as_it_is_there_and_not_before() {
        let bytes = frame(Some(Body::Hello(hello("open-sesame"))));
        let found = Opening::Hello { request_id: 300, token: b"open-sesame" };
        let first = (0..bytes.len())
            .find(|cut| Opening::read(&bytes[..*cut], bytes.len()) != Opening::More);
        let first = first.expect("it is found");
        assert!(first < 50, "{first}");
        for cut in first..HELLO_PREFIX_BYTES + 10 {
            assert_eq!(Opening::read(&bytes[..cut], bytes.len()), found, "{cut}");
        }
    }

    #[test]
    fn a_token_that_is_not_in_the_prefix_counts_as_missing() {
        let long = Hello { client_name: "x".repeat(HELLO_PREFIX_BYTES), ..hello("open-sesame") };
        for hello in [hello(""), long] {
            let bytes = frame(Some(Body::Hello(hello)));
            assert_eq!(
                Opening::read(&bytes, bytes.len()),
                Opening::Hello { request_id: 300, token: b"" }
            );
            assert_eq!(Opening::read(&bytes[..40], bytes.len()), Opening::More);
        }
    }

    #[test]
    fn every_other_frame_is_told_from_a_hello() {
        for body in [None, Some(Body::Goodbye(Goodbye {}))] {
            let bytes = frame(body);
            assert_eq!(Opening::read(&bytes, bytes.len()), Opening::Other { request_id: 300 });
        }
        assert_eq!(Opening::read(&[0, 0, 0xde, 0xad], 4), Opening::Malformed);
        assert_eq!(Opening::read(&[0xff; 2], 100), Opening::More);
        assert_eq!(Opening::read(&[0x0b; 5_000], 100_000), Opening::Other { request_id: 0 });
        assert_eq!(Opening::read(&[], 1), Opening::More);
    }
}
