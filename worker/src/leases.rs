//! The leases this worker holds: which wait for a handler, which run, and what is to be reported
//! of them. Handlers (`slot.rs`) and connection (`driver.rs`) meet here and nowhere else.
//!
//! A lease is here from its delivery until the broker has answered the report of its end. While
//! it is here, a second delivery of it is a repetition and is ignored. A lease that is not here
//! is lost, and nothing is reported of it.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use celeriac_proto::limits::RESULT_BYTES_MAX;
use celeriac_proto::wire::task_report::Report;
use celeriac_proto::wire::{Delivery, Release, Started, TaskReport};
use tokio::sync::Notify;

use crate::outbox::{Batch, Outbox};
use crate::signals::{Signal, Signals};

/// Shared by the slots and the driver of one worker.
#[derive(Debug)]
pub(crate) struct Leases {
    state: Mutex<State>,
    /// A delivery waits for a slot.
    work: Notify,
    /// A handler has begun, which the broker may learn a little later.
    begun: Notify,
    /// There is something to report now.
    due: Notify,
    result_bytes_max: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<Delivery>,
    held: HashMap<u64, Held>,
    outbox: Outbox,
    idle_slots: usize,
    running: usize,
    closed: bool,
    /// Runs that ended since [`Leases::pace`] was last asked.
    ended: u64,
    /// When a delivery last left the queue, or came into an empty one.
    moved_at: Option<Instant>,
}

#[derive(Debug)]
enum Held {
    Waiting,
    Running {
        id: String,
        signals: Arc<Signals>,
    },
    /// The end is reported, and the report not answered yet.
    Ended,
}

/// How fast the work goes, for the decision how much of it to hold.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    /// Runs that ended since the last look.
    pub(crate) ended: u64,
    /// How long the delivery in front has been waiting for a slot.
    pub(crate) held_up: Duration,
}

/// A delivery whose handler is to run now.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) delivery: Delivery,
    pub(crate) signals: Arc<Signals>,
}

impl Leases {
    /// How long a start may wait for company: a task that ends within it is reported as a whole, in one batch.
    pub(crate) const START_DELAY: Duration = Duration::from_millis(1);

