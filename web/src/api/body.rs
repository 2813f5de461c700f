//! The body of a request, as JSON or as a form. A body is read only after the broker has let its
//! caller in, and it has to come at a least speed. Small bodies need no room; the others share it,
//! and no caller may have all of it.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{FromRequest, Request};
use axum::http::{HeaderMap, StatusCode, header};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use serde::de::DeserializeOwned;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout, timeout_at};

use crate::asked::Asked;
use crate::caller::Caller;
use crate::problem::Problem;
use crate::router::Shared;

/// A body of up to this length needs no room.
const SMALL_BYTES: usize = 64 * 1024;
/// The larger bodies that are read at once have at most so much together, and of one caller.
const ROOM_KIB: usize = 256 * 1024;
const ROOM_OF_ONE_KIB: usize = 64 * 1024;
/// A body waits this long for room.
const ROOM_WAIT: Duration = Duration::from_secs(10);
/// A body has this long, and a second more for each so many bytes that have come.
const PATIENCE: Duration = Duration::from_secs(10);
const LEAST_BYTES_PER_SECOND: usize = 32 * 1024;
/// What a request has beside payloads.
const BESIDE_PAYLOADS: u64 = 64 * 1024;

/// Room for bodies, in KiB. It is taken as their bytes come.
pub(crate) struct BodyRoom(Arc<Semaphore>);

impl Default for BodyRoom {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(ROOM_KIB)))
    }
}

impl BodyRoom {
    /// The share of one caller.
    pub(crate) fn of_one() -> Self {
        Self(Arc::new(Semaphore::new(ROOM_OF_ONE_KIB)))
    }

    async fn take(&self, kib: usize) -> Result<OwnedSemaphorePermit, Problem> {
        let kib = u32::try_from(kib).unwrap_or(u32::MAX);
        let taken = timeout(ROOM_WAIT, self.0.clone().acquire_many_owned(kib)).await;
        let taken = taken.map_err(|_| Problem::overloaded("too many large bodies come at once"))?;
        Ok(taken.expect("it is never closed"))
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
        shared: &Shared,
        caller: &Caller,
    ) -> Result<T, Problem> {
        let Some(bytes) = self.bytes(shared, caller, "application/json").await? else {
            return Err(Problem::malformed("the body is missing: JSON belongs there"));
        };
        parse_object(&bytes)
    }

    /// Reads JSON, or nothing where the body is empty.
    pub(crate) async fn json_or_default<T: DeserializeOwned + Default>(
        self,
        shared: &Shared,
        caller: &Caller,
    ) -> Result<T, Problem> {
        match self.bytes(shared, caller, "application/json").await? {
            Some(bytes) => parse_object(&bytes),
            None => Ok(T::default()),
        }
    }

    /// Reads the fields of a form.
    pub(crate) async fn form(self, shared: &Shared, caller: &Caller) -> Result<Asked, Problem> {
        let kind = "application/x-www-form-urlencoded";
        let Some(bytes) = self.bytes(shared, caller, kind).await? else {
            return Ok(Asked::default());
        };
        let text = std::str::from_utf8(&bytes);
        Ok(Asked::of(text.map_err(|_| Problem::malformed("the form is not text in UTF-8"))?))
    }

    /// The body, which has to be of this type. `None`: it is empty.
    async fn bytes(
        self,
        shared: &Shared,
        caller: &Caller,
        content_type: &str,
    ) -> Result<Option<Bytes>, Problem> {
        let client = shared.callers.client(caller).await?;
        let limits = client.connection().limits();
        let most = limits.frame_bytes_max.saturating_mul(4) / 3 + BESIDE_PAYLOADS;
        let said = self.headers.get(header::CONTENT_LENGTH);
        let said = said.and_then(|value| value.to_str().ok()).and_then(|text| text.parse().ok());
        if said.is_some_and(|bytes: u64| bytes > most) {
            return Err(too_large(most));
        }
        let rooms = [shared.callers.body_room(caller), shared.bodies.clone()];
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        let bytes = collect(self.body, most, &rooms).await?;
        if bytes.is_empty() {
            return Ok(None);
        }
        check_type(&self.headers, content_type)?;
        Ok(Some(bytes))
    }
}

fn too_large(most: u64) -> Problem {
    Problem::too_large(format!("a body has at most {most} bytes"))
}

/// Reads a body of at most so many bytes, and takes room of each of these for what is large.
pub(crate) async fn collect(
    body: Body,
    most: usize,
    rooms: &[Arc<BodyRoom>],
) -> Result<Bytes, Problem> {
    let (mut parts, mut bytes, mut held) =
        (body.into_data_stream(), BytesMut::new(), Held::default());
    let mut deadline = Instant::now() + PATIENCE;
    loop {
        let part = match timeout_at(deadline, parts.next()).await {
            Ok(None) => return Ok(bytes.freeze()),
            Ok(Some(Ok(part))) => part,
            Ok(Some(Err(_))) => return Err(Problem::malformed("the body did not come whole")),
            Err(_) => {
                let sentence = "the body comes too slowly: send at least 32 KiB a second";
                return Err(Problem::of_http(StatusCode::REQUEST_TIMEOUT, sentence));
            }
        };
        if bytes.len() + part.len() > most {
            return Err(too_large(most as u64));
        }
        let began = Instant::now();
        held.grow(bytes.len() + part.len(), rooms).await?;
        bytes.extend_from_slice(&part);
        // The wait for room is no fault of the client.
        let earned = Duration::from_secs_f64(part.len() as f64 / LEAST_BYTES_PER_SECOND as f64);
        deadline += began.elapsed() + earned;
    }
}

