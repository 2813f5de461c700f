//! Decodes the payload of a delivery to the arguments of a handler, and encodes the handler's value
//! as the result. Both are JSON. A payload is `[args, kwargs]`, so that programs in Rust and Python
//! can call each other.

use std::any::TypeId;

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use celeriac_client::json;

use crate::failure::TaskFailure;

/// The content type of payloads and results.
pub(crate) const JSON: &str = "application/json";

/// The arguments of a task as its producer sent them.
///
/// ```
/// use bytes::Bytes;
/// use celeriac_worker::Payload;
///
/// let bytes = Bytes::from_static(br#"[["Dynamite"], {"limit": 3}]"#);
/// let payload = Payload::new(&bytes, "application/json");
/// // The names of the parameters, and whether the producer may leave them out.
/// let parameters = [("title", false), ("limit", true)];
/// let (title, limit): (String, Option<u32>) = payload.arguments(&parameters).expect("they fit");
/// assert_eq!((title.as_str(), limit), ("Dynamite", Some(3)));
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Payload<'a> {
    bytes: &'a Bytes,
    content_type: &'a str,
}

/// The form of nearly all payloads: the arguments are then read without a detour through [`Value`].
#[derive(Deserialize)]
struct Plain<A>(A, NoKeywords);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NoKeywords {}

impl<'a> Payload<'a> {
    /// A payload with its content type. An empty content type means JSON.
    pub fn new(bytes: &'a Bytes, content_type: &'a str) -> Self {
        Self { bytes, content_type }
    }

    /// The bytes as the producer sent them.
    pub fn bytes(&self) -> &'a Bytes {
        self.bytes
    }

    /// The content type. An empty one means `application/json`.
    pub fn content_type(&self) -> &'a str {
        self.content_type
    }

    /// Decodes the arguments of a handler. `parameters` has the name of each parameter, by which a
    /// keyword argument finds its place, and whether the producer may leave it out; its value is
    /// then `null`.
    ///
    /// # Errors
    /// A final failure of the kind `invalid_arguments`: another attempt would read the same bytes.
    pub fn arguments<A: DeserializeOwned + 'static>(
        &self,
        parameters: &[(&str, bool)],
    ) -> Result<A, TaskFailure> {
        if !matches!(self.content_type, "" | JSON) {
            return Err(invalid(format!(
                "the payload is `{}`, and this task reads {JSON}",
                self.content_type
            )));
        }
        // serde reads the unit type from `null`, but a task without arguments has `[]`.
        if TypeId::of::<A>() != TypeId::of::<()>()
            && let Ok(Plain(arguments, NoKeywords {})) = serde_json::from_slice(self.bytes)
        {
            return Ok(arguments);
        }
        self.arguments_by_name(parameters)
    }

    /// Decodes arguments that are not all in their places. Also finds out why arguments do not fit.
    fn arguments_by_name<A: DeserializeOwned + 'static>(
        &self,
        parameters: &[(&str, bool)],
    ) -> Result<A, TaskFailure> {
        let (args, mut kwargs): (Option<Vec<Value>>, Option<Map<String, Value>>) =
            serde_json::from_slice(self.bytes).map_err(|error| {
                invalid(format!("the payload is not [args, kwargs] in JSON: {error}"))
            })?;
        let mut args = args.unwrap_or_default();
        let given = args.len();
        for (name, optional) in parameters.iter().skip(given) {
            match kwargs.as_mut().and_then(|kwargs| kwargs.remove(*name)) {
                Some(value) => args.push(value),
                None if *optional => args.push(Value::Null),
                None => return Err(invalid(format!("the argument `{name}` is missing"))),
            }
        }
        if let Some((name, _)) = kwargs.unwrap_or_default().into_iter().next() {
            let given_twice =
                parameters.iter().take(given).any(|(parameter, _)| *parameter == name);
            let reason = if given_twice { "is given twice" } else { "is not known to this task" };
            return Err(invalid(format!("the argument `{name}` {reason}")));
        }
        let nothing = args.is_empty() && TypeId::of::<A>() == TypeId::of::<()>();
        let value = if nothing { Value::Null } else { Value::Array(args) };
        serde_json::from_value(value).map_err(|error| invalid(error.to_string()))
    }
}

