//! One of the worker's slots: takes a delivery, runs its handler to one of its ends, reports the
//! end, takes the next. What a handler does wrong ends here: a panic is a failure of its task
//! and of nothing else. Reports are only handed over here; `driver.rs` sends them.

use std::any::Any;
use std::collections::HashMap;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use celeriac_client::Client;
use celeriac_proto::wire::task_report::Report;
use celeriac_proto::wire::{Complete, Release};
use tracing::Instrument;

use crate::context::Context;
use crate::failure::TaskFailure;
use crate::handler::{Handler, Outcome, Run, RunKind};
use crate::leases::{Job, Leases};
use crate::payload::{JSON, Payload};
use crate::signals::{Signal, Signals};

/// The handlers of a worker, by the names of their tasks.
pub(crate) type Handlers = HashMap<String, Arc<dyn Handler>>;

/// One place for a running handler.
#[derive(Clone)]
pub(crate) struct Slot {
    pub(crate) leases: Arc<Leases>,
    pub(crate) handlers: Arc<Handlers>,
    pub(crate) client: Client,
}

/// How a run ended.
enum Ending {
    Outcome(Outcome),
    /// The hard limit was over first.
    TimeLimit,
    /// The handler was dropped: cancelled by force, handed back, or its lease is lost.
    Dropped,
}

impl Slot {
    /// Runs deliveries until the worker ends.
    pub(crate) async fn run(self) {
        while let Some(job) = self.leases.next().await {
            let delivery = &job.delivery;
            let span = tracing::info_span!(
                "task",
                id = delivery.id,
                name = delivery.name,
                shadow = (!delivery.shadow.is_empty()).then_some(delivery.shadow.as_str()),
                attempt = delivery.attempt,
            );
            self.run_job(job).instrument(span).await;
            self.leases.leave();
            // Many short tasks in a row must not keep other tasks of the runtime from running.
            tokio::task::coop::consume_budget().await;
        }
    }

    async fn run_job(&self, job: Job) {
        let Job { mut delivery, signals } = job;
        let id = delivery.id.clone();
        let lease = delivery.lease;
        let Some(handler) = self.handlers.get(&delivery.name) else {
            tracing::warn!("this worker has no handler of that name; handed back");
            self.leases.end(&id, lease, Report::Release(Release {}));
            return;
        };
        let payload = std::mem::take(&mut delivery.payload);
        let content_type = std::mem::take(&mut delivery.content_type);
        let context = Context::new(delivery, signals.clone(), self.leases.clone(), self.client.clone());
        let watch = Watch { limits: Limits::of(&context), signals, ending: End::new(self, &context) };
        self.leases.begin(&id, lease);
        let start = AssertUnwindSafe(|| handler.start(context, Payload::new(&payload, &content_type)));
        match catch_unwind(start) {
            Ok(Ok(Run(RunKind::Future(future)))) => watch.future(future).await,
            Ok(Ok(Run(RunKind::Blocking(run)))) => watch.blocking(run).await,
            Ok(Err(failure)) => watch.ending.report(Ending::Outcome(Err(failure))),
            Err(panic) => watch.ending.report(Ending::Outcome(Err(panic_failure(panic.as_ref())))),
        }
    }
}

/// A run under way, with what may end it before its handler does.
struct Watch<'a> {
    limits: Limits,
    signals: Arc<Signals>,
    ending: End<'a>,
}

impl Watch<'_> {
    async fn future(self, future: Pin<Box<dyn Future<Output = Outcome> + Send>>) {
        let mut run = Guarded(future);
        // Most short handlers are ready at once: no timers and no listeners for them.
        let first = poll_fn(|context| Poll::Ready(Pin::new(&mut run).poll(context))).await;
        let ending = match first {
            Poll::Ready(outcome) => Ending::Outcome(outcome),
            Poll::Pending => tokio::select! {
                biased;
                () = self.signals.raised(Signal::DROP) => Ending::Dropped,
                outcome = &mut run => Ending::Outcome(outcome),
                () = self.limits.over(&self.signals) => Ending::TimeLimit,
            },
        };
        self.ending.report(ending);
        // What a handler drops may panic too.
        if let Err(panic) = catch_unwind(AssertUnwindSafe(move || drop(run))) {
            tracing::error!(message = panic_message(panic.as_ref()), "a handler panicked while it was dropped");
        }
    }

    async fn blocking(self, run: Box<dyn FnOnce() -> Outcome + Send>) {
        let span = tracing::Span::current();
        let mut thread = tokio::task::spawn_blocking(move || span.in_scope(run));
        let ending = tokio::select! {
            biased;
            () = self.signals.raised(Signal::DROP) => Ending::Dropped,
            outcome = &mut thread => Ending::Outcome(match outcome {
                Ok(outcome) => outcome,
                Err(error) => Err(match error.try_into_panic() {
                    Ok(panic) => panic_failure(panic.as_ref()),
                    Err(_) => TaskFailure::new("worker_stopped", "the worker's runtime ended before the handler began"),
                }),
            }),
            () = self.limits.over(&self.signals) => Ending::TimeLimit,
        };
        let left_running = !matches!(ending, Ending::Outcome(_));
        self.ending.report(ending);
        if left_running {
            // A thread cannot be dropped. It is told to stop, and keeps the slot as long as it does not.
            self.signals.raise(Signal::DROP);
            let _ = thread.await;
        }
    }
}

