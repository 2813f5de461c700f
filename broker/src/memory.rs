//! What large frames took goes back to the system when they are gone.

/// From this size on the C library asks the system for memory of its own, and gives it back when it is freed. Without this
/// it raises the bound to the size of the largest frame it ever saw, and keeps what is freed below.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const LARGE_BYTES: libc::c_int = 1024 * 1024;

/// Has large pieces of memory given back as soon as they are free, for the process as a whole.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[allow(unsafe_code)]
pub(crate) fn give_back_large_pieces() {
    // SAFETY: it takes two numbers and sets a parameter under the allocator's own lock.
    let is_set = unsafe { libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE_BYTES) };
    debug_assert_eq!(is_set, 1, "the C library knows this parameter");
}

/// Other C libraries do so by themselves.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub(crate) fn give_back_large_pieces() {}
