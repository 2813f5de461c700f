//! Keeps the panics of sled over a damaged folder off the terminal: they come back as a sentence of the store. Panics of
//! anything else, and sled's while the broker runs, are shown as ever.

use std::cell::Cell;
use std::panic::{set_hook, take_hook};
use std::sync::Once;
use std::sync::atomic::{AtomicUsize, Ordering};

static INSTALL: Once = Once::new();
/// How many threads are in `quietly`; sled's own threads may panic on their behalf.
static QUIET: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static HERE: Cell<usize> = const { Cell::new(0) };
}

/// Runs `work`, which catches its own panics, without their being printed.
pub(super) fn quietly<T>(work: impl FnOnce() -> T) -> T {
    INSTALL.call_once(|| {
        let shown = take_hook();
        set_hook(Box::new(move |panic| {
            let of_sled = panic.location().is_some_and(|location| location.file().contains("/sled-0."));
            let quiet = HERE.get() > 0 || (of_sled && QUIET.load(Ordering::SeqCst) > 0);
            if !quiet {
                shown(panic);
            }
        }));
    });
    QUIET.fetch_add(1, Ordering::SeqCst);
    HERE.set(HERE.get() + 1);
    let outcome = work();
    HERE.set(HERE.get() - 1);
    QUIET.fetch_sub(1, Ordering::SeqCst);
    outcome
}
