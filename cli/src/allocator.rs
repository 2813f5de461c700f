//! The allocator. A process that gets no more memory ends with one sentence and its own exit code
//! instead of an abort. A process that has become idle gives memory back to the operating system.
//! Rust has no stable hook for either, so this file implements the unsafe interface of an
//! allocator. It passes every call on unchanged.
//!
//! When the kernel's out-of-memory killer ends the process, this file can print nothing.

#![allow(unsafe_code, reason = "see above: each call is passed on under the caller's contract")]

use std::alloc::{GlobalAlloc, Layout};
use std::convert::Infallible;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use mimalloc::MiMalloc;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::exit::Exit;

/// Passes every call on to mimalloc. The broker allocates messages of all sizes on one thread and
/// frees them on another. The C library's allocator then keeps several times the memory that is in
/// use; mimalloc gives it back.
pub(crate) struct Allocator;

const SENTENCE: &[u8] =
    b"celeriac: this process gets no more memory; everything that was confirmed is safe\n";

// SAFETY: mimalloc keeps the contract. A returned pointer comes from mimalloc and is not null.
unsafe impl GlobalAlloc for Allocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller keeps the contract of this function.
        checked(unsafe { MiMalloc.alloc(layout) })
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count_large(layout.size());
        // SAFETY: as above.
        unsafe { MiMalloc.dealloc(pointer, layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as above.
        checked(unsafe { MiMalloc.alloc_zeroed(layout) })
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count_large(layout.size());
        // SAFETY: as above.
        checked(unsafe { MiMalloc.realloc(pointer, layout, size) })
    }
}

fn checked(pointer: *mut u8) -> *mut u8 {
    if pointer.is_null() {
        end();
    }
    pointer
}

/// How many large blocks were freed.
static LARGE_FREED: AtomicUsize = AtomicUsize::new(0);

/// A block of this size is large: keeping it would cost other programs noticeable memory.
const LARGE_BYTES: usize = 64 * 1024;

/// A process is idle when it has freed no large block for this long.
const IDLE: Duration = Duration::from_secs(1);

fn count_large(bytes: usize) {
    if bytes >= LARGE_BYTES {
        LARGE_FREED.fetch_add(1, Ordering::Relaxed);
    }
}

/// Gives freed memory back each time that the process becomes idle. Never ends. mimalloc gives
/// freed memory back when a thread frees more, and in an idle process no thread does. A thread can
/// give back only memory that it allocated itself, so this function starts a task for each of the
/// runtime's `threads`, besides the thread of the caller.
pub(crate) async fn give_back_when_idle(threads: usize) -> Infallible {
    let (mut before, mut given_back) = (0, 0);
    loop {
        tokio::time::sleep(IDLE).await;
        let freed = LARGE_FREED.load(Ordering::Relaxed);
        if freed == before && freed != given_back {
            give_back();
            for _ in 0..threads {
                tokio::spawn(async { give_back() });
            }
            given_back = freed;
        }
        before = freed;
    }
}

fn give_back() {
    unsafe extern "C" {
        /// A function of mimalloc.
        fn mi_collect(force: bool);
    }
    // SAFETY: any thread may call this function at any time.
    unsafe { mi_collect(true) };
}

/// Prints the sentence and ends the process. This function must not allocate, lock or wait.
#[cold]
fn end() -> ! {
    let stderr = rustix::stdio::stderr();
    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    let has_room = poll(&mut [PollFd::from_borrowed_fd(stderr, PollFlags::OUT)], Some(&at_once));
    if has_room.is_ok_and(|ready| ready > 0) {
        let _ = rustix::io::write(stderr, SENTENCE);
    }
    // SAFETY: `_exit` only ends the process. It does not run exit handlers, which may allocate.
    unsafe { libc::_exit(Exit::Memory.code().into()) }
}
