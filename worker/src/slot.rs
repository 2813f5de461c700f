//! One of the worker's slots: takes a delivery, runs its handler to one of its ends, reports the
//! end, takes the next. What a handler does wrong ends here: a panic is a failure of its task
//! and of nothing else. Reports are only handed over here; `driver.rs` sends them.

use std::collections::HashMap;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::{Bytes, BytesMut};
use celeriac_client::connection::deadline_after;
use celeriac_proto::wire::task_report::Report;
use celeriac_proto::wire::{Complete, Release};
use tracing::Instrument;

use crate::blocking::{Blocking, Occupied, begin};
use crate::context::{Context, WorkerSide};
use crate::delivered::Job;
use crate::failure::TaskFailure;
use crate::handler::{Handler, Outcome, Run, RunKind};
use crate::middleware::{Chain, Wrapped};
use crate::panics::fenced;
use crate::payload::{JSON, Payload};
use crate::signals::{Signal, Signals};

/// The handlers of a worker, by the names of their tasks.
pub(crate) type Handlers = HashMap<String, Arc<dyn Handler>>;

/// One place for a running handler.
#[derive(Clone)]
pub(crate) struct Slot {
    pub(crate) worker: Arc<WorkerSide>,
    pub(crate) handlers: Arc<Handlers>,
    pub(crate) middleware: Arc<Chain>,
}

const RELEASE: Report = Report::Release(Release { not_begun: false });
const NOT_BEGUN: Report = Report::Release(Release { not_begun: true });

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
        while let Some(job) = self.worker.leases.next().await {
            self.run_fenced(job).await;
            // Many short tasks in a row must not keep other tasks of the runtime from running.
            tokio::task::coop::consume_budget().await;
        }
    }

    /// Runs one delivery to its end, which is reported by then, whatever happens on the way: much
    /// of it is the code of others, and a slot that is lost is never made anew.
    pub(crate) async fn run_fenced(&self, job: Job) {
        let delivered = job.delivered.clone();
        let mut run = std::pin::pin!(self.run_job(job));
        let ended = poll_fn(|context| match fenced(|| run.as_mut().poll(context)) {
            Ok(poll) => poll.map(Ok),
            Err(failure) => Poll::Ready(Err(failure)),
        });
        if let Err(failure) = ended.await {
            tracing::error!(
                id = delivered.delivery.id,
                message = failure.message(),
                "a run panicked outside its handler"
            );
            let report = failure.into_report(delivered.delivery.attempt, now_ms());
            self.worker.leases.end(&delivered.delivery.id, delivered.delivery.lease, report);
        }
        self.worker.leases.leave();
    }

    async fn run_job(&self, job: Job) {
        let delivery = &job.delivered.delivery;
        let span = tracing::info_span!(
            "task",
            id = delivery.id,
            name = delivery.name,
            shadow = (!delivery.shadow.is_empty()).then_some(delivery.shadow.as_str()),
            attempt = delivery.attempt,
        );
        self.run_handler(job).instrument(span).await;
    }

    async fn run_handler(&self, job: Job) {
        let Job { delivered, payload, content_type, mut begun_at } = job;
        let delivery = &delivered.delivery;
        let Some(handler) = self.handlers.get(&delivery.name) else {
            tracing::warn!("this worker has no handler of that name; handed back");
            self.worker.leases.end(&delivery.id, delivery.lease, NOT_BEGUN);
            return;
        };
        if delivery.report_start {
            // Should the worker be lost from here on, the broker knows that the task had begun.
            delivered.signals.raised(Signal::MAY_BEGIN_OR_DROP).await;
            begun_at = Instant::now();
        }
        if delivered.signals.is_raised(Signal::DROP) {
            tracing::debug!("taken back before it began");
            self.worker.leases.end(&delivery.id, delivery.lease, NOT_BEGUN);
            return;
        }
        let context = Context::new(delivered, self.worker.clone());
        let ending = End { slot: self, context: context.clone(), begun_at };
        let watch = Watch { limits: Limits::of(&context), ending };
        self.middleware.call(|middleware| middleware.before(&context));
        let started = fenced(|| handler.start(context, Payload::new(&payload, &content_type)))
            .and_then(|run| run);
        // Read by now, and it may be large.
        drop(payload);
        match started.and_then(|run| self.middleware.around(&watch.ending.context, run)) {
            Ok(Wrapped { run: Run(RunKind::Blocking(run)), inside }) => {
                watch.blocking(run, inside).await
            }
            Ok(Wrapped { run: Run(RunKind::Future(future)), inside }) => {
                watch.future(future, inside).await
            }
            Err(failure) => watch.ending.report(Ending::Outcome(Err(failure))),
        }
    }
}

/// A run under way, with what may end it before its handler does.
struct Watch<'a> {
    limits: Limits,
    ending: End<'a>,
}

