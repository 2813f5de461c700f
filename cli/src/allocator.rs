//! The allocator, and the end of a process that gets no more memory: one sentence and an exit code of its own, in place of
//! an abort. Rust has no stable hook for it, so that this file implements the allocator's unsafe interface; it passes every
//! call on as it came.
//!
//! Memory that others take away (the kernel's out-of-memory killer) ends a process without a word; nothing can be done here.

#![allow(unsafe_code, reason = "see above: each call is passed on under the contract it came with")]

use std::alloc::{GlobalAlloc, Layout};

use mimalloc::MiMalloc;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::exit::Exit;

/// The broker's messages are made on one thread and freed on another, in all sizes: the C library's allocator keeps several
/// times what is in use. This one gives it back.
pub(crate) struct Allocator;

const SENTENCE: &[u8] = b"celeriac: there is no more memory for this process; what was confirmed is safe\n";

// SAFETY: mimalloc keeps the contract; a pointer that is returned is what it returned and is not null.
unsafe impl GlobalAlloc for Allocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller keeps the contract of this very function.
        checked(unsafe { MiMalloc.alloc(layout) })
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { MiMalloc.dealloc(pointer, layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as above.
        checked(unsafe { MiMalloc.alloc_zeroed(layout) })
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
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

/// Allocates nothing, takes no lock, and waits for nobody.
#[cold]
fn end() -> ! {
    let stderr = rustix::stdio::stderr();
    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    let has_room = poll(&mut [PollFd::from_borrowed_fd(stderr, PollFlags::OUT)], Some(&at_once));
    if has_room.is_ok_and(|ready| ready > 0) {
        let _ = rustix::io::write(stderr, SENTENCE);
    }
    // SAFETY: it only ends the process, without what others registered to be done then, which may want memory.
    unsafe { libc::_exit(Exit::Memory.code().into()) }
}
