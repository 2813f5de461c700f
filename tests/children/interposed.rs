//! Functions that replace functions of the C library: the linker prefers the definitions of the
//! program. Each asks [`crate::plan`] what should happen, and usually makes the system call as
//! before. The time of day is moved in the same way.
//!
//! Code that calls the kernel directly is not affected: rustix (locks, free space, the ballast
//! file) and sockets.

#![allow(unsafe_code)]

use std::ffi::{CStr, OsStr, c_char, c_int, c_long, c_void};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::atomic::{AtomicI64, Ordering};

use libc::{clockid_t, mode_t, off_t, size_t, ssize_t, timespec};

use crate::plan::{Call, Effect, effect};

/// The error of the time of day.
static OFFSET_SECONDS: AtomicI64 = AtomicI64::new(0);

/// Moves the time of day, as `date --set` does.
pub(crate) fn move_clock(seconds: i64) {
    OFFSET_SECONDS.fetch_add(seconds, Ordering::SeqCst);
}

fn fail(errno: c_int) -> c_long {
    // SAFETY: the address of this thread's errno is always valid.
    unsafe { *libc::__errno_location() = errno };
    -1
}

/// How a read at an offset fails. 0: it works. The broker has replaced that call itself, and asks
/// this function.
pub(crate) fn effect_on_pread(file: c_int) -> c_int {
    match effect_on_file(Call::Pread, file) {
        Effect::Fails(errno) => errno,
        Effect::None | Effect::Half => 0,
    }
}

/// Calls on a descriptor count when it is a file. Pipes and the descriptors by which threads wake
/// each other do not count.
fn effect_on_file(call: Call, file: c_int) -> Effect {
    if !crate::plan::concerns(call) {
        return Effect::None;
    }
    // SAFETY: all zeros are a valid stat, and fstat writes no more than one.
    let is_file = unsafe {
        let mut stat: libc::stat = std::mem::zeroed();
        libc::fstat(file, &raw mut stat) == 0 && stat.st_mode & libc::S_IFMT == libc::S_IFREG
    };
    if is_file { effect(call) } else { Effect::None }
}

/// Calls on a path count when it is on the disk under test.
///
/// # Safety
/// `path` ends with a zero byte.
unsafe fn effect_on_path(call: Call, path: *const c_char) -> Effect {
    if !crate::plan::concerns(call) {
        return Effect::None;
    }
    // SAFETY: the caller says so.
    let bytes = unsafe { CStr::from_ptr(path) }.to_bytes();
    if crate::plan::is_on_disk(Path::new(OsStr::from_bytes(bytes))) {
        effect(call)
    } else {
        Effect::None
    }
}

/// The bytes that a call may write, or the error with which it fails.
fn length(effect: Effect, bytes: size_t) -> Result<size_t, c_int> {
    match effect {
        Effect::None => Ok(bytes),
        Effect::Half => Ok(bytes.div_ceil(2)),
        Effect::Fails(errno) => Err(errno),
    }
}

macro_rules! takes_the_place_of {
    ($(fn $name:ident($($argument:ident: $kind:ty),*) -> $result:ty = $number:ident, $effect:expr;)*) => {
        $(
            /// See the head of this file.
            #[unsafe(no_mangle)]
            unsafe extern "C" fn $name($($argument: $kind),*) -> $result {
                // SAFETY: whoever calls it keeps the rules of the function of this name.
                #[allow(unused_unsafe)]
                let effect: Effect = unsafe { $effect };
                match effect {
                    Effect::Fails(errno) => fail(errno) as $result,
                    // SAFETY: the arguments are passed on as they are.
                    Effect::None | Effect::Half => unsafe { libc::syscall(libc::$number, $($argument),*) as $result },
                }
            }
        )*
    };
}

takes_the_place_of! {
    fn fdatasync(file: c_int) -> c_int = SYS_fdatasync, effect_on_file(Call::Fdatasync, file);
    fn fsync(file: c_int) -> c_int = SYS_fsync, effect(Call::Fsync);
    fn ftruncate64(file: c_int, bytes: off_t) -> c_int = SYS_ftruncate, effect_on_file(Call::Ftruncate, file);
    fn read(file: c_int, buffer: *mut c_void, bytes: size_t) -> ssize_t = SYS_read, effect_on_file(Call::Read, file);
    fn rename(from: *const c_char, to: *const c_char) -> c_int = SYS_rename, effect_on_path(Call::Rename, from);
    fn unlink(path: *const c_char) -> c_int = SYS_unlink, effect_on_path(Call::Unlink, path);
    fn mkdir(path: *const c_char, mode: mode_t) -> c_int = SYS_mkdir, effect_on_path(Call::Mkdir, path);
}

/// In C the last argument may be left out; it then has no meaning.
#[unsafe(no_mangle)]
unsafe extern "C" fn open64(path: *const c_char, flags: c_int, mode: mode_t) -> c_int {
    // SAFETY: as whoever calls it promises.
    match unsafe { effect_on_path(Call::Open, path) } {
        Effect::Fails(errno) => fail(errno) as c_int,
        // SAFETY: the arguments are passed on as they are.
        _ => unsafe { libc::syscall(libc::SYS_openat, libc::AT_FDCWD, path, flags, mode) as c_int },
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn write(file: c_int, buffer: *const c_void, bytes: size_t) -> ssize_t {
    match length(effect_on_file(Call::Write, file), bytes) {
        Err(errno) => fail(errno) as ssize_t,
        // SAFETY: the buffer has at least that many bytes.
        Ok(bytes) => unsafe { libc::syscall(libc::SYS_write, file, buffer, bytes) as ssize_t },
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn pwrite64(
    file: c_int,
    buffer: *const c_void,
    bytes: size_t,
    at: off_t,
) -> ssize_t {
    match length(effect_on_file(Call::Pwrite, file), bytes) {
        Err(errno) => fail(errno) as ssize_t,
        // SAFETY: the buffer has at least that many bytes.
        Ok(bytes) => unsafe {
            libc::syscall(libc::SYS_pwrite64, file, buffer, bytes, at) as ssize_t
        },
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn clock_gettime(clock: clockid_t, time: *mut timespec) -> c_int {
    // SAFETY: the arguments are passed on as they are, and the kernel has filled in the time when
    // it returns 0.
    unsafe {
        let outcome = libc::syscall(libc::SYS_clock_gettime, clock, time) as c_int;
        if outcome == 0 && clock == libc::CLOCK_REALTIME {
            (*time).tv_sec += OFFSET_SECONDS.load(Ordering::SeqCst);
        }
        outcome
    }
}
