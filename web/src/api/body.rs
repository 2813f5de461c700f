//! The body of a request, as JSON. A body is read only after the broker has let its caller in.

use std::sync::Arc;

use axum::body::{Body, to_bytes};
use axum::extract::{FromRequest, Request};
use axum::http::{HeaderMap, StatusCode, header};
use bytes::Bytes;
use celeriac_client::Client;
use serde::de::DeserializeOwned;
use tokio::sync::Semaphore;

use crate::asked::Asked;
use crate::problem::Problem;

/// The bodies that are read at once have at most so many bytes together; others wait.
const BODIES_KIB_MAX: usize = 256 * 1024;
/// What a request has beside payloads.
const BESIDE_PAYLOADS: u64 = 64 * 1024;

/// Room for the bodies of all requests.
pub(crate) struct BodyRoom(Arc<Semaphore>);

impl Default for BodyRoom {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(BODIES_KIB_MAX)))
    }
}

/// A body that was not read yet.
pub(crate) struct Unread {
    headers: HeaderMap,
    body: Body,
}

impl<S: Sync> FromRequest<S> for Unread {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        let (parts, body) = request.into_parts();
        Ok(Self { headers: parts.headers, body })
    }
}

impl Unread {
    /// Reads JSON. A payload in base64 has a third more bytes than the payload itself.
    pub(crate) async fn json<T: DeserializeOwned>(
        self,
        client: &Client,
        room: &BodyRoom,
    ) -> Result<T, Problem> {
        let Some(bytes) = self.bytes(client, room).await? else {
            return Err(Problem::malformed("the body is missing: JSON belongs there"));
        };
        parse(&bytes)
    }

    /// Reads JSON, or nothing where the body is empty.
    pub(crate) async fn json_or_default<T: DeserializeOwned + Default>(
        self,
        client: &Client,
        room: &BodyRoom,
    ) -> Result<T, Problem> {
        match self.bytes(client, room).await? {
            Some(bytes) => parse(&bytes),
            None => Ok(T::default()),
        }
    }

    /// Reads the fields of a form.
    pub(crate) async fn form(self, client: &Client, room: &BodyRoom) -> Result<Asked, Problem> {
        let Some(bytes) = self.bytes_of(client, room, "application/x-www-form-urlencoded").await?
        else {
            return Ok(Asked::default());
        };
        let text = std::str::from_utf8(&bytes);
        Ok(Asked::of(text.map_err(|_| Problem::malformed("the form is not text in UTF-8"))?))
    }

    async fn bytes(self, client: &Client, room: &BodyRoom) -> Result<Option<Bytes>, Problem> {
        self.bytes_of(client, room, "application/json").await
    }

    /// The body, which has to be of this type. `None`: it is empty.
    async fn bytes_of(
        self,
        client: &Client,
        room: &BodyRoom,
        content_type: &str,
    ) -> Result<Option<Bytes>, Problem> {
        let limits = client.connection().limits();
        let most = limits.frame_bytes_max.saturating_mul(4) / 3 + BESIDE_PAYLOADS;
        let said = self.headers.get(header::CONTENT_LENGTH);
        let said = said.and_then(|value| value.to_str().ok()).and_then(|text| text.parse().ok());
        let too_large = || Problem::too_large(format!("a body has at most {most} bytes"));
        if said.is_some_and(|bytes: u64| bytes > most) {
            return Err(too_large());
        }
        let kib = said.unwrap_or(most).div_ceil(1024).clamp(1, BODIES_KIB_MAX as u64);
        let kib = u32::try_from(kib).unwrap_or(u32::MAX);
        let _permit = room.0.acquire_many(kib).await.expect("it is never closed");
        let limit = usize::try_from(most).unwrap_or(usize::MAX);
        let bytes = to_bytes(self.body, limit).await.map_err(|error| {
            let is_long = std::error::Error::source(&error)
                .is_some_and(|source| source.to_string().contains("limit"));
            if is_long { too_large() } else { Problem::malformed("the body did not come whole") }
        })?;
        if bytes.is_empty() {
            return Ok(None);
        }
        check_type(&self.headers, content_type)?;
        Ok(Some(bytes))
    }
}

/// A page of a stranger cannot send JSON without asking first. What it sends as a form is refused
/// before: the browser says from which site it comes.
fn check_type(headers: &HeaderMap, wanted: &str) -> Result<(), Problem> {
    let value = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let kind = value.unwrap_or_default().split(';').next().unwrap_or_default().trim();
    match kind.eq_ignore_ascii_case(wanted) {
        true => Ok(()),
        false => Err(Problem::of_http(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            format!("the body has to be of another type: `Content-Type: {wanted}`"),
        )),
    }
}

pub(crate) fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    use serde_json::error::Category;
    serde_json::from_slice(bytes).map_err(|error| match error.classify() {
        Category::Data => Problem::invalid(error.to_string()),
        _ => Problem::malformed(format!("the body is not JSON: {error}")),
    })
}
