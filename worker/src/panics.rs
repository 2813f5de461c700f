//! Panics in the code of handlers: their places, their texts, and how their payloads are dropped.

use std::any::Any;
use std::backtrace::Backtrace;
use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::sync::Once;

use celeriac_proto::limits::ERROR_TEXT_BYTES_MAX;

use crate::failure::{TaskFailure, text_of};

/// The payload of a panic, as `catch_unwind` returns it.
pub(crate) type Panic = Box<dyn Any + Send>;

thread_local! {
    /// Whether this thread is running the code of a handler.
    static RUNS_HANDLER: Cell<bool> = const { Cell::new(false) };
    /// The place and the backtrace of the latest panic of a handler on this thread.
    static BACKTRACE: RefCell<String> = const { RefCell::new(String::new()) };
}

/// From now on a panic of a handler keeps its backtrace for the report. The program's own hook for
/// panics is still called.
pub(crate) fn keep_backtraces() {
    // A process has one hook: several workers share it.
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = take_hook();
        set_hook(Box::new(move |panic| {
            if RUNS_HANDLER.get() {
                let place =
                    panic.location().map(|place| format!("at {place}\n")).unwrap_or_default();
                BACKTRACE.set(place + &text_of(&Backtrace::force_capture()));
            }
            before(panic);
        }));
    });
}

/// Runs the code of a handler. A panic becomes a failure of the kind `panic`.
pub(crate) fn fenced<T>(run: impl FnOnce() -> T) -> Result<T, TaskFailure> {
    // Fences can be nested: a middleware's code runs the handler's.
    let before = RUNS_HANDLER.replace(true);
    if !before {
        // The backtrace of an earlier panic, which the handler caught itself.
        drop(BACKTRACE.take());
    }
    let outcome = catch_unwind(AssertUnwindSafe(run));
    RUNS_HANDLER.set(before);
    // The hook has left the backtrace in this thread.
    outcome.map_err(|panic| {
        TaskFailure::new("panic", panic_message(panic)).with_traceback(BACKTRACE.take())
    })
}

/// The text of a panic, as far as a report holds it. The payload of the panic is dropped.
pub(crate) fn panic_message(panic: Panic) -> String {
    let text = panic
        .downcast_ref::<&'static str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("the handler panicked with a value that is no text");
    let text = text[..text.floor_char_boundary(ERROR_TEXT_BYTES_MAX)].to_owned();
    discard(panic);
    text
}

/// Drops the payload of a panic. The payload may panic while it is dropped, and so may the payload
/// of that second panic. A third one is never dropped.
fn discard(panic: Panic) {
    if let Err(second) = catch_unwind(AssertUnwindSafe(|| drop(panic)))
        && let Err(third) = catch_unwind(AssertUnwindSafe(|| drop(second)))
    {
        std::mem::forget(third);
    }
}

#[cfg(test)]
mod tests {
    use std::panic::panic_any;

    use super::*;

    #[test]
    fn a_panic_that_panics_when_it_is_dropped_is_a_failure_and_no_more() {
        struct Nasty(u32);
        impl Drop for Nasty {
            fn drop(&mut self) {
                if self.0 > 0 {
                    panic_any(Nasty(self.0 - 1));
                }
            }
        }
        for depth in 0..5 {
            let failure = fenced(|| panic_any(Nasty(depth))).expect_err("it panics");
            assert_eq!((failure.kind(), failure.is_retryable()), ("panic", true));
        }
    }

    #[test]
    fn the_place_of_a_panic_is_kept_for_handlers_alone() {
        keep_backtraces();
        let failure = fenced(|| panic!("in the {}", "middle")).expect_err("it panics");
        assert_eq!(failure.message(), "in the middle");
        assert!(
            failure.traceback().starts_with("at worker/src/panics.rs"),
            "{}",
            failure.traceback()
        );
        assert!(failure.traceback().contains("the_place_of_a_panic"), "{}", failure.traceback());
        assert!(catch_unwind(|| panic!("somebody else's")).is_err());
        assert_eq!(BACKTRACE.take(), "");
    }

    #[test]
    fn the_place_of_a_panic_that_its_handler_caught_is_not_that_of_a_later_one() {
        keep_backtraces();
        let caught = fenced(|| catch_unwind(|| panic!("caught")).is_err());
        assert_eq!(caught, Ok(true));
        let failure = fenced(|| std::panic::resume_unwind(Box::new("from elsewhere")))
            .expect_err("it panics");
        assert_eq!((failure.message(), failure.traceback()), ("from elsewhere", ""));
    }

    #[test]
    fn of_a_long_text_as_much_is_kept_as_a_report_holds() {
        let failure =
            fenced(|| panic_any("ä".repeat(ERROR_TEXT_BYTES_MAX))).expect_err("it panics");
        assert_eq!(failure.message().len(), ERROR_TEXT_BYTES_MAX);
    }
}
