//! What looks on while tasks run: hooks for logging, metrics and tracing. They are told what
//! happens and cannot change it, but for the one that stands around the run. When they are called
//! is the matter of `slot.rs`.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use crate::blocking::{Occupied, as_future};
use crate::context::Context;
use crate::failure::TaskFailure;
use crate::handler::{Run, RunKind};
use crate::panics::{fenced, panic_message};

/// Hooks around every run of a worker, for logging, metrics and tracing;
/// [`around`](Middleware::around) can also change what runs, or refuse it.
///
/// Each run calls [`before`](Middleware::before), then the one hook that says how it ended, then
/// [`after`](Middleware::after), and only then is its end reported: what a hook counts is counted
/// by the time anybody can see the result. Several middlewares are called in the order in which
/// they were added. The hooks are called in the slot of the run, within its tracing span; they
/// should be quick, and hand over to a thread or a task of their own what is not. A hook that
/// panics is logged, and changes nothing for its task, the other hooks and the worker.
///
/// They tell what the handler did. Whether the broker took the report is not known yet: of a lease
/// that was lost meanwhile it takes none, and the task runs again elsewhere.
///
/// ```
/// use std::sync::Arc;
/// use std::sync::atomic::{AtomicU64, Ordering};
/// use std::time::Duration;
///
/// use celeriac_worker::{Context, Middleware, TaskFailure, Worker};
///
/// /// What a metrics page would show.
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
    /// The handler is about to begin. Its arguments have not been read yet.
    fn before(&self, context: &Context) {}

    /// Puts something around the run, or refuses it. What it returns is run in place of what it was
    /// given, and whatever comes out of it is the outcome of the attempt: a value in JSON, or a
    /// failure. It is called after `before` and after the arguments were read; of several
    /// middlewares the first that was added is the outermost.
    ///
    /// A run becomes another run; there is no next one to call. So a middleware without this hook
    /// costs nothing, and time limits and cancelling hold for the whole: what is around a
    /// handler is dropped with it. A blocking handler comes as a future too, and takes its
    /// thread when it is first awaited.
    ///
    /// ```
    /// use std::sync::Arc;
    ///
    /// use celeriac_worker::{Context, Middleware, Run, TaskFailure};
    /// use tokio::sync::Semaphore;
    ///
    /// /// Not more than so many at once of the tasks that ask another service.
    /// struct Gate(Arc<Semaphore>);
    ///
    /// impl Middleware for Gate {
    ///     fn around(&self, context: &Context, run: Run) -> Result<Run, TaskFailure> {
    ///         if !context.headers().contains_key("tenant") {
    ///             return Err(TaskFailure::fatal("NoTenant", "a task of this worker says for whom it is"));
    ///         }
    ///         let gate = self.0.clone();
    ///         Ok(Run::future(async move {
    ///             let _permit = gate.acquire().await.map_err(|_| TaskFailure::new("Closed", "the gate is closed"))?;
    ///             run.await
    ///         }))
    ///     }
    /// }
    /// ```
    ///
    /// # Errors
    /// Why the task is not to run: the failure of this attempt, final or to be tried again as it
    /// says itself. A panic here is such a failure too, unlike in the other hooks: nobody knows
    /// what should have been around the run.
    fn around(&self, context: &Context, run: Run) -> Result<Run, TaskFailure> {
        Ok(run)
    }

    /// The handler returned its value.
    fn after_success(&self, context: &Context, elapsed: Duration) {}

    /// The handler failed, and the task with it: the failure is final, or this was the last
    /// attempt. A panic, a time limit, and arguments or a result that cannot be used are
    /// failures too.
    fn after_failure(&self, context: &Context, failure: &TaskFailure, elapsed: Duration) {}

    /// The handler failed, and the retry policy has attempts left.
    fn after_retry(&self, context: &Context, failure: &TaskFailure, elapsed: Duration) {}

    /// The handler did not come to its end: it was cancelled by force, handed back because the
    /// worker ends, or its lease is lost.
    fn after_drop(&self, context: &Context, elapsed: Duration) {}

    /// The run is over, in whichever way; called after the hook that says which.
    fn after(&self, context: &Context, elapsed: Duration) {}
}

/// A run, and the threads that may be at work in it.
pub(crate) struct Wrapped {
    pub(crate) run: Run,
    pub(crate) inside: Vec<Occupied>,
}

/// The middleware of a worker, in the order in which it was added.
#[derive(Default)]
pub(crate) struct Chain(Vec<Arc<dyn Middleware>>);

impl Chain {
    pub(crate) fn push(&mut self, middleware: Arc<dyn Middleware>) {
        self.0.push(middleware);
    }

    /// The run with everything around it.
    pub(crate) fn around(&self, context: &Context, mut run: Run) -> Result<Wrapped, TaskFailure> {
        let mut inside = Vec::new();
        for middleware in self.0.iter().rev() {
            if let Run(RunKind::Blocking(blocking)) = run {
                let (future, thread) = as_future(context, blocking);
                inside.push(thread);
                run = future;
            }
            run = fenced(|| middleware.around(context, run)).and_then(|wrapped| wrapped)?;
        }
        Ok(Wrapped { run, inside })
    }

    /// Calls one hook of each.
    pub(crate) fn call(&self, hook: impl Fn(&dyn Middleware)) {
        for middleware in &self.0 {
            if let Err(panic) = catch_unwind(AssertUnwindSafe(|| hook(middleware.as_ref()))) {
                let message = panic_message(panic);
                tracing::error!(
                    message,
                    "a hook of a middleware panicked; its task is not concerned"
                );
            }
        }
    }
}
