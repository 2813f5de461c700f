//! Runs handlers: takes a delivery, runs its handler to its end, reports the end, takes the next
//! delivery. A fault of a handler stops here: a panic is a failure of its task and affects nothing
//! else. This module hands reports over to `leases`; `driver` sends them.

use std::collections::HashMap;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::{Bytes, BytesMut};
use celeriac_client::connection::deadline_after;
use celeriac_proto::wire::task_report::Report;
use celeriac_proto::wire::{Complete, Reject, Release, TaskError};
use tracing::Instrument;

use crate::blocking::{Blocking, OccupiedThread, begin};
use crate::context::{Context, WorkerSide};
use crate::delivered::BegunDelivery;
use crate::failure::TaskFailure;
use crate::handler::{Handler, Outcome, Run, RunKind};
use crate::middleware::{Chain, WrappedRun};
use crate::panics::fenced;
use crate::payload::{JSON, Payload};
use crate::signals::{Signal, Signals};

/// The handlers of a worker, by the names of their tasks.
pub(crate) type Handlers = HashMap<String, Arc<dyn Handler>>;

/// Runs one handler at a time. A worker has as many executions as its concurrency.
#[derive(Clone)]
pub(crate) struct Execution {
    /// What all runs of the worker share.
    pub(crate) worker: Arc<WorkerSide>,
    /// The handlers, of which each delivery takes the one for its name.
    pub(crate) handlers: Arc<Handlers>,
    /// Called around every run.
    pub(crate) middleware: Arc<Chain>,
}

/// The report of a run that was dropped after it had begun.
const RELEASE: Report = Report::Release(Release { not_begun: false, lost: false });
/// The report of a delivery whose handler never began: no attempt is counted.
const RELEASE_UNBEGUN: Report = Report::Release(Release { not_begun: true, lost: false });

/// How an attempt ended.
enum Ending {
    /// The handler returned, failed or panicked.
    Outcome(Outcome),
    /// The hard time limit was over first.
    TimeLimit,
    /// The handler was dropped: it was cancelled by force or handed back, or its lease is lost.
    Dropped,
}

impl Execution {
    /// Runs deliveries until the worker ends.
    pub(crate) async fn run(self) {
        while let Some(begun) = self.worker.leases.next().await {
            self.run_fenced(begun).await;
            // Many short tasks in a row must not keep other tasks of the runtime from running.
            tokio::task::coop::consume_budget().await;
        }
    }

    /// Runs one delivery to its end, and reports the end whatever happens. Much of the code on the
    /// way is the user's, and an execution that a panic ended would not be replaced.
    pub(crate) async fn run_fenced(&self, begun: BegunDelivery) {
        let delivered = begun.delivered.clone();
        // The fence is around each poll: a panic at any point of the run ends here.
        let mut run = std::pin::pin!(self.run_in_span(begun));
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

    /// Runs one delivery within its tracing span, which all log lines of the run share.
    async fn run_in_span(&self, begun: BegunDelivery) {
        let delivery = &begun.delivered.delivery;
        let span = tracing::info_span!(
            "task",
            id = delivery.id,
            name = delivery.name,
            shadow = (!delivery.shadow.is_empty()).then_some(delivery.shadow.as_str()),
            attempt = delivery.attempt,
        );
        self.run_handler(begun).instrument(span).await;
    }

    /// Runs one delivery: checks that it may begin, calls `before`, reads the arguments, wraps the
    /// run in the middleware, and runs it.
    async fn run_handler(&self, begun: BegunDelivery) {
        let BegunDelivery { delivered, payload, content_type, mut begun_at } = begun;
        let delivery = &delivered.delivery;
        let Some(handler) = self.handlers.get(&delivery.name) else {
            tracing::warn!("this worker has no handler of that name; the task is handed back");
            self.worker.leases.end(&delivery.id, delivery.lease, RELEASE_UNBEGUN);
            return;
        };
        if !delivery.revoked_reason.is_empty() {
            tracing::info!(reason = delivery.revoked_reason, "the task was called off");
            // The handler never begins, and any report but a release ends the task.
            let error = TaskError {
                kind: "revoked".to_owned(),
                message: delivery.revoked_reason.clone(),
                ..TaskError::default()
            };
            let off = Report::Reject(Reject { error: Some(error) });
            self.worker.leases.end(&delivery.id, delivery.lease, off);
            return;
        }
        if let Some(eta_at_ms) = delivery.eta_at_ms {
            self.wait_for(eta_at_ms, &delivered.signals).await;
        }
        if delivery.report_start {
            // After the answer the broker knows that the task has begun, even if it loses the
            // worker then.
            delivered.signals.raised(Signal::MAY_BEGIN_OR_DROP).await;
            begun_at = Instant::now();
        }
        if delivered.signals.is_raised(Signal::DROP) {
            tracing::debug!("the task was taken back before its handler began");
            self.worker.leases.end(&delivery.id, delivery.lease, RELEASE_UNBEGUN);
            return;
        }
        let context = Context::new(delivered, self.worker.clone());
        let reporter = EndReporter { execution: self, context: context.clone(), begun_at };
        let attempt = Attempt { limits: TimeLimits::of(&context), reporter };
        self.middleware.call(|middleware| middleware.before(&context));
        let started = fenced(|| handler.start(context, Payload::new(&payload, &content_type)))
            .and_then(|run| run);
        // The handler has read the payload, which may be large.
        drop(payload);
        match started.and_then(|run| self.middleware.around(&attempt.reporter.context, run)) {
            Ok(WrappedRun { run: Run(RunKind::Blocking(run)), threads }) => {
                attempt.run_blocking(run, threads).await
            }
            Ok(WrappedRun { run: Run(RunKind::Future(future)), threads }) => {
                attempt.run_future(future, threads).await
            }
            Err(failure) => attempt.reporter.report(Ending::Outcome(Err(failure))),
        }
    }
}

impl Execution {
    /// Waits until the eta of a task that came before it. A signal to drop the task ends the wait.
    async fn wait_for(&self, eta_at_ms: i64, signals: &Signals) {
        let early_ms = u64::try_from(eta_at_ms.saturating_sub(now_ms())).unwrap_or(0);
        if early_ms > 0 {
            let wait = tokio::time::sleep(Duration::from_millis(early_ms));
            tokio::select! {
                () = signals.raised(Signal::DROP) => {}
                () = wait => {}
            }
        }
    }
}

/// A handler that runs, and what can end the attempt before the handler does.
struct Attempt<'a> {
    /// When the attempt is ended from here.
    limits: TimeLimits,
    /// Reports its end.
    reporter: EndReporter<'a>,
}

