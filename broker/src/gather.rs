//! Gathering: a small batch waits a moment for the clients that the batch before has answered.
//!
//! A client that sends one request after the other sends the next one as soon as it has its answer.
//! When the broker commits without waiting, such clients fall into two groups: one waits for the
//! disk while the other one is answered. One commit for both groups costs the disk and the
//! processor half. So the driver waits for the clients that were just answered, and for a quarter
//! of the time of a commit at most. Where clients do not come in that time, it stops waiting for
//! more and more batches.

use std::time::Duration;

use celeriac_machine::command::ConnectionKey;

/// The driver waits for at most this part of the time that the last commit took.
const PART: u32 = 4;

/// The driver never waits longer than this, however slow the disk is.
const WAIT_MAX: Duration = Duration::from_millis(1);

/// After waiting in vain so many times in a row, the pauses grow no more.
const MISSES_MAX: u32 = 6;

/// The clients that the last batch answered, and what waiting for such clients has brought.
#[derive(Debug, Default)]
pub(crate) struct Gather {
    /// The connections whose requests are in the present batch.
    asking: Vec<ConnectionKey>,
    /// The connections whose requests were in the last batch, and that have sent none since.
    answered: Vec<ConnectionKey>,
    commit: Duration,
    /// How many times in a row the driver has waited in vain.
    misses: u32,
    /// For so many more batches the driver does not wait.
    pause: u32,
}

impl Gather {
    /// A request of this connection joins the batch.
    pub(crate) fn note(&mut self, connection: ConnectionKey) {
        self.asking.push(connection);
        if let Some(place) = self.answered.iter().position(|answered| *answered == connection) {
            self.answered.swap_remove(place);
        }
    }

    /// How long the batch should wait. `None`: not at all.
    pub(crate) fn patience(&mut self) -> Option<Duration> {
        if self.is_complete() {
            return None;
        }
        if self.pause > 0 {
            self.pause -= 1;
            return None;
        }
        Some((self.commit / PART).min(WAIT_MAX))
    }

    /// Whether all clients have come that the last batch answered.
    pub(crate) fn is_complete(&self) -> bool {
        self.answered.is_empty()
    }

    /// The number of requests in the batch.
    pub(crate) fn requests(&self) -> usize {
        self.asking.len()
    }

    /// The batch has waited. Before that it had so many requests.
    pub(crate) fn waited(&mut self, before: usize) {
        if self.asking.len() > before {
            self.misses = 0;
            return;
        }
        self.misses = (self.misses + 1).min(MISSES_MAX);
        self.pause = 1 << self.misses;
    }

    /// The batch was committed and answered in this time.
    pub(crate) fn committed(&mut self, took: Duration) {
        self.commit = took;
        std::mem::swap(&mut self.asking, &mut self.answered);
        self.asking.clear();
    }

    /// The batch goes another way. It is so large that nothing is gained by waiting after it.
    pub(crate) fn forget(&mut self) {
        self.asking.clear();
        self.answered.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMMIT: Duration = Duration::from_micros(200);

    fn batch(gather: &mut Gather, connections: &[ConnectionKey]) {
        for connection in connections {
            gather.note(*connection);
        }
        gather.committed(COMMIT);
    }

    #[test]
    fn a_batch_waits_for_the_clients_that_were_answered_and_for_no_other() {
        let mut gather = Gather::default();
        gather.note(1);
        assert_eq!(gather.patience(), None, "nobody was answered before");
        gather.committed(COMMIT);

        gather.note(1);
        assert_eq!(gather.patience(), None, "the client that was answered is in the batch");
        gather.note(2);
        gather.committed(COMMIT);

        gather.note(3);
        assert_eq!(gather.patience(), Some(COMMIT / PART));
        gather.note(2);
        assert!(!gather.is_complete());
        gather.note(1);
        assert!(gather.is_complete());
    }

    #[test]
    fn a_client_with_several_requests_under_way_counts_for_each() {
        let mut gather = Gather::default();
        batch(&mut gather, &[1, 1]);
        gather.note(1);
        assert!(!gather.is_complete());
        gather.note(1);
        assert!(gather.is_complete());
    }

    #[test]
    fn a_slow_disk_makes_nobody_wait_long_and_a_large_batch_makes_nobody_wait() {
        let mut gather = Gather::default();
        gather.note(1);
        gather.committed(Duration::from_secs(5));
        gather.note(2);
        assert_eq!(gather.patience(), Some(WAIT_MAX));
        gather.forget();
        gather.note(3);
        assert_eq!(gather.patience(), None);
    }

    #[test]
    fn where_clients_do_not_come_the_driver_waits_ever_more_rarely() {
        let mut gather = Gather::default();
        let waits = |gather: &mut Gather, batches: u64, come: bool| {
            let mut waits = 0;
            for number in 0..batches {
                // Each batch has another client.
                gather.note(1_000 + number);
                if gather.patience().is_some() {
                    waits += 1;
                    let before = gather.requests();
                    if come {
                        gather.note(1_000_000 + number);
                    }
                    gather.waited(before);
                }
                gather.committed(COMMIT);
            }
            waits
        };
        assert!(waits(&mut gather, 1_000, false) < 25);
        // It tries again now and then, and once one client has come, it waits each time.
        assert!(waits(&mut gather, 1_000, true) > 900);
    }
}
