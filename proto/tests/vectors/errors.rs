//! `vectors/errors.tsv`: the table of errors in PROTOCOL.md for programs, compared with the enum
//! and with what the vectors say.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::fs;

use celeriac_proto::wire::server_frame::Body;
use celeriac_proto::wire::{Error, ErrorCode};
use prost_reflect::Kind;

use crate::{broker, compare, descriptor, root};

/// A row of the table without its meaning.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Row {
    code: String,
    number: i32,
    retryable: String,
    connection: String,
}

/// The rows as the table has them. A row without a code says more about the code above it.
fn table() -> Vec<Row> {
    let text = fs::read_to_string(root().join("PROTOCOL.md")).expect("PROTOCOL.md");
    let errors = text
        .split("\n## Errors\n")
        .nth(1)
        .and_then(|rest| rest.split("\n## ").next())
        .expect("the section");
    let mut rows: Vec<Row> = Vec::new();
    for line in errors
        .lines()
        .filter(|line| line.starts_with("| `ERROR_CODE_") || line.starts_with("| | |"))
    {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [code, number, _, retryable, connection] = cells[..] else {
            panic!("five cells: {line}")
        };
        let (code, number) = match rows.last() {
            Some(above) if code.is_empty() => (above.code.clone(), above.number),
            _ => (code.trim_matches('`').to_owned(), number.parse().expect("a number")),
        };
        rows.push(Row {
            code,
            number,
            retryable: retryable.to_owned(),
            connection: connection.to_owned(),
        });
    }
    rows
}

#[test]
fn the_error_codes_for_programs_are_those_of_the_table() {
    let mut text = String::from("code\tnumber\tretryable\tconnection\n");
    let mut rows = table();
    // Some rows differ only in their meaning.
    rows.dedup();
    for Row { code, number, retryable, connection } in rows {
        writeln!(text, "{code}\t{number}\t{retryable}\t{connection}").expect("a String takes it");
    }
    compare(&root().join("vectors/errors.tsv"), &text);
}

#[test]
fn the_table_of_errors_has_each_code_with_its_number() {
    let code = descriptor("Error").get_field_by_name("code").expect("it is there").kind();
    let Kind::Enum(codes) = code else { panic!("a code is a value of an enum") };
    let known: Vec<(String, i32)> =
        codes.values().map(|value| (value.name().to_owned(), value.number())).collect();
    let mut listed: Vec<(String, i32)> =
        table().into_iter().map(|row| (row.code, row.number)).collect();
    listed.dedup();
    assert_eq!(listed, known, "the table of errors in PROTOCOL.md");
}

#[test]
fn the_table_of_errors_says_of_each_code_whether_to_try_again_and_what_becomes_of_the_connection() {
    let mut retryable: BTreeMap<i32, BTreeSet<String>> = BTreeMap::new();
    for row in table() {
        assert!(["open", "closed"].contains(&row.connection.as_str()), "{row:?}");
        let answers: &[&str] = if row.number == 0 { &[""] } else { &["yes", "no"] };
        assert!(answers.contains(&row.retryable.as_str()), "{row:?}");
        retryable.entry(row.number).or_default().insert(row.retryable);
    }
    assert!(retryable.values().all(|said| said.len() == 1), "a code says one thing: {retryable:?}");
}

/// Every error that a frame of the broker has in it.
fn errors_in(body: &Body) -> Vec<&Error> {
    match body {
        Body::Error(error) => vec![error],
        Body::Closing(closing) => closing.error.iter().collect(),
        Body::SubmitReply(reply) => {
            reply.outcomes.iter().filter_map(|outcome| outcome.error.as_ref()).collect()
        }
        _ => Vec::new(),
    }
}

#[test]
fn errors_of_the_broker_are_worth_another_try_as_the_table_says() {
    let table = table();
    let mut codes = BTreeSet::new();
    for vector in broker::vectors() {
        for error in vector.frame.body.iter().flat_map(errors_in) {
            let row = table
                .iter()
                .find(|row| row.number == error.code)
                .expect("the broker says what it has a code for");
            assert_eq!(error.retryable, row.retryable == "yes", "{}: {error:?}", vector.name);
            codes.insert(error.code);
        }
    }
    assert!(
        codes.contains(&ErrorCode::QueueFull.into()) && codes.len() > 10,
        "the errors are found: {codes:?}"
    );
}
