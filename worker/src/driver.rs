//! Between the broker and the worker's leases: takes deliveries and signals from the connection,
//! sends reports until they are answered, and brings the worker to its end in good order.
//! It runs on the connection's thread, so that no handler can hold it up. Handlers are the
//! matter of `slot.rs`; what a broken connection does is the matter of the client crate.

use std::sync::Arc;
use std::time::Duration;

use celeriac_client::connection::{Connection, Event, deadline_after};
use celeriac_client::{Error, ErrorCode};
use celeriac_proto::wire::cancel_signal::Kind as SignalKind;
use celeriac_proto::wire::task_report::Report;
use celeriac_proto::wire::{self, CancelSignal, TaskReport, client_frame, order, server_frame};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, interval, sleep_until};

use crate::answers::{Verdict, verdict};
use crate::credit::{Adjustment, CreditKeeper, CreditPlan, PACE_INTERVAL, adjustment};
use crate::leases::Leases;
use crate::outbox::is_end;
use crate::signals::Signal;
use crate::worker::RunError;

/// Batches of reports under way at once. While the broker commits one, the next is on its way;
/// what ends meanwhile makes the third, so that batches grow with the load.
const BATCHES_IN_FLIGHT_MAX: usize = 2;

/// A batch is closed at this weight, well below any frame limit.
const BATCH_BYTES_MAX: usize = 1024 * 1024;

/// How long a batch may stay unanswered before it is sent anew. The connection sends it again
/// on its own after a reconnect.
const REPORT_TIMEOUT: Duration = Duration::from_secs(30);

/// The pause after the broker could not take a report.
const REPORT_PAUSE: Duration = Duration::from_millis(200);

/// How long the last reports may take when the worker ends.
const FLUSH_TIME: Duration = Duration::from_secs(5);

/// How long the last answers may take before Goodbye is said.
const PARTING_TIME: Duration = Duration::from_secs(2);

/// How often the figures of the heartbeat are brought up to date: what a listing shows of a worker
/// is as old as its latest heartbeat, and not much older.
const FIGURES_INTERVAL: Duration = Duration::from_secs(1);

/// How far the worker's end has come, as wanted from outside. It only ever rises.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stage {
    /// Take tasks and run them.
    Work,
    /// Begin nothing more, and give what runs its grace.
    Drain,
    /// Hand everything back now.
    Release,
}

/// How far it has come inside.
#[derive(Debug, Clone, Copy)]
enum Phase {
    Working,
    /// Until all handlers have ended or the grace is over.
    Draining {
        until: Instant,
    },
    /// Until all reports are answered or the time for that is over.
    Flushing {
        until: Instant,
    },
}

pub(crate) struct Driver {
    connection: Connection,
    events: mpsc::Receiver<Event>,
    leases: Arc<Leases>,
    stage: watch::Receiver<Stage>,
    credit: CreditKeeper,
    plan: CreditPlan,
    grace: Duration,
    phase: Phase,
    /// No new deliveries, by order of the broker or because the worker ends.
    quiet: bool,
    sending: JoinSet<(Vec<TaskReport>, Result<server_frame::Body, Error>)>,
    /// When to look for reports again without being told.
    send_at: Option<Instant>,
    /// After a refusal: not sooner than this.
    hold_until: Option<Instant>,
    /// So many reports are sent one by one, because a batch of them was refused as a whole.
    one_by_one: usize,
    /// Tasks of which the broker was told nothing in the end.
    unanswered: usize,
}

impl Driver {
    pub(crate) fn new(
        connection: Connection,
        events: mpsc::Receiver<Event>,
        leases: Arc<Leases>,
        stage: watch::Receiver<Stage>,
        plan: CreditPlan,
        grace: Duration,
    ) -> Self {
        let credit = CreditKeeper::new(connection.clone(), plan.least);
        Self {
            connection,
            events,
            leases,
            stage,
            credit,
            plan,
            grace,
            phase: Phase::Working,
            quiet: false,
            sending: JoinSet::new(),
            send_at: None,
            hold_until: None,
            one_by_one: 0,
            unanswered: 0,
        }
    }

