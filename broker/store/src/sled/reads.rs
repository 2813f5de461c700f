//! The second unsafe function of the project: it prevents sled from treating a failed read as the
//! end of its log.
//!
//! While sled 0.34 opens a file it drops the errors of its reads. A segment whose header cannot be
//! read counts as free, a segment that cannot be read at all counts as the end of the log, and sled
//! overwrites seemingly free segments at once: a disk that fails for a moment during a start would
//! lose everything. So this file defines `pread64`, through which Rust's library reads at an
//! offset. The function does the same as the C library's, with one difference: it notes when a read
//! of a [guarded](ReadGuard) file fails, and while sled opens the file, the thread that read it
//! then stands still for good. The caller that opens the file sees the note.
//!
//! Linking must be verified: [`is_linked`] tells whether reads come here, and a start refuses the
//! folder when they do not.

#![allow(unsafe_code)]

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// The list is read only when a read fails.
static GUARDED: Mutex<Vec<Arc<GuardedFile>>> = Mutex::new(Vec::new());

static LINKED: AtomicBool =
    AtomicBool::new(!cfg!(all(target_os = "linux", target_pointer_width = "64")));

/// Decides for tests which reads fail, and with which error number. 0: the read runs as usual.
#[cfg(any(test, feature = "failing-reads"))]
pub static FAIL_READS: std::sync::OnceLock<fn(std::ffi::c_int) -> std::ffi::c_int> =
    std::sync::OnceLock::new();

/// Whether a read ever came through this file. True where the function cannot be defined.
pub(super) fn is_linked() -> bool {
    LINKED.load(Ordering::Relaxed)
}

#[derive(Debug)]
struct GuardedFile {
    device: u64,
    inode: u64,
    /// Whether a thread whose read fails stands still.
    holds: AtomicBool,
    errno: AtomicI32,
}

/// Watches the reads of one file until it is dropped.
#[derive(Debug)]
pub(super) struct ReadGuard(Arc<GuardedFile>);

impl ReadGuard {
    /// From now on, a thread that fails to read the file stands still.
    pub(super) fn holding(file: &Path) -> io::Result<Self> {
        let metadata = fs::metadata(file)?;
        let (device, inode) = (metadata.dev(), metadata.ino());
        let guarded = Arc::new(GuardedFile {
            device,
            inode,
            holds: AtomicBool::new(true),
            errno: AtomicI32::new(0),
        });
        GUARDED.lock().unwrap_or_else(PoisonError::into_inner).push(guarded.clone());
        Ok(Self(guarded))
    }

    /// From now on a failure is only noted.
    pub(super) fn let_go(&self) {
        self.0.holds.store(false, Ordering::SeqCst);
    }

    /// The system's error, if a read has failed.
    pub(super) fn failure(&self) -> Option<io::Error> {
        let errno = self.0.errno.load(Ordering::SeqCst);
        (errno != 0).then(|| io::Error::from_raw_os_error(errno))
    }
}

impl Drop for ReadGuard {
    fn drop(&mut self) {
        GUARDED
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .retain(|guarded| !Arc::ptr_eq(guarded, &self.0));
    }
}

/// Notes the failure if the file is guarded. Does not return if the watch holds failing threads.
#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
fn failed(file: std::ffi::c_int, errno: i32) {
    // SAFETY: the caller reads from this descriptor, so it is open, and stays so until the call
    // returns.
    let Ok(stat) = rustix::fs::fstat(unsafe { std::os::fd::BorrowedFd::borrow_raw(file) }) else {
        return;
    };
    let holds = {
        let list = GUARDED.lock().unwrap_or_else(PoisonError::into_inner);
        let is_it = |guarded: &&Arc<GuardedFile>| {
            guarded.inode == stat.st_ino && guarded.device == stat.st_dev
        };
        list.iter().filter(is_it).fold(false, |holds, guarded| {
            guarded.errno.store(errno, Ordering::SeqCst);
            holds | guarded.holds.load(Ordering::SeqCst)
        })
    };
    if holds {
        // A parked thread may wake up without a reason.
        loop {
            std::thread::park();
        }
    }
}

/// Replaces the C library's function.
///
/// # Safety
/// As for that function: `buffer` has room for this many bytes.
#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
#[cfg_attr(target_env = "musl", unsafe(export_name = "pread"))]
#[cfg_attr(not(target_env = "musl"), unsafe(no_mangle))]
unsafe extern "C" fn pread64(
    file: std::ffi::c_int,
    buffer: *mut std::ffi::c_void,
    bytes: libc::size_t,
    offset: i64,
) -> libc::ssize_t {
    LINKED.store(true, Ordering::Relaxed);
    #[cfg(any(test, feature = "failing-reads"))]
    let wanted = FAIL_READS.get().map_or(0, |errno_of| errno_of(file));
    #[cfg(not(any(test, feature = "failing-reads")))]
    let wanted = 0;
    // SAFETY: the caller's promise is passed on.
    let outcome = match wanted {
        0 => unsafe {
            libc::syscall(libc::SYS_pread64, file, buffer, bytes, offset) as libc::ssize_t
        },
        _ => -1,
    };
    if outcome < 0 {
        // SAFETY: the address of this thread's errno is always valid.
        let errno = if wanted == 0 { unsafe { *libc::__errno_location() } } else { wanted };
        if errno != libc::EINTR && errno != libc::EBADF {
            failed(file, errno);
        }
        // SAFETY: as above. Calls since then may have changed errno.
        unsafe { *libc::__errno_location() = errno };
    }
    outcome
}
