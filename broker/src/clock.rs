//! The one file that reads the time.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::machine::command::{Monotonic, Now};
use crate::record::Timestamp;

/// The longest that the driver sleeps: how late it notices that somebody set the wall clock.
const SLEEP_MAX: Duration = Duration::from_secs(1);

#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    start: Instant,
}

impl Clock {
    pub(crate) fn new() -> Self {
        Self { start: Instant::now() }
    }

    pub(crate) fn now(&self) -> Now {
        // A clock before 1970 reads as 1970.
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as Timestamp);
        Now { wall, mono: self.start.elapsed().as_millis() as Monotonic }
    }

    /// How long until the earlier of two deadlines.
    pub(crate) fn until(&self, (wall, mono): (Option<Timestamp>, Option<Monotonic>)) -> Duration {
        let now = self.now();
        let wall = wall.map_or(u64::MAX, |at| at.saturating_sub(now.wall).max(0) as u64);
        let mono = mono.map_or(u64::MAX, |at| at.saturating_sub(now.mono));
        Duration::from_millis(wall.min(mono)).min(SLEEP_MAX)
    }
}
