//! The requests of one connection that are not answered yet. Their number is bounded. A `Wait` does
//! not count, because it may take hours. A request with the id 0 does not count either, because its
//! answer could not be told from others.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use celeriac_machine::command::{Ask, Command, Observe, RequestId};
use celeriac_proto::limits::REQUESTS_IN_FLIGHT_MAX;
use tokio::sync::Semaphore;

/// The count of one connection's requests.
#[derive(Debug)]
pub(super) struct InFlight {
    room: Semaphore,
    /// The number of waits. An answer checks it first, so that a connection without waits needs no
    /// lock.
    waiting: AtomicUsize,
    /// The count of waits for each id: a client may use an id twice.
    waits: Mutex<HashMap<RequestId, usize>>,
}

impl Default for InFlight {
    fn default() -> Self {
        let room = Semaphore::new(REQUESTS_IN_FLIGHT_MAX - 1);
        Self { room, waiting: AtomicUsize::new(0), waits: Mutex::default() }
    }
}

impl InFlight {
    /// Counts one more request, as soon as there is room for it.
    pub(super) async fn begin(&self) {
        self.room.acquire().await.expect("the semaphore is never closed").forget();
    }

    /// Gives the room back if this request does not count. The session calls this before the driver
    /// gets the request, so that no answer comes earlier.
    pub(super) fn let_wait(&self, command: &Command) {
        if let Command::Request { request: 0, .. } = command {
            self.room.add_permits(1);
            return;
        }
        if let Command::Request { request, ask: Ask::Observe(Observe::Wait { .. }), .. } = command {
            *self
                .waits
                .lock()
                .expect("no thread panics while it holds the lock")
                .entry(*request)
                .or_default() += 1;
            self.waiting.fetch_add(1, Ordering::Release);
            self.room.add_permits(1);
        }
    }

    /// Counts a message that answers this request. Request 0 is no request.
    pub(super) fn answered(&self, request: RequestId) {
        if request != 0 && !self.was_a_wait(request) {
            self.room.add_permits(1);
        }
    }

    fn was_a_wait(&self, request: RequestId) -> bool {
        if self.waiting.load(Ordering::Acquire) == 0 {
            return false;
        }
        let mut waits = self.waits.lock().expect("no thread panics while it holds the lock");
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
        let ask = Ask::Observe(Observe::Wait {
            ids: Vec::new(),
            any: false,
            until: None,
            with_results: false,
            timeout_ms: 1,
        });
        Command::Request { connection: 1, request, ask }
    }

    #[tokio::test]
    async fn a_request_with_the_id_0_takes_no_room() {
        let in_flight = InFlight::default();
        let room = in_flight.room.available_permits();
        for request in [wait(0), Command::Request { connection: 1, request: 0, ask: Ask::Goodbye }]
        {
            in_flight.begin().await;
            in_flight.let_wait(&request);
        }
        in_flight.answered(0);
        assert_eq!(in_flight.room.available_permits(), room);
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
        // An answer to a request that is no wait but has the id of an earlier wait.
        in_flight.begin().await;
        in_flight.answered(7);
        assert_eq!(in_flight.room.available_permits(), room);
    }
}
