//! The reports that wait to be sent, in the order in which things happened to each lease.
//! Sending them, and what the answers mean, is the matter of `driver.rs`.
//!
//! The outbox needs no bound of its own: a lease has at most its start, its newest progress and
//! its end here, and the broker grants no more leases than the credit.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use celeriac_proto::wire::TaskReport;
use celeriac_proto::wire::task_report::Report;
use prost::Message;

/// Progress of one lease is sent no more often than this, however often its handler reports.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(100);

/// What a report may weigh beside its own bytes in a batch.
const ITEM_BYTES: usize = 8;

/// Reports on their way out.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    due: VecDeque<TaskReport>,
    progress: HashMap<u64, Progress>,
}

/// The newest progress of one lease.
#[derive(Debug)]
struct Progress {
    newest: Option<TaskReport>,
    /// When the one before it went out.
    sent_at: Option<Instant>,
}

/// What [`Outbox::take_batch`] found.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    /// To be sent now, in this order.
    pub(crate) reports: Vec<TaskReport>,
    /// How long until there may be more.
    pub(crate) next_in: Option<Duration>,
}

impl Outbox {
    /// A start. Progress of the same run, if there is some already, goes after it.
    pub(crate) fn push_start(&mut self, report: TaskReport) {
        self.due.push_back(report);
    }

    /// An end. What was last said of the lease's progress goes before it.
    pub(crate) fn push(&mut self, report: TaskReport) {
        if !self.progress.is_empty()
            && let Some(progress) = self.progress.remove(&report.lease)
        {
            self.due.extend(progress.newest);
        }
        self.due.push_back(report);
    }

    /// Progress: it takes the place of what was not sent yet.
    pub(crate) fn push_progress(&mut self, report: TaskReport) {
        let progress =
            self.progress.entry(report.lease).or_insert(Progress { newest: None, sent_at: None });
        progress.newest = Some(report);
    }

    /// Puts reports that were not answered back to where they were taken from.
    pub(crate) fn put_back(&mut self, reports: Vec<TaskReport>) {
        for report in reports.into_iter().rev() {
            self.due.push_front(report);
        }
    }

    /// Drops what is here of a lease that is lost.
    pub(crate) fn forget(&mut self, lease: u64) {
        self.due.retain(|report| report.lease != lease);
        self.progress.remove(&lease);
    }

    /// Drops everything: all leases are lost.
    pub(crate) fn clear(&mut self) {
        self.due.clear();
        self.progress.clear();
    }

    /// True when there is nothing to send, now or later.
    pub(crate) fn is_empty(&self) -> bool {
        self.due.is_empty() && self.progress.values().all(|progress| progress.newest.is_none())
    }

    /// Takes the next reports out, up to these bounds; at least one if there is any, whatever it
    /// weighs.
    pub(crate) fn take_batch(&mut self, items_max: usize, bytes_max: usize, now: Instant) -> Batch {
        let mut batch = Batch::default();
        let mut bytes = 0;
        while let Some(report) = self.due.front() {
            bytes += report.encoded_len() + ITEM_BYTES;
            if !batch.reports.is_empty() && (bytes > bytes_max || batch.reports.len() >= items_max)
            {
                return batch;
            }
            batch.reports.extend(self.due.pop_front());
        }
        for progress in self.progress.values_mut() {
            let Some(newest) = &progress.newest else { continue };
            let wait = progress.sent_at.map_or(Duration::ZERO, |sent_at| {
                (sent_at + PROGRESS_INTERVAL).saturating_duration_since(now)
            });
            if !wait.is_zero() {
                batch.next_in = Some(batch.next_in.map_or(wait, |earlier| earlier.min(wait)));
                continue;
            }
            bytes += newest.encoded_len() + ITEM_BYTES;
            if !batch.reports.is_empty() && (bytes > bytes_max || batch.reports.len() >= items_max)
            {
                break;
            }
            progress.sent_at = Some(now);
            batch.reports.extend(progress.newest.take());
        }
        batch
    }
}

