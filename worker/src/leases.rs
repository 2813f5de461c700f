//! The leases this worker holds: which wait for a handler, which run, and what is to be reported
//! of them. Handlers (`slot.rs`) and connection (`driver.rs`) meet here and nowhere else.
//!
//! A lease is here from its delivery until the broker has answered the report of its end. While
//! it is here, a second delivery of it is a repetition and is ignored. A lease that is not here
//! is lost, and nothing is reported of it.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use celeriac_proto::limits::RESULT_BYTES_MAX;
use celeriac_proto::wire::task_report::Report;
use celeriac_proto::wire::{Delivery, Release, Started, TaskReport};
use foldhash::fast::FixedState;
use tokio::sync::Notify;

use crate::delivered::{Delivered, Job, Waiting};
use crate::outbox::{Batch, Outbox};
use crate::signals::Signal;

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
    running: AtomicU32,
    /// Runs that ended since [`Leases::pace`] was last asked.
    ended: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<Waiting>,
    held: HashMap<u64, Held, FixedState>,
    outbox: Outbox,
    /// Runs that began and whose start is not reported yet. Those among them that have ended
    /// meanwhile need no such report: their end says it too. So there are no more of them than
    /// leases.
    begun: Vec<u64>,
    /// The driver will look into `begun` within [`Leases::START_DELAY`], or as soon as it may
    /// send.
    is_watched: bool,
    /// `due` was notified and nothing was taken since.
    is_due: bool,
    idle_slots: usize,
    closed: bool,
    /// When a delivery last left the queue, or came into an empty one.
    moved_at: Option<Instant>,
}

#[derive(Debug)]
enum Held {
    Waiting,
    Running(Arc<Delivered>),
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

impl Leases {
    /// How long a start may wait for company: a task that ends within it is reported as a whole, in
    /// one batch.
    pub(crate) const START_DELAY: Duration = Duration::from_millis(1);

    pub(crate) fn new() -> Self {
        Self {
            state: Mutex::default(),
            work: Notify::new(),
            begun: Notify::new(),
            due: Notify::new(),
            result_bytes_max: AtomicU64::new(RESULT_BYTES_MAX as u64),
            running: AtomicU32::new(0),
            ended: AtomicU64::new(0),
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
        self.running.load(Ordering::Relaxed)
    }

    /// True until the lease is lost, or its end is reported and answered.
    pub(crate) fn is_held(&self, lease: u64) -> bool {
        self.state().held.contains_key(&lease)
    }

    /// Leases of which the broker is still to be told something.
    pub(crate) fn unanswered(&self) -> usize {
        self.state().held.len()
    }

    /// Nothing is held, and every report was answered.
    pub(crate) fn is_settled(&self) -> bool {
        let state = self.state();
        state.held.is_empty() && state.outbox.is_empty()
    }

    /// Queues what the broker sent, in its order. The driver takes a batch [`Leases::START_DELAY`]
    /// later at the latest.
    pub(crate) fn deliver(&self, deliveries: Vec<Delivery>) {
        // Made before the lock is taken: the slots want it too.
        let arrived: Vec<Waiting> = deliveries.into_iter().map(Waiting::from).collect();
        let mut state = self.state();
        state.is_watched = true;
        if state.waiting.is_empty() {
            state.moved_at = Some(Instant::now());
        }
        for waiting in arrived {
            let delivery = &waiting.delivered.delivery;
            match state.held.entry(delivery.lease) {
                Entry::Vacant(entry) => drop(entry.insert(Held::Waiting)),
                Entry::Occupied(_) => {
                    tracing::debug!(
                        id = delivery.id,
                        lease = delivery.lease,
                        "delivered twice, ignored"
                    );
                    continue;
                }
            }
            state.waiting.push_back(waiting);
        }
        let wanted = state.waiting.len().min(state.idle_slots);
        drop(state);
        // All of them from here: a slot that is woken by another one waits behind that one's
        // handler.
        for _ in 0..wanted {
            self.work.notify_one();
        }
    }

    /// Hands back deliveries at once, without their being queued.
    pub(crate) fn refuse(&self, deliveries: Vec<Delivery>) {
        let mut state = self.state();
        for delivery in deliveries {
            if !state.held.contains_key(&delivery.lease) {
                state.hand_back(&delivery);
            }
        }
        self.tell(state);
    }

    /// The next delivery for a slot; `None` when the worker ends. Its handler has begun from here
    /// on.
    pub(crate) async fn next(&self) -> Option<Job> {
        // Nearly always there is more, and then there is nothing to listen for.
        let turn = self.state().begin();
        match turn {
            Turn::Begun(job, news) => return Some(self.run(job, news)),
            Turn::Closed => return None,
            Turn::Idle => {}
        }
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
                match state.begin() {
                    Turn::Begun(job, news) => {
                        drop(state);
                        return Some(self.run(job, news));
                    }
                    Turn::Closed => return None,
                    Turn::Idle => state.idle_slots += 1,
                }
                idle = true;
            }
            work.await;
        }
    }