/// The time limits of one run.
struct Limits {
    soft: Option<Duration>,
    hard: Option<Duration>,
}

impl Limits {
    fn of(context: &Context) -> Self {
        let (soft, hard) = context.time_limits();
        // A soft limit that is not the shorter one would never be heard of.
        Self { soft: soft.filter(|soft| hard.is_none_or(|hard| *soft < hard)), hard }
    }

    /// Signals the soft limit and returns when the hard one is over. The broker watches them
    /// too; whoever is first reports it, and the other changes nothing.
    async fn over(&self, signals: &Signals) {
        let began = tokio::time::Instant::now();
        if let Some(soft) = self.soft {
            tokio::time::sleep_until(began + soft).await;
            tracing::warn!("the soft time limit is over");
            signals.raise(Signal::SOFT_LIMIT);
        }
        match self.hard {
            Some(hard) => tokio::time::sleep_until(began + hard).await,
            None => std::future::pending().await,
        }
    }
}

/// What is needed to report the end of a run.
struct End<'a> {
    slot: &'a Slot,
    id: String,
    lease: u64,
    attempt: u32,
    began: Instant,
}

impl<'a> End<'a> {
    fn new(slot: &'a Slot, context: &Context) -> Self {
        let id = context.id().to_owned();
        Self { slot, id, lease: context.lease(), attempt: context.attempt(), began: Instant::now() }
    }

    fn report(&self, ending: Ending) {
        let elapsed_ms = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        let report = match ending {
            Ending::Outcome(Ok(result)) => match self.too_large(result.len() as u64) {
                None => {
                    tracing::info!(elapsed_ms, "succeeded");
                    Report::Complete(Complete { result, content_type: JSON.to_owned() })
                }
                Some(failure) => self.failed(failure, elapsed_ms),
            },
            Ending::Outcome(Err(failure)) => self.failed(failure, elapsed_ms),
            Ending::TimeLimit => {
                self.failed(TaskFailure::fatal("time_limit", "the handler ran longer than its time limit"), elapsed_ms)
            }
            Ending::Dropped => {
                tracing::info!(elapsed_ms, "dropped");
                Report::Release(Release {})
            }
        };
        self.slot.leases.end(&self.id, self.lease, report);
    }

    fn too_large(&self, bytes: u64) -> Option<TaskFailure> {
        let max = self.slot.leases.result_bytes_max();
        (bytes > max).then(|| {
            TaskFailure::fatal("result_too_large", format!("the result has {bytes} bytes, and {max} are allowed"))
        })
    }

    fn failed(&self, failure: TaskFailure, elapsed_ms: u64) -> Report {
        let (kind, retryable) = (failure.kind(), failure.is_retryable());
        tracing::warn!(elapsed_ms, kind, retryable, "failed: {}", failure.message());
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        failure.into_report(self.attempt, i64::try_from(now.as_millis()).unwrap_or(i64::MAX))
    }
}

/// A handler's future whose panics are failures.
struct Guarded(Pin<Box<dyn Future<Output = Outcome> + Send>>);

impl Future for Guarded {
    type Output = Outcome;

    fn poll(mut self: Pin<&mut Self>, context: &mut TaskContext<'_>) -> Poll<Outcome> {
        match catch_unwind(AssertUnwindSafe(|| self.0.as_mut().poll(context))) {
            Ok(poll) => poll,
            Err(panic) => Poll::Ready(Err(panic_failure(panic.as_ref()))),
        }
    }
}

fn panic_failure(panic: &(dyn Any + Send)) -> TaskFailure {
    TaskFailure::new("panic", panic_message(panic))
}

fn panic_message(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<&'static str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("the handler panicked with something that is no text")
}
