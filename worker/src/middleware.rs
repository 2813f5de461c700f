//! What looks on while tasks run: hooks for logging, metrics and tracing. They are told what
//! happens and cannot change it. When they are called is the matter of `slot.rs`.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use crate::context::Context;
use crate::failure::TaskFailure;

/// Hooks around every run of a worker, for logging, metrics and tracing.
///
/// Each run calls [`before`](Middleware::before), then the one hook that says how it ended, then
/// [`after`](Middleware::after), and only then is its end reported: what a hook counts is counted by the time anybody can
/// see the result. Several middlewares are called in the order in which they were added. The hooks are called in the slot of the run, within
/// its tracing span; they should be quick, and hand over to a thread or a task of their own what is not. A hook that
/// panics is logged, and changes nothing for its task, the other hooks and the worker.
///
/// They tell what the handler did. Whether the broker took the report is not known yet: of a lease that was lost
/// meanwhile it takes none, and the task runs again elsewhere.
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

    /// The handler returned its value.
    fn after_success(&self, context: &Context, elapsed: Duration) {}

    /// The handler failed, and the task with it: the failure is final, or this was the last attempt. A panic, a time
    /// limit, and arguments or a result that cannot be used are failures too.
    fn after_failure(&self, context: &Context, failure: &TaskFailure, elapsed: Duration) {}

    /// The handler failed, and the retry policy has attempts left.
    fn after_retry(&self, context: &Context, failure: &TaskFailure, elapsed: Duration) {}

    /// The handler did not come to its end: it was cancelled by force, handed back because the worker ends, or its
    /// lease is lost.
    fn after_drop(&self, context: &Context, elapsed: Duration) {}

    /// The run is over, in whichever way; called after the hook that says which.
    fn after(&self, context: &Context, elapsed: Duration) {}
}

/// The middleware of a worker, in the order in which it was added.
#[derive(Default)]
pub(crate) struct Chain(Vec<Arc<dyn Middleware>>);

impl Chain {
    pub(crate) fn push(&mut self, middleware: Arc<dyn Middleware>) {
        self.0.push(middleware);
    }

    /// Calls one hook of each.
    pub(crate) fn call(&self, hook: impl Fn(&dyn Middleware)) {
        for middleware in &self.0 {
            if catch_unwind(AssertUnwindSafe(|| hook(middleware.as_ref()))).is_err() {
                tracing::error!("a hook of a middleware panicked; its task is not concerned");
            }
        }
    }
}