    /// Runs until the worker has ended, which it does in good order or because the broker no
    /// longer lets it in.
    pub(crate) async fn run(mut self) -> Result<(), RunError> {
        let mut figures = interval(FIGURES_INTERVAL);
        let mut pace = interval(PACE_INTERVAL);
        let outcome = loop {
            let may_send = self.sending.len() < BATCHES_IN_FLIGHT_MAX;
            let send_at = self.send_at.unwrap_or_else(Instant::now);
            tokio::select! {
                event = self.events.recv() => match event {
                    Some(event) => self.on_event(event),
                    None => break Err(self.why_ended().await.into()),
                },
                Some(sent) = self.sending.join_next() => {
                    self.on_sent(sent.expect("sending neither panics nor is aborted"));
                }
                () = self.leases.due(), if may_send => self.send(),
                () = self.leases.begun(), if may_send => self.send_within(Leases::START_DELAY),
                () = sleep_until(send_at), if may_send && self.send_at.is_some() => self.send(),
                () = wanted(&mut self.stage, self.phase) => self.on_stage(),
                () = phase_over(self.phase) => self.on_phase_over(),
                _ = pace.tick(), if !self.plan.is_fixed() => self.on_pace(),
                _ = figures.tick() => self.connection.set_heartbeat(self.leases.running(), memory_bytes()),
            }
            if self.is_finished() {
                break match self.unanswered {
                    0 => Ok(()),
                    tasks => Err(RunError::Unanswered { tasks }),
                };
            }
        };
        self.leases.close();
        // This runtime must outlive the socket.
        self.connection.close(PARTING_TIME).await;
        outcome
    }

    fn on_event(&mut self, event: Event) {
        match event {
            Event::Connected { welcome, resumed } => {
                tracing::info!(session = welcome.session_id, resumed, "connected");
                if resumed {
                    self.leases.retain(&welcome.leases);
                } else {
                    self.leases.lose_all();
                    // An order belongs to the session that it was given to.
                    self.resume();
                }
                self.leases.set_result_bytes_max(self.connection.limits().result_bytes_max);
                self.credit.connected();
            }
            Event::Disconnected => {
                tracing::warn!(
                    running = self.leases.running(),
                    "the connection to the broker is lost"
                )
            }
            Event::Push(server_frame::Body::Deliver(deliver)) if self.quiet => {
                self.leases.refuse(deliver.deliveries)
            }
            Event::Push(server_frame::Body::Deliver(deliver)) => {
                self.leases.deliver(deliver.deliveries);
                self.send_within(Leases::START_DELAY);
            }
            Event::Push(server_frame::Body::CancelSignal(signal)) => self.on_signal(&signal),
            Event::Push(server_frame::Body::Order(order)) => self.on_order(order.kind()),
            Event::Push(server_frame::Body::Closing(closing)) => {
                let message = closing.error.map(|error| error.message).unwrap_or_default();
                tracing::info!("the broker closes the connection: {message}");
            }
            // The worker asks for nothing else to be pushed.
            Event::Push(_) => {}
        }
    }

    fn on_signal(&self, signal: &CancelSignal) {
        let kind = signal.kind();
        for &lease in &signal.leases {
            tracing::info!(
                lease,
                reason = signal.reason,
                "signal from the broker: {}",
                kind.as_str_name()
            );
            match kind {
                SignalKind::Cooperative => self.leases.signal(lease, Signal::CANCEL),
                SignalKind::Force => self.leases.signal(lease, Signal::DROP),
                SignalKind::SoftTimeLimit => self.leases.signal(lease, Signal::SOFT_LIMIT),
                SignalKind::TimeLimit | SignalKind::TakenBack => self.leases.lose(lease),
                SignalKind::Unspecified => {}
            }
        }
    }

    fn on_order(&mut self, kind: order::Kind) {
        tracing::info!("order from the broker: {}", kind.as_str_name());
        match (kind, self.phase) {
            (order::Kind::Quiet, Phase::Working) => {
                self.stop_taking();
            }
            (order::Kind::Resume, _) => self.resume(),
            (order::Kind::Shutdown, Phase::Working) => self.drain(),
            _ => {}
        }
    }

