//! The reports that wait to be sent, in the order in which they were made for each lease. `driver`
//! sends them and reads the answers.
//!
//! The pending reports need no bound of their own: of each lease there are at most a start, the
//! newest progress and an end, and the broker grants no more leases than the credit.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use celeriac_proto::wire::TaskReport;
use celeriac_proto::wire::task_report::Report;
use prost::Message;

/// The shortest time between two progress reports of one lease, however often its handler reports.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(100);

/// The bytes that a report has in a batch besides its own encoding.
const ITEM_BYTES: usize = 8;

/// The reports that wait to be sent.
#[derive(Debug, Default)]
pub(crate) struct PendingReports {
    /// Starts and ends, and progress that an end follows, in the order in which they are sent.
    due: VecDeque<TaskReport>,
    /// The newest progress of each lease that runs.
    progress: HashMap<u64, Progress>,
}

/// The progress of one lease.
#[derive(Debug)]
struct Progress {
    /// `None` after it was sent.
    newest: Option<TaskReport>,
    /// When the latest progress was sent.
    sent_at: Option<Instant>,
}

/// The result of [`PendingReports::take_batch`].
#[derive(Debug, Default)]
pub(crate) struct Batch {
    /// The reports to send now, in this order.
    pub(crate) reports: Vec<TaskReport>,
    /// How long until there may be more reports.
    pub(crate) next_in: Option<Duration>,
}

impl PendingReports {
    /// Adds a start. Progress of the same run, if there is any, is sent after it.
    pub(crate) fn push_start(&mut self, report: TaskReport) {
        self.due.push_back(report);
    }

    /// Adds an end. The newest progress of the lease is sent before it.
    pub(crate) fn push_end(&mut self, report: TaskReport) {
        // Most tasks report no progress, and need no look into the map.
        if !self.progress.is_empty()
            && let Some(progress) = self.progress.remove(&report.lease)
        {
            self.due.extend(progress.newest);
        }
        self.due.push_back(report);
    }

    /// Adds progress, which replaces progress of the same lease that was not sent yet.
    pub(crate) fn push_progress(&mut self, report: TaskReport) {
        let progress =
            self.progress.entry(report.lease).or_insert(Progress { newest: None, sent_at: None });
        progress.newest = Some(report);
    }

    /// Puts back reports that were not answered, in front of the others.
    pub(crate) fn put_back(&mut self, reports: Vec<TaskReport>) {
        for report in reports.into_iter().rev() {
            self.due.push_front(report);
        }
    }

    /// Drops the reports of a lost lease.
    pub(crate) fn forget(&mut self, lease: u64) {
        self.due.retain(|report| report.lease != lease);
        self.progress.remove(&lease);
    }

    /// Drops all reports, when all leases are lost.
    pub(crate) fn clear(&mut self) {
        self.due.clear();
        self.progress.clear();
    }

    /// True when there is no report to send, now or later.
    pub(crate) fn is_empty(&self) -> bool {
        self.due.is_empty() && self.progress.values().all(|progress| progress.newest.is_none())
    }

    /// Takes the next reports, up to these bounds. Takes one report, if there is any, even when
    /// that one is longer than `bytes_max`.
    pub(crate) fn take_batch(&mut self, items_max: usize, bytes_max: usize, now: Instant) -> Batch {
        let mut batch = Batch::default();
        let mut bytes = 0;
        while let Some(report) = self.due.front() {
            // The bounds apply from the second report on, so that a long report is sent too.
            bytes += report.encoded_len() + ITEM_BYTES;
            if !batch.reports.is_empty() && (bytes > bytes_max || batch.reports.len() >= items_max)
            {
                return batch;
            }
            batch.reports.extend(self.due.pop_front());
        }
        for progress in self.progress.values_mut() {
            let Some(newest) = &progress.newest else { continue };
            // Progress that came too soon after the last report stays until its time.
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

/// True for a report after which the worker reports nothing more of the lease.
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
        let mut reports = PendingReports::default();
        reports.push_start(report(1, Report::Started(Started {})));
        reports.push_progress(progress(1, "half"));
        reports.push_progress(progress(1, "nearly"));
        reports.push_start(report(2, Report::Started(Started {})));
        reports.push_end(report(1, Report::Complete(Complete::default())));
        let batch = reports.take_batch(100, 1_000, Instant::now());
        assert_eq!(words(&batch), ["1 started", "2 started", "1 nearly", "1 complete"]);
        assert!(reports.is_empty());
    }

    #[test]
    fn progress_is_sent_at_most_once_per_interval_and_then_the_newest() {
        let mut reports = PendingReports::default();
        let start = Instant::now();
        reports.push_progress(progress(1, "first"));
        assert_eq!(words(&reports.take_batch(100, 1_000, start)), ["1 first"]);
        for step in 0..10_000 {
            reports.push_progress(progress(1, &format!("step {step}")));
        }
        let batch = reports.take_batch(100, 1_000, start);
        assert!(batch.reports.is_empty());
        assert_eq!(batch.next_in, Some(PROGRESS_INTERVAL));
        assert!(!reports.is_empty());
        assert_eq!(
            words(&reports.take_batch(100, 1_000, start + PROGRESS_INTERVAL)),
            ["1 step 9999"]
        );
        assert!(reports.is_empty());
    }

    #[test]
    fn a_batch_is_bounded_by_items_and_by_bytes() {
        let mut reports = PendingReports::default();
        for lease in 1..=3 {
            reports.push_end(report(
                lease,
                Report::Complete(Complete { result: vec![0; 100].into(), ..Complete::default() }),
            ));
        }
        assert_eq!(reports.take_batch(2, 1_000, Instant::now()).reports.len(), 2);
        reports.push_end(report(4, Report::Complete(Complete::default())));
        assert_eq!(words(&reports.take_batch(100, 10, Instant::now())), ["3 complete"]);
        assert_eq!(words(&reports.take_batch(100, 10, Instant::now())), ["4 complete"]);
    }

    #[test]
    fn unanswered_reports_go_back_in_their_order_and_lost_leases_are_forgotten() {
        let mut reports = PendingReports::default();
        for lease in 1..=4 {
            reports.push_start(report(lease, Report::Started(Started {})));
        }
        let batch = reports.take_batch(3, 1_000, Instant::now());
        reports.put_back(batch.reports);
        reports.forget(2);
        assert_eq!(
            words(&reports.take_batch(100, 1_000, Instant::now())),
            ["1 started", "3 started", "4 started"]
        );
    }
}
