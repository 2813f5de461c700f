//! Hooks around every run, for logging, metrics and tracing. All hooks but `around` only observe.
//! `execution` calls them.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use crate::blocking::{OccupiedThread, as_future};
use crate::context::Context;
use crate::failure::TaskFailure;
use crate::handler::{Run, RunKind};
use crate::panics::{fenced, panic_message};

/// Hooks around every run of a worker, for logging, metrics and tracing. The hook
/// [`around`](Middleware::around) can also change a run, or refuse it.
///
/// Each run calls [`before`](Middleware::before), then the one hook that says how the run ended,
/// then [`after`](Middleware::after). Only then does the worker report the end, so a hook has
/// counted a run before anybody can see its result. Several middlewares are called in the order in
/// which they were added.
///
/// The hooks run in place of the handler, within the tracing span of the run, and the worker waits
/// for them. A hook should be quick, and should leave slow work to a thread or a task of its own.
/// When a hook panics, the worker logs it; the task, the other hooks and the worker are not
/// affected.
///
/// The hooks say what the handler did. They do not say whether the broker took the report: if the
/// lease was lost meanwhile, the broker refuses it, and the task runs again elsewhere.
///
/// ```
/// use std::sync::Arc;
/// use std::sync::atomic::{AtomicU64, Ordering};
/// use std::time::Duration;
///
/// use celeriac_worker::{Context, Middleware, TaskFailure, Worker};
///
/// /// The numbers for a metrics page.
/// #[derive(Default)]
/// struct Counts {
///     running: AtomicU64,
///     succeeded: AtomicU64,
///     failed: AtomicU64,
/// }
///
/// impl Middleware for Counts {
///     fn before(&self, _context: &Context) {
///         self.running.fetch_add(1, Ordering::Relaxed);
///     }
///
///     fn after_success(&self, _context: &Context, _elapsed: Duration) {
///         self.succeeded.fetch_add(1, Ordering::Relaxed);
///     }
///
///     fn after_failure(&self, context: &Context, failure: &TaskFailure, elapsed: Duration) {
///         self.failed.fetch_add(1, Ordering::Relaxed);
///         eprintln!("{} failed after {elapsed:?}: {failure}", context.id());
///     }
///
///     fn after(&self, _context: &Context, _elapsed: Duration) {
///         self.running.fetch_sub(1, Ordering::Relaxed);
///     }
/// }
///
/// let counts = Arc::new(Counts::default());
/// let worker = Worker::builder("celeriac://127.0.0.1:23537").middleware(counts.clone());
/// ```
#[allow(unused_variables)]
pub trait Middleware: Send + Sync + 'static {
    /// The handler will begin now. Its arguments have not been read yet.
    fn before(&self, context: &Context) {}

    /// Wraps the run, or refuses it. The worker runs the returned run in place of the given one,
    /// and its outcome is the outcome of the attempt: a value in JSON, or a failure. The worker
    /// calls this hook after `before` and after the arguments were read. Of several middlewares
    /// the first one that was added is the outermost.
    ///
    /// The hook turns a run into another run; it does not call a next middleware. So a middleware
    /// without this hook costs nothing. Time limits and cancelling apply to the whole: the wrapping
    /// run is dropped together with the handler inside. A blocking handler comes as a future too,
    /// and takes its thread when it is first awaited.
    ///
    /// ```
    /// use std::sync::Arc;
    ///
    /// use celeriac_worker::{Context, Middleware, Run, TaskFailure};
    /// use tokio::sync::Semaphore;
    ///
    /// /// Limits how many tasks use another service at once.
    /// struct Gate(Arc<Semaphore>);
    ///
    /// impl Middleware for Gate {
    ///     fn around(&self, context: &Context, run: Run) -> Result<Run, TaskFailure> {
    ///         if !context.headers().contains_key("tenant") {
    ///             return Err(TaskFailure::fatal("NoTenant", "the task has no header `tenant`"));
    ///         }
    ///         let gate = self.0.clone();
    ///         Ok(Run::future(async move {
    ///             // `?` makes a failure of the error, should the semaphore be closed.
    ///             let _permit = gate.acquire().await?;
    ///             run.await
    ///         }))
    ///     }
    /// }
    /// ```
    ///
    /// # Errors
    /// Why the task must not run. The worker reports it as the failure of this attempt, and the
    /// failure itself says whether the task may run again. A panic here is such a failure too,
    /// unlike in the other hooks: the run must not begin without its wrapping.
    fn around(&self, context: &Context, run: Run) -> Result<Run, TaskFailure> {
        Ok(run)
    }

    /// The handler returned its value.
    fn after_success(&self, context: &Context, elapsed: Duration) {}

    /// The handler failed, and the task ends as a Failure: the failure is final, or this was the
    /// last attempt. A panic, a time limit, and arguments or a result that cannot be used are
    /// failures too.
    fn after_failure(&self, context: &Context, failure: &TaskFailure, elapsed: Duration) {}

    /// The handler failed, and the retry policy has attempts left.
    fn after_retry(&self, context: &Context, failure: &TaskFailure, elapsed: Duration) {}

    /// The handler was dropped before its end: the task was cancelled by force, or handed back, or
    /// its lease is lost. [`Context::dropped`] says which.
    fn after_drop(&self, context: &Context, elapsed: Duration) {}

    /// The run is over. The worker calls this after the hook that says how it ended.
    fn after(&self, context: &Context, elapsed: Duration) {}
}

/// A wrapped run, and the threads of the blocking runs inside it.
pub(crate) struct WrappedRun {
    pub(crate) run: Run,
    pub(crate) threads: Vec<OccupiedThread>,
}

/// The middleware of a worker, in the order in which it was added.
#[derive(Default)]
pub(crate) struct Chain(Vec<Arc<dyn Middleware>>);

impl Chain {
    pub(crate) fn push(&mut self, middleware: Arc<dyn Middleware>) {
        self.0.push(middleware);
    }

    /// Wraps a run in all middlewares.
    pub(crate) fn around(
        &self,
        context: &Context,
        mut run: Run,
    ) -> Result<WrappedRun, TaskFailure> {
        let mut threads = Vec::new();
        for middleware in self.0.iter().rev() {
            if let Run(RunKind::Blocking(blocking)) = run {
                let (future, thread) = as_future(context, blocking);
                threads.push(thread);
                run = future;
            }
            run = fenced(|| middleware.around(context, run)).and_then(|wrapped| wrapped)?;
        }
        Ok(WrappedRun { run, threads })
    }

    /// Calls one hook of each middleware.
    pub(crate) fn call(&self, hook: impl Fn(&dyn Middleware)) {
        for middleware in &self.0 {
            if let Err(panic) = catch_unwind(AssertUnwindSafe(|| hook(middleware.as_ref()))) {
                let message = panic_message(panic);
                tracing::error!(
                    message,
                    "a hook of a middleware panicked; the task is not affected"
                );
            }
        }
    }
}
