//! The codec counts fields before it decodes a frame. The counted fields are exactly the fields of
//! the .proto files that hold a message or may be repeated.

use std::collections::BTreeMap;
use std::path::Path;

use celeriac_proto::Frame;
use celeriac_proto::measure::{Holds, Shape};
use celeriac_proto::wire::{ClientFrame, ServerFrame};
use prost_reflect::{DescriptorPool, FieldDescriptor, Kind, MessageDescriptor};

/// Number, name, whether the field may be repeated, and its content.
type Counted = (u32, String, bool, &'static str);

fn pool() -> DescriptorPool {
    let files =
        protox::compile(["celeriac/v1/frame.proto"], [Path::new(env!("CARGO_MANIFEST_DIR"))]);
    DescriptorPool::from_file_descriptor_set(files.expect("the .proto files compile"))
        .expect("they are complete")
}

fn collect(shape: &'static Shape, all: &mut BTreeMap<&'static str, Vec<Counted>>) {
    let counted = shape.fields.iter().map(|field| {
        let holds = match field.holds {
            Holds::Message(_) => "message",
            Holds::Text => "text",
            Holds::Number => "number",
        };
        (field.number, field.name.to_owned(), field.max > 1, holds)
    });
    all.insert(shape.name, counted.collect());
    for field in shape.fields {
        if let Holds::Message(inner) = field.holds {
            collect(inner, all);
        }
    }
}

fn described(field: &FieldDescriptor) -> Option<Counted> {
    let holds = match field.kind() {
        Kind::Message(_) => "message",
        Kind::String | Kind::Bytes => "text",
        _ => "number",
    };
    let is_many = field.is_list() || field.is_map();
    (is_many || holds == "message")
        .then(|| (field.number(), field.name().to_owned(), is_many, holds))
}

fn descend(message: &MessageDescriptor, all: &mut BTreeMap<String, Vec<Counted>>) {
    all.insert(
        message.name().to_owned(),
        message.fields().filter_map(|field| described(&field)).collect(),
    );
    for field in message.fields() {
        if let Kind::Message(inner) = field.kind() {
            descend(&inner, all);
        }
    }
}

#[test]
fn every_field_that_could_grow_is_counted() {
    let pool = pool();
    for (shape, name) in [(ClientFrame::SHAPE, "ClientFrame"), (ServerFrame::SHAPE, "ServerFrame")]
    {
        let (mut shapes, mut messages) = (BTreeMap::new(), BTreeMap::new());
        collect(shape, &mut shapes);
        descend(
            &pool.get_message_by_name(&format!("celeriac.v1.{name}")).expect("it is there"),
            &mut messages,
        );
        for (message, fields) in &messages {
            assert_eq!(
                shapes.get(message.as_str()),
                Some(fields),
                "src/shapes.rs is out of date: {message}"
            );
        }
        assert_eq!(shapes.len(), messages.len());
    }
}

#[test]
fn no_message_has_more_fields_than_may_occur_in_it() {
    let mut messages = BTreeMap::new();
    for name in ["ClientFrame", "ServerFrame"] {
        descend(
            &pool().get_message_by_name(&format!("celeriac.v1.{name}")).expect("it is there"),
            &mut messages,
        );
    }
    // The walk has room for so many counters.
    assert!(messages.values().all(|counted| counted.len() <= 64));
}

#[test]
fn the_opening_of_a_connection_is_read_by_the_right_numbers() {
    let pool = pool();
    let number = |message: &str, field: &str| {
        let message =
            pool.get_message_by_name(&format!("celeriac.v1.{message}")).expect("it is there");
        message.get_field_by_name(field).expect("it is there").number()
    };
    assert_eq!(
        (
            number("ClientFrame", "request_id"),
            number("ClientFrame", "hello"),
            number("Hello", "token")
        ),
        (1, 16, 5)
    );
    // Encoders write fields in the order of their numbers: every long field comes after the token.
    assert!(number("Hello", "worker") > number("Hello", "token"));
}
