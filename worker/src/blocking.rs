//! A blocking run on its thread: how it begins, and how the slot knows that it is over. The threads
//! themselves are the matter of `threads.rs`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use tokio::sync::oneshot;

use crate::context::Context;
use crate::failure::TaskFailure;
use crate::handler::{Outcome, Run};
use crate::panics::fenced;
use crate::signals::{Signal, Signals};

/// What a blocking handler does.
pub(crate) type Blocking = Box<dyn FnOnce() -> Outcome + Send>;

/// Has a thread run this, in the caller's span and runtime. What was dropped by then is not begun:
/// nothing is sent.
///
/// # Errors
/// A failure of the kind `no_thread`.
pub(crate) fn begin(
    context: &Context,
    run: Blocking,
) -> Result<oneshot::Receiver<Outcome>, TaskFailure> {
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
pub(crate) fn as_future(context: &Context, run: Blocking) -> (Run, Occupied) {
    let (occupied, over) = oneshot::channel();
    let (context, stage) = (context.clone(), Arc::new(AtomicU8::new(UNBEGUN)));
    let thread = Occupied { over, stage: stage.clone() };
    let future = async move {
        if stage.compare_exchange(UNBEGUN, BEGUN, Ordering::SeqCst, Ordering::SeqCst).is_err() {
            return Err(TaskFailure::new("dropped", "the run was given up before it began"));
        }
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

/// Whether a run that is seen as a future has asked for its thread.
const UNBEGUN: u8 = 0;
const BEGUN: u8 = 1;
/// It may not ask any more.
const GIVEN_UP: u8 = 2;

/// A thread that may go on when the future that waits for it was dropped. The future may also be
/// kept by somebody, who never awaits it, or too late.
pub(crate) struct Occupied {
    over: oneshot::Receiver<()>,
    stage: Arc<AtomicU8>,
}

impl Occupied {
    /// The task ends: a run that has not begun never begins, and one that goes on is told to stop.
    pub(crate) fn give_up(&mut self, signals: &Signals) {
        let unbegun = self
            .stage
            .compare_exchange(UNBEGUN, GIVEN_UP, Ordering::SeqCst, Ordering::SeqCst)
            .is_ok();
        if !unbegun && let Err(oneshot::error::TryRecvError::Empty) = self.over.try_recv() {
            signals.raise(Signal::DROP);
        }
    }

    /// Until the run has left its thread, if it was given one.
    pub(crate) async fn left(self) {
        if self.stage.load(Ordering::SeqCst) == BEGUN && !self.over.is_terminated() {
            // Nothing is sent: it is dropped with the run.
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
    async fn a_run_that_somebody_keeps_holds_no_slot_and_never_begins() {
        let context = Context::detached("task");
        let (run, mut occupied) = as_future(&context, Box::new(|| panic!("it was given up")));
        occupied.give_up(context.signals());
        occupied.left().await;
        let failure = run.await.expect_err("too late");
        assert_eq!(failure.kind(), "dropped");
    }
}
