//! Every part of the protocol has bytes that show it: every kind of body, every field, every value
//! of an enum.

use std::collections::BTreeSet;

use celeriac_proto::wire::{ClientFrame, ServerFrame};
use prost::Message;
use prost_reflect::{DynamicMessage, Kind, MessageDescriptor, ReflectMessage, Value};

use crate::receive::View;
use crate::{broker, client, descriptor, receive};

/// Values that this broker never sends. The vectors for receivers have them, because receivers must
/// survive them.
const SAID_BY_OTHERS: [&str; 3] = [
    "ErrorCode.ERROR_CODE_DEADLINE_EXCEEDED",
    "ErrorCode.ERROR_CODE_SLOW_CONSUMER",
    "Welcome.features",
];

fn of_clients() -> Vec<DynamicMessage> {
    decoded::<ClientFrame>("ClientFrame", client::vectors().into_iter().map(|vector| vector.frame))
}

fn of_the_broker() -> Vec<DynamicMessage> {
    decoded::<ServerFrame>("ServerFrame", broker::vectors().into_iter().map(|vector| vector.frame))
}

fn for_receivers() -> Vec<DynamicMessage> {
    let frames = receive::all().into_iter().filter_map(|received| match received.view {
        View::Frame(frame) => Some(*frame),
        _ => None,
    });
    decoded::<ServerFrame>("ServerFrame", frames)
}

fn decoded<F: Message>(message: &str, frames: impl Iterator<Item = F>) -> Vec<DynamicMessage> {
    let descriptor = descriptor(message);
    let decode = |frame: F| DynamicMessage::decode(descriptor.clone(), &frame.encode_to_vec()[..]);
    frames.map(|frame| decode(frame).expect("it was encoded from this message")).collect()
}

/// Compares the fields of the oneof `body` that `frames` use with all of its fields.
fn assert_every_kind_of_body(message: &str, frames: &[DynamicMessage]) {
    let descriptor = descriptor(message);
    let body =
        descriptor.oneofs().find(|oneof| oneof.name() == "body").expect("a frame has a body");
    let mut missing: BTreeSet<String> =
        body.fields().map(|field| field.name().to_owned()).collect();
    for frame in frames {
        for (field, _) in frame.fields() {
            missing.remove(field.name());
        }
    }
    assert!(
        missing.is_empty(),
        "no vector of {message} has a body of {missing:?}: add one to tests/vectors"
    );
}

#[test]
fn every_kind_of_body_has_a_vector() {
    assert_every_kind_of_body("ClientFrame", &of_clients());
    assert_every_kind_of_body("ServerFrame", &of_the_broker());
}

/// Every field as `Message.field`, and every value of every enum but 0 as `Enum.VALUE`, of a
/// message and of every message that it can hold.
fn describe(message: &MessageDescriptor, seen: &mut BTreeSet<String>, all: &mut BTreeSet<String>) {
    if !seen.insert(message.full_name().to_owned()) {
        return;
    }
    for field in message.fields() {
        // A map that is present has an entry.
        if !message.is_map_entry() {
            all.insert(format!("{}.{}", short(message.full_name()), field.name()));
        }
        match field.kind() {
            Kind::Message(inner) => describe(&inner, seen, all),
            Kind::Enum(inner) => {
                let values = inner.values().filter(|value| value.number() != 0);
                all.extend(
                    values.map(|value| format!("{}.{}", short(inner.full_name()), value.name())),
                );
            }
            _ => {}
        }
    }
}

fn short(full_name: &str) -> &str {
    full_name.trim_start_matches("celeriac.v1.")
}

/// The same for the fields that a message really has.
fn show(message: &DynamicMessage, shown: &mut BTreeSet<String>) {
    for (field, value) in message.fields() {
        shown.insert(format!("{}.{}", short(message.descriptor().full_name()), field.name()));
        show_value(&field.kind(), value, shown);
    }
}

fn show_value(kind: &Kind, value: &Value, shown: &mut BTreeSet<String>) {
    match (kind, value) {
        (_, Value::Message(inner)) => show(inner, shown),
        (_, Value::List(values)) => values.iter().for_each(|value| show_value(kind, value, shown)),
        (Kind::Enum(descriptor), Value::EnumNumber(number)) => {
            let known = descriptor.get_value(*number);
            shown.extend(
                known.map(|value| format!("{}.{}", short(descriptor.full_name()), value.name())),
            );
        }
        _ => {}
    }
}

fn shown(frames: &[DynamicMessage]) -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    frames.iter().for_each(|frame| show(frame, &mut all));
    all
}

#[test]
fn every_field_and_every_value_of_an_enum_has_a_vector() {
    let (mut seen, mut wanted) = (BTreeSet::new(), BTreeSet::new());
    for name in ["ClientFrame", "ServerFrame"] {
        describe(&descriptor(name), &mut seen, &mut wanted);
    }
    assert!(wanted.len() > 300, "the .proto files are walked: {}", wanted.len());

    let (clients, broker) = (shown(&of_clients()), shown(&of_the_broker()));
    let missing: Vec<&String> = wanted
        .iter()
        .filter(|name| !clients.contains(*name) && !broker.contains(*name))
        .filter(|name| !SAID_BY_OTHERS.contains(&name.as_str()))
        .collect();
    assert!(
        missing.is_empty(),
        "no vector has {missing:#?}: add one to tests/vectors/client or tests/vectors/broker"
    );

    let received = shown(&for_receivers());
    for name in SAID_BY_OTHERS {
        assert!(!broker.contains(name), "the broker says {name}: take it out of SAID_BY_OTHERS");
        assert!(received.contains(name), "no vector has {name}: add one to tests/vectors/receive");
    }
}