    fn run(&self, job: Job, news: bool) -> Job {
        self.running.fetch_add(1, Ordering::Relaxed);
        if job.delivered.delivery.report_start {
            // Its slot waits for the answer.
            self.tell(self.state());
        } else if news {
            self.begun.notify_one();
        }
        job
    }

    /// No slot gets anything more.
    pub(crate) fn close(&self) {
        self.state().closed = true;
        self.work.notify_waiters();
    }

    /// What a handler says of its progress. Of a lease that is lost or has ended, nothing is said.
    pub(crate) fn progress(&self, report: TaskReport) {
        let mut state = self.state();
        if let Some(Held::Running(_)) = state.held.get(&report.lease) {
            state.outbox.push_progress(report);
            self.tell(state);
        }
    }

    /// What became of a job, if its lease is still ours to report on. The slot goes on working for
    /// it until [`Leases::leave`].
    pub(crate) fn end(&self, id: &str, lease: u64, report: Report) {
        let mut state = self.state();
        if let Some(held @ Held::Running(_)) = state.held.get_mut(&lease) {
            *held = Held::Ended;
            state.outbox.push(TaskReport { id: id.to_owned(), lease, report: Some(report) });
            self.tell(state);
        }
    }

    /// Lets the driver know that there is something to report now, unless it knows.
    fn tell(&self, mut state: MutexGuard<'_, State>) {
        let knew = std::mem::replace(&mut state.is_due, true);
        drop(state);
        if !knew {
            self.due.notify_one();
        }
    }

    /// A slot is done with a job.
    pub(crate) fn leave(&self) {
        self.running.fetch_sub(1, Ordering::Relaxed);
        self.ended.fetch_add(1, Ordering::Relaxed);
    }

    /// How fast the work went since this was last asked.
    pub(crate) fn pace(&self) -> Pace {
        let state = self.state();
        let held_up = match state.moved_at {
            Some(moved_at) if !state.waiting.is_empty() => moved_at.elapsed(),
            _ => Duration::ZERO,
        };
        Pace { ended: self.ended.swap(0, Ordering::Relaxed), held_up }
    }

    /// Hands back what waits for a slot.
    pub(crate) fn release_waiting(&self) {
        let mut state = self.state();
        state.release_waiting();
        self.tell(state);
    }

    /// Hands back everything that has not begun, in a slot or not.
    pub(crate) fn release_unbegun(&self) {
        let mut state = self.state();
        state.release_waiting();
        state.release_held(|delivered| !delivered.may_have_begun());
        self.tell(state);
    }

    /// Hands back everything that runs, and stops its handlers.
    pub(crate) fn release_running(&self) {
        let mut state = self.state();
        state.release_held(|_| true);
        self.tell(state);
    }

    /// Tells a running handler something; a delivery that waits is handed back.
    pub(crate) fn signal(&self, lease: u64, signal: Signal) {
        let mut state = self.state();
        match state.held.get(&lease) {
            Some(Held::Running(delivered)) => delivered.signals.raise(signal),
            Some(Held::Waiting) => {
                let place = state.waiting.iter().position(|waiting| waiting.lease() == lease);
                if let Some(waiting) = place.and_then(|place| state.waiting.remove(place)) {
                    state.hand_back(&waiting.delivered.delivery);
                    self.tell(state);
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
            if let Held::Running(delivered) = held {
                delivered.signals.raise(Signal::DROP);
            }
        }
        state.waiting.clear();
        state.begun.clear();
        state.outbox.clear();
    }

    /// After a resume: the leases that the broker does not know any more are lost. Those that
    /// have ended here stay until their report is answered, as the broker may have taken it
    /// already.
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
                tracing::warn!(
                    lease,
                    "the broker took this lease back while the connection was lost"
                );
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
        let mut state = self.state();
        let State { held, outbox, begun, is_due, is_watched, waiting, .. } = &mut *state;
        *is_due = false;
        for lease in begun.drain(..) {
            if let Some(Held::Running(delivered)) = held.get(&lease) {
                let report = Some(Report::Started(Started {}));
                outbox.push_start(TaskReport { id: delivered.delivery.id.clone(), lease, report });
            }
        }
        let mut batch = outbox.take_batch(items_max, bytes_max, Instant::now());
        // Where something has ended, the next begins.
        *is_watched = !batch.reports.is_empty() && !waiting.is_empty();
        if *is_watched {
            batch.next_in = Some(Self::START_DELAY);
        }
        batch
    }

    /// The broker has the reports of these ends: the leases are no longer held. It knows of these
    /// starts: what waited for that begins.
    pub(crate) fn answered(&self, ended: &[u64], started: &[u64]) {
        let mut state = self.state();
        for lease in ended {
            state.held.remove(lease);
        }
        for lease in started {
            if let Some(Held::Running(delivered)) = state.held.get(lease) {
                delivered.signals.raise(Signal::MAY_BEGIN);
            }
        }
    }

    /// These were not answered and are sent again, except for leases lost in the meantime.
    pub(crate) fn put_back(&self, mut reports: Vec<TaskReport>) {
        let mut state = self.state();
        reports.retain(|report| state.held.contains_key(&report.lease));
        state.outbox.put_back(reports);
        self.tell(state);
    }
}

impl State {
    /// Takes the next delivery for a slot.
    fn begin(&mut self) -> Turn {
        if self.closed {
            return Turn::Closed;
        }
        let Some(Waiting { delivered, payload, content_type }) = self.waiting.pop_front() else {
            return Turn::Idle;
        };
        let (lease, begun_at) = (delivered.delivery.lease, Instant::now());
        self.held.insert(lease, Held::Running(delivered.clone()));
        self.moved_at = Some(begun_at);
        if delivered.delivery.report_start {
            let report = Some(Report::Started(Started {}));
            self.outbox.push_start(TaskReport { id: delivered.delivery.id.clone(), lease, report });
        } else {
            self.begun.push(lease);
        }
        let news = !std::mem::replace(&mut self.is_watched, true);
        Turn::Begun(Job { delivered, payload, content_type, begun_at }, news)
    }

