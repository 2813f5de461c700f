//! Times as a terminal shows them: in the time zone of this machine, and their distance from now.
//! `celeriac_web::time` has the forms that programs write too.
//!
//! The broker's clock decides when a task is due. This file reads the clock of this machine only to
//! show how long ago something was.

pub(crate) use celeriac_web::time::{
    Moment, iso, ms, parse_moment, parse_moment_or_span, parse_span, relative, rough, whole_ms,
};
use jiff::civil::{DateTime, date};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

/// 1970 in UTC.
const EPOCH: DateTime = date(1970, 1, 1).at(0, 0, 0, 0);

/// The present time, in milliseconds since 1970.
pub(crate) fn now_ms() -> i64 {
    Timestamp::now().as_millisecond()
}

/// A time for people, in the time zone of this machine: `2026-11-22 10:57:17.250`.
pub(crate) fn absolute(at_ms: i64) -> String {
    match Timestamp::from_millisecond(at_ms) {
        Ok(time) => time.to_zoned(zone()).strftime("%Y-%m-%d %H:%M:%S%.3f").to_string(),
        Err(_) => match EPOCH.checked_add(SignedDuration::from_millis(at_ms)) {
            Ok(time) => time.strftime("%Y-%m-%d %H:%M:%S%.3f UTC").to_string(),
            // The calendar does not hold this time, so the number is shown.
            Err(_) => at_ms.to_string(),
        },
    }
}

/// The time of day, for lines that are printed one after the other.
pub(crate) fn time_of_day(at_ms: i64) -> String {
    match Timestamp::from_millisecond(at_ms) {
        Ok(time) => time.to_zoned(zone()).strftime("%H:%M:%S%.3f").to_string(),
        Err(_) => at_ms.to_string(),
    }
}

/// The time zone of this machine. Expected texts of tests are in UTC.
fn zone() -> TimeZone {
    if cfg!(test) { TimeZone::UTC } else { TimeZone::system() }
}

/// A time with its distance from now: `2026-11-22 10:57:17.250 (3m ago)`.
pub(crate) fn absolute_and_relative(at_ms: i64, now_ms: i64) -> String {
    format!("{} ({})", absolute(at_ms), relative(at_ms, now_ms))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_moment_of_the_calendar_is_shown() {
        assert_eq!(absolute(253_402_300_799_999), "9999-12-31 23:59:59.999 UTC");
    }
}