    fn on_pace(&mut self) {
        let pace = self.leases.pace();
        if self.quiet {
            return;
        }
        match adjustment(self.plan, pace) {
            Adjustment::Keep => {}
            Adjustment::LookAhead => self.credit.set(self.plan.most),
            Adjustment::HandBack => {
                self.credit.set(self.plan.least);
                self.leases.release_waiting();
            }
        }
    }

    /// New work again, unless the worker ends.
    fn resume(&mut self) {
        if self.quiet && matches!(self.phase, Phase::Working) {
            self.quiet = false;
            self.credit.resume();
        }
    }

    /// No new work, and what has not begun goes back. The credit goes first: otherwise the broker
    /// would hand out again what comes back.
    fn stop_taking(&mut self) {
        self.quiet = true;
        self.credit.stop();
        self.leases.release_unbegun();
    }

    fn drain(&mut self) {
        tracing::info!(running = self.leases.running(), grace = ?self.grace, "shutting down");
        self.stop_taking();
        self.phase = Phase::Draining { until: deadline_after(self.grace) };
    }

    fn release(&mut self) {
        if !self.quiet {
            self.stop_taking();
        }
        let running = self.leases.running();
        if running > 0 {
            tracing::warn!(running, "handing back what still runs");
        }
        self.leases.release_running();
        self.phase = Phase::Flushing { until: deadline_after(FLUSH_TIME) };
    }

    fn on_stage(&mut self) {
        // A worker that nobody holds any more ends at once.
        let wanted =
            if self.stage.has_changed().is_err() { Stage::Release } else { *self.stage.borrow() };
        match (wanted, self.phase) {
            (Stage::Drain, Phase::Working) => self.drain(),
            (Stage::Release, Phase::Working | Phase::Draining { .. }) => self.release(),
            _ => {}
        }
    }

    fn on_phase_over(&mut self) {
        match self.phase {
            Phase::Draining { .. } => self.release(),
            Phase::Flushing { .. } => {
                self.unanswered = self.leases.unanswered();
                tracing::warn!(
                    tasks = self.unanswered,
                    "ended with reports that the broker has not answered"
                );
                self.leases.lose_all();
            }
            Phase::Working => {}
        }
    }

    fn is_finished(&self) -> bool {
        !matches!(self.phase, Phase::Working) && self.leases.is_settled()
    }

    fn send_within(&mut self, span: Duration) {
        let at = deadline_after(span);
        self.send_at = Some(self.send_at.map_or(at, |earlier| earlier.min(at)));
    }

    /// Sends what there is to report, as far as it may be under way at once.
    fn send(&mut self) {
        self.send_at = None;
        if let Some(until) = self.hold_until {
            if Instant::now() < until {
                self.send_at = Some(until);
                return;
            }
            self.hold_until = None;
        }
        let batch_items_max = self.connection.limits().batch_items_max as usize;
        while self.sending.len() < BATCHES_IN_FLIGHT_MAX {
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
            self.sending.spawn(async move {
                let answer = connection.request_shared(&body, REPORT_TIMEOUT).await;
                (reports_of(body), answer)
            });
        }
    }

