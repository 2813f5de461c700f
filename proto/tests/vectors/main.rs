//! The golden vectors: the frames of `vectors/*.txt` byte for byte, and the transcripts of
//! PROTOCOL.md made of them. `UPDATE_VECTORS=1 cargo test -p celeriac-proto --test vectors` writes
//! the files anew; every change there is a change for every client in every language.

mod broker;
mod client;
mod coverage;
mod errors;
mod receive;
mod refused;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::fs;
use std::path::Path;

use bytes::BytesMut;
use celeriac_proto::wire::{ClientFrame, ServerFrame};
use celeriac_proto::{FrameCodec, limits};
use prost::Message;
use prost_reflect::text_format::FormatOptions;
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor};
use tokio_util::codec::{Decoder, Encoder};

use receive::Received;
use refused::{Answer, When};

/// The time of the vectors.
pub(crate) const NOW_MS: i64 = 1_790_000_000_000;
pub(crate) const HOUR_MS: i64 = 3_600_000;
/// The session of the vectors.
pub(crate) const SESSION: &str = "0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0";

/// A frame with its name in the files and in the transcripts.
pub(crate) struct Vector<F> {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    pub(crate) frame: F,
}

pub(crate) fn framed<F: Message>(frame: &F) -> BytesMut {
    let mut bytes = BytesMut::new();
    bytes
        .extend_from_slice(&u32::try_from(frame.encoded_len()).expect("it is short").to_be_bytes());
    frame.encode_raw(&mut bytes);
    bytes
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn descriptor(message: &str) -> MessageDescriptor {
    let files =
        protox::compile(["celeriac/v1/frame.proto"], [root()]).expect("the .proto files compile");
    let pool = DescriptorPool::from_file_descriptor_set(files).expect("they are complete");
    pool.get_message_by_name(&format!("celeriac.v1.{message}")).expect("the message is there")
}

/// Four bytes of length, then the message, sixteen bytes to a line.
fn hex(bytes: &[u8], indent: &str) -> String {
    let mut text = String::new();
    let (length, message) = bytes.split_at(bytes.len().min(4));
    for line in [length].into_iter().chain(message.chunks(16)).filter(|line| !line.is_empty()) {
        let bytes: Vec<String> = line.iter().map(|byte| format!("{byte:02x}")).collect();
        writeln!(text, "{indent}{}", bytes.join(" ")).expect("a String takes it");
    }
    text
}

/// The frame in protobuf's text format, which every protobuf library can read.
fn as_text(descriptor: &MessageDescriptor, message: &[u8]) -> String {
    let message = DynamicMessage::decode(descriptor.clone(), message)
        .expect("it was encoded from this message");
    let options = FormatOptions::new().pretty(true).print_message_fields_in_index_order(true);
    let text = message.to_text_format_with_options(&options);
    let reread =
        DynamicMessage::parse_text_format(descriptor.clone(), &text).expect("the text can be read");
    assert!(reread == message, "the text says the same as the bytes");
    text
}

fn file_of_vectors<F: Message>(message: &str, opening: &str, vectors: &[Vector<F>]) -> String {
    let descriptor = descriptor(message);
    let mut text = format!("{opening}{FORMAT}");
    for Vector { name, about, frame } in vectors {
        let bytes = framed(frame);
        write!(text, "\nname: {name}\n").expect("a String takes it");
        if !about.is_empty() {
            writeln!(text, "about: {about}").expect("a String takes it");
        }
        writeln!(text, "{message}:").expect("a String takes it");
        for line in as_text(&descriptor, &bytes[4..]).lines() {
            writeln!(text, "  {line}").expect("a String takes it");
        }
        write!(text, "bytes:\n{}", hex(&bytes, "  ")).expect("a String takes it");
    }
    text
}

const FORMAT: &str = "\
# For each frame: its fields in protobuf's text format, then all of its bytes in hexadecimal, the length first.
# Fields with no value are left out, as protobuf leaves them out of the bytes.
# A client may order the fields of a message otherwise, but what it decodes must be the same.
";

/// Compares a file with its expected content, or writes the file when `UPDATE_VECTORS` is set.
fn compare(path: &Path, fresh: &str) {
    if std::env::var_os("UPDATE_VECTORS").is_some() {
        fs::create_dir_all(path.parent().expect("it lies in a folder"))
            .expect("the folder is writable");
        fs::write(path, fresh).expect("the file is writable");
    }
    let present = fs::read_to_string(path).unwrap_or_default();
    for (number, (present, fresh)) in present.lines().zip(fresh.lines()).enumerate() {
        assert_eq!(
            present,
            fresh,
            "{}:{} differs from what the messages give",
            path.display(),
            number + 1
        );
    }
    assert!(
        present == fresh,
        "{}: UPDATE_VECTORS=1 cargo test -p celeriac-proto --test vectors",
        path.display()
    );
}

#[test]
fn what_clients_say_has_these_bytes() {
    let opening = "# What clients say.\n";
    compare(
        &root().join("vectors/client.txt"),
        &file_of_vectors("ClientFrame", opening, &client::vectors()),
    );
}

#[test]
fn what_the_broker_says_has_these_bytes() {
    let opening = "# What the broker says.\n";
    compare(
        &root().join("vectors/broker.txt"),
        &file_of_vectors("ServerFrame", opening, &broker::vectors()),
    );
}

#[test]
fn every_vector_comes_through_the_codec_unchanged() {
    let mut to_broker = FrameCodec::<ServerFrame, ClientFrame>::new(limits::FRAME_BYTES_MAX);
    let mut at_broker = FrameCodec::<ClientFrame, ServerFrame>::new(limits::FRAME_BYTES_MAX);
    for Vector { name, frame, .. } in client::vectors() {
        let mut bytes = BytesMut::new();
        to_broker.encode(frame.clone(), &mut bytes).expect(name);
        assert_eq!(bytes, framed(&frame), "{name}");
        assert_eq!(at_broker.decode(&mut bytes).expect(name), Some(frame), "{name}");
    }
    for Vector { name, frame, .. } in broker::vectors() {
        let mut bytes = BytesMut::new();
        at_broker.encode(frame.clone(), &mut bytes).expect(name);
        assert_eq!(bytes, framed(&frame), "{name}");
        assert_eq!(to_broker.decode(&mut bytes).expect(name), Some(frame), "{name}");
    }
}

#[test]
fn names_of_vectors_are_used_once() {
    let mut names = BTreeSet::new();
    let client = client::vectors().into_iter().map(|vector| vector.name);
    let broker = broker::vectors().into_iter().map(|vector| vector.name);
    let refused = refused::all().into_iter().map(|refused| refused.name);
    let received = receive::all().into_iter().map(|received| received.name);
    for name in client.chain(broker).chain(refused).chain(received) {
        assert!(names.insert(name), "two vectors are called {name}");
    }
}

#[test]
fn what_a_broker_refuses_has_these_bytes() {
    let mut text = String::from(
        "# What a broker refuses.\n\
         # when: `first` as the first bytes of a connection, `open` after the handshake.\n\
         # answer: an Error frame of this code and request id, an HTTP answer, a fatal alert of TLS, or nothing.\n\
         # then: whether the broker closes the connection.\n",
    );
    for refused in refused::all() {
        let when = match refused.when {
            When::First => "first",
            When::Open => "open",
        };
        let (answer, then) = match refused.answer {
            Answer::ErrorThenClose(code, id) => {
                (format!("{} request_id {id}", code.as_str_name()), "close")
            }
            Answer::Error(code, id) => (format!("{} request_id {id}", code.as_str_name()), "open"),
            Answer::HttpThenClose => ("HTTP/1.1 400 Bad Request".to_owned(), "close"),
            Answer::AlertThenClose => ("a TLS alert".to_owned(), "close"),
            Answer::Close => ("nothing".to_owned(), "close"),
        };
        let bytes = hex(&refused.bytes, "  ");
        let (name, about) = (refused.name, refused.about);
        write!(text, "\nname: {name}\nabout: {about}\nwhen: {when}\nanswer: {answer}\nthen: {then}\nbytes:\n{bytes}")
            .expect("a String takes it");
    }
    compare(&root().join("vectors/refused.txt"), &text);
}

#[test]
fn the_codec_finds_what_it_must_find_in_refused_bytes() {
    for refused in refused::all() {
        let limit = match refused.when {
            When::First => limits::FRAME_BYTES_MAX_BEFORE_HELLO,
            When::Open => limits::FRAME_BYTES_MAX,
        };
        let mut codec = FrameCodec::<ClientFrame, ServerFrame>::new(limit);
        let decoded = codec.decode_eof(&mut BytesMut::from(refused.bytes));
        assert!(refused::codec_agrees(refused.answer, &decoded), "{}: {decoded:?}", refused.name);
    }
}

#[test]
fn what_a_client_must_survive_has_these_bytes() {
    let mut text = String::from(receive::VOCABULARY);
    for Received { name, about, when, given, then, bytes, .. } in receive::all() {
        let when = match when {
            receive::When::Handshake => "handshake",
            receive::When::Open => "open",
        };
        write!(text, "\nname: {name}\nabout: {about}\nwhen: {when}\n").expect("a String takes it");
        if !given.is_empty() {
            writeln!(text, "given: {given}").expect("a String takes it");
        }
        write!(text, "then: {}\nbytes:\n{}", then.text(), hex(&bytes, "  "))
            .expect("a String takes it");
    }
    compare(&root().join("vectors/receive.txt"), &text);
}

#[test]
fn the_codec_finds_what_it_must_find_in_what_a_client_must_survive() {
    for received in receive::all() {
        let limit = match received.when {
            receive::When::Handshake => limits::FRAME_BYTES_MAX_BEFORE_HELLO,
            receive::When::Open => limits::FRAME_BYTES_MAX,
        };
        let mut codec = FrameCodec::<ServerFrame, ClientFrame>::new(limit);
        let mut buffer = BytesMut::from(&received.bytes[..]);
        let decoded = codec.decode_eof(&mut buffer);
        assert!(receive::codec_agrees(&received.view, &decoded), "{}: {decoded:?}", received.name);
        assert!(decoded.is_err() || buffer.is_empty(), "{}: one frame, and no more", received.name);
        assert!(
            receive::is_reason(&received),
            "{}: {:?} is no reason to {:?}",
            received.name,
            received.view,
            received.then
        );
    }
}

/// The names after `given:` are names of vectors, and the request that is answered is one of them.
#[test]
fn what_is_given_before_a_vector_for_receivers_is_there() {
    let requests = client::vectors()
        .into_iter()
        .map(|vector| (format!("C: {}", vector.name), vector.frame.request_id));
    let said = broker::vectors().into_iter().map(|vector| (format!("B: {}", vector.name), 0));
    let known: BTreeMap<String, u64> = requests.chain(said).collect();
    for Received { name, when, given, then, view, .. } in receive::all() {
        let given: Vec<&str> = given.split(", ").filter(|given| !given.is_empty()).collect();
        let ids: Vec<u64> = given
            .iter()
            .map(|given| {
                *known.get(*given).unwrap_or_else(|| panic!("{name}: no vector for `{given}`"))
            })
            .collect();
        if let receive::View::Frame(frame) = view
            && when == receive::When::Open
            && then != receive::Then::Ignore
        {
            assert!(
                frame.request_id == 0 || ids.contains(&frame.request_id),
                "{name}: nobody sent that request"
            );
        }
    }
}

/// In PROTOCOL.md a line `C: name` or `B: name` within a block that is marked `transcript` stands
/// for a vector, and the indented lines after it are its bytes.
#[test]
fn transcripts_in_the_protocol_are_made_of_vectors() {
    let mut bytes_of: BTreeMap<String, BytesMut> = BTreeMap::new();
    bytes_of.extend(client::vectors().iter().map(|v| (format!("C: {}", v.name), framed(&v.frame))));
    bytes_of.extend(broker::vectors().iter().map(|v| (format!("B: {}", v.name), framed(&v.frame))));
    let path = root().join("PROTOCOL.md");
    let text = fs::read_to_string(&path).expect("PROTOCOL.md");
    let mut fresh = String::new();
    let mut in_transcript = false;
    let mut turns = 0;
    for line in text.lines() {
        if line.starts_with("```") {
            in_transcript = line == "```transcript";
        } else if in_transcript && line.starts_with("  ") {
            continue;
        }
        writeln!(fresh, "{line}").expect("a String takes it");
        if in_transcript && (line.starts_with("C: ") || line.starts_with("B: ")) {
            let bytes = bytes_of
                .get(line)
                .unwrap_or_else(|| panic!("{}: no vector for `{line}`", path.display()));
            fresh.push_str(&hex(bytes, "  "));
            turns += 1;
        }
    }
    assert!(turns >= 10, "PROTOCOL.md has transcripts");
    compare(&path, &fresh);
}