impl Attempt<'_> {
    /// The signals that the broker and the worker raise for this run.
    fn signals(&self) -> &Signals {
        self.reporter.context.signals()
    }

    /// Runs an asynchronous handler. It is dropped at its time limit and when its task is taken
    /// away.
    async fn run_future(
        self,
        future: Pin<Box<dyn Future<Output = Outcome> + Send>>,
        mut threads: Vec<OccupiedThread>,
    ) {
        let mut run = Guarded(future);
        // Most short handlers are ready at the first poll, and need no timers and no listeners.
        let first = poll_fn(|context| Poll::Ready(Pin::new(&mut run).poll(context))).await;
        let ending = match first {
            Poll::Ready(outcome) => Ending::Outcome(outcome),
            Poll::Pending => tokio::select! {
                // The signal first: a handler that is ready at the same moment must not begin more
                // work.
                biased;
                () = self.signals().raised(Signal::DROP) => Ending::Dropped,
                outcome = &mut run => Ending::Outcome(outcome),
                () = self.limits.over(self.signals()) => Ending::TimeLimit,
            },
        };
        self.end(ending, &mut threads);
        // The values of a handler may panic while they are dropped.
        if let Err(failure) = fenced(move || drop(run)) {
            tracing::error!(message = failure.message(), "a handler panicked while it was dropped");
        }
        for thread in threads {
            thread.left().await;
        }
    }

    /// Reports the end. By then a run inside the middleware that has not begun never begins, and
    /// one that goes on is told to stop.
    fn end(&self, ending: Ending, threads: &mut [OccupiedThread]) {
        if !matches!(ending, Ending::Outcome(_)) {
            self.signals().raise(Signal::DROP);
        }
        for thread in threads {
            thread.give_up(self.signals());
        }
        self.reporter.report(ending);
    }

    /// Runs a blocking handler on a thread. The attempt can end before the handler does; the
    /// execution then waits for the thread.
    async fn run_blocking(self, run: Blocking, mut threads: Vec<OccupiedThread>) {
        let mut thread = match begin(&self.reporter.context, run) {
            Ok(thread) => thread,
            Err(failure) => return self.reporter.report(Ending::Outcome(Err(failure))),
        };
        let ending = tokio::select! {
            biased;
            () = self.signals().raised(Signal::DROP) => Ending::Dropped,
            outcome = &mut thread => {
                Ending::Outcome(outcome.expect("it sends, unless the run is dropped"))
            }
            () = self.limits.over(self.signals()) => Ending::TimeLimit,
        };
        let is_running = !matches!(ending, Ending::Outcome(_));
        self.end(ending, &mut threads);
        if is_running {
            // A thread cannot be dropped. The handler was told to stop, and the execution waits
            // until it does.
            let _ = thread.await;
        }
        for thread in threads {
            thread.left().await;
        }
    }
}

