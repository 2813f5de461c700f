//! When the ticks of a schedule come: [`Timing`], with cron expressions in time zones and with
//! intervals. This crate reads no clock and submits nothing.
//!
//! All times are in milliseconds since 1970, UTC.
//!
//! ```
//! use celeriac_ticks::Timing;
//!
//! // 2026-12-01T13:00:00Z. In Berlin it is 14:00.
//! let now = 1_796_130_000_000;
//! let daily = Timing::cron("30 2 * * *", "Europe/Berlin", false)?;
//! assert_eq!(daily.next_after(now), Some(1_796_175_000_000));
//! # Ok::<(), celeriac_ticks::InvalidTiming>(())
//! ```

mod cron;

pub use self::cron::InvalidTiming;
use self::cron::LocalCron;

/// Milliseconds since 1970, UTC.
pub type Timestamp = i64;

/// When the ticks of a schedule come.
#[derive(Debug, Clone)]
pub struct Timing(Kind);

#[derive(Debug, Clone)]
enum Kind {
    Cron(Box<LocalCron>),
    Every { every_ms: i64, phase_ms: i64 },
}

impl Timing {
    /// The times that match a cron expression in a time zone.
    ///
    /// The expression has 5 fields, or 6 with the second first, or is a word such as `@daily`. The
    /// zone has its IANA name; the empty name is UTC. When the expression restricts both the day of
    /// the month and the day of the week, `both_days` says whether a day must match both of them;
    /// otherwise it must match one.
    ///
    /// Where a clock is changed, an expression whose minute or hour begins with `*` follows real
    /// time: no tick in the hour that is left out, and ticks in both of the hours that come twice.
    /// Every other expression names times of day. A time that is left out comes once, at the first
    /// moment after the gap, and several of them come once together. A time that comes twice has
    /// its tick the first time.
    ///
    /// # Errors
    /// [`InvalidTiming`] if the expression is wrong or never comes, or there is no such zone.
    pub fn cron(expression: &str, zone: &str, both_days: bool) -> Result<Self, InvalidTiming> {
        LocalCron::parse(expression, zone, both_days).map(|cron| Self(Kind::Cron(Box::new(cron))))
    }

    /// The multiples of a span since 1970, plus a phase, both in milliseconds.
    ///
    /// # Errors
    /// [`InvalidTiming::Interval`] if the span is 0, the phase is not below it, or one of them is
    /// longer than 100 years.
    pub fn every(every_ms: u64, phase_ms: u64) -> Result<Self, InvalidTiming> {
        match (i64::try_from(every_ms), i64::try_from(phase_ms)) {
            (Ok(every_ms @ 1..=EVERY_MS_MAX), Ok(phase_ms)) if phase_ms < every_ms => {
                Ok(Self(Kind::Every { every_ms, phase_ms }))
            }
            _ => Err(InvalidTiming::Interval { every_ms, phase_ms }),
        }
    }

    /// The first tick that is later than a time, if there is one.
    pub fn next_after(&self, time: Timestamp) -> Option<Timestamp> {
        match &self.0 {
            Kind::Cron(cron) => cron.next_after(time),
            Kind::Every { every_ms, phase_ms } => {
                let begun = time.checked_sub(*phase_ms)?.div_euclid(*every_ms);
                begun.checked_add(1)?.checked_mul(*every_ms)?.checked_add(*phase_ms)
            }
        }
    }

    /// The newest tick that is later than `after` and not later than `until`.
    ///
    /// It asks for some forty ticks, however many there are: whether there is a tick between a time
    /// and `until` turns from yes to no once as that time grows.
    pub fn newest(&self, after: Timestamp, until: Timestamp) -> Option<Timestamp> {
        let tick_after = |time| self.next_after(time).filter(|tick| *tick <= until);
        let mut newest = tick_after(after)?;
        // There is a tick after `newest`, or it is the newest. There is none after `none_after`.
        let mut none_after = until;
        while newest < none_after {
            let middle = newest + (none_after - newest) / 2;
            match tick_after(middle) {
                Some(tick) => newest = tick,
                None => none_after = middle,
            }
        }
        Some(newest)
    }
}

/// 100 years.
const EVERY_MS_MAX: i64 = 100 * 365 * 24 * 3_600 * 1_000;

#[cfg(test)]
mod tests;
