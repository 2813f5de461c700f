//! Sends the worker's reports in batches, and sends each of them again until the broker has
//! answered it. `leases` makes the batches; `answers` says what an answer means.

use std::sync::Arc;
use std::time::Duration;

use celeriac_client::connection::{Connection, deadline_after};
use celeriac_client::{Error, ErrorCode};
use celeriac_proto::code_name;
use celeriac_proto::wire::task_report::Report;
use celeriac_proto::wire::{self, TaskReport, client_frame, server_frame};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::answers::{Verdict, substitute, verdict};
use crate::leases::{Answered, Leases};
use crate::pending_reports::is_end;

/// The most batches that are sent and unanswered. While the broker commits one batch, the second is
/// on its way. The reports that are made meanwhile form the third, so that batches grow with the
/// load.
const BATCHES_IN_FLIGHT_MAX: usize = 2;

/// The most bytes of a batch, well below any frame limit.
const BATCH_BYTES_MAX: usize = 1024 * 1024;

/// How long a batch may stay unanswered before the worker sends it again. After a reconnect the
/// connection itself sends it again.
const REPORT_TIMEOUT: Duration = Duration::from_secs(30);

/// The pause after the broker could not take a report.
const REPORT_PAUSE: Duration = Duration::from_millis(200);

/// Sends the reports of one worker, in order for each lease.
pub(crate) struct ReportSender {
    /// The connection to the broker.
    connection: Connection,
    /// Where the reports come from, and where those go back that are sent again.
    leases: Arc<Leases>,
    /// The batches without an answer.
    sent: JoinSet<SentBatch>,
    /// When to look for reports without being woken.
    send_at: Option<Instant>,
    /// After a refusal: the moment before which nothing is sent.
    hold_until: Option<Instant>,
    /// The number of reports that are sent one by one, because a batch of them was refused as a
    /// whole.
    one_by_one: usize,
}

/// A batch of reports and its answer.
pub(crate) struct SentBatch {
    /// The reports of the batch.
    reports: Vec<TaskReport>,
    /// The answer of the broker, or why there is none.
    answer: Result<server_frame::Body, Error>,
}

impl ReportSender {
    /// A sender that has sent nothing yet.
    pub(crate) fn new(connection: Connection, leases: Arc<Leases>) -> Self {
        Self {
            connection,
            leases,
            sent: JoinSet::new(),
            send_at: None,
            hold_until: None,
            one_by_one: 0,
        }
    }

    /// Whether a further batch may be sent now.
    pub(crate) fn may_send(&self) -> bool {
        self.sent.len() < BATCHES_IN_FLIGHT_MAX
    }

    /// When to call [`ReportSender::send`] at the latest.
    pub(crate) fn send_at(&self) -> Option<Instant> {
        self.send_at
    }

    /// Has [`ReportSender::send`] called within this time.
    pub(crate) fn send_within(&mut self, span: Duration) {
        let at = deadline_after(span);
        self.send_at = Some(self.send_at.map_or(at, |earlier| earlier.min(at)));
    }

    /// Sends the reports that are due, in as many batches as may be unanswered at once.
    pub(crate) fn send(&mut self) {
        self.send_at = None;
        if let Some(until) = self.hold_until {
            if Instant::now() < until {
                self.send_at = Some(until);
                return;
            }
            self.hold_until = None;
        }
        let batch_items_max = self.connection.limits().batch_items_max as usize;
        while self.may_send() {
            // After a refused batch each report has a batch of its own, until the refused one is
            // found.
            let items_max = if self.one_by_one > 0 { 1 } else { batch_items_max };
            let batch = self.leases.take_batch(items_max, BATCH_BYTES_MAX);
            if let Some(wait) = batch.next_in {
                self.send_within(wait);
            }
            if batch.reports.is_empty() {
                return;
            }
            self.one_by_one = self.one_by_one.saturating_sub(1);
            let connection = self.connection.clone();
            let body =
                Arc::new(client_frame::Body::Report(wire::Report { reports: batch.reports }));
            self.sent.spawn(async move {
                let answer = connection.request_shared(&body, REPORT_TIMEOUT).await;
                SentBatch { reports: reports_of(body), answer }
            });
        }
    }