/// The time limits of an attempt.
struct TimeLimits {
    /// After this span the handler gets a signal.
    soft: Option<Duration>,
    /// After this span the attempt fails.
    hard: Option<Duration>,
}

impl TimeLimits {
    /// The limits that the broker sent with the delivery.
    fn of(context: &Context) -> Self {
        let delivery = context.delivery();
        let soft = delivery.soft_time_limit_ms.map(Duration::from_millis);
        let hard = delivery.time_limit_ms.map(Duration::from_millis);
        // A soft limit that is not shorter than the hard one would come too late.
        Self { soft: soft.filter(|soft| hard.is_none_or(|hard| *soft < hard)), hard }
    }

    /// Signals the soft limit, and returns when the hard one is over. The broker checks the limits
    /// too. The side that is first reports the limit, and the other changes nothing.
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

/// Reports the end of an attempt: to the middleware first, and then to the broker.
struct EndReporter<'a> {
    /// For the middleware and the leases.
    execution: &'a Execution,
    /// The context of the run, which the hooks get.
    context: Context,
    /// When the handler began. The hooks get the time since then.
    begun_at: Instant,
}

impl EndReporter<'_> {
    /// Calls the hooks for this ending, and hands the report over. Nothing is reported of a lease
    /// that was lost.
    fn report(&self, ending: Ending) {
        let elapsed = self.begun_at.elapsed();
        let report = match ending {
            Ending::Outcome(Ok(result)) => match self.checked(result) {
                Ok(result) => self.succeeded(result, elapsed),
                Err(failure) => self.failed(failure, elapsed),
            },
            Ending::Outcome(Err(failure)) if failure.is_handed_back() => {
                tracing::warn!("the task is handed back: {}", failure.message());
                self.context.signals().raise(Signal::HANDED_BACK);
                self.dropped(RELEASE_UNBEGUN, elapsed)
            }
            Ending::Outcome(Err(failure)) => self.failed(failure, elapsed),
            Ending::TimeLimit => self.failed(
                TaskFailure::fatal("time_limit", "the handler ran longer than its time limit"),
                elapsed,
            ),
            Ending::Dropped => {
                tracing::info!(elapsed_ms = elapsed.as_millis(), "the handler was dropped");
                self.dropped(RELEASE, elapsed)
            }
        };
        self.execution.middleware.call(|middleware| middleware.after(&self.context, elapsed));
        self.execution.worker.leases.end(self.context.id(), self.context.lease(), report);
    }

    /// Calls the hook for a run that was dropped or handed back, of which `release` is reported.
    fn dropped(&self, release: Report, elapsed: Duration) -> Report {
        self.execution.middleware.call(|middleware| middleware.after_drop(&self.context, elapsed));
        release
    }

    /// The result, if the broker accepts one of its length. Bytes with an owner are copied: an
    /// owner's `drop` is code of the handler, and must not run on the connection's thread.
    fn checked(&self, result: Bytes) -> Outcome {
        let (bytes, max) = (result.len() as u64, self.execution.worker.leases.result_bytes_max());
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
        .and_then(|checked| checked)
    }

    /// The report of a success, after its hook.
    fn succeeded(&self, result: Bytes, elapsed: Duration) -> Report {
        tracing::info!(elapsed_ms = elapsed.as_millis(), "the task succeeded");
        self.execution
            .middleware
            .call(|middleware| middleware.after_success(&self.context, elapsed));
        Report::Complete(Complete { result, content_type: JSON.to_owned(), ..Complete::default() })
    }

    /// The report of a failure, after its hook: `after_retry` while the task has attempts left.
    fn failed(&self, failure: TaskFailure, elapsed: Duration) -> Report {
        let (kind, retryable) = (failure.kind(), failure.is_retryable());
        tracing::warn!(
            elapsed_ms = elapsed.as_millis(),
            kind,
            retryable,
            "the attempt failed: {}",
            failure.message()
        );
        let runs_again = retryable && !self.context.is_last_attempt();
        self.execution.middleware.call(|middleware| match runs_again {
            true => middleware.after_retry(&self.context, &failure, elapsed),
            false => middleware.after_failure(&self.context, &failure, elapsed),
        });
        failure.into_report(self.context.attempt(), now_ms())
    }
}

/// The time of a failure, in milliseconds since 1970, by the clock of this machine.
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
