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

use crate::plan::{Call, Fate, fate};

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
pub(crate) fn fate_of_pread(file: c_int) -> c_int {
    match fate_of_file(Call::Pread, file) {
        Fate::Fails(errno) => errno,
        Fate::AsEver | Fate::Half => 0,
    }
}

/// Calls on a descriptor count when it is a file. Pipes and the descriptors by which threads wake
/// each other do not count.
fn fate_of_file(call: Call, file: c_int) -> Fate {
    if !crate::plan::concerns(call) {
        return Fate::AsEver;
    }
    // SAFETY: all zeros are a valid stat, and fstat writes no more than one.
    let is_file = unsafe {
        let mut stat: libc::stat = std::mem::zeroed();
        libc::fstat(file, &raw mut stat) == 0 && stat.st_mode & libc::S_IFMT == libc::S_IFREG
    };
    if is_file { fate(call) } else { Fate::AsEver }
}

/// Calls on a path count when it is on the disk under test.
///
/// # Safety
/// `path` ends with a zero byte.
unsafe fn fate_of_path(call: Call, path: *const c_char) -> Fate {
    if !crate::plan::concerns(call) {
        return Fate::AsEver;
    }
    // SAFETY: the caller says so.
    let bytes = unsafe { CStr::from_ptr(path) }.to_bytes();
    if crate::plan::is_on_disk(Path::new(OsStr::from_bytes(bytes))) {
        fate(call)
    } else {
        Fate::AsEver
    }
}

/// The bytes that a call may write, or the error with which it fails.
fn length(fate: Fate, bytes: size_t) -> Result<size_t, c_int> {
    match fate {
        Fate::AsEver => Ok(bytes),
        Fate::Half => Ok(bytes.div_ceil(2)),
        Fate::Fails(errno) => Err(errno),
    }
}

macro_rules! takes_the_place_of {
    ($(fn $name:ident($($argument:ident: $kind:ty),*) -> $result:ty = $number:ident, $fate:expr;)*) => {
        $(
            /// See the head of this file.
            #[unsafe(no_mangle)]
            unsafe extern "C" fn $name($($argument: $kind),*) -> $result {
                // SAFETY: whoever calls it keeps the rules of the function of this name.
                #[allow(unused_unsafe)]
                let fate: Fate = unsafe { $fate };
                match fate {
                    Fate::Fails(errno) => fail(errno) as $result,
                    // SAFETY: the arguments are passed on as they are.
                    Fate::AsEver | Fate::Half => unsafe { libc::syscall(libc::$number, $($argument),*) as $result },
                }
            }
        )*
    };
}

takes_the_place_of! {
    fn fdatasync(file: c_int) -> c_int = SYS_fdatasync, fate_of_file(Call::Fdatasync, file);
    fn fsync(file: c_int) -> c_int = SYS_fsync, fate(Call::Fsync);
    fn ftruncate64(file: c_int, bytes: off_t) -> c_int = SYS_ftruncate, fate_of_file(Call::Ftruncate, file);
    fn read(file: c_int, buffer: *mut c_void, bytes: size_t) -> ssize_t = SYS_read, fate_of_file(Call::Read, file);
    fn rename(from: *const c_char, to: *const c_char) -> c_int = SYS_rename, fate_of_path(Call::Rename, from);
    fn unlink(path: *const c_char) -> c_int = SYS_unlink, fate_of_path(Call::Unlink, path);
    fn mkdir(path: *const c_char, mode: mode_t) -> c_int = SYS_mkdir, fate_of_path(Call::Mkdir, path);
}

/// In C the last argument may be left out; it then has no meaning.
#[unsafe(no_mangle)]
unsafe extern "C" fn open64(path: *const c_char, flags: c_int, mode: mode_t) -> c_int {
    // SAFETY: as whoever calls it promises.
    match unsafe { fate_of_path(Call::Open, path) } {
        Fate::Fails(errno) => fail(errno) as c_int,
        // SAFETY: the arguments are passed on as they are.
        _ => unsafe { libc::syscall(libc::SYS_openat, libc::AT_FDCWD, path, flags, mode) as c_int },
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn write(file: c_int, buffer: *const c_void, bytes: size_t) -> ssize_t {
    match length(fate_of_file(Call::Write, file), bytes) {
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
    match length(fate_of_file(Call::Pwrite, file), bytes) {
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