    /// Says that the broker may have this delivery back.
    fn hand_back(&mut self, delivery: &Delivery) {
        self.held.insert(delivery.lease, Held::Ended);
        self.outbox.push(release(delivery, true));
    }

    fn release_waiting(&mut self) {
        for waiting in std::mem::take(&mut self.waiting) {
            self.hand_back(&waiting.delivered.delivery);
        }
    }

    /// Hands back what slots have and `is_meant`. Its handlers stop, or never begin.
    fn release_held(&mut self, is_meant: impl Fn(&Delivered) -> bool) {
        for held in self.held.values_mut() {
            if let Held::Running(delivered) = held
                && is_meant(delivered)
            {
                // A slot that waits for the answer to the start looks at this before it begins.
                delivered.signals.raise(Signal::DROP);
                self.outbox.push(release(&delivered.delivery, !delivered.may_have_begun()));
                *held = Held::Ended;
            }
        }
    }

    fn lose(&mut self, lease: u64) {
        match self.held.remove(&lease) {
            Some(Held::Running(delivered)) => delivered.signals.raise(Signal::DROP),
            Some(Held::Waiting) => self.waiting.retain(|waiting| waiting.lease() != lease),
            Some(Held::Ended) | None => {}
        }
        self.outbox.forget(lease);
    }
}

/// What there is for a slot that looks for work.
enum Turn {
    /// True: the driver has to be told.
    Begun(Job, bool),
    Idle,
    Closed,
}

fn release(delivery: &Delivery, not_begun: bool) -> TaskReport {
    let report = Some(Report::Release(Release { not_begun }));
    TaskReport { id: delivery.id.clone(), lease: delivery.lease, report }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outbox::is_end;

    fn delivery(lease: u64) -> Delivery {
        Delivery { id: "a".to_owned(), lease, ..Delivery::default() }
    }

    fn told(leases: &Leases) -> Vec<(u64, bool)> {
        leases
            .take_batch(10, 1_000)
            .reports
            .iter()
            .map(|report| (report.lease, is_end(report)))
            .collect()
    }

    #[tokio::test]
    async fn of_a_lease_that_is_lost_nothing_is_told_and_its_handler_is_to_stop() {
        let leases = Leases::new();
        leases.deliver(vec![delivery(1), delivery(2)]);
        let lost = leases.next().await.expect("not closed");
        leases.lose(1);
        assert!(lost.delivered.signals.is_raised(Signal::DROP));
        leases.next().await.expect("not closed");
        assert_eq!(told(&leases), [(2, false)]);
    }

    #[tokio::test]
    async fn a_start_is_told_only_of_what_has_not_ended_by_then() {
        let leases = Leases::new();
        leases.deliver(vec![delivery(1), delivery(2)]);
        for lease in 1..=2 {
            leases.next().await.expect("not closed");
            if lease == 1 {
                leases.end("a", 1, Report::Release(Release::default()));
                assert_eq!(told(&leases), [(1, true)]);
            }
        }
        assert_eq!(told(&leases), [(2, false)]);
        leases.end("a", 2, Report::Release(Release::default()));
        leases.due().await;
        assert_eq!(told(&leases), [(2, true)]);
        assert!(told(&leases).is_empty());
    }
}