fn invalid(message: String) -> TaskFailure {
    TaskFailure::fatal("invalid_arguments", message)
}

/// Encodes a handler's value.
pub(crate) fn encode_result<T: Serialize + ?Sized>(value: &T) -> Result<Bytes, TaskFailure> {
    match json::to_vec(value) {
        Ok(bytes) => Ok(bytes.into()),
        Err(error) => Err(TaskFailure::fatal(
            "invalid_result",
            format!("the result cannot be written as JSON: {error}"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read<A: DeserializeOwned + 'static>(
        json: &'static str,
        parameters: &[(&str, bool)],
    ) -> Result<A, String> {
        Payload::new(&Bytes::from_static(json.as_bytes()), "").arguments(parameters).map_err(
            |failure| {
                assert_eq!(failure.kind(), "invalid_arguments");
                assert!(!failure.is_retryable());
                failure.message().to_owned()
            },
        )
    }

    #[test]
    fn arguments_are_read_by_place() {
        assert_eq!(
            read(r#"[["Dynamite", 3], {}]"#, &[("title", false), ("limit", false)]),
            Ok(("Dynamite".to_owned(), 3))
        );
        assert_eq!(
            read(r#"[["Dynamite"], null]"#, &[("title", false)]),
            Ok(("Dynamite".to_owned(),))
        );
    }

    #[test]
    fn a_task_without_arguments_is_sent_nothing() {
        assert_eq!(read(r#"[[], {}]"#, &[]), Ok(()));
        assert_eq!(read(r#"[null, {}]"#, &[]), Ok(()));
        assert!(read::<()>(r#"[[1], {}]"#, &[]).is_err());
    }

    #[test]
    fn keyword_arguments_find_their_places() {
        let parameters = [("title", false), ("limit", true)];
        let expected = ("Dynamite".to_owned(), Some(3));
        assert_eq!(read(r#"[["Dynamite"], {"limit": 3}]"#, &parameters), Ok(expected.clone()));
        assert_eq!(read(r#"[[], {"limit": 3, "title": "Dynamite"}]"#, &parameters), Ok(expected));
        assert_eq!(
            read(r#"[["Dynamite"], {}]"#, &parameters),
            Ok(("Dynamite".to_owned(), None::<u32>))
        );
    }

    #[test]
    fn numbers_given_by_name_are_read_as_they_were_written() {
        let parameters = [("length", false), ("plays", false)];
        let expected = (0.9073038322028689, u128::from(u64::MAX));
        assert_eq!(
            read(r#"[[0.9073038322028689, 18446744073709551615], {}]"#, &parameters),
            Ok(expected)
        );
        assert_eq!(
            read(
                r#"[[], {"length": 0.9073038322028689, "plays": 18446744073709551615}]"#,
                &parameters
            ),
            Ok(expected)
        );
    }

    #[test]
    fn results_that_nobody_could_read_are_refused() {
        let failure = encode_result(&("a", u128::MAX)).expect_err("it has more than 64 bits");
        assert_eq!(failure.kind(), "invalid_result");
        assert!(failure.message().contains("$[1]: the number"));
    }

    #[test]
    fn wrong_arguments_are_refused_with_the_reason() {
        let refusal = |json| read::<(String,)>(json, &[("title", false)]).expect_err(json);
        assert!(refusal("[[], {}]").contains("`title` is missing"));
        assert!(refusal(r#"[["a"], {"title": "b"}]"#).contains("given twice"));
        assert!(refusal(r#"[["a"], {"colour": "b"}]"#).contains("`colour` is not known"));
        assert!(refusal(r#"[["a", "b"], {}]"#).contains("length"));
        assert!(refusal("[[7], {}]").contains("string"));
        assert!(refusal("garbage").contains("[args, kwargs]"));
        assert!(refusal("").contains("[args, kwargs]"));
    }

    #[test]
    fn another_content_type_is_refused() {
        let bytes = Bytes::from_static(b"[[], {}]");
        let refusal =
            Payload::new(&bytes, "application/x-pickle").arguments::<()>(&[]).expect_err("no JSON");
        assert!(refusal.message().contains("application/x-pickle"));
    }
}