impl Watch<'_> {
    fn signals(&self) -> &Signals {
        self.ending.context.signals()
    }

    async fn future(
        self,
        future: Pin<Box<dyn Future<Output = Outcome> + Send>>,
        mut inside: Vec<Occupied>,
    ) {
        let mut run = Guarded(future);
        // Most short handlers are ready at once: no timers and no listeners for them.
        let first = poll_fn(|context| Poll::Ready(Pin::new(&mut run).poll(context))).await;
        let ending = match first {
            Poll::Ready(outcome) => Ending::Outcome(outcome),
            Poll::Pending => tokio::select! {
                biased;
                () = self.signals().raised(Signal::DROP) => Ending::Dropped,
                outcome = &mut run => Ending::Outcome(outcome),
                () = self.limits.over(self.signals()) => Ending::TimeLimit,
            },
        };
        self.end(ending, &mut inside);
        // What a handler drops may panic too.
        if let Err(failure) = fenced(move || drop(run)) {
            tracing::error!(message = failure.message(), "a handler panicked while it was dropped");
        }
        for thread in inside {
            thread.left().await;
        }
    }

    /// Reports it. What is still to begin does not begin any more by then, and what goes on is told
    /// to stop.
    fn end(&self, ending: Ending, inside: &mut [Occupied]) {
        if !matches!(ending, Ending::Outcome(_)) {
            self.signals().raise(Signal::DROP);
        }
        for thread in inside {
            thread.give_up(self.signals());
        }
        self.ending.report(ending);
    }

    async fn blocking(self, run: Blocking, mut inside: Vec<Occupied>) {
        let mut thread = match begin(&self.ending.context, run) {
            Ok(thread) => thread,
            Err(failure) => return self.ending.report(Ending::Outcome(Err(failure))),
        };
        let ending = tokio::select! {
            biased;
            () = self.signals().raised(Signal::DROP) => Ending::Dropped,
            outcome = &mut thread => Ending::Outcome(outcome.expect("it sends, unless the run is dropped")),
            () = self.limits.over(self.signals()) => Ending::TimeLimit,
        };
        let left_running = !matches!(ending, Ending::Outcome(_));
        self.end(ending, &mut inside);
        if left_running {
            // A thread cannot be dropped. It was told to stop, and keeps the slot as long as it
            // does not.
            let _ = thread.await;
        }
        for thread in inside {
            thread.left().await;
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
        let (soft_until, hard_until) =
            (self.soft.map(deadline_after), self.hard.map(deadline_after));
        if let Some(until) = soft_until {
            tokio::time::sleep_until(until).await;
            tracing::warn!("the soft time limit is over");
            signals.raise(Signal::SOFT_LIMIT);
        }
        match hard_until {
            Some(until) => tokio::time::sleep_until(until).await,
            None => std::future::pending().await,
        }
    }
}

/// What is needed to tell of the end of a run: the middleware first, and then the broker.
struct End<'a> {
    slot: &'a Slot,
    context: Context,
    begun_at: Instant,
}

impl End<'_> {
    fn report(&self, ending: Ending) {
        let elapsed = self.begun_at.elapsed();
        let report = match ending {
            Ending::Outcome(Ok(result)) => match self.taken(result) {
                Ok(result) => self.succeeded(result, elapsed),
                Err(failure) => self.failed(failure, elapsed),
            },
            Ending::Outcome(Err(failure)) => self.failed(failure, elapsed),
            Ending::TimeLimit => self.failed(
                TaskFailure::fatal("time_limit", "the handler ran longer than its time limit"),
                elapsed,
            ),
            Ending::Dropped => {
                tracing::info!(elapsed_ms = elapsed.as_millis(), "dropped");
                self.slot
                    .middleware
                    .call(|middleware| middleware.after_drop(&self.context, elapsed));
                RELEASE
            }
        };
        self.slot.middleware.call(|middleware| middleware.after(&self.context, elapsed));
        self.slot.worker.leases.end(self.context.id(), self.context.lease(), report);
    }

    /// The result, if the broker takes one of its length. Bytes that know an owner are copied: what
    /// an owner does when it is dropped is the handler's affair, and the connection has other
    /// things to do.
    fn taken(&self, result: Bytes) -> Outcome {
        let (bytes, max) = (result.len() as u64, self.slot.worker.leases.result_bytes_max());
        fenced(|| match bytes > max {
            true => {
                drop(result);
                let message = format!("the result has {bytes} bytes, and {max} are allowed");
                Err(TaskFailure::fatal("result_too_large", message))
            }
            false => Ok(result
                .try_into_mut()
                .map_or_else(|shared| Bytes::copy_from_slice(&shared), BytesMut::freeze)),
        })
        .and_then(|taken| taken)
    }

    fn succeeded(&self, result: Bytes, elapsed: Duration) -> Report {
        tracing::info!(elapsed_ms = elapsed.as_millis(), "succeeded");
        self.slot.middleware.call(|middleware| middleware.after_success(&self.context, elapsed));
        Report::Complete(Complete { result, content_type: JSON.to_owned() })
    }

    fn failed(&self, failure: TaskFailure, elapsed: Duration) -> Report {
        let (kind, retryable) = (failure.kind(), failure.is_retryable());
        tracing::warn!(
            elapsed_ms = elapsed.as_millis(),
            kind,
            retryable,
            "failed: {}",
            failure.message()
        );
        let again = retryable && !self.context.is_last_attempt();
        self.slot.middleware.call(|middleware| match again {
            true => middleware.after_retry(&self.context, &failure, elapsed),
            false => middleware.after_failure(&self.context, &failure, elapsed),
        });
        failure.into_report(self.context.attempt(), now_ms())
    }
}

fn now_ms() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_millis()).unwrap_or(i64::MAX)
}

/// A handler's future whose panics are failures.
struct Guarded(Pin<Box<dyn Future<Output = Outcome> + Send>>);

impl Future for Guarded {
    type Output = Outcome;

    fn poll(mut self: Pin<&mut Self>, context: &mut TaskContext<'_>) -> Poll<Outcome> {
        fenced(|| self.0.as_mut().poll(context)).unwrap_or_else(|failure| Poll::Ready(Err(failure)))
    }
}
