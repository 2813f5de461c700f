//! Connects the broker with the worker's leases: takes deliveries and signals from the connection,
//! has reports sent until they are answered, and shuts the worker down in order. The driver runs on
//! the connection's thread, so that no handler can delay it. `execution` runs the handlers,
//! `report_sender` sends the reports, and the client crate opens a broken connection again.

use std::sync::Arc;
use std::time::Duration;

use celeriac_client::Error;
use celeriac_client::connection::{Connection, Event, deadline_after};
use celeriac_proto::wire::cancel_signal::Kind as SignalKind;
use celeriac_proto::wire::{self, CancelSignal, client_frame, order, server_frame};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, interval, sleep_until};

use crate::credit::{Adjustment, CreditKeeper, CreditPlan, PACE_INTERVAL, adjustment};
use crate::leases::Leases;
use crate::report_sender::ReportSender;
use crate::signals::Signal;
use crate::worker::RunError;

/// How long the worker waits at its end for the answers to the last reports.
const FLUSH_TIME: Duration = Duration::from_secs(5);

/// How long the worker waits at its end for other answers, before it sends Goodbye.
const CLOSE_TIME: Duration = Duration::from_secs(2);

/// How often the figures of the heartbeat are updated. A listing shows the figures of the latest
/// heartbeat, which are then not much older than the heartbeat itself.
const FIGURES_INTERVAL: Duration = Duration::from_secs(1);

/// The shutdown that was requested from outside. The request only ever rises.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Shutdown {
    /// Take tasks and run them.
    NotRequested,
    /// Begin no further task, and give running handlers the grace.
    Graceful,
    /// Hand back all tasks now.
    Immediate,
}

/// What the worker does: its progress towards the requested shutdown.
#[derive(Debug, Clone, Copy)]
enum Phase {
    /// Takes deliveries and runs them.
    Working,
    /// Waits until all handlers have ended or the grace is over.
    Draining { until: Instant },
    /// Waits until all reports are answered or the time for that is over.
    Flushing { until: Instant },
}

/// The broker's side of one worker.
pub(crate) struct Driver {
    /// The connection, which is opened again whenever it breaks.
    connection: Connection,
    /// What the connection reports and the broker pushes.
    events: mpsc::Receiver<Event>,
    /// The leases, which the executions share.
    leases: Arc<Leases>,
    /// Sends the reports of the leases.
    reports: ReportSender,
    /// The requested shutdown.
    shutdown: watch::Receiver<Shutdown>,
    /// Tells the broker how many leases the worker wants.
    credit: CreditKeeper,
    /// The bounds of the credit.
    plan: CreditPlan,
    /// How long running handlers have when the worker shuts down.
    grace: Duration,
    /// What the worker does now.
    phase: Phase,
    /// Whether the worker takes no deliveries: the broker ordered so, or the worker shuts down.
    is_quiet: bool,
    /// The number of tasks whose last report the broker has not answered. Set at the end.
    unanswered: usize,
}

impl Driver {
    pub(crate) fn new(
        connection: Connection,
        events: mpsc::Receiver<Event>,
        leases: Arc<Leases>,
        shutdown: watch::Receiver<Shutdown>,
        plan: CreditPlan,
        grace: Duration,
    ) -> Self {
        let credit = CreditKeeper::new(connection.clone(), plan.least);
        let reports = ReportSender::new(connection.clone(), leases.clone());
        Self {
            connection,
            events,
            leases,
            reports,
            shutdown,
            credit,
            plan,
            grace,
            phase: Phase::Working,
            is_quiet: false,
            unanswered: 0,
        }
    }

