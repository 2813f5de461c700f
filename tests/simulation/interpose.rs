//! The time and the randomness of the simulation, and one of the places in the tests with unsafe
//! code: functions of the C library that this program defines itself. The linker prefers them. So
//! the standard library, tokio and every crate get simulated time and seeded randomness, and
//! production code needs no seam for either.
//!
//! - The clocks stand still while any task works, and jump ahead when every task waits.
//! - `epoll_wait` is where an idle runtime sleeps. Here it does not sleep but moves the clocks.
//! - `getrandom` gives bytes that depend on the seed. Ids, hash maps and the fairness of `select!`
//!   use it.
//! - The process id and the files that describe this process are hidden, because they differ from
//!   run to run.
//!
//! All of it works for one thread only. [`check`] makes sure that the linker bound these functions.

#![allow(unsafe_code)]

use std::ffi::{c_char, c_int, c_uint, c_void};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

const NANOS: i64 = 1_000_000_000;

/// The monotonic clock, in nanoseconds. It does not start at 0, so that no subtraction goes below
/// its beginning.
static MONOTONIC: AtomicI64 = AtomicI64::new(1_000_000 * NANOS);
/// How far the wall clock is ahead of it.
static WALL_AHEAD: AtomicI64 = AtomicI64::new(1_800_000_000 * NANOS);
static RANDOM: AtomicU64 = AtomicU64::new(0);
static DEADLOCKED: AtomicBool = AtomicBool::new(false);

/// Sets the seed of the randomness of this process. Call it before any code draws random bytes.
pub fn seed(seed: u64) {
    RANDOM.store(seed, Relaxed);
}

/// Sets the wall clock forward or back.
pub fn jump(millis: i64) {
    WALL_AHEAD.fetch_add(millis * 1_000_000, Relaxed);
}

/// How far the wall clock was set, in total.
pub fn jumped_ms() -> i64 {
    WALL_AHEAD.load(Relaxed) / 1_000_000 - 1_800_000_000_000
}

/// Simulated time since the beginning.
pub fn elapsed() -> Duration {
    Duration::from_nanos((MONOTONIC.load(Relaxed) - 1_000_000 * NANOS) as u64)
}

/// The real time, which nothing in the simulation may depend on.
pub fn real_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the kernel writes one timespec.
    unsafe { libc::syscall(libc::SYS_clock_gettime, libc::CLOCK_MONOTONIC, &raw mut time) };
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Makes sure that all functions are bound. Otherwise a run would not be a simulation.
pub fn check() {
    let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    assert_eq!(wall, Duration::from_secs(1_801_000_000), "the wall clock is not bound");
    let before = Instant::now();
    MONOTONIC.fetch_add(NANOS, Relaxed);
    assert_eq!(before.elapsed(), Duration::from_secs(1), "the monotonic clock is not bound");
    MONOTONIC.fetch_sub(NANOS, Relaxed);
    let random = RANDOM.load(Relaxed);
    let _id = uuid::Uuid::new_v4();
    assert_ne!(RANDOM.load(Relaxed), random, "the randomness is not bound");
    RANDOM.store(random, Relaxed);
    assert_eq!(std::process::id(), 1, "the process id is not bound");
    assert!(std::fs::read("/proc/self/status").is_err(), "the files of this process can be seen");
}

/// Every task waits and no timer is set: nothing would ever happen again.
fn deadlock() -> ! {
    if !DEADLOCKED.swap(true, Relaxed) {
        eprintln!("deadlock: every task waits, and none for a time");
    }
    std::process::exit(3);
}

#[unsafe(no_mangle)]
extern "C" fn clock_gettime(clock: libc::clockid_t, time: *mut libc::timespec) -> c_int {
    let ahead = if clock == libc::CLOCK_REALTIME { WALL_AHEAD.load(Relaxed) } else { 0 };
    let nanos = MONOTONIC.load(Relaxed) + ahead;
    // SAFETY: the caller passes a timespec to be written, as it would to the C library.
    unsafe { time.write(libc::timespec { tv_sec: nanos / NANOS, tv_nsec: nanos % NANOS }) };
    0
}

#[unsafe(no_mangle)]
extern "C" fn epoll_wait(
    _poll: c_int,
    _events: *mut c_void,
    _room: c_int,
    timeout_ms: c_int,
) -> c_int {
    match i64::from(timeout_ms) {
        ..0 => deadlock(),
        millis => MONOTONIC.fetch_add(millis * 1_000_000, Relaxed),
    };
    0
}

#[unsafe(no_mangle)]
extern "C" fn getrandom(bytes: *mut c_void, count: usize, _flags: c_uint) -> isize {
    for at in 0..count {
        let state = RANDOM
            .load(Relaxed)
            .wrapping_mul(0x5851_F42D_4C95_7F2D)
            .wrapping_add(0x1405_7B7E_F767_814F);
        RANDOM.store(state, Relaxed);
        // SAFETY: the caller passes room for `count` bytes.
        unsafe { bytes.cast::<u8>().add(at).write((state >> 56) as u8) };
    }
    count as isize
}

#[unsafe(no_mangle)]
extern "C" fn getpid() -> libc::pid_t {
    1
}

/// The standard library cannot open any file.
#[unsafe(no_mangle)]
unsafe extern "C" fn open64(_path: *const c_char, _flags: c_int, _mode: c_uint) -> c_int {
    // SAFETY: the address of this thread's errno is always valid.
    unsafe { *libc::__errno_location() = libc::ENOENT };
    -1
}
