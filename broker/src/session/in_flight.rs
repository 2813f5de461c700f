//! The requests of one connection that are not answered yet. Their number is bounded, and a `Wait`
//! is none of them: it may take hours.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use celeriac_machine::command::{Ask, Command, RequestId};
use celeriac_proto::limits::REQUESTS_IN_FLIGHT_MAX;
use tokio::sync::Semaphore;

/// See the head of this file.
#[derive(Debug)]
pub(super) struct InFlight {
    room: Semaphore,
    /// How many waits there are, for those who need no more than to know that there is none.
    waiting: AtomicUsize,
    /// Nothing keeps a client from using a number twice.
    waits: Mutex<HashMap<RequestId, usize>>,
}

impl Default for InFlight {
    fn default() -> Self {
        let room = Semaphore::new(REQUESTS_IN_FLIGHT_MAX - 1);
        Self { room, waiting: AtomicUsize::new(0), waits: Mutex::default() }
    }
}

impl InFlight {
    /// One request more, once there is room for it.
    pub(super) async fn begin(&self) {
        self.room.acquire().await.expect("the semaphore is never closed").forget();
    }

    /// Gives the room back if this request is a wait. It is not in the driver's hands yet, so that
    /// it is not answered before.
    pub(super) fn let_wait(&self, command: &Command) {
        if let Command::Request { request, ask: Ask::Wait { .. }, .. } = command {
            *self
                .waits
                .lock()
                .expect("nobody panics with the lock")
                .entry(*request)
                .or_default() += 1;
            self.waiting.fetch_add(1, Ordering::Release);
            self.room.add_permits(1);
        }
    }

    /// A message goes out; request 0 is none.
    pub(super) fn answered(&self, request: RequestId) {
        if request != 0 && !self.was_a_wait(request) {
            self.room.add_permits(1);
        }
    }

    fn was_a_wait(&self, request: RequestId) -> bool {
        if self.waiting.load(Ordering::Acquire) == 0 {
            return false;
        }
        let mut waits = self.waits.lock().expect("nobody panics with the lock");
        let Some(count) = waits.get_mut(&request) else { return false };
        *count -= 1;
        if *count == 0 {
            waits.remove(&request);
        }
        self.waiting.fetch_sub(1, Ordering::Release);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wait(request: RequestId) -> Command {
        let ask = Ask::Wait {
            ids: Vec::new(),
            any: false,
            until: None,
            with_results: false,
            timeout_ms: 1,
        };
        Command::Request { connection: 1, request, ask }
    }

    #[tokio::test]
    async fn a_wait_takes_no_room_whatever_its_number() {
        let in_flight = InFlight::default();
        let room = in_flight.room.available_permits();
        for request in [7, 7, 8] {
            in_flight.begin().await;
            in_flight.let_wait(&wait(request));
        }
        assert_eq!(in_flight.room.available_permits(), room);
        in_flight.begin().await;
        for request in [7, 0, 9, 7, 8] {
            in_flight.answered(request);
        }
        assert_eq!(in_flight.room.available_permits(), room);
        assert!(in_flight.waits.lock().unwrap().is_empty());
        // An answer that was no wait's, of a number that one had.
        in_flight.begin().await;
        in_flight.answered(7);
        assert_eq!(in_flight.room.available_permits(), room);
    }
}
