//! What a service manager is told: that the broker is ready, that it stops, and that it works.

use std::convert::Infallible;
use std::time::Duration;

use celeriac_broker::Control;
use sd_notify::NotifyState;

/// Notifies systemd, if it set a notify socket. A broken socket must not stop the broker.
pub(super) fn notify_manager(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        tracing::warn!(%error, "cannot notify the service manager");
    }
}

/// Tells systemd's watchdog that the broker works, each time that a request would have come through
/// the driver and the commit. A broker that hangs tells nothing, and systemd ends it. Never
/// returns.
pub(super) async fn feed_watchdog(control: &Control) -> Infallible {
    let Some(span) = sd_notify::watchdog_enabled() else { return std::future::pending().await };
    // Without a sign of life within the span systemd ends the process. Half of it leaves room for a
    // commit that takes long.
    let pause = (span / 2).max(Duration::from_millis(1));
    // A broker that shuts down is no longer watched.
    while control.pass().await.is_some() {
        notify_manager(NotifyState::Watchdog);
        tokio::time::sleep(pause).await;
    }
    std::future::pending().await
}
