//! The signals for a running handler: it should stop, its soft time limit is over, it is dropped. A
//! raised signal stays raised.

use std::sync::atomic::{AtomicU8, Ordering};

use tokio::sync::Notify;

/// One signal, or a set of signals.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Signal(u8);

impl Signal {
    /// The handler should stop when it can.
    pub(crate) const CANCEL: Self = Self(1);
    /// The soft time limit is over.
    pub(crate) const SOFT_LIMIT: Self = Self(2);
    /// The handler is dropped at once.
    pub(crate) const DROP: Self = Self(4);
    /// The broker has the report of the start; see `Delivery.report_start`.
    pub(crate) const MAY_BEGIN: Self = Self(8);
    /// The handler is dropped because the lease is lost.
    pub(crate) const LOST: Self = Self(16);
    /// The handler is dropped because its task was handed back.
    pub(crate) const HANDED_BACK: Self = Self(32);
    /// The handler is dropped because the broker found its time limit over.
    pub(crate) const TIME_LIMIT: Self = Self(64);
    /// The handler is dropped because the broker no longer accepts the worker.
    pub(crate) const REFUSED: Self = Self(128);
    /// The signals that end the wait for that answer.
    pub(crate) const MAY_BEGIN_OR_DROP: Self = Self(Self::MAY_BEGIN.0 | Self::DROP.0);
    /// The signals that tell the handler to stop.
    pub(crate) const STOP: Self = Self(Self::CANCEL.0 | Self::DROP.0);
}

/// The signals of one run.
#[derive(Debug, Default)]
pub(crate) struct Signals {
    raised: AtomicU8,
    changed: Notify,
}

impl Signals {
    /// Raises a signal, and wakes every task that waits for it.
    pub(crate) fn raise(&self, signal: Signal) {
        self.raised.fetch_or(signal.0, Ordering::Release);
        self.changed.notify_waiters();
    }

    /// True when one of these signals was raised.
    pub(crate) fn is_raised(&self, signal: Signal) -> bool {
        self.raised.load(Ordering::Acquire) & signal.0 != 0
    }

    /// Returns when one of these signals is raised.
    pub(crate) async fn raised(&self, signal: Signal) {
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            // Listen before looking, so that a signal in between is not missed.
            changed.as_mut().enable();
            if self.is_raised(signal) {
                return;
            }
            changed.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_signal_stays_raised_and_wakes_the_task_that_waits_for_it() {
        let signals = std::sync::Arc::new(Signals::default());
        let waiting = tokio::spawn({
            let signals = signals.clone();
            async move { signals.raised(Signal::STOP).await }
        });
        signals.raise(Signal::SOFT_LIMIT);
        assert!(!signals.is_raised(Signal::STOP));
        signals.raise(Signal::DROP);
        waiting.await.expect("it ends");
        signals.raised(Signal::SOFT_LIMIT).await;
    }
}
