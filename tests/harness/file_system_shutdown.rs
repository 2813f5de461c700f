//! Shuts an ext4 or XFS file system down as a power failure would: nothing more is written to its
//! disk, not even the journal. No crate has a safe wrapper for this request. `faults/power_cut.rs`
//! uses it.

#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;

/// `EXT4_IOC_SHUTDOWN`, from the kernel's `ext4.h`. XFS has the same number and the same flag.
const EXT4_IOC_SHUTDOWN: u32 = 0x8004_587d;
/// `EXT4_GOING_FLAGS_NOLOGFLUSH`: not even the journal is flushed.
const NO_LOG_FLUSH: u32 = 2;

/// From now on every write to the file system that is mounted here fails.
///
/// # Errors
/// When the kernel or the file system cannot do that.
pub(crate) fn cut_off(mounted: &Path) -> io::Result<()> {
    let folder = File::open(mounted)?;
    let flags = NO_LOG_FLUSH;
    // SAFETY: the request reads one 32-bit number at the address, which outlives the call, and
    // writes nothing.
    let outcome =
        unsafe { libc::ioctl(folder.as_raw_fd(), EXT4_IOC_SHUTDOWN.into(), &raw const flags) };
    if outcome == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
