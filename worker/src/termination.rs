//! The signals of the operating system that shut a worker down: the first one gracefully, the
//! second one at once. `driver` carries the shutdown out.

use std::io;

use tokio::sync::watch;

use crate::driver::Shutdown;

/// Turns signals into shutdown requests from now on, on the runtime of the caller.
///
/// # Errors
/// When the system does not let this process handle the signals.
#[cfg(unix)]
pub(crate) fn listen(shutdown: watch::Sender<Shutdown>) -> io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    // Both are set up before this function returns: a signal that comes then is not lost.
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::spawn(async move {
        for request in [Shutdown::Graceful, Shutdown::Immediate] {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            tracing::info!(
                now = matches!(request, Shutdown::Immediate),
                "a signal asks the worker to shut down"
            );
            // A request never goes back to a lower one.
            shutdown.send_modify(|shutdown| *shutdown = (*shutdown).max(request));
        }
    });
    Ok(())
}

/// On a system without SIGTERM, Ctrl-C takes its place.
#[cfg(not(unix))]
pub(crate) fn listen(shutdown: watch::Sender<Shutdown>) -> io::Result<()> {
    tokio::spawn(async move {
        for request in [Shutdown::Graceful, Shutdown::Immediate] {
            if tokio::signal::ctrl_c().await.is_err() {
                return;
            }
            shutdown.send_modify(|shutdown| *shutdown = (*shutdown).max(request));
        }
    });
    Ok(())
}
