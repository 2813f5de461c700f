//! Blocking runs: how one begins on a thread, and how its execution learns that it is over.
//! `threads` has the threads.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use tokio::sync::oneshot;

use crate::context::Context;
use crate::failure::TaskFailure;
use crate::handler::{Outcome, Run};
use crate::panics::fenced;
use crate::signals::{Signal, Signals};

/// The body of a blocking run.
pub(crate) type Blocking = Box<dyn FnOnce() -> Outcome + Send>;

/// Runs this on a thread, in the caller's span and runtime. A run that was dropped by then does not
/// begin: the receiver then gets nothing.
///
/// # Errors
/// A failure of the kind `no_thread` when the system gives no thread.
pub(crate) fn begin(
    context: &Context,
    run: Blocking,
) -> Result<oneshot::Receiver<Outcome>, TaskFailure> {
    // The thread has neither of its own: the handler's log lines belong to the run, and it may
    // spawn tasks on the runtime.
    let (span, runtime) = (tracing::Span::current(), tokio::runtime::Handle::current());
    let (done, outcome) = oneshot::channel();
    let begun = context.clone();
    let work = move || {
        let _entered = runtime.enter();
        let outcome = fenced(|| match begun.signals().is_raised(Signal::DROP) {
            true => None,
            false => Some(span.in_scope(run)),
        });
        if let Some(outcome) = outcome.unwrap_or_else(|failure| Some(Err(failure))) {
            // The worker may have been dropped.
            let _ = done.send(outcome);
        }
    };
    match context.threads().run(Box::new(work)) {
        Ok(()) => Ok(outcome),
        Err(error) => Err(TaskFailure::new(
            "no_thread",
            format!("there is no thread for the handler: {error}"),
        )),
    }
}

/// A blocking run as a future, which takes a thread when it is first awaited.
pub(crate) fn as_future(context: &Context, run: Blocking) -> (Run, OccupiedThread) {
    let (occupied, over) = oneshot::channel();
    let (context, begin_state) = (context.clone(), Arc::new(AtomicU8::new(UNBEGUN)));
    let thread = OccupiedThread { over, begin_state: begin_state.clone() };
    let future = async move {
        if begin_state.compare_exchange(UNBEGUN, BEGUN, Ordering::SeqCst, Ordering::SeqCst).is_err()
        {
            return Err(TaskFailure::new("dropped", "the run was given up before it began"));
        }
        // The sender moves to the thread, and is dropped when the run has left it.
        let run = move || {
            let _occupied: oneshot::Sender<()> = occupied;
            run()
        };
        match begin(&context, Box::new(run))?.await {
            Ok(outcome) => outcome,
            Err(_) => Err(TaskFailure::new("dropped", "the run was given up before it began")),
        }
    };
    (Run::future(future), thread)
}

/// The run has not asked for its thread.
const UNBEGUN: u8 = 0;
/// The run has asked for its thread.
const BEGUN: u8 = 1;
/// The run must not ask for a thread any more.
const GIVEN_UP: u8 = 2;

/// The thread of a run inside a middleware's run. It may go on after the future that waits for it
/// was dropped. A middleware may also keep that future, and await it never or too late.
pub(crate) struct OccupiedThread {
    /// Ends when the run has left its thread. Its sender is dropped then.
    over: oneshot::Receiver<()>,
    /// [`UNBEGUN`], [`BEGUN`] or [`GIVEN_UP`].
    begin_state: Arc<AtomicU8>,
}

impl OccupiedThread {
    /// The attempt ends: a run that has not begun never begins, and a run that goes on is told to
    /// stop.
    pub(crate) fn give_up(&mut self, signals: &Signals) {
        // One of the two wins: this call, or the run that asks for its thread.
        let is_unbegun = self
            .begin_state
            .compare_exchange(UNBEGUN, GIVEN_UP, Ordering::SeqCst, Ordering::SeqCst)
            .is_ok();
        if !is_unbegun && let Err(oneshot::error::TryRecvError::Empty) = self.over.try_recv() {
            signals.raise(Signal::DROP);
        }
    }

    /// Returns when the run has left its thread, if it had one.
    pub(crate) async fn left(self) {
        if self.begin_state.load(Ordering::SeqCst) == BEGUN && !self.over.is_terminated() {
            // Nothing is sent: the sender is dropped with the run.
            let _ = self.over.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use super::*;

    #[tokio::test]
    async fn what_was_given_up_before_its_thread_began_is_never_begun() {
        let (context, begun) = (Context::detached("task"), Arc::new(AtomicBool::new(false)));
        context.signals().raise(Signal::DROP);
        let says_so = begun.clone();
        let run = move || {
            says_so.store(true, Ordering::SeqCst);
            Ok("null".into())
        };
        let outcome = begin(&context, Box::new(run)).expect("there are threads");
        assert!(outcome.await.is_err());
        assert!(!begun.load(Ordering::SeqCst));
    }

    #[tokio::test]
    async fn a_run_seen_as_a_future_has_left_its_thread_when_it_is_dropped_unbegun() {
        let context = Context::detached("task");
        let (run, mut occupied) = as_future(&context, Box::new(|| Ok("null".into())));
        drop(run);
        occupied.give_up(context.signals());
        occupied.left().await;
        let (run, mut occupied) = as_future(&context, Box::new(|| Ok("7".into())));
        assert_eq!(run.await, Ok("7".into()));
        occupied.give_up(context.signals());
        occupied.left().await;
        assert!(!context.is_cancelled());
    }

    #[tokio::test]
    async fn a_run_that_somebody_keeps_occupies_no_execution_and_never_begins() {
        let context = Context::detached("task");
        let (run, mut occupied) = as_future(&context, Box::new(|| panic!("it was given up")));
        occupied.give_up(context.signals());
        occupied.left().await;
        let failure = run.await.expect_err("too late");
        assert_eq!(failure.kind(), "dropped");
    }
}
