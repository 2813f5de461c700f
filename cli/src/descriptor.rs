//! Writing to a file descriptor without Rust's own locks and buffers, and the number of descriptors
//! that a command needs.
//!
//! Another program that shares stdout or stderr may have made it non-blocking, as Node does with
//! pipes. A full pipe then refuses bytes for a moment; every function here waits for its reader.

use std::fs::File;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fd::BorrowedFd;
use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};

use crate::exit::Failure;

/// The descriptors of a runtime, its signals, one connection, and the files that resolve a name.
/// Without them the runtime panics.
const NEEDED: usize = 16;

/// Writes some of the bytes, at least one, and returns how many. Waits for the reader without a
/// limit.
///
/// # Errors
/// The error of the operating system.
pub(crate) fn write_some(to: BorrowedFd<'_>, bytes: &[u8]) -> Result<usize, Errno> {
    loop {
        match rustix::io::write(to, bytes) {
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => {
                match poll(&mut [PollFd::from_borrowed_fd(to, PollFlags::OUT)], None) {
                    Ok(_) | Err(Errno::INTR) => {}
                    Err(error) => return Err(error),
                }
            }
            outcome => return outcome,
        }
    }
}

/// Writes all bytes. Waits for the reader without a limit.
///
/// # Errors
/// The error of the operating system. A part of the bytes may be written then.
pub(crate) fn write_all(to: BorrowedFd<'_>, mut bytes: &[u8]) -> Result<(), Errno> {
    while !bytes.is_empty() {
        let count = write_some(to, bytes)?;
        bytes = &bytes[count..];
    }
    Ok(())
}

/// Refuses a limit of open files that is too low for any command.
pub(crate) fn check_limit() -> Result<(), Failure> {
    let mut spare = Vec::with_capacity(NEEDED);
    for _ in 0..NEEDED {
        match File::open("/dev/null") {
            Ok(file) => spare.push(file),
            Err(error) if Errno::from_io_error(&error) == Some(Errno::MFILE) => {
                let limit = getrlimit(Resource::Nofile).current.unwrap_or_default();
                return Err(Failure::error(format!(
                    "this process may have {limit} files open, and every command needs {NEEDED} \
                     more than are open now: raise the limit (`ulimit -n`)"
                )));
            }
            // A system without this device says nothing about the limit.
            Err(_) => return Ok(()),
        }
    }
    Ok(())
}
