//! The leases that this worker holds. The executions, which run handlers, and the driver, which
//! talks to the broker, meet here and nowhere else. `table` has the state; this module adds the
//! lock and wakes those that wait.
//!
//! A lease is held from its delivery until the broker has answered the report of its end. A second
//! delivery of a held lease is a repetition and is ignored. A lease that is not held is lost, and
//! nothing is reported of it.

mod table;

use std::collections::HashSet;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use celeriac_proto::limits::RESULT_BYTES_MAX;
use celeriac_proto::wire::task_report::Report;
use celeriac_proto::wire::{Delivery, TaskReport};
use tokio::sync::Notify;

use crate::delivered::{BegunDelivery, WaitingDelivery};
use crate::pending_reports::Batch;
use crate::signals::Signal;
pub(crate) use table::Answered;
use table::{Held, LeaseTable, NextDelivery, StartNotice};

/// The leases of one worker, shared by its executions and its driver.
#[derive(Debug)]
pub(crate) struct Leases {
    table: Mutex<LeaseTable>,
    /// Wakes an execution: a delivery waits.
    work: Notify,
    /// Wakes the driver: a handler has begun, which the broker may learn a little later.
    begun: Notify,
    /// Wakes the driver: there is a report to send now.
    due: Notify,
    /// The longest result that the broker accepts.
    result_bytes_max: AtomicU64,
    /// How many handlers run. Apart from the table, because each heartbeat reads it.
    running: AtomicU32,
    /// The runs that ended since the last call of [`Leases::pace`].
    ended: AtomicU64,
}

/// How fast the worker works, for the decision how many tasks it should hold.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    /// The runs that ended since the last look.
    pub(crate) ended: u64,
    /// How long the first waiting delivery has waited for an execution.
    pub(crate) held_up: Duration,
}

impl Leases {
    /// How long the report of a start may wait for other reports. Start and end of a task that ends
    /// within this time are reported in one batch.
    pub(crate) const START_DELAY: Duration = Duration::from_millis(1);

    pub(crate) fn new() -> Self {
        Self {
            table: Mutex::default(),
            work: Notify::new(),
            begun: Notify::new(),
            due: Notify::new(),
            result_bytes_max: AtomicU64::new(RESULT_BYTES_MAX as u64),
            running: AtomicU32::new(0),
            ended: AtomicU64::new(0),
        }
    }