    pub(crate) fn new() -> Self {
        Self {
            state: Mutex::default(),
            work: Notify::new(),
            begun: Notify::new(),
            due: Notify::new(),
            result_bytes_max: AtomicU64::new(RESULT_BYTES_MAX as u64),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no code panics while it holds this lock")
    }

    /// The longest result that the broker takes.
    pub(crate) fn result_bytes_max(&self) -> u64 {
        self.result_bytes_max.load(Ordering::Relaxed)
    }

    /// Takes the broker's word for the longest result.
    pub(crate) fn set_result_bytes_max(&self, bytes: u64) {
        self.result_bytes_max.store(bytes, Ordering::Relaxed);
    }

    /// Handlers that run now.
    pub(crate) fn running(&self) -> u32 {
        u32::try_from(self.state().running).unwrap_or(u32::MAX)
    }

    /// True until the lease is lost, or its end is reported and answered.
    pub(crate) fn is_held(&self, lease: u64) -> bool {
        self.state().held.contains_key(&lease)
    }

    /// Nothing is held, and every report was answered.
    pub(crate) fn is_settled(&self) -> bool {
        let state = self.state();
        state.held.is_empty() && state.outbox.is_empty()
    }

    /// Queues what the broker sent, in its order.
    pub(crate) fn deliver(&self, deliveries: Vec<Delivery>) {
        let mut state = self.state();
        for delivery in deliveries {
            if state.held.contains_key(&delivery.lease) {
                tracing::debug!(id = delivery.id, lease = delivery.lease, "delivered twice, ignored");
                continue;
            }
            state.held.insert(delivery.lease, Held::Waiting);
            if state.waiting.is_empty() {
                state.moved_at = Some(Instant::now());
            }
            state.waiting.push_back(delivery);
        }
        let wanted = state.waiting.len().min(state.idle_slots);
        drop(state);
        for _ in 0..wanted {
            self.work.notify_one();
        }
    }

    /// Hands back deliveries at once, without their being queued.
    pub(crate) fn refuse(&self, deliveries: Vec<Delivery>) {
        let mut state = self.state();
        for delivery in deliveries {
            if let Entry::Vacant(entry) = state.held.entry(delivery.lease) {
                entry.insert(Held::Ended);
                state.outbox.push(release(delivery.id, delivery.lease));
            }
        }
        drop(state);
        self.due.notify_one();
    }

    /// The next delivery for a slot, which counts as running from here on; `None` when the worker ends.
    pub(crate) async fn next(&self) -> Option<Job> {
        let mut idle = false;
        loop {
            let mut work = std::pin::pin!(self.work.notified());
            // Listen before looking: a delivery in between is not missed.
            work.as_mut().enable();
            {
                let mut state = self.state();
                if std::mem::take(&mut idle) {
                    state.idle_slots -= 1;
                }
                if state.closed {
                    return None;
                }
                if let Some(delivery) = state.waiting.pop_front() {
                    let signals = Arc::new(Signals::default());
                    let running = Held::Running { id: delivery.id.clone(), signals: signals.clone() };
                    state.held.insert(delivery.lease, running);
                    state.running += 1;
                    if !state.waiting.is_empty() {
                        state.moved_at = Some(Instant::now());
                    }
                    return Some(Job { delivery, signals });
                }
                state.idle_slots += 1;
                idle = true;
            }
            work.await;
        }
    }

    /// No slot gets anything more.
    pub(crate) fn close(&self) {
        self.state().closed = true;
        self.work.notify_waiters();
    }

    /// The handler begins. False when it must not: the lease was lost or handed back since it left the queue.
    pub(crate) fn begin(&self, id: &str, lease: u64) -> bool {
        let mut state = self.state();
        let Some(Held::Running { .. }) = state.held.get(&lease) else { return false };
        let report = Some(Report::Started(Started {}));
        state.outbox.push(TaskReport { id: id.to_owned(), lease, report });
        drop(state);
        self.begun.notify_one();
        true
    }

    /// What a handler says of its progress. Of a lease that is lost or has ended, nothing is said.
    pub(crate) fn progress(&self, report: TaskReport) {
        let mut state = self.state();
        if let Some(Held::Running { .. }) = state.held.get(&report.lease) {
            state.outbox.push_progress(report);
            drop(state);
            self.due.notify_one();
        }
    }

    /// What became of a job, if its lease is still ours to report on. The slot goes on working for it until
    /// [`Leases::leave`].
    pub(crate) fn end(&self, id: &str, lease: u64, report: Report) {
        let mut state = self.state();
        if let Some(held @ Held::Running { .. }) = state.held.get_mut(&lease) {
            *held = Held::Ended;
            state.outbox.push(TaskReport { id: id.to_owned(), lease, report: Some(report) });
            drop(state);
            self.due.notify_one();
        }
    }

    /// A slot is done with a job.
    pub(crate) fn leave(&self) {
        let mut state = self.state();
        state.running -= 1;
        state.ended += 1;
    }

    /// How fast the work went since this was last asked.
    pub(crate) fn pace(&self) -> Pace {
        let mut state = self.state();
        let held_up = match state.moved_at {
            Some(moved_at) if !state.waiting.is_empty() => moved_at.elapsed(),
            _ => Duration::ZERO,
        };
        Pace { ended: std::mem::take(&mut state.ended), held_up }
    }

    /// Hands back everything that has not begun.
    pub(crate) fn release_waiting(&self) {
        let mut state = self.state();
        for delivery in std::mem::take(&mut state.waiting) {
            state.held.insert(delivery.lease, Held::Ended);
            state.outbox.push(release(delivery.id, delivery.lease));
        }
        drop(state);
        self.due.notify_one();
    }

    /// Hands back everything that runs, and stops its handlers.
    pub(crate) fn release_running(&self) {
        let mut state = self.state();
        let State { held, outbox, .. } = &mut *state;
        for (lease, held) in held.iter_mut() {
            if let Held::Running { id, signals } = held {
                signals.raise(Signal::DROP);
                outbox.push(release(std::mem::take(id), *lease));
                *held = Held::Ended;
            }
        }
        drop(state);
        self.due.notify_one();
    }

    /// Tells a running handler something; a delivery that waits is handed back.
    pub(crate) fn signal(&self, lease: u64, signal: Signal) {
        let mut state = self.state();
        match state.held.get(&lease) {
            Some(Held::Running { signals, .. }) => signals.raise(signal),
            Some(Held::Waiting) => {
                if let Some(index) = state.waiting.iter().position(|delivery| delivery.lease == lease)
                    && let Some(delivery) = state.waiting.remove(index)
                {
                    state.held.insert(lease, Held::Ended);
                    state.outbox.push(release(delivery.id, lease));
                    drop(state);
                    self.due.notify_one();
                }
            }
            Some(Held::Ended) | None => {}
        }
    }

    /// The broker knows this lease no more: its handler is dropped, and nothing is reported of it.
    pub(crate) fn lose(&self, lease: u64) {
        let mut state = self.state();
        state.lose(lease);
    }

    /// The session is lost, and all its leases with it.
    pub(crate) fn lose_all(&self) {
        let mut state = self.state();
        for (_, held) in state.held.drain() {
            if let Held::Running { signals, .. } = held {
                signals.raise(Signal::DROP);
            }
        }
        state.waiting.clear();
        state.outbox.clear();
    }

    /// After a resume: the leases that the broker does not know any more are lost. Those that
    /// have ended here stay until their report is answered, as the broker may have taken it already.
    pub(crate) fn retain(&self, known: &[u64]) {
        let known: HashSet<u64> = known.iter().copied().collect();
        let mut state = self.state();
        let unknown: Vec<(u64, bool)> = state
            .held
            .iter()
            .filter(|(lease, _)| !known.contains(lease))
            .map(|(lease, held)| (*lease, matches!(held, Held::Ended)))
            .collect();
        for (lease, ended) in unknown {
            if !ended {
                tracing::warn!(lease, "the broker took this lease back while the connection was lost");
                state.lose(lease);
            }
        }
    }

    /// Until there is something to report now.
    pub(crate) async fn due(&self) {
        self.due.notified().await;
    }

    /// Until a handler has begun, which the broker may learn [`Leases::START_DELAY`] later.
    pub(crate) async fn begun(&self) {
        self.begun.notified().await;
    }

    /// Takes the next reports to send.
    pub(crate) fn take_batch(&self, items_max: usize, bytes_max: usize) -> Batch {
        self.state().outbox.take_batch(items_max, bytes_max, Instant::now())
    }

    /// The broker has this report: a lease that has ended is no longer held.
    pub(crate) fn answered(&self, report: &TaskReport) {
        if is_end(report) {
            self.state().held.remove(&report.lease);
        }
    }

    /// These were not answered and are sent again, except for leases lost in the meantime.
    pub(crate) fn put_back(&self, mut reports: Vec<TaskReport>) {
        let mut state = self.state();
        reports.retain(|report| state.held.contains_key(&report.lease));
        state.outbox.put_back(reports);
        drop(state);
        self.due.notify_one();
    }
}

impl State {
    fn lose(&mut self, lease: u64) {
        match self.held.remove(&lease) {
            Some(Held::Running { signals, .. }) => signals.raise(Signal::DROP),
            Some(Held::Waiting) => self.waiting.retain(|delivery| delivery.lease != lease),
            Some(Held::Ended) | None => {}
        }
        self.outbox.forget(lease);
    }
}

fn release(id: String, lease: u64) -> TaskReport {
    TaskReport { id, lease, report: Some(Report::Release(Release {})) }
}

/// True for a report after which the worker has nothing more to say of the lease.
pub(crate) fn is_end(report: &TaskReport) -> bool {
    !matches!(report.report, None | Some(Report::Started(_) | Report::Progress(_)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_lease_taken_back_between_queue_and_handler_does_not_begin() {
        let leases = Leases::new();
        let delivery = |lease| Delivery { id: "a".to_owned(), lease, ..Delivery::default() };
        leases.deliver(vec![delivery(1), delivery(2)]);
        let taken = leases.next().await.expect("not closed");
        leases.lose(taken.delivery.lease);
        assert!(!leases.begin("a", 1));
        let kept = leases.next().await.expect("not closed");
        assert!(leases.begin("a", kept.delivery.lease));
        let told: Vec<u64> = leases.take_batch(10, 1_000).reports.iter().map(|report| report.lease).collect();
        assert_eq!(told, [2]);
    }
}