/// The room that a body has taken so far.
#[derive(Default)]
struct Held {
    kib: usize,
    _permits: Vec<OwnedSemaphorePermit>,
}

impl Held {
    /// Takes what a body of this length needs and has not taken. Room comes in steps, so that a
    /// body that comes in small parts keeps few permits.
    async fn grow(&mut self, bytes: usize, rooms: &[Arc<BodyRoom>]) -> Result<(), Problem> {
        const STEP_KIB: usize = 256;
        // A body that is longer than a whole room has the room for itself.
        let needed = bytes.div_ceil(1024).next_multiple_of(STEP_KIB).min(ROOM_OF_ONE_KIB);
        if bytes <= SMALL_BYTES || needed <= self.kib {
            return Ok(());
        }
        for room in rooms {
            self._permits.push(room.take(needed - self.kib).await?);
        }
        self.kib = needed;
        Ok(())
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

/// Reads the JSON object of a body. A list of its values in their order is none.
fn parse_object<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    let is_other = bytes
        .trim_ascii_start()
        .first()
        .is_some_and(|byte| b"[\"tfn-".contains(byte) || byte.is_ascii_digit());
    match is_other {
        true => Err(Problem::invalid(
            "the body has to be a JSON object, such as {\"name\": \"songs.play\"}",
        )),
        false => parse(bytes),
    }
}

pub(crate) fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    use serde_json::error::Category;
    serde_json::from_slice(bytes).map_err(|error| match error.classify() {
        Category::Data => Problem::invalid(error.to_string()),
        _ => Problem::malformed(format!("the body is not JSON: {error}")),
    })
}

#[cfg(test)]
mod tests {
    use futures_util::stream;

    use super::*;

    fn rooms() -> [Arc<BodyRoom>; 2] {
        [Arc::new(BodyRoom::of_one()), Arc::default()]
    }

    /// A body of these parts, with a pause before each.
    fn body(parts: usize, bytes: usize, pause: Duration) -> Body {
        let parts = stream::iter(0..parts).then(move |_| async move {
            // The tests are about time, which jumps.
            tokio::time::sleep(pause).await;
            Ok::<_, std::io::Error>(vec![b'x'; bytes])
        });
        Body::from_stream(parts)
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_has_to_come_at_a_least_speed() {
        let second = Duration::from_secs(1);
        let read = async |parts, bytes| {
            let read = collect(body(parts, bytes, second), 1 << 24, &rooms()).await;
            read.map(|bytes| bytes.len()).map_err(|problem| problem.status().as_u16())
        };
        assert_eq!(read(100, 32 * 1024).await, Ok(100 * 32 * 1024), "it takes 100 s");
        assert_eq!(read(100, 1).await, Err(408));
        assert_eq!(read(9, 1).await, Ok(9));
        let silent = Body::from_stream(stream::pending::<Result<Vec<u8>, std::io::Error>>());
        let refused = collect(silent, 10, &rooms()).await.expect_err("nothing comes");
        assert_eq!(refused.status(), StatusCode::REQUEST_TIMEOUT);
        let long = collect(body(2, 6, second), 10, &rooms()).await.expect_err("it is longer");
        assert_eq!(long.status(), StatusCode::PAYLOAD_TOO_LARGE);
    }

    #[tokio::test(start_paused = true)]
    async fn large_bodies_of_one_caller_leave_room_for_small_ones_and_for_others() {
        let all = Arc::<BodyRoom>::default();
        let of = || [Arc::new(BodyRoom::of_one()), all.clone()];
        let (greedy, other) = (of(), of());
        // These hold what has come of them, and send no more for a while.
        let mut slow = Vec::new();
        for _ in 0..3 {
            let first = stream::iter([Ok::<_, std::io::Error>(vec![b'x'; 20 << 20])]);
            let silent = Body::from_stream(first.chain(stream::pending()));
            let rooms = greedy.clone();
            slow.push(tokio::spawn(async move { collect(silent, 1 << 30, &rooms).await }));
        }
        tokio::task::yield_now().await;
        let read = async |bytes: usize, rooms: &[Arc<BodyRoom>]| {
            let read = collect(body(1, bytes, Duration::ZERO), 1 << 30, rooms).await;
            read.map(|bytes| bytes.len()).map_err(|problem| problem.status().as_u16())
        };
        assert_eq!(read(20 << 20, &greedy).await, Err(429));
        assert_eq!(read(SMALL_BYTES, &greedy).await, Ok(SMALL_BYTES));
        assert_eq!(read(20 << 20, &other).await, Ok(20 << 20));
        for task in slow {
            task.await.expect("no panic").expect_err("it came too slowly");
        }
        assert_eq!(read(20 << 20, &greedy).await, Ok(20 << 20), "the room is free again");
    }
}