    /// Locks the table. No code runs handlers or waits while it holds this lock.
    fn table(&self) -> MutexGuard<'_, LeaseTable> {
        self.table.lock().expect("no code panics while it holds this lock")
    }

    /// The longest result that the broker accepts.
    pub(crate) fn result_bytes_max(&self) -> u64 {
        self.result_bytes_max.load(Ordering::Relaxed)
    }

    /// Sets the longest result that the broker accepts.
    pub(crate) fn set_result_bytes_max(&self, bytes: u64) {
        self.result_bytes_max.store(bytes, Ordering::Relaxed);
    }

    /// The number of handlers that run now.
    pub(crate) fn running(&self) -> u32 {
        self.running.load(Ordering::Relaxed)
    }

    /// True until the lease is lost, or its end is reported and answered.
    pub(crate) fn is_held(&self, lease: u64) -> bool {
        self.table().held.contains_key(&lease)
    }

    /// The number of leases whose end the broker has not answered.
    pub(crate) fn unanswered(&self) -> usize {
        self.table().held.len()
    }

    /// Whether the worker holds no lease, and every report was answered.
    pub(crate) fn is_settled(&self) -> bool {
        let table = self.table();
        table.held.is_empty() && table.reports.is_empty()
    }

    /// Queues deliveries in the broker's order. The driver must take a batch
    /// [`Leases::START_DELAY`] later at the latest.
    pub(crate) fn deliver(&self, deliveries: Vec<Delivery>) {
        // Made before the lock is taken, because the executions need the lock too.
        let arrived: Vec<WaitingDelivery> =
            deliveries.into_iter().map(WaitingDelivery::from).collect();
        let mut table = self.table();
        table.queue(arrived);
        // No more executions than deliveries, and no more than are idle.
        let wanted = table.waiting.len().min(table.idle_executions);
        drop(table);
        // Every execution is woken from here. One that is woken by another execution would wait
        // behind the handler of that one.
        for _ in 0..wanted {
            self.work.notify_one();
        }
    }

    /// Hands back deliveries at once, without queuing them.
    pub(crate) fn refuse(&self, deliveries: Vec<Delivery>) {
        let mut table = self.table();
        for delivery in deliveries {
            if !table.held.contains_key(&delivery.lease) {
                table.hand_back(&delivery);
            }
        }
        self.tell(table);
    }

    /// The next delivery for an execution, whose handler counts as begun from here on. `None` when
    /// the worker ends.
    pub(crate) async fn next(&self) -> Option<BegunDelivery> {
        // Nearly always there is a delivery, and nothing to listen for.
        let next = self.table().begin();
        match next {
            NextDelivery::Begun(begun, notice) => return Some(self.run(begun, notice)),
            NextDelivery::Closed => return None,
            NextDelivery::Idle => {}
        }
        let mut is_idle = false;
        loop {
            let mut work = std::pin::pin!(self.work.notified());
            // Listen before looking, so that a delivery in between is not missed.
            work.as_mut().enable();
            {
                let mut table = self.table();
                if std::mem::take(&mut is_idle) {
                    table.idle_executions -= 1;
                }
                match table.begin() {
                    NextDelivery::Begun(begun, notice) => {
                        drop(table);
                        return Some(self.run(begun, notice));
                    }
                    NextDelivery::Closed => return None,
                    NextDelivery::Idle => table.idle_executions += 1,
                }
                is_idle = true;
            }
            work.await;
        }
    }

    /// Counts a run, and wakes the driver if it would not report the start soon.
    fn run(&self, begun: BegunDelivery, notice: StartNotice) -> BegunDelivery {
        self.running.fetch_add(1, Ordering::Relaxed);
        if begun.delivered.delivery.report_start {
            // The execution waits for the answer.
            self.tell(self.table());
        } else if notice == StartNotice::Needed {
            self.begun.notify_one();
        }
        begun
    }

    /// From now on no execution gets a delivery.
    pub(crate) fn close(&self) {
        self.table().is_closed = true;
        self.work.notify_waiters();
    }

    /// Takes a handler's progress report. Nothing is reported of a lease that is lost or has ended.
    pub(crate) fn progress(&self, report: TaskReport) {
        let mut table = self.table();
        if let Some(Held::Running(_)) = table.held.get(&report.lease) {
            table.reports.push_progress(report);
            self.tell(table);
        }
    }

    /// Takes the report of a run's end, unless the lease was lost or handed back before. The
    /// execution goes on working for the run until [`Leases::leave`].
    pub(crate) fn end(&self, id: &str, lease: u64, report: Report) {
        let mut table = self.table();
        if let Some(held @ Held::Running(_)) = table.held.get_mut(&lease) {
            *held = Held::Reported;
            let report = TaskReport { id: id.to_owned(), lease, report: Some(report) };
            table.reports.push_end(report);
            self.tell(table);
        }
    }

    /// Tells the driver that there is a report to send now, unless it was told before.
    fn tell(&self, mut table: MutexGuard<'_, LeaseTable>) {
        let was_told = std::mem::replace(&mut table.is_due, true);
        drop(table);
        if !was_told {
            self.due.notify_one();
        }
    }

    /// An execution is done with a run.
    pub(crate) fn leave(&self) {
        self.running.fetch_sub(1, Ordering::Relaxed);
        self.ended.fetch_add(1, Ordering::Relaxed);
    }

    /// How fast the worker worked since the last call.
    pub(crate) fn pace(&self) -> Pace {
        let table = self.table();
        let held_up = match table.moved_at {
            Some(moved_at) if !table.waiting.is_empty() => moved_at.elapsed(),
            _ => Duration::ZERO,
        };
        Pace { ended: self.ended.swap(0, Ordering::Relaxed), held_up }
    }

    /// Hands back every delivery that waits for an execution.
    pub(crate) fn release_waiting(&self) {
        let mut table = self.table();
        table.release_waiting();
        self.tell(table);
    }

    /// Hands back every delivery whose handler has not begun, whether an execution has it or not.
    pub(crate) fn release_unbegun(&self) {
        let mut table = self.table();
        table.release_waiting();
        table.release_running(|delivered| !delivered.may_have_begun());
        self.tell(table);
    }

    /// Hands back every delivery that runs, and stops the handlers.
    pub(crate) fn release_running(&self) {
        let mut table = self.table();
        table.release_running(|_| true);
        self.tell(table);
    }

    /// Raises a signal for a running handler. A delivery that waits is handed back instead.
    pub(crate) fn signal(&self, lease: u64, signal: Signal) {
        let mut table = self.table();
        match table.held.get(&lease) {
            Some(Held::Running(delivered)) => delivered.signals.raise(signal),
            Some(Held::Waiting) => {
                let place = table.waiting.iter().position(|waiting| waiting.lease() == lease);
                if let Some(waiting) = place.and_then(|place| table.waiting.remove(place)) {
                    table.hand_back(&waiting.delivered.delivery);
                    self.tell(table);
                }
            }
            Some(Held::Reported) | None => {}
        }
    }

    /// The broker no longer knows this lease: its handler is dropped, and nothing is reported of
    /// it.
    pub(crate) fn lose(&self, lease: u64) {
        self.lose_by(lease, Signal::LOST);
    }

    /// As [`Leases::lose`], for the reason that this signal names.
    pub(crate) fn lose_by(&self, lease: u64, reason: Signal) {
        self.table().lose(lease, reason);
    }

    /// The session is lost, and all of its leases with it.
    pub(crate) fn lose_all(&self) {
        self.lose_all_by(Signal::LOST);
    }

    /// As [`Leases::lose_all`], for the reason that this signal names.
    pub(crate) fn lose_all_by(&self, reason: Signal) {
        self.table().lose_all(reason);
    }

    /// After a resume: the leases that the broker no longer knows are lost. A lease that has ended
    /// here stays until its report is answered, because the broker may already have that report.
    pub(crate) fn retain(&self, known: &[u64]) {
        let known: HashSet<u64> = known.iter().copied().collect();
        let mut table = self.table();
        let lost: Vec<u64> = table
            .held
            .iter()
            .filter(|(lease, held)| !known.contains(lease) && !matches!(held, Held::Reported))
            .map(|(lease, _)| *lease)
            .collect();
        for lease in lost {
            tracing::warn!(lease, "the broker took this lease back while the connection was lost");
            table.lose(lease, Signal::LOST);
        }
    }

    /// Returns when there is a report to send now.
    pub(crate) async fn due(&self) {
        self.due.notified().await;
    }

    /// Returns when a handler has begun. The broker may learn this [`Leases::START_DELAY`] later.
    pub(crate) async fn begun(&self) {
        self.begun.notified().await;
    }

    /// Takes the next reports to send.
    pub(crate) fn take_batch(&self, items_max: usize, bytes_max: usize) -> Batch {
        self.table().take_batch(items_max, bytes_max)
    }

    /// Takes the broker's answers to reports.
    pub(crate) fn answered(&self, answered: &Answered) {
        self.table().answered(answered);
    }

    /// Puts back reports that were not answered. They are sent again, except for leases that were
    /// lost in the meantime.
    pub(crate) fn put_back(&self, mut reports: Vec<TaskReport>) {
        let mut table = self.table();
        reports.retain(|report| table.held.contains_key(&report.lease));
        table.reports.put_back(reports);
        self.tell(table);
    }
}