    fn on_sent(&mut self, (reports, answer): (Vec<TaskReport>, Result<server_frame::Body, Error>)) {
        match answer {
            Ok(server_frame::Body::ReportReply(reply)) if reply.outcomes.len() == reports.len() => {
                let again = self.on_outcomes(reports, &reply.outcomes);
                if !again.is_empty() {
                    self.send_again(again);
                }
            }
            Ok(_) => {
                tracing::error!("the broker answered reports with something else");
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

    /// What the answers mean; those reports come back that have to be sent again.
    fn on_outcomes(
        &self,
        reports: Vec<TaskReport>,
        outcomes: &[wire::ReportOutcome],
    ) -> Vec<TaskReport> {
        let mut ended = Vec::with_capacity(reports.len());
        let (mut started, mut again) = (Vec::new(), Vec::new());
        for (report, outcome) in reports.into_iter().zip(outcomes) {
            match verdict(outcome.code) {
                Verdict::Answered if is_end(&report) => ended.push(report.lease),
                Verdict::Answered if matches!(report.report, Some(Report::Started(_))) => {
                    started.push(report.lease)
                }
                Verdict::Answered => {}
                verdict => again.extend(self.on_trouble(report, outcome.code(), verdict)),
            }
        }
        self.leases.answered(&ended, &started);
        again
    }

    /// A report that does not count; it comes back when it has to be sent again.
    fn on_trouble(
        &self,
        report: TaskReport,
        code: ErrorCode,
        verdict: Verdict,
    ) -> Option<TaskReport> {
        match verdict {
            Verdict::Stale => {
                if self.leases.is_held(report.lease) {
                    tracing::warn!(
                        id = report.id,
                        lease = report.lease,
                        "the lease is lost; the report changed nothing"
                    );
                }
                self.leases.lose(report.lease);
            }
            Verdict::Again => return Some(report),
            Verdict::Answered => {}
            Verdict::Refused => {
                tracing::error!(
                    id = report.id,
                    code = code.as_str_name(),
                    "the broker refused a report"
                );
                self.give_up(report, code);
            }
        }
        None
    }

    /// A whole batch was refused for good: one report in it is to blame, and the others are not.
    fn on_refused(&mut self, mut reports: Vec<TaskReport>, error: &Error) {
        if reports.len() > 1 {
            self.one_by_one += reports.len();
            self.leases.put_back(reports);
        } else if let Some(report) = reports.pop() {
            tracing::error!(id = report.id, "the broker refused a report: {error}");
            let code = if let Error::Refused { code, .. } = error {
                *code
            } else {
                ErrorCode::Unspecified
            };
            self.give_up(report, code);
        }
    }

    /// The task must not stay as running because its end cannot be reported: it is rejected with
    /// the reason. A refused start or progress is only left out.
    fn give_up(&self, report: TaskReport, code: ErrorCode) {
        if !is_end(&report) {
            return self.leases.answered(&[], &[report.lease]);
        }
        match crate::answers::substitute(&report, code) {
            Some(rejection) => self.leases.put_back(vec![rejection]),
            None => self.leases.lose(report.lease),
        }
    }

    fn send_again(&mut self, reports: Vec<TaskReport>) {
        self.hold_until = Some(deadline_after(REPORT_PAUSE));
        self.leases.put_back(reports);
    }

    /// The events ended without being asked to: the connection says why.
    async fn why_ended(&self) -> Error {
        self.leases.lose_all();
        let body = client_frame::Body::Credit(wire::Credit { credit: 0 });
        self.connection.request(body, Duration::from_secs(1)).await.err().unwrap_or(Error::Closed)
    }
}

/// The reports of a request that is over, which the connection has let go of by then.
fn reports_of(body: Arc<client_frame::Body>) -> Vec<TaskReport> {
    match Arc::unwrap_or_clone(body) {
        client_frame::Body::Report(report) => report.reports,
        _ => unreachable!("made by `send`"),
    }
}

/// Until another stage is wanted than the one the worker is in. The last stage is final.
async fn wanted(stage: &mut watch::Receiver<Stage>, phase: Phase) {
    let reached = match phase {
        Phase::Working => Stage::Work,
        Phase::Draining { .. } => Stage::Drain,
        Phase::Flushing { .. } => return std::future::pending().await,
    };
    // An error means that the sender is gone: the worker was dropped.
    let _ = stage.wait_for(|wanted| *wanted > reached).await;
}

async fn phase_over(phase: Phase) {
    match phase {
        Phase::Working => std::future::pending().await,
        Phase::Draining { until } | Phase::Flushing { until } => sleep_until(until).await,
    }
}

/// The memory of this process, where the system tells it; otherwise 0.
fn memory_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let kib = status.lines().find_map(|line| {
        line.strip_prefix("VmRSS:")?.split_whitespace().next()?.parse::<u64>().ok()
    });
    kib.unwrap_or_default() * 1024
}
