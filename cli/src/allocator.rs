//! The allocator. A process that gets no more memory ends with one sentence and an exit code of its
//! own, in place of an abort; a process that has become quiet gives memory back to the operating
//! system. Rust has no stable hook for either, so that this file implements the allocator's unsafe
//! interface; it passes every call on as it came.
//!
//! Memory that others take away (the kernel's out-of-memory killer) ends a process without a word;
//! nothing can be done here.

#![allow(unsafe_code, reason = "see above: each call is passed on under the contract it came with")]

use std::alloc::{GlobalAlloc, Layout};
use std::convert::Infallible;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use mimalloc::MiMalloc;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::exit::Exit;

/// The broker's messages are made on one thread and freed on another, in all sizes: the C library's
/// allocator keeps several times what is in use. This one gives it back.
pub(crate) struct Allocator;

const SENTENCE: &[u8] =
    b"celeriac: there is no more memory for this process; what was confirmed is safe\n";

// SAFETY: mimalloc keeps the contract; a pointer that is returned is what it returned and is not
// null.
unsafe impl GlobalAlloc for Allocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller keeps the contract of this very function.
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

/// How often something large was freed.
static LARGE_FREED: AtomicUsize = AtomicUsize::new(0);

/// Memory of this size and more is missed where it is not given back.
const LARGE_BYTES: usize = 64 * 1024;

/// For so long nothing large was freed in a process that is quiet.
const QUIET: Duration = Duration::from_secs(1);

fn count_large(bytes: usize) {
    if bytes >= LARGE_BYTES {
        LARGE_FREED.fetch_add(1, Ordering::Relaxed);
    }
}

/// Gives memory back that was freed, each time that the process becomes quiet; never ends. mimalloc
/// gives back what was freed before when a thread frees more, and in a process that does nothing no
/// thread does. A thread can give back only what it allocated itself, so that there is a task for
/// each of the runtime's `threads` beside the thread of the caller.
pub(crate) async fn give_back_when_quiet(threads: usize) -> Infallible {
    let (mut before, mut given_back) = (0, 0);
    loop {
        tokio::time::sleep(QUIET).await;
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
        /// Of mimalloc.
        fn mi_collect(force: bool);
    }
    // SAFETY: any thread may call it at any time.
    unsafe { mi_collect(true) };
}

/// Allocates nothing, takes no lock, and waits for nobody.
#[cold]
fn end() -> ! {
    let stderr = rustix::stdio::stderr();
    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    let has_room = poll(&mut [PollFd::from_borrowed_fd(stderr, PollFlags::OUT)], Some(&at_once));
    if has_room.is_ok_and(|ready| ready > 0) {
        let _ = rustix::io::write(stderr, SENTENCE);
    }
    // SAFETY: it only ends the process, without what others registered to be done then, which may
    // want memory.
    unsafe { libc::_exit(Exit::Memory.code().into()) }
}
