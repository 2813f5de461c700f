//! The places of connections, and the room for answers that their clients have not taken. When all
//! places are taken, the connection that has had no request under way for the longest time makes
//! room for a new one, so that silent connections keep nobody out.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, HttpBody};
use bytes::Bytes;
use hyper::body::{Frame, SizeHint};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

/// An answer has this long to be taken, and a second more for each so many bytes.
const PATIENCE: Duration = Duration::from_secs(30);
const LEAST_BYTES_PER_SECOND: usize = 32 * 1024;
/// What an answer counts that is compressed while it is sent.
const UNKNOWN_BYTES: u64 = 16 * 1024 * 1024;
/// While every connection has a request under way, a new one waits, and looks again after this
/// time.
const LOOK: Duration = Duration::from_millis(100);

/// The places of all connections.
#[derive(Clone)]
pub(crate) struct Places {
    free: Arc<Semaphore>,
    silent: Arc<Mutex<Silent>>,
}

/// The connections without a request under way, the one that became silent first at the front.
#[derive(Default)]
struct Silent {
    latest: u64,
    connections: BTreeMap<u64, CancellationToken>,
}

/// The place of one connection.
pub(crate) struct Place {
    /// Cancelled when the connection has to make room.
    pub leave: CancellationToken,
    silent: Arc<Mutex<Silent>>,
    state: Mutex<State>,
    /// Room for its answers, in KiB.
    answers: Arc<Semaphore>,
    _permit: OwnedSemaphorePermit,
}

struct State {
    under_way: usize,
    /// The number of the connection among the silent ones.
    silent_as: Option<u64>,
}

/// A request under way: from its arrival until its answer was written, or was given up.
pub(crate) struct UnderWay(Arc<Place>);

impl Places {
    pub(crate) fn new(count: usize) -> Self {
        Self { free: Arc::new(Semaphore::new(count)), silent: Arc::default() }
    }

    /// A place for a new connection.
    pub(crate) async fn take(&self) -> Arc<Place> {
        loop {
            let taken = match self.free.clone().try_acquire_owned() {
                Ok(permit) => permit,
                Err(_) => {
                    let oldest = locked(&self.silent).connections.pop_first();
                    if let Some((_, leave)) = oldest {
                        leave.cancel();
                    }
                    match timeout(LOOK, self.free.clone().acquire_owned()).await {
                        Ok(permit) => permit.expect("it is never closed"),
                        Err(_) => continue,
                    }
                }
            };
            let leave = CancellationToken::new();
            let silent_as = locked(&self.silent).add(leave.clone());
            let state = Mutex::new(State { under_way: 0, silent_as: Some(silent_as) });
            let silent = self.silent.clone();
            let answers = Arc::new(Semaphore::new(ROOM_OF_ONE_KIB));
            return Arc::new(Place { leave, silent, state, answers, _permit: taken });
        }
    }
}

impl Silent {
    fn add(&mut self, leave: CancellationToken) -> u64 {
        self.latest += 1;
        self.connections.insert(self.latest, leave);
        self.latest
    }
}

impl UnderWay {
    pub(crate) fn begin(place: &Arc<Place>) -> Self {
        let mut state = locked(&place.state);
        state.under_way += 1;
        if let Some(number) = state.silent_as.take() {
            locked(&place.silent).connections.remove(&number);
        }
        Self(place.clone())
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let mut state = locked(&self.0.state);
        state.under_way -= 1;
        if state.under_way == 0 {
            state.silent_as = Some(locked(&self.0.silent).add(self.0.leave.clone()));
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(number) = locked(&self.state).silent_as {
            locked(&self.silent).connections.remove(&number);
        }
    }
}

/// The lock of a part that no thread leaves in disorder.
fn locked<T>(part: &Mutex<T>) -> MutexGuard<'_, T> {
    part.lock().expect("no panic while it is locked")
}

/// A body that holds something until it is dropped.
pub(crate) struct Holding<H> {
    body: Body,
    _held: H,
}

/// The body of an answer, whose request is under way until the body has ended.
pub(crate) type Answering = Holding<(UnderWay, Option<AbortOnDropHandle<()>>)>;

impl Answering {
    /// An answer that has an end has to be taken at a least speed, or its connection is closed: a
    /// client of HTTP/2 may keep its connection alive and take nothing. A stream has no end.
    pub(crate) fn new(body: Body, is_stream: bool, under_way: UnderWay) -> Self {
        let leave = under_way.0.leave.clone();
        let bytes = body.size_hint().exact().unwrap_or(UNKNOWN_BYTES);
        let patience = PATIENCE + Duration::from_secs(bytes / LEAST_BYTES_PER_SECOND as u64);
        let deadline = (!is_stream && !body.is_end_stream()).then(|| {
            AbortOnDropHandle::new(tokio::spawn(async move {
                tokio::time::sleep(patience).await;
                leave.cancel();
            }))
        });
        Self { body, _held: (under_way, deadline) }
    }
}

