//! The one file that reads the time.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use celeriac_machine::command::{Monotonic, Now};
use celeriac_record::Timestamp;

/// The longest sleep of the driver. The driver notices at most this late that the wall clock was
/// set.
const SLEEP_MAX: Duration = Duration::from_secs(1);

/// Two clock readings within this time count as read at the same moment. Otherwise the clock reads
/// again, `READS_MAX` times at most.
const SAME_MOMENT: Duration = Duration::from_micros(50);
const READS_MAX: u32 = 3;

const NANOS_PER_MILLI: i64 = 1_000_000;

/// Measures a short span.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stopwatch(Instant);

impl Stopwatch {
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Clock {
    start: Instant,
    /// The wall clock minus the time since the start, in whole milliseconds.
    ahead: Arc<AtomicI64>,
}

impl Clock {
    pub(crate) fn new() -> Self {
        Self { start: Instant::now(), ahead: Arc::new(AtomicI64::new(0)) }
    }

    pub(crate) fn now(&self) -> Now {
        let (since_start, wall) = self.read();
        let mono = since_start.as_millis() as Monotonic;
        let seen_ns = nanos(wall).saturating_sub(nanos(since_start));
        let ahead = steady_ahead(self.ahead.load(Ordering::Relaxed), seen_ns);
        self.ahead.store(ahead, Ordering::Relaxed);
        Now { wall: ahead.saturating_add_unsigned(mono), mono }
    }

    /// Reads both clocks at the same moment, and reads again when the thread was interrupted
    /// between them. A wall clock before 1970 reads as 1970.
    fn read(&self) -> (Duration, Duration) {
        let mut tries = 0;
        loop {
            let before = self.start.elapsed();
            let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            tries += 1;
            if tries == READS_MAX || self.start.elapsed() - before < SAME_MOMENT {
                return (before, wall);
            }
        }
    }

    /// The time until the earlier of two deadlines.
    pub(crate) fn until(&self, (wall, mono): (Option<Timestamp>, Option<Monotonic>)) -> Duration {
        let now = self.now();
        let wall = wall.map_or(u64::MAX, |at| at.saturating_sub(now.wall).max(0) as u64);
        let mono = mono.map_or(u64::MAX, |at| at.saturating_sub(now.mono));
        Duration::from_millis(wall.min(mono)).min(SLEEP_MAX)
    }
}

/// The distance by which the wall clock counts as ahead. It counted as `before_ms` ahead before,
/// and is now measured as `seen_ns` ahead.
///
/// The distance stays the same while the wall clock stays within a millisecond of it, so that the
/// times of a span fit together exactly. The distance is rounded down: no task becomes due before
/// its time of day.
fn steady_ahead(before_ms: Timestamp, seen_ns: i64) -> Timestamp {
    let above_ns = seen_ns.saturating_sub(before_ms.saturating_mul(NANOS_PER_MILLI));
    if (-nanos(SAME_MOMENT)..2 * NANOS_PER_MILLI).contains(&above_ns) {
        return before_ms;
    }
    seen_ns.div_euclid(NANOS_PER_MILLI)
}

/// A moment as RFC 3339 in UTC, to the millisecond.
pub(crate) fn moment(at: Timestamp) -> String {
    let Ok(second) = x509_parser::time::ASN1Time::from_timestamp(at.div_euclid(1_000)) else {
        return "a time beyond all calendars".to_owned();
    };
    let second = second.to_datetime();
    let (year, month, day) = (second.year(), u8::from(second.month()), second.day());
    let (hour, minute, second) = (second.hour(), second.minute(), second.second());
    let millisecond = at.rem_euclid(1_000);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millisecond:03}Z")
}

fn nanos(time: Duration) -> i64 {
    i64::try_from(time.as_nanos()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_two_clocks_are_read_apart_changes_nothing_and_a_clock_that_is_set_does() {
        let seen_us = [
            700_400, 700_390, 700_999, 701_001, 699_980, 701_999, 699_900, 702_000, -5_500,
            9_000_000,
        ];
        let counted = seen_us.iter().scan(0, |ahead, seen_us| {
            *ahead = steady_ahead(*ahead, seen_us * 1_000);
            Some(*ahead)
        });
        assert_eq!(
            counted.collect::<Vec<_>>(),
            [700, 700, 700, 700, 700, 700, 699, 702, -6, 9_000]
        );
    }

    #[test]
    fn a_span_is_as_long_on_the_wall_clock() {
        let clock = Clock::new();
        let first = clock.now();
        for _ in 0..10_000 {
            let now = clock.now();
            // If the clock of this machine is set meanwhile, this assertion fails, as it should.
            assert_eq!(now.wall - first.wall, now.mono as Timestamp - first.mono as Timestamp);
        }
    }
}