    /// Runs until the worker has shut down, or the broker no longer accepts it.
    pub(crate) async fn run(mut self) -> Result<(), RunError> {
        let mut figures = interval(FIGURES_INTERVAL);
        let mut pace = interval(PACE_INTERVAL);
        let outcome = loop {
            // While two batches are unanswered, further reports wait: the next batch is then
            // longer.
            let may_send = self.reports.may_send();
            let send_at = self.reports.send_at();
            tokio::select! {
                event = self.events.recv() => match event {
                    Some(event) => self.on_event(event),
                    None => break Err(self.why_ended().await.into()),
                },
                Some(sent) = self.reports.answered() => self.reports.on_answer(sent),
                () = self.leases.due(), if may_send => self.reports.send(),
                () = self.leases.begun(), if may_send => {
                    self.reports.send_within(Leases::START_DELAY)
                }
                () = reached(send_at), if may_send => self.reports.send(),
                () = requested(&mut self.shutdown, self.phase) => self.on_shutdown_request(),
                () = phase_over(self.phase) => self.on_phase_over(),
                _ = pace.tick(), if !self.plan.is_fixed() => self.on_pace(),
                _ = figures.tick() => {
                    self.connection.set_heartbeat(self.leases.running(), memory_bytes())
                }
            }
            if self.is_finished() {
                break match self.unanswered {
                    0 => Ok(()),
                    tasks => Err(RunError::Unanswered { tasks }),
                };
            }
        };
        // The executions get nothing more, and end.
        self.leases.close();
        // The runtime of this function must live longer than the socket.
        self.connection.close(CLOSE_TIME).await;
        outcome
    }