/// Room for answers that wait for their clients. Small answers need none.
pub(crate) struct AnswerRoom(Arc<Semaphore>);

/// An answer of up to this length needs no room.
const SMALL_BYTES: usize = 64 * 1024;
/// The larger answers of all connections, and of one connection, have at most so much together.
const ROOM_KIB: usize = 256 * 1024;
const ROOM_OF_ONE_KIB: usize = 64 * 1024;

impl Default for AnswerRoom {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(ROOM_KIB)))
    }
}

impl AnswerRoom {
    /// The body with the room that it needs, of all and of this connection. `None`: there is none.
    pub(crate) fn hold(&self, body: Body, place: &Place) -> Option<Body> {
        let bytes = body.size_hint().exact().unwrap_or_default();
        if bytes <= SMALL_BYTES as u64 {
            return Some(body);
        }
        let kib = bytes.div_ceil(1024).min(ROOM_OF_ONE_KIB as u64) as u32;
        let of_one = place.answers.clone().try_acquire_many_owned(kib).ok()?;
        let of_all = self.0.clone().try_acquire_many_owned(kib).ok()?;
        Some(Body::new(Holding { body, _held: [of_one, of_all] }))
    }
}

impl<H: Send + Unpin + 'static> HttpBody for Holding<H> {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.get_mut().body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_connection_that_was_silent_longest_makes_room_and_a_request_keeps_its_place() {
        let places = Places::new(2);
        let (busy, silent) = (places.take().await, places.take().await);
        let request = UnderWay::begin(&busy);
        let next = tokio::spawn({
            let places = places.clone();
            async move { places.take().await }
        });
        silent.leave.cancelled().await;
        assert!(!busy.leave.is_cancelled());
        drop(silent);
        let next = next.await.expect("no panic");
        // An answer that was written makes its connection silent, and later than `next`.
        drop(request);
        let last = tokio::spawn(async move { places.take().await });
        next.leave.cancelled().await;
        assert!(!busy.leave.is_cancelled());
        drop(next);
        last.await.expect("no panic");
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_nobody_takes_ends_its_connection() {
        let place = Places::new(1).take().await;
        let answer = |bytes: usize, is_stream| {
            let body = Body::from(vec![b'x'; bytes]);
            Answering::new(body, is_stream, UnderWay::begin(&place))
        };
        let taken = answer(1 << 20, false);
        // The test is about time, which jumps.
        tokio::time::sleep(PATIENCE).await;
        drop(taken);
        let stream = answer(10, true);
        // The test is about time, which jumps.
        tokio::time::sleep(PATIENCE * 100).await;
        assert!(!place.leave.is_cancelled(), "the one was taken, the other one is a stream");
        drop(stream);
        let _stuck = answer(1 << 20, false);
        // The test is about time, which jumps.
        tokio::time::sleep(PATIENCE).await;
        assert!(!place.leave.is_cancelled(), "a large answer has longer");
        place.leave.cancelled().await;
    }

    #[tokio::test]
    async fn answers_that_wait_have_a_bounded_room_and_small_ones_need_none() {
        let (places, room) = (Places::new(9), AnswerRoom::default());
        let of = |mib: usize| Body::from(vec![b'x'; mib << 20]);
        let place = places.take().await;
        let mut held: Vec<Body> = (0..8).filter_map(|_| room.hold(of(8), &place)).collect();
        assert_eq!(held.len(), 8);
        assert!(room.hold(of(1), &place).is_none(), "the connection has its share");
        assert!(room.hold(Body::from("small"), &place).is_some());
        held.pop();
        assert!(room.hold(of(8), &place).is_some(), "an answer was taken");
        let mut others = Vec::new();
        for _ in 0..4 {
            let place = places.take().await;
            others.extend((0..8).filter_map(|_| room.hold(of(8), &place)));
        }
        assert_eq!(held.len() + others.len(), 32, "all together have 256 MiB");
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_silent_connection_a_new_one_waits() {
        let places = Places::new(1);
        let busy = places.take().await;
        let request = UnderWay::begin(&busy);
        assert!(timeout(LOOK * 10, places.take()).await.is_err());
        assert!(!busy.leave.is_cancelled());
        // It becomes silent while somebody waits.
        let waits = tokio::spawn(async move { places.take().await });
        tokio::task::yield_now().await;
        drop(request);
        busy.leave.cancelled().await;
        drop(busy);
        waits.await.expect("no panic");
    }
}
