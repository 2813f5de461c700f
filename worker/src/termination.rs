//! The signals of the operating system that end a worker: the first in good order, the second at
//! once. What these ends look like is the matter of `driver.rs`.

use std::io;

use tokio::sync::watch;

use crate::driver::Stage;

/// Watches for signals from now on, on the runtime of the caller.
///
/// # Errors
/// When the system does not let this process handle them.
#[cfg(unix)]
pub(crate) fn watch(stage: watch::Sender<Stage>) -> io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::spawn(async move {
        for wanted in [Stage::Drain, Stage::Release] {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            tracing::info!(now = matches!(wanted, Stage::Release), "told to end");
            stage.send_modify(|stage| *stage = (*stage).max(wanted));
        }
    });
    Ok(())
}

/// Where there is no SIGTERM, Ctrl-C stands for it.
#[cfg(not(unix))]
pub(crate) fn watch(stage: watch::Sender<Stage>) -> io::Result<()> {
    tokio::spawn(async move {
        for wanted in [Stage::Drain, Stage::Release] {
            if tokio::signal::ctrl_c().await.is_err() {
                return;
            }
            stage.send_modify(|stage| *stage = (*stage).max(wanted));
        }
    });
    Ok(())
}