#[cfg(test)]
mod tests {
    use celeriac_proto::wire::Release;

    use super::*;
    use crate::pending_reports::is_end;

    fn delivery(lease: u64) -> Delivery {
        Delivery { id: "a".to_owned(), lease, ..Delivery::default() }
    }

    fn reported(leases: &Leases) -> Vec<(u64, bool)> {
        leases
            .take_batch(10, 1_000)
            .reports
            .iter()
            .map(|report| (report.lease, is_end(report)))
            .collect()
    }

    #[tokio::test]
    async fn nothing_is_reported_of_a_lost_lease_and_its_handler_is_told_to_stop() {
        let leases = Leases::new();
        leases.deliver(vec![delivery(1), delivery(2)]);
        let lost = leases.next().await.expect("the leases are not closed");
        leases.lose(1);
        assert!(lost.delivered.signals.is_raised(Signal::DROP));
        leases.next().await.expect("the leases are not closed");
        assert_eq!(reported(&leases), [(2, false)]);
    }

    #[tokio::test]
    async fn a_start_is_reported_only_of_a_run_that_has_not_ended_by_then() {
        let leases = Leases::new();
        leases.deliver(vec![delivery(1), delivery(2)]);
        for lease in 1..=2 {
            leases.next().await.expect("the leases are not closed");
            if lease == 1 {
                leases.end("a", 1, Report::Release(Release::default()));
                assert_eq!(reported(&leases), [(1, true)]);
            }
        }
        assert_eq!(reported(&leases), [(2, false)]);
        leases.end("a", 2, Report::Release(Release::default()));
        leases.due().await;
        assert_eq!(reported(&leases), [(2, true)]);
        assert!(reported(&leases).is_empty());
    }
}
