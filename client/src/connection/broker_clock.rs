//! An estimate of the broker's clock. A submit that is sent again compares times of the broker with
//! the time of its first copy, and must not take an older task for its own.

use std::time::Instant;

/// An estimate of the broker's clock that is never ahead of it.
pub(super) struct BrokerClock {
    server_time_ms: i64,
    heard_at: Instant,
}

impl BrokerClock {
    /// The broker said that this is the time now. The message took a moment, so the estimate is
    /// behind the broker's clock by that moment.
    pub(super) fn set(server_time_ms: i64) -> Self {
        Self { server_time_ms, heard_at: Instant::now() }
    }

    /// The broker's time now, in milliseconds since 1970.
    pub(super) fn now_ms(&self) -> i64 {
        let since = i64::try_from(self.heard_at.elapsed().as_millis()).unwrap_or(0);
        self.server_time_ms.saturating_add(since)
    }
}
