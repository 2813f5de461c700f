//! The levels of lines for systemd's journal, which reads them from a prefix such as `<4>`.

use rustix::fs::fstat;
use tracing::Level;

/// Whether stderr is the journal: systemd then names the device and inode of that stream in
/// `JOURNAL_STREAM`. The variable alone is not enough, because a program that systemd started may
/// have sent the stderr of this process elsewhere.
pub(super) fn is_stderr() -> bool {
    let Ok(named) = std::env::var("JOURNAL_STREAM") else { return false };
    fstat(rustix::stdio::stderr()).is_ok_and(|found| {
        named.split_once(':').is_some_and(|(device, inode)| {
            device.parse() == Ok(found.st_dev) && inode.parse() == Ok(found.st_ino)
        })
    })
}

/// The prefix of a line of this level.
pub(super) fn prefix(level: Level) -> &'static str {
    match level {
        Level::ERROR => "<3>",
        Level::WARN => "<4>",
        Level::INFO => "<6>",
        _ => "<7>",
    }
}
