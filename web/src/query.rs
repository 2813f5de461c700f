//! What a path names, and what stands behind its question mark. A name that a path does not know,
//! and a number outside its range, are refused.

use std::fmt;
use std::marker::PhantomData;

use axum::extract::{FromRequestParts, Path, Query};
use axum::http::request::Parts;
use serde::de::{DeserializeOwned, Error, Visitor};
use serde::{Deserialize, Deserializer};

use crate::problem::Problem;

/// The values behind the question mark. The type `T` must refuse unknown names.
pub(crate) struct InQuery<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for InQuery<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        match Query::<T>::from_request_parts(parts, state).await {
            Ok(Query(asked)) => Ok(Self(asked)),
            Err(rejection) => {
                let said = rejection.body_text();
                let reason =
                    said.strip_prefix("Failed to deserialize query string: ").unwrap_or(&said);
                Err(Problem::invalid(format!("the query of this path cannot be used: {reason}")))
            }
        }
    }
}

/// The one part of a path that has a name.
pub(crate) struct InPath(pub String);

impl<S: Send + Sync> FromRequestParts<S> for InPath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        match Path::<String>::from_request_parts(parts, state).await {
            Ok(Path(part)) => Ok(Self(part)),
            Err(_) => Err(Problem::malformed("a part of the path is not text in UTF-8")),
        }
    }
}

/// A whole number from `MIN` to `MAX`, in decimal digits and nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Within<const MIN: u64, const MAX: u64>(pub u64);

impl<'de, const MIN: u64, const MAX: u64> Deserialize<'de> for Within<MIN, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Digits<const MIN: u64, const MAX: u64>(PhantomData<()>);

        impl<const MIN: u64, const MAX: u64> Visitor<'_> for Digits<MIN, MAX> {
            type Value = Within<MIN, MAX>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "a whole number from {MIN} to {MAX}")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
                let is_digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
                match text.parse() {
                    Ok(number) if is_digits => self.visit_u64(number),
                    _ => Err(E::custom(format!("`{}` is not {}", shortened(text), Words(&self)))),
                }
            }

            fn visit_u64<E: Error>(self, number: u64) -> Result<Self::Value, E> {
                match number {
                    number if (MIN..=MAX).contains(&number) => Ok(Within(number)),
                    number => Err(E::custom(format!("`{number}` is not {}", Words(&self)))),
                }
            }
        }

        struct Words<'a, V>(&'a V);

        impl<'b, V: Visitor<'b>> fmt::Display for Words<'_, V> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.expecting(f)
            }
        }

        deserializer.deserialize_any(Digits(PhantomData))
    }
}

/// A text of a stranger, for a sentence.
pub(crate) fn shortened(text: &str) -> String {
    const CHARACTERS_MAX: usize = 60;
    let cut = if text.chars().count() > CHARACTERS_MAX { "…" } else { "" };
    text.chars().take(CHARACTERS_MAX).collect::<String>() + cut
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Wait {
        wait: Option<Within<0, 60>>,
    }

    async fn wait(query: &str) -> Result<Option<u64>, String> {
        let request = axum::http::Request::get(format!("/?{query}")).body(()).expect("a request");
        let (mut parts, ()) = request.into_parts();
        match InQuery::<Wait>::from_request_parts(&mut parts, &()).await {
            Ok(InQuery(asked)) => Ok(asked.wait.map(|Within(seconds)| seconds)),
            Err(problem) => Err(format!("{problem:?}")),
        }
    }

    #[tokio::test]
    async fn o31_a_number_outside_its_range_is_refused() {
        assert_eq!(wait("").await, Ok(None));
        assert_eq!(wait("wait=0").await, Ok(Some(0)));
        assert_eq!(wait("wait=60").await, Ok(Some(60)));
        for query in [
            "wait=61",
            "wait=-1",
            "wait=",
            "wait=1e1",
            "wait=+1",
            "wait=99999999999999999999",
            "wait=1&wait=2",
            "wait=1.5",
            "wait=%31%00",
            "days=1",
        ] {
            let sentence = wait(query).await.expect_err(query);
            assert!(sentence.contains("422"), "{sentence}");
        }
    }
}
