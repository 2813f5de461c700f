//! The beginning of a connection's first frame: who it is from is seen here before the rest of it
//! is read. Whether the token is the right one is not decided here.

use prost::encoding::{WireType, decode_key, decode_varint};

use crate::limits::HELLO_PREFIX_BYTES;
use crate::measure::next_field;

/// The numbers of the fields that are looked for; `tests/shapes.rs` compares them with the .proto
/// files.
const REQUEST_ID: u32 = 1;
const HELLO: u32 = 16;
const TOKEN: u32 = 5;

/// What the first bytes of the first frame say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opening<'a> {
    /// Not enough yet.
    More,
    /// It is a Hello with this token; it is empty where none is in the first [`HELLO_PREFIX_BYTES`]
    /// of the frame.
    Hello {
        /// To be named in the answer; 0 where it comes later.
        request_id: u64,
        /// As the client named it.
        token: &'a [u8],
    },
    /// It is something else.
    Other {
        /// As in a Hello.
        request_id: u64,
    },
    /// It is no message.
    Malformed,
}

impl<'a> Opening<'a> {
    /// Reads what has come of a frame of this length. It takes a bounded number of steps and
    /// allocates nothing.
    pub fn read(frame: &'a [u8], length: usize) -> Self {
        let needed = length.min(HELLO_PREFIX_BYTES);
        let mut bytes = &frame[..frame.len().min(needed)];
        let is_all = bytes.len() == needed;
        // What a field means that is not there as a whole.
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
    fn a_token_that_is_not_in_the_prefix_is_none() {
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
    fn whatever_is_no_hello_is_told_from_one() {
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