/// True for a report after which the worker has nothing more to say of the lease.
pub(crate) fn is_end(report: &TaskReport) -> bool {
    !matches!(report.report, None | Some(Report::Started(_) | Report::Progress(_)))
}

#[cfg(test)]
mod tests {
    use celeriac_proto::wire::task_report::Report;
    use celeriac_proto::wire::{Complete, ProgressReport, Started};

    use super::*;

    fn report(lease: u64, report: Report) -> TaskReport {
        TaskReport { id: format!("task-{lease}"), lease, report: Some(report) }
    }

    fn progress(lease: u64, state: &str) -> TaskReport {
        report(
            lease,
            Report::Progress(ProgressReport { state: state.to_owned(), meta: Default::default() }),
        )
    }

    fn words(batch: &Batch) -> Vec<String> {
        let word = |report: &TaskReport| match &report.report {
            Some(Report::Started(_)) => format!("{} started", report.lease),
            Some(Report::Complete(_)) => format!("{} complete", report.lease),
            Some(Report::Progress(progress)) => format!("{} {}", report.lease, progress.state),
            other => format!("{other:?}"),
        };
        batch.reports.iter().map(word).collect()
    }

    #[test]
    fn a_lease_keeps_the_order_of_its_reports() {
        let mut outbox = Outbox::default();
        outbox.push_start(report(1, Report::Started(Started {})));
        outbox.push_progress(progress(1, "half"));
        outbox.push_progress(progress(1, "nearly"));
        outbox.push_start(report(2, Report::Started(Started {})));
        outbox.push(report(1, Report::Complete(Complete::default())));
        let batch = outbox.take_batch(100, 1_000, Instant::now());
        assert_eq!(words(&batch), ["1 started", "2 started", "1 nearly", "1 complete"]);
        assert!(outbox.is_empty());
    }

    #[test]
    fn progress_is_sent_at_most_once_per_interval_and_then_the_newest() {
        let mut outbox = Outbox::default();
        let start = Instant::now();
        outbox.push_progress(progress(1, "first"));
        assert_eq!(words(&outbox.take_batch(100, 1_000, start)), ["1 first"]);
        for step in 0..10_000 {
            outbox.push_progress(progress(1, &format!("step {step}")));
        }
        let batch = outbox.take_batch(100, 1_000, start);
        assert!(batch.reports.is_empty());
        assert_eq!(batch.next_in, Some(PROGRESS_INTERVAL));
        assert!(!outbox.is_empty());
        assert_eq!(
            words(&outbox.take_batch(100, 1_000, start + PROGRESS_INTERVAL)),
            ["1 step 9999"]
        );
        assert!(outbox.is_empty());
    }

    #[test]
    fn a_batch_is_bounded_by_items_and_by_bytes() {
        let mut outbox = Outbox::default();
        for lease in 1..=3 {
            outbox.push(report(
                lease,
                Report::Complete(Complete { result: vec![0; 100].into(), ..Complete::default() }),
            ));
        }
        assert_eq!(outbox.take_batch(2, 1_000, Instant::now()).reports.len(), 2);
        outbox.push(report(4, Report::Complete(Complete::default())));
        assert_eq!(words(&outbox.take_batch(100, 10, Instant::now())), ["3 complete"]);
        assert_eq!(words(&outbox.take_batch(100, 10, Instant::now())), ["4 complete"]);
    }

    #[test]
    fn unanswered_reports_go_back_in_their_order_and_lost_leases_are_forgotten() {
        let mut outbox = Outbox::default();
        for lease in 1..=4 {
            outbox.push_start(report(lease, Report::Started(Started {})));
        }
        let batch = outbox.take_batch(3, 1_000, Instant::now());
        outbox.put_back(batch.reports);
        outbox.forget(2);
        assert_eq!(
            words(&outbox.take_batch(100, 1_000, Instant::now())),
            ["1 started", "3 started", "4 started"]
        );
    }
}
