//! One of the two unsafe functions of the project, beside `reads.rs`: it makes a flush of sled
//! reach the disk.
//!
//! On Linux, sled 0.34 ends a flush with `sync_file_range`, which starts writing but asks nothing
//! of the disk: a power cut loses a confirmed flush, and with it the whole database. This file
//! defines a function of that name. The linker prefers it over the C library's, so sled's call
//! reaches this function and becomes an `fdatasync`, whose error reaches sled through `errno` as
//! before.
//!
//! Linking must be verified: [`syncs`] counts the calls, the store compares the count around every
//! flush, and a test watches the system calls. If sled is ever replaced or updated, this file is
//! the first thing to look at.

#![allow(unsafe_code)]

use std::ffi::{c_int, c_uint};
use std::sync::atomic::{AtomicU64, Ordering};

static SYNCS: AtomicU64 = AtomicU64::new(0);

/// The number of the first sync that fails. All later syncs fail too, as on a dying disk.
#[cfg(test)]
pub(crate) static FAIL_FROM: AtomicU64 = AtomicU64::new(u64::MAX);

/// The number of syncs of other files.
#[cfg(test)]
static OTHER_SYNCS: AtomicU64 = AtomicU64::new(0);

/// When set, syncs are not counted, as if the linker had bound sled to the C library's function.
#[cfg(test)]
pub(crate) static LINKED_WRONGLY: std::sync::atomic::AtomicBool =
    std::sync::atomic::AtomicBool::new(false);

/// Syncs a file that sled does not know: the bytes are on the disk when it returns `Ok`. The count
/// of [`syncs`] stays, because it is there to watch sled.
pub(super) fn sync_data(file: &std::fs::File) -> std::io::Result<()> {
    #[cfg(test)]
    {
        let count = OTHER_SYNCS.fetch_add(1, Ordering::SeqCst) + SYNCS.load(Ordering::SeqCst);
        if count >= FAIL_FROM.load(Ordering::SeqCst) {
            return Err(std::io::Error::from_raw_os_error(libc::EIO));
        }
    }
    file.sync_data()
}

/// The number of syncs of sled's files in this process.
pub(super) fn syncs() -> u64 {
    SYNCS.load(Ordering::SeqCst)
}

/// Replaces the C library's function and does more: the whole file, with the metadata needed to
/// read it back, is on the disk when it returns 0.
#[unsafe(no_mangle)]
extern "C" fn sync_file_range(file: c_int, _offset: i64, _bytes: i64, _flags: c_uint) -> c_int {
    #[cfg(test)]
    if SYNCS.load(Ordering::SeqCst) + OTHER_SYNCS.load(Ordering::SeqCst)
        >= FAIL_FROM.load(Ordering::SeqCst)
    {
        // SAFETY: the address of this thread's errno is always valid.
        unsafe { *libc::__errno_location() = libc::EIO };
        return -1;
    }
    #[cfg(test)]
    if LINKED_WRONGLY.load(Ordering::SeqCst) {
        return 0;
    }
    // SAFETY: fdatasync takes any number as its descriptor and reports a bad one through errno.
    let outcome = unsafe { libc::fdatasync(file) };
    if outcome == 0 {
        SYNCS.fetch_add(1, Ordering::SeqCst);
    }
    outcome
}
