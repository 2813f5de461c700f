//! What became of each task that the worker ran: a line of the log, or a document on stdout.
//!
//! The lines go through queues, and nobody waits for a reader: a task goes on when nobody reads.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use celeriac_worker::{Context, Dropped, Middleware, TaskFailure};
use serde::Serialize;

use super::targets::LOG_TARGET;
use crate::logging::Queue;
use crate::time::{rough, whole_ms};
use celeriac_web::printable::clean_json;

/// Tells the end of every run.
pub(super) struct Endings {
    /// The queue of stdout, for programs. Without it the endings go into the log.
    documents: Option<Arc<Queue>>,
    running: AtomicUsize,
}

/// The end of a run, for programs.
#[derive(Serialize)]
struct Ending<'a> {
    id: &'a str,
    name: &'a str,
    attempt: u32,
    run_ms: u64,
    outcome: Outcome,
    /// None when the broker alone knows.
    runs_again: Option<bool>,
    error: Option<String>,
}

/// What became of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Outcome {
    Succeeded,
    Failed,
    Cancelled,
    HandedBack,
    Lost,
    /// Lost too, for a reason that this worker knows.
    #[serde(rename = "lost")]
    Refused,
}

/// The queue of stdout. A reader that does not keep up gets a line with the number of lines that it
/// missed.
///
/// # Errors
/// The operating system cannot start a thread.
pub(super) fn documents() -> io::Result<Arc<Queue>> {
    Queue::start(rustix::stdio::stdout(), |lost| format!("{{\"lost\":{lost}}}\n").into_bytes())
}

impl Endings {
    pub(super) fn new(documents: Option<Arc<Queue>>) -> Self {
        Self { documents, running: AtomicUsize::new(0) }
    }

    /// How many tasks run now.
    pub(super) fn running(&self) -> usize {
        self.running.load(Ordering::Relaxed)
    }

    fn tell(
        &self,
        context: &Context,
        elapsed: Duration,
        outcome: Outcome,
        failure: Option<&TaskFailure>,
    ) {
        let runs_again = match outcome {
            Outcome::Succeeded | Outcome::Cancelled => Some(false),
            Outcome::Failed => {
                Some(failure.is_some_and(TaskFailure::is_retryable) && !context.is_last_attempt())
            }
            Outcome::HandedBack => Some(true),
            Outcome::Lost | Outcome::Refused => None,
        };
        let ending = Ending {
            id: context.id(),
            name: context.name(),
            attempt: context.attempt(),
            run_ms: whole_ms(elapsed),
            outcome,
            runs_again,
            error: failure.map(TaskFailure::to_string),
        };
        match &self.documents {
            Some(documents) => ending.print(documents),
            None => ending.log(context.attempts_max(), failure),
        }
    }

    /// The end of a run that failed by itself, or because it was told to stop.
    fn failed(&self, context: &Context, failure: &TaskFailure, elapsed: Duration) {
        let outcome = match context.is_cancelled() {
            true => Outcome::Cancelled,
            false => Outcome::Failed,
        };
        self.tell(context, elapsed, outcome, Some(failure));
    }
}

impl Middleware for Endings {
    fn before(&self, _context: &Context) {
        self.running.fetch_add(1, Ordering::Relaxed);
    }

    fn after_success(&self, context: &Context, elapsed: Duration) {
        self.tell(context, elapsed, Outcome::Succeeded, None);
    }

    fn after_failure(&self, context: &Context, failure: &TaskFailure, elapsed: Duration) {
        self.failed(context, failure, elapsed);
    }

    fn after_retry(&self, context: &Context, failure: &TaskFailure, elapsed: Duration) {
        self.failed(context, failure, elapsed);
    }

    fn after_drop(&self, context: &Context, elapsed: Duration) {
        let time_limit =
            TaskFailure::fatal("time_limit", "the task ran longer than its time limit");
        let (outcome, failure) = match context.dropped() {
            Some(Dropped::Cancelled) => (Outcome::Cancelled, None),
            Some(Dropped::HandedBack) => (Outcome::HandedBack, None),
            Some(Dropped::TimeLimit) => (Outcome::Failed, Some(&time_limit)),
            Some(Dropped::Refused) => (Outcome::Refused, None),
            _ => (Outcome::Lost, None),
        };
        self.tell(context, elapsed, outcome, failure);
    }

    fn after(&self, _context: &Context, _elapsed: Duration) {
        self.running.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Ending<'_> {
    fn print(&self, documents: &Queue) {
        // An ending has nothing that JSON cannot hold.
        if let Ok(text) = serde_json::to_string(self) {
            documents.push(format!("{}\n", clean_json(&text)).into_bytes());
        }
    }

    fn log(&self, attempts_max: u32, failure: Option<&TaskFailure>) {
        let Self { id, name, attempt, run_ms, outcome, runs_again, .. } = *self;
        let (after, next) = (rough(run_ms), attempt + 1);
        let why = failure.map(|failure| format!(": {}", failure.message())).unwrap_or_default();
        let sentence = match (outcome, runs_again) {
            (Outcome::Succeeded, _) => format!("succeeded after {after}"),
            (Outcome::Cancelled, _) => format!("cancelled after {after}{why}"),
            (Outcome::HandedBack, _) => format!("handed back after {after}, runs again"),
            (Outcome::Lost, _) => format!(
                "lost after {after}: the broker took the task back, or no longer knows this worker"
            ),
            (Outcome::Refused, _) => format!(
                "lost after {after}: the broker accepts this worker no longer; the task runs again \
                 when the lease time is over"
            ),
            (Outcome::Failed, Some(true)) => {
                format!("failed after {after}, attempt {next} of {attempts_max} follows{why}")
            }
            (Outcome::Failed, _) => format!("failed for good after {after}{why}"),
        };
        let kind = failure.map(TaskFailure::kind);
        match outcome {
            Outcome::Failed | Outcome::Lost | Outcome::Refused => {
                tracing::warn!(target: LOG_TARGET, id, name, attempt, kind, "{sentence}");
            }
            _ => tracing::info!(target: LOG_TARGET, id, name, attempt, "{sentence}"),
        }
    }
}
