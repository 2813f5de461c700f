//! The program that reads stdout. It may close its end, as `head` does when it has read enough. A
//! command that waits writes nothing meanwhile, so it would not notice this by itself.

use rustix::event::{PollFd, PollFlags, poll};
use tokio::sync::oneshot;

use crate::exit::Failure;

/// Runs a command that waits, until its reader is gone.
pub(crate) async fn until_reader_gone<T>(
    command: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    tokio::select! {
        outcome = command => outcome,
        () = gone() => Err(Failure::ReaderGone),
    }
}

/// Waits until the reader of stdout has closed its end.
async fn gone() {
    let (sender, receiver) = oneshot::channel();
    // The thread blocks, and ends with the process at the latest.
    let watch = move || {
        let mut stdout = [PollFd::from_borrowed_fd(rustix::stdio::stdout(), PollFlags::empty())];
        while poll(&mut stdout, None) == Err(rustix::io::Errno::INTR) {}
        if stdout[0].revents().intersects(PollFlags::ERR | PollFlags::HUP) {
            let _ = sender.send(());
        }
    };
    let started = std::thread::Builder::new().name("reader".into()).spawn(watch);
    // Without the thread, and for a stdout that is no pipe, the command notices it when it writes.
    if started.is_err() || receiver.await.is_err() {
        std::future::pending().await
    }
}