    /// The next batch that was answered; `None` when none is unanswered.
    pub(crate) async fn answered(&mut self) -> Option<SentBatch> {
        let sent = self.sent.join_next().await?;
        Some(sent.expect("sending neither panics nor is aborted"))
    }

    /// Takes the answer to a batch.
    pub(crate) fn on_answer(&mut self, SentBatch { reports, answer }: SentBatch) {
        match answer {
            Ok(server_frame::Body::ReportReply(reply)) if reply.outcomes.len() == reports.len() => {
                let again = self.on_outcomes(reports, &reply.outcomes);
                if !again.is_empty() {
                    self.send_again(again);
                }
            }
            Ok(_) => {
                tracing::error!(
                    "the broker's answer to reports does not fit them; they are sent again"
                );
                self.send_again(reports);
            }
            Err(error @ Error::Refused { retryable: false, .. }) => {
                self.on_refused(reports, &error)
            }
            Err(error) => {
                tracing::debug!(reports = reports.len(), "reports are sent again: {error}");
                self.send_again(reports);
            }
        }
        self.send();
    }

    /// Takes one outcome for each report, and returns the reports that have to be sent again.
    fn on_outcomes(
        &self,
        reports: Vec<TaskReport>,
        outcomes: &[wire::ReportOutcome],
    ) -> Vec<TaskReport> {
        let mut answered =
            Answered { ended: Vec::with_capacity(reports.len()), started: Vec::new() };
        let mut again = Vec::new();
        for (report, outcome) in reports.into_iter().zip(outcomes) {
            match verdict(outcome.code) {
                Verdict::Answered if is_end(&report) => answered.ended.push(report.lease),
                Verdict::Answered if matches!(report.report, Some(Report::Started(_))) => {
                    answered.started.push(report.lease)
                }
                Verdict::Answered => {}
                Verdict::Again => again.push(report),
                Verdict::Stale => self.on_stale(&report),
                Verdict::Refused => {
                    let code = outcome.code();
                    tracing::error!(
                        id = report.id,
                        code = code_name(code),
                        "the broker refused a report"
                    );
                    self.give_up(report, code);
                }
            }
        }
        self.leases.answered(&answered);
        again
    }

    /// The lease of a report is lost: the report had no effect.
    fn on_stale(&self, report: &TaskReport) {
        // A task that the worker handed back needs no further word: it no longer was this worker's.
        let is_release = matches!(report.report, Some(Report::Release(_)));
        if self.leases.is_held(report.lease) && !is_release {
            tracing::warn!(
                id = report.id,
                lease = report.lease,
                "the lease is lost; the report changed nothing"
            );
        }
        self.leases.lose(report.lease);
    }

    /// The broker refused a whole batch for good. One of its reports is the reason; the reports are
    /// then sent one by one, so that the others are not lost with it.
    fn on_refused(&mut self, mut reports: Vec<TaskReport>, error: &Error) {
        if reports.len() > 1 {
            self.one_by_one += reports.len();
            self.leases.put_back(reports);
        } else if let Some(report) = reports.pop() {
            tracing::error!(id = report.id, "the broker refused a report: {error}");
            let code = match error {
                Error::Refused { code, .. } => *code,
                _ => ErrorCode::Unspecified,
            };
            self.give_up(report, code);
        }
    }

    /// Handles a report that the broker refused for good. In place of an end, the task is rejected
    /// with the reason: otherwise it would run for ever in the broker's view. A refused start or
    /// progress is left out.
    fn give_up(&self, report: TaskReport, code: ErrorCode) {
        if !is_end(&report) {
            let answered = Answered { ended: Vec::new(), started: vec![report.lease] };
            return self.leases.answered(&answered);
        }
        match substitute(&report, code) {
            Some(rejection) => self.leases.put_back(vec![rejection]),
            None => self.leases.lose(report.lease),
        }
    }

    /// Puts reports back. They are sent again after [`REPORT_PAUSE`].
    fn send_again(&mut self, reports: Vec<TaskReport>) {
        self.hold_until = Some(deadline_after(REPORT_PAUSE));
        self.leases.put_back(reports);
    }
}

/// Takes the reports out of a request that is over. The connection no longer holds the body then.
fn reports_of(body: Arc<client_frame::Body>) -> Vec<TaskReport> {
    match Arc::unwrap_or_clone(body) {
        client_frame::Body::Report(report) => report.reports,
        _ => unreachable!("made by `send`"),
    }
}
