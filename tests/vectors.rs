//! Sends the vectors of refused bytes and of all requests of a client to a broker.

use std::path::Path;

use celeriac_proto::wire::{self, ErrorCode};
use celeriac_tests::raw::{self, Answer, Request};
use celeriac_tests::{BrokerProcess, RawConnection, within};

/// One vector of a file: its fields by name, and its bytes.
struct Vector {
    fields: Vec<(String, String)>,
    bytes: Vec<u8>,
}

impl Vector {
    fn field(&self, name: &str) -> &str {
        let field = self.fields.iter().find(|(key, _)| key == name);
        &field.unwrap_or_else(|| panic!("a vector without `{name}`: {:?}", self.fields)).1
    }

    /// The code and the request id of the error that the file expects.
    fn error(&self) -> (ErrorCode, u64) {
        let (code, id) = self
            .field("answer")
            .split_once(" request_id ")
            .expect("an error has a code and a request id");
        (ErrorCode::from_str_name(code).expect("it is a code"), id.parse().expect("it is a number"))
    }
}

fn vectors(file: &str) -> Vec<Vector> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../proto/vectors").join(file);
    let text = std::fs::read_to_string(&path).expect("the vectors are there");
    text.split("\n\n")
        .filter(|entry| entry.lines().any(|line| line.starts_with("name: ")))
        .map(vector)
        .collect()
}

fn vector(entry: &str) -> Vector {
    let (fields, bytes) = entry.split_once("\nbytes:\n").expect("a vector ends with its bytes");
    let byte = |text: &str| u8::from_str_radix(text, 16).expect("bytes are in hexadecimal");
    Vector {
        fields: fields
            .lines()
            .filter_map(|line| line.split_once(": "))
            .map(|(key, value)| (key.into(), value.into()))
            .collect(),
        bytes: bytes.split_whitespace().map(byte).collect(),
    }
}

#[tokio::test]
async fn what_the_vectors_say_is_refused_is_refused_as_they_say() {
    let broker = BrokerProcess::start().await;
    let refused = vectors("refused.txt");
    assert!(refused.len() >= 16, "the file was read");
    for vector in &refused {
        let name = vector.field("name");
        let mut connection = match vector.field("when") {
            "first" => RawConnection::silent(broker.address()).await,
            "open" => RawConnection::open(broker.address()).await,
            other => panic!("{name}: `{other}` is no moment"),
        };
        connection.send_bytes(&vector.bytes).await.expect("the broker reads");
        if name == "cut-short" {
            connection.close_sending().await;
        }
        match (vector.field("answer"), vector.field("then")) {
            ("nothing", "close") => {
                assert_eq!(connection.bytes_until_closed().await, b"", "{name}")
            }
            ("a TLS alert", "close") => {
                let bytes = connection.bytes_until_closed().await;
                assert!(
                    matches!(bytes[..], [21, 3, _, 0, 2, 2, _]),
                    "{name}: {bytes:?} is no fatal alert"
                );
            }
            (http, "close") if http.starts_with("HTTP/1.1 ") => {
                let bytes = connection.bytes_until_closed().await;
                assert!(
                    bytes.starts_with(http.as_bytes()),
                    "{name}: {:?}",
                    String::from_utf8_lossy(&bytes)
                );
            }
            (_, "close") => {
                let (id, answer) =
                    within(name, connection.next()).await.expect("it is refused aloud");
                assert_eq!((error_of(name, answer), id), vector.error(), "{name}");
                connection.closed_with().await;
            }
            (_, "open") => {
                let (id, answer) =
                    within(name, connection.next()).await.expect("it is refused aloud");
                assert_eq!((error_of(name, answer), id), vector.error(), "{name}");
                assert_eq!(
                    connection.submit_one(raw::task(name, "nothing")).await.error,
                    None,
                    "{name}"
                );
            }
            other => panic!("{name}: {other:?} is no outcome"),
        }
    }
}

fn error_of(name: &str, answer: Answer) -> ErrorCode {
    match answer {
        Answer::Error(error) | Answer::Closing(wire::Closing { error: Some(error) }) => {
            error.code()
        }
        other => panic!("{name}: no error, but {other:?}"),
    }
}

#[tokio::test]
async fn each_request_of_the_vectors_is_understood() {
    let broker = BrokerProcess::start().await;
    for vector in vectors("client.txt") {
        let name = vector.field("name");
        // A backup names a folder of the machine, in which a test must not write. The broker
        // answers nothing to a request without an id.
        let has_id = vector.fields.iter().any(|(key, _)| key == "  request_id");
        if name == "backup" || !has_id {
            continue;
        }
        let mut connection = match name {
            _ if name.starts_with("hello/") => RawConnection::silent(broker.address()).await,
            // Only a worker may send these.
            "serve" | "take" => {
                RawConnection::worker(broker.address(), &["default"], &["n"], 0).await
            }
            _ => RawConnection::open(broker.address()).await,
        };
        connection.send_bytes(&vector.bytes).await.expect("the broker reads");
        let id: u64 = vector.field("  request_id").parse().expect("it is a number");
        if name.starts_with("wait") {
            // This request may be for an existing task, and then lasts for its timeout.
            connection
                .send(Request::Unwait(wire::Unwait { request_ids: vec![id] }), 0)
                .await
                .expect("the broker reads");
        }
        let (answered, answer) = within(name, connection.next()).await.expect("it is answered");
        assert_eq!(answered, id, "{name}");
        if let Answer::Error(error) = answer {
            let unheard =
                [ErrorCode::Malformed, ErrorCode::InvalidArgument, ErrorCode::FrameTooLarge];
            assert!(!unheard.contains(&error.code()), "{name}: {error:?}");
        }
    }
}
