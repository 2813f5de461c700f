//! Room that all connections share: for the bytes of frames that are not whole yet, for requests
//! that the driver has not taken, and for the one large frame that is being decoded. A caller that
//! finds no room waits; callers with few bytes come first. This module does not know what the room
//! is for.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::sync::oneshot;

/// A caller that arrives one place later is ordered as if it had this many bytes more. So small
/// frames overtake a large frame, but not for ever.
const BYTES_PER_TURN: u64 = 64 * 1024;

/// A shared room. Copies are of the same room.
#[derive(Debug, Clone)]
pub(crate) struct Room {
    size: usize,
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    free: usize,
    /// The number of callers that have arrived.
    arrived: u64,
    /// The waiting callers, in the order in which they get their room.
    waiting: BTreeMap<(u64, u64), Waiting>,
}

#[derive(Debug)]
struct Waiting {
    takes: usize,
    ready: oneshot::Sender<Place>,
}

/// A part of a room. Dropping it gives the part back.
#[derive(Debug)]
pub(crate) struct Place {
    room: Room,
    takes: usize,
}

impl Room {
    pub(crate) fn new(size: usize) -> Self {
        let state = State { free: size, arrived: 0, waiting: BTreeMap::new() };
        Self { size, state: Arc::new(Mutex::new(state)) }
    }

    /// Takes this much room, at most the whole room, as soon as it is free. Callers with fewer
    /// bytes come first.
    pub(crate) async fn take(&self, takes: usize, bytes: usize) -> Place {
        let takes = takes.min(self.size);
        let ready = {
            let mut state = self.state();
            state.arrived += 1;
            if state.free >= takes && state.waiting.is_empty() {
                state.free -= takes;
                return Place { room: self.clone(), takes };
            }
            let turn = (state.arrived * BYTES_PER_TURN + bytes as u64, state.arrived);
            let (ready, when_ready) = oneshot::channel();
            state.waiting.insert(turn, Waiting { takes, ready });
            when_ready
        };
        // The caller that was first may have been dropped meanwhile.
        self.give(0);
        ready.await.expect("the room outlives the callers that wait for it")
    }

    /// Whether a caller waits for this room.
    pub(crate) fn is_wanted(&self) -> bool {
        let mut state = self.state();
        state.waiting.retain(|_, waiting| !waiting.ready.is_closed());
        !state.waiting.is_empty()
    }

    /// Takes this much back, and gives it to the waiting callers as far as it suffices.
    fn give(&self, back: usize) {
        let mut ready = Vec::new();
        {
            let mut state = self.state();
            state.free += back;
            while let Some(first) = state.waiting.first_entry() {
                let takes = first.get().takes;
                if first.get().ready.is_closed() {
                    first.remove();
                } else if takes <= state.free {
                    ready.extend(state.waiting.pop_first().map(|(_, waiting)| waiting));
                    state.free -= takes;
                } else {
                    break;
                }
            }
        }
        for Waiting { takes, ready } in ready {
            // When the caller was dropped at this moment, its place is dropped too, which gives the
            // room back.
            let _ = ready.send(Place { room: self.clone(), takes });
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no thread panics while it holds the lock")
    }
}

impl Place {
    /// Whether a caller waits for the room that this place is part of.
    pub(crate) fn is_wanted(&self) -> bool {
        self.room.is_wanted()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.room.give(self.takes);
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    /// The place, if it is free at once.
    fn now(taking: impl Future<Output = Place>) -> Option<Place> {
        let mut taking = pin!(taking);
        match taking.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(place) => Some(place),
            Poll::Pending => None,
        }
    }

    #[test]
    fn room_is_given_back_and_whoever_gave_up_takes_none() {
        let room = Room::new(10);
        let held = now(room.take(10, 10)).expect("the room is empty");
        assert!(
            now(room.take(1, 1)).is_none() && !room.is_wanted(),
            "the caller does not wait any more"
        );
        drop(held);
        assert!(
            now(room.take(100, 100)).is_some(),
            "the whole room is enough for a caller that wants more"
        );
        assert!(now(room.take(10, 10)).is_some());
    }

    #[tokio::test]
    async fn who_wants_little_comes_first_and_the_large_are_not_overtaken_for_ever() {
        let room = Room::new(1);
        let held = room.take(1, 0).await;
        let (done, mut order) = tokio::sync::mpsc::unbounded_channel();
        let come = |bytes: usize| {
            let (room, done) = (room.clone(), done.clone());
            tokio::spawn(async move {
                let _place = room.take(1, bytes).await;
                done.send(bytes).expect("the test receives");
            });
        };
        come(4 * BYTES_PER_TURN as usize);
        tokio::task::yield_now().await;
        for small in 1..8 {
            come(small);
            tokio::task::yield_now().await;
        }
        assert!(room.is_wanted());
        drop(held);
        let mut came = Vec::new();
        for _ in 0..8 {
            came.extend(order.recv().await);
        }
        assert_eq!(came, [1, 2, 3, 4 * BYTES_PER_TURN as usize, 4, 5, 6, 7]);
    }
}
