//! Frames as scripts write them, in protobuf's text format, and the comparison of a frame with the
//! expected one.

use std::path::Path;

use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor, ReflectMessage, Value};

use celeriac_proto::wire::ClientFrame;

/// The messages of the protocol.
#[derive(Debug, Clone)]
pub(crate) struct Bodies {
    client: MessageDescriptor,
    server: MessageDescriptor,
}

impl Bodies {
    pub(crate) fn new() -> Result<Self, String> {
        let proto = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../proto");
        let files = protox::compile(["celeriac/v1/frame.proto"], [proto])
            .map_err(|error| error.to_string())?;
        let pool =
            DescriptorPool::from_file_descriptor_set(files).map_err(|error| error.to_string())?;
        let message = |name| {
            pool.get_message_by_name(name).ok_or_else(|| format!("{name} is in no .proto file"))
        };
        Ok(Self {
            client: message("celeriac.v1.ClientFrame")?,
            server: message("celeriac.v1.ServerFrame")?,
        })
    }

    /// A frame that a script expects from the client.
    pub(crate) fn client(&self, text: &str) -> Result<DynamicMessage, String> {
        DynamicMessage::parse_text_format(self.client.clone(), text)
            .map_err(|error| error.to_string())
    }

    /// A frame that a script lets the broker send.
    pub(crate) fn server(&self, text: &str) -> Result<DynamicMessage, String> {
        DynamicMessage::parse_text_format(self.server.clone(), text)
            .map_err(|error| error.to_string())
    }

    /// A received frame, to be compared.
    pub(crate) fn received(&self, frame: &ClientFrame) -> DynamicMessage {
        let bytes = frame.encode_to_vec();
        DynamicMessage::decode(self.client.clone(), &bytes[..])
            .expect("it was encoded from this message")
    }
}

/// The name and the message of a frame's body, if it has one.
pub(crate) fn body(frame: &DynamicMessage) -> Option<(String, DynamicMessage)> {
    let oneof = frame.descriptor().oneofs().find(|oneof| oneof.name() == "body")?;
    let field = oneof.fields().find(|field| frame.has_field(field))?;
    let body = frame.get_field(&field).as_message()?.clone();
    Some((field.name().to_owned(), body))
}

/// Checks that every expected field is there. The error is the path to the first difference.
pub(crate) fn compare(expected: &DynamicMessage, actual: &DynamicMessage) -> Result<(), String> {
    for (field, value) in expected.fields() {
        let path = field.name();
        if field.supports_presence() && !actual.has_field(&field) {
            return Err(format!("`{path}` is missing"));
        }
        compare_values(value, &actual.get_field(&field))
            .map_err(|wrong| format!("{path}: {wrong}"))?;
    }
    Ok(())
}

fn compare_values(expected: &Value, actual: &Value) -> Result<(), String> {
    match (expected, actual) {
        (Value::Message(expected), Value::Message(actual)) => compare(expected, actual),
        (Value::List(expected), Value::List(actual)) => {
            if expected.len() != actual.len() {
                return Err(format!(
                    "{} are expected, and there are {}",
                    expected.len(),
                    actual.len()
                ));
            }
            let mut pairs = expected.iter().zip(actual).enumerate();
            pairs.try_for_each(|(place, (expected, actual))| {
                compare_values(expected, actual).map_err(|wrong| format!("[{place}] {wrong}"))
            })
        }
        (Value::Map(expected), Value::Map(actual)) => {
            expected.iter().try_for_each(|(key, expected)| {
                let actual = actual.get(key).ok_or_else(|| format!("{key:?} is not there"))?;
                compare_values(expected, actual).map_err(|wrong| format!("{key:?}: {wrong}"))
            })
        }
        (Value::Bytes(expected), Value::Bytes(actual)) if is_same_json(expected, actual) => Ok(()),
        (Value::Bytes(expected), Value::Bytes(actual)) if expected != actual => {
            let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
            Err(format!("`{}` was expected, but it is `{}`", text(expected), text(actual)))
        }
        (expected, actual) if expected == actual => Ok(()),
        (expected, actual) => Err(format!("{expected} was expected, but it is {actual}")),
    }
}

fn is_same_json(expected: &[u8], actual: &[u8]) -> bool {
    let read = |bytes| serde_json::from_slice::<serde_json::Value>(bytes);
    matches!((read(expected), read(actual)), (Ok(expected), Ok(actual)) if expected == actual)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong(expected: &str, actual: &str) -> Option<String> {
        let bodies = Bodies::new().expect("the .proto files compile");
        let parse = |text| bodies.client(text).expect("it is a frame");
        compare(&parse(expected), &parse(actual)).err()
    }

    #[test]
    fn what_is_not_named_may_have_any_value() {
        assert_eq!(wrong("get {}", r#"get { ids: "a" } timeout_ms: 3"#), None);
        assert_eq!(wrong(r#"get { ids: "a" }"#, r#"get { ids: "a" with_results: true }"#), None);
    }

    #[test]
    fn the_path_to_what_is_wrong_is_told() {
        let said =
            wrong(r#"get { ids: ["a", "b"] }"#, r#"get { ids: ["a", "c"] }"#).expect("it differs");
        assert!(said.starts_with("get: ids: [1] "), "{said}");
        let said = wrong("get { with_results: true }", "get {}").expect("it differs");
        assert!(said.starts_with("get: with_results: "), "{said}");
        assert_eq!(wrong("get {}", "wait {}").as_deref(), Some("`get` is missing"));
        assert!(wrong(r#"get { ids: "a" }"#, "get {}").is_some());
    }

    #[test]
    fn bytes_that_are_json_are_compared_as_json() {
        let task = |payload: &str| format!("submit {{ tasks {{ payload: '{payload}' }} }}");
        assert_eq!(wrong(&task(r#"[[1, 2],{}]"#), &task("[[1,2],{}]")), None);
        assert!(wrong(&task("[[1,2],{}]"), &task("[[1,3],{}]")).is_some());
        assert!(wrong(&task("x"), &task("y")).is_some());
    }
}
