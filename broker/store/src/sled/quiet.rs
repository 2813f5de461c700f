//! Hides sled's panics on a damaged folder or a failing disk from the terminal: the store reports
//! them as a sentence. All other panics, including other panics of sled while the broker runs, are
//! shown as usual.

use std::cell::Cell;
use std::io;
use std::panic::{set_hook, take_hook};
use std::sync::Once;
use std::sync::atomic::{AtomicI32, AtomicUsize, Ordering};

static INSTALL: Once = Once::new();
/// The number of threads in `quietly`. sled's own threads may panic while they work for these
/// threads.
static QUIET: AtomicUsize = AtomicUsize::new(0);

/// The system's error on which sled last panicked.
static DISK_FAILURE: AtomicI32 = AtomicI32::new(0);

thread_local! {
    static HERE: Cell<usize> = const { Cell::new(0) };
}

/// The operating system's error on which sled panicked in this process, if it did.
pub(crate) fn disk_failure() -> Option<io::Error> {
    let errno = DISK_FAILURE.load(Ordering::SeqCst);
    (errno != 0).then(|| io::Error::from_raw_os_error(errno))
}

/// Runs `work`, which catches its own panics, and keeps these panics from being printed.
pub(super) fn quietly<T>(work: impl FnOnce() -> T) -> T {
    INSTALL.call_once(|| {
        let shown = take_hook();
        set_hook(Box::new(move |panic| {
            let of_sled =
                panic.location().is_some_and(|location| location.file().contains("/sled-0."));
            let failure = of_sled.then(|| panic.payload_as_str().and_then(os_error)).flatten();
            if let Some(errno) = failure.and_then(|failure| failure.raw_os_error()) {
                DISK_FAILURE.store(errno, Ordering::SeqCst);
                return;
            }
            // Later panics of sled follow from this failure.
            let follows = of_sled && DISK_FAILURE.load(Ordering::SeqCst) != 0;
            let quiet = follows || HERE.get() > 0 || (of_sled && QUIET.load(Ordering::SeqCst) > 0);
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

/// The operating system's error that a text of sled names: sled wraps some errors, and panics on
/// others.
pub(super) fn os_error(text: &str) -> Option<io::Error> {
    let digits = text.split_once("code: ")?.1;
    let end = digits.find(|character: char| !character.is_ascii_digit())?;
    digits[..end].parse().ok().map(io::Error::from_raw_os_error)
}