    /// Handles an event of the connection.
    fn on_event(&mut self, event: Event) {
        match event {
            Event::Connected { welcome, resumed } => {
                tracing::info!(session = welcome.session_id, resumed, "connected");
                if resumed {
                    self.leases.retain(&welcome.leases);
                } else {
                    self.leases.lose_all();
                    // An order applies only to the session that got it.
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
            Event::Push(server_frame::Body::Deliver(deliver)) if self.is_quiet => {
                self.leases.refuse(deliver.deliveries)
            }
            Event::Push(server_frame::Body::Deliver(deliver)) => {
                self.leases.deliver(deliver.deliveries);
                self.reports.send_within(Leases::START_DELAY);
            }
            Event::Push(server_frame::Body::CancelSignal(signal)) => self.on_signal(&signal),
            Event::Push(server_frame::Body::Order(order)) => self.on_order(order.kind()),
            Event::Push(server_frame::Body::Closing(closing)) => {
                let message = closing.error.map(|error| error.message).unwrap_or_default();
                tracing::info!("the broker closes the connection: {message}");
            }
            // The worker subscribes to nothing else.
            Event::Push(_) => {}
        }
    }

    /// Passes a signal of the broker to the handlers of its leases. After a time limit or a take-
    /// back the broker has already ended the lease, so nothing is reported of it.
    fn on_signal(&self, signal: &CancelSignal) {
        let kind = signal.kind();
        for &lease in &signal.leases {
            tracing::debug!(lease, reason = signal.reason, "the broker {}", signal_in_words(kind));
            match kind {
                SignalKind::Cooperative => self.leases.signal(lease, Signal::CANCEL),
                SignalKind::Force => self.leases.signal(lease, Signal::DROP),
                SignalKind::SoftTimeLimit => self.leases.signal(lease, Signal::SOFT_LIMIT),
                SignalKind::TimeLimit => self.leases.lose_by(lease, Signal::TIME_LIMIT),
                SignalKind::TakenBack => self.leases.lose(lease),
                SignalKind::Unspecified => {}
            }
        }
    }

    /// Carries out an order that an operator gave.
    fn on_order(&mut self, kind: order::Kind) {
        // The broker repeats the last order after each lost connection.
        let is_known = match kind {
            order::Kind::Quiet => self.is_quiet,
            order::Kind::Resume => !self.is_quiet,
            order::Kind::Shutdown | order::Kind::Unspecified => false,
        };
        if !is_known {
            tracing::info!("{}", order_in_words(kind));
        }
        match (kind, self.phase) {
            (order::Kind::Quiet, Phase::Working) => self.stop_taking(),
            (order::Kind::Resume, _) => self.resume(),
            (order::Kind::Shutdown, Phase::Working) => self.drain(),
            _ => {}
        }
    }

    /// Sets the credit that fits the pace of the last interval.
    fn on_pace(&mut self) {
        let pace = self.leases.pace();
        if self.is_quiet {
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

    /// Takes deliveries again, unless the worker shuts down.
    fn resume(&mut self) {
        if self.is_quiet && matches!(self.phase, Phase::Working) {
            self.is_quiet = false;
            self.credit.resume();
        }
    }

    /// Takes no further deliveries, and hands back those whose handler has not begun. The credit is
    /// withdrawn first: otherwise the broker would deliver here again what comes back.
    fn stop_taking(&mut self) {
        self.is_quiet = true;
        self.credit.stop();
        self.leases.release_unbegun();
    }

    /// Begins a graceful shutdown.
    fn drain(&mut self) {
        let running = self.leases.running();
        tracing::info!(running, grace_ms = self.grace.as_millis() as u64, "the worker shuts down");
        self.stop_taking();
        self.phase = Phase::Draining { until: deadline_after(self.grace) };
    }

    /// Ends all handlers now, and begins to wait for the last answers.
    fn release(&mut self) {
        if !self.is_quiet {
            self.stop_taking();
        }
        let running = self.leases.running();
        if running > 0 {
            tracing::warn!(running, "the worker hands back the tasks that still run");
        }
        self.leases.release_running();
        self.phase = Phase::Flushing { until: deadline_after(FLUSH_TIME) };
    }

    /// Carries out a request for a shutdown from outside.
    fn on_shutdown_request(&mut self) {
        // The sender is gone when the worker was dropped. Such a worker shuts down at once.
        let requested = match self.shutdown.has_changed() {
            Ok(_) => *self.shutdown.borrow(),
            Err(_) => Shutdown::Immediate,
        };
        match (requested, self.phase) {
            (Shutdown::Graceful, Phase::Working) => self.drain(),
            (Shutdown::Immediate, Phase::Working | Phase::Draining { .. }) => self.release(),
            _ => {}
        }
    }

    /// The time of a phase is over.
    fn on_phase_over(&mut self) {
        match self.phase {
            Phase::Draining { .. } => self.release(),
            Phase::Flushing { .. } => {
                self.unanswered = self.leases.unanswered();
                tracing::warn!(
                    tasks = self.unanswered,
                    "the worker ended before the broker answered all reports"
                );
                self.leases.lose_all();
            }
            Phase::Working => {}
        }
    }

    /// Whether the worker may end: it shuts down, and the broker has answered everything.
    fn is_finished(&self) -> bool {
        !matches!(self.phase, Phase::Working) && self.leases.is_settled()
    }

    /// The connection ended without this worker closing it: asks it why.
    async fn why_ended(&self) -> Error {
        self.leases.lose_all_by(Signal::REFUSED);
        // Any request has the reason as its error. This one changes nothing.
        let body = client_frame::Body::Credit(wire::Credit { credit: 0 });
        self.connection.request(body, Duration::from_secs(1)).await.err().unwrap_or(Error::Closed)
    }
}

/// Returns when the requested shutdown goes beyond what the worker does. The last phase is final.
async fn requested(shutdown: &mut watch::Receiver<Shutdown>, phase: Phase) {
    let reached = match phase {
        Phase::Working => Shutdown::NotRequested,
        Phase::Draining { .. } => Shutdown::Graceful,
        Phase::Flushing { .. } => return std::future::pending().await,
    };
    // An error means that the sender is gone: the worker was dropped.
    let _ = shutdown.wait_for(|requested| *requested > reached).await;
}

/// Returns at this moment; never without one.
async fn reached(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

/// Returns when the time of the phase is over; the first phase has no end.
async fn phase_over(phase: Phase) {
    match phase {
        Phase::Working => std::future::pending().await,
        Phase::Draining { until } | Phase::Flushing { until } => sleep_until(until).await,
    }
}

/// A signal of the broker, in the words of a log.
fn signal_in_words(kind: SignalKind) -> &'static str {
    match kind {
        SignalKind::Cooperative => "asks the task of this lease to stop",
        SignalKind::Force => "cancels the task of this lease",
        SignalKind::SoftTimeLimit => "says that the soft time limit of this lease is over",
        SignalKind::TimeLimit => "has ended this lease: its time limit is over",
        SignalKind::TakenBack => "has taken this lease back",
        SignalKind::Unspecified => "sends a signal that this worker does not know",
    }
}

/// An order of an operator, in the words of a log.
fn order_in_words(kind: order::Kind) -> &'static str {
    match kind {
        order::Kind::Quiet => "an operator has told this worker to take no new tasks",
        order::Kind::Resume => "an operator has told this worker to take tasks again",
        order::Kind::Shutdown => "an operator has told this worker to shut down",
        order::Kind::Unspecified => "an operator gave an order that this worker does not know",
    }
}

/// The memory of this process in bytes; 0 where the system does not tell it.
fn memory_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let kib = status.lines().find_map(|line| {
        line.strip_prefix("VmRSS:")?.split_whitespace().next()?.parse::<u64>().ok()
    });
    kib.unwrap_or_default() * 1024
}
