//! A cron expression in a time zone. croner finds the next time that matches, on a clock that never
//! changes; this file leads local times to instants, because croner treats only expressions with
//! one time a day as times of day.

use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};
use jiff::civil::DateTime;
use jiff::tz::{AmbiguousOffset, TimeZone};
use jiff::{Timestamp as Instant, Zoned};

use crate::Timestamp;

/// Why a timing is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidTiming {
    /// The text is no cron expression.
    #[error("`{expression}` is no cron expression of 5 or 6 fields: {reason}")]
    Expression {
        /// The text.
        expression: Box<str>,
        /// What is wrong with it.
        reason: Box<str>,
    },
    /// No time matches the expression, as with 30 February.
    #[error("the cron expression `{0}` never comes: no date matches it")]
    Never(Box<str>),
    /// Neither the system nor the copy in this program has the zone.
    #[error("there is no time zone `{0}`; zones have IANA names, such as Europe/Berlin")]
    Zone(Box<str>),
    /// The interval is not usable.
    #[error(
        "an interval is at least 1 ms and at most 100 years long, and its phase is shorter than \
         it; this one has {every_ms} ms and a phase of {phase_ms} ms"
    )]
    Interval {
        /// The span.
        every_ms: u64,
        /// The phase.
        phase_ms: u64,
    },
}

/// The longest expression: far longer than a list of all minutes.
const EXPRESSION_BYTES_MAX: usize = 1_024;

/// The most changes of a zone's clock that a search passes. Zones change twice a year, a few of
/// them four times, and the rarest dates (29 February on a given day of the week) come every 40
/// years.
const CHANGES_MAX: usize = 400;

/// The most local times that a search passes because they are before its start: those of the time
/// that comes twice. No zone was ever set back by more than a day.
const REPEATED_MAX: usize = 90_000;

/// A cron expression in a time zone.
#[derive(Debug, Clone)]
pub(crate) struct LocalCron {
    cron: Cron,
    zone: TimeZone,
    /// Whether the expression names times of day, so that a change of the clock leaves none of them
    /// out and repeats none of them.
    is_fixed: bool,
}

impl LocalCron {
    pub(crate) fn parse(
        expression: &str,
        zone: &str,
        both_days: bool,
    ) -> Result<Self, InvalidTiming> {
        let wrong = |reason: &str| InvalidTiming::Expression {
            expression: shortened(expression),
            reason: reason.into(),
        };
        if expression.len() > EXPRESSION_BYTES_MAX {
            return Err(wrong(&format!("it has more than {EXPRESSION_BYTES_MAX} bytes")));
        }
        let fields = expanded(expression).ok_or_else(|| wrong("there is no such word"))?;
        let parser = CronParser::builder()
            .seconds(Seconds::Optional)
            .year(Year::Disallowed)
            .dom_and_dow(both_days)
            .build();
        let cron = parser.parse(&fields).map_err(|error| wrong(&error.to_string()))?;
        let zone = match zone {
            "" => TimeZone::UTC,
            name => TimeZone::get(name).map_err(|_| InvalidTiming::Zone(shortened(name)))?,
        };
        let mut times = fields.split_whitespace().rev().skip(3).take(2);
        let is_fixed = times.all(|field| !field.starts_with('*'));
        let cron = Self { cron, zone, is_fixed };
        match cron.local_from(DateTime::constant(2000, 1, 1, 0, 0, 0, 0), true) {
            Some(_) => Ok(cron),
            None => Err(InvalidTiming::Never(shortened(expression))),
        }
    }

    pub(crate) fn next_after(&self, time: Timestamp) -> Option<Timestamp> {
        // Ticks come at whole seconds, so one after the second of `time` is after `time`.
        let time = Instant::from_second(time.div_euclid(1_000)).ok()?;
        let next = if self.is_fixed { self.next_fixed(time) } else { self.next_real(time) };
        next.map(Instant::as_millisecond)
    }

    /// The first local time after, or from, a local time.
    fn local_from(&self, local: DateTime, inclusive: bool) -> Option<DateTime> {
        // UTC is the clock without changes.
        let start: Zoned = local.to_zoned(TimeZone::UTC).ok()?;
        self.cron.find_next_occurrence(&start, inclusive).ok().map(|next| next.datetime())
    }

    /// The instant of a local time grows with it, so the first local time whose instant is later
    /// than the start is the next tick.
    fn next_fixed(&self, after: Instant) -> Option<Instant> {
        let mut local = self.zone.to_datetime(after);
        for _ in 0..REPEATED_MAX {
            local = self.local_from(local, false)?;
            let instant = self.instant_of(local)?;
            if instant > after {
                return Some(instant);
            }
        }
        None
    }

    /// The instant at which a time of day comes: the first of two, or the end of the gap.
    fn instant_of(&self, local: DateTime) -> Option<Instant> {
        let ambiguous = self.zone.to_ambiguous_timestamp(local);
        match ambiguous.offset() {
            AmbiguousOffset::Unambiguous { offset }
            | AmbiguousOffset::Fold { before: offset, .. } => offset.to_timestamp(local).ok(),
            AmbiguousOffset::Gap { after, .. } => {
                // With the offset of after the gap, the time is an instant shortly before it.
                let before = after.to_timestamp(local).ok()?;
                self.zone.following(before).next().map(|change| change.timestamp())
            }
        }
    }

    /// Between two changes of the clock the local time runs as real time does, so the search goes
    /// from change to change.
    fn next_real(&self, after: Instant) -> Option<Instant> {
        let mut from = after;
        let mut inclusive = false;
        for _ in 0..CHANGES_MAX {
            let offset = self.zone.to_offset(from);
            let local = self.local_from(offset.to_datetime(from), inclusive)?;
            let instant = offset.to_timestamp(local).ok()?;
            match self.zone.following(from).next().map(|change| change.timestamp()) {
                Some(change) if change <= instant => (from, inclusive) = (change, true),
                _ => return Some(instant),
            }
        }
        None
    }
}

/// The fields of an expression, where words stand for some of them.
fn expanded(expression: &str) -> Option<String> {
    let expression = expression.trim();
    if !expression.starts_with('@') {
        return Some(expression.to_owned());
    }
    let fields = match expression.to_ascii_lowercase().as_str() {
        "@yearly" | "@annually" => "0 0 1 1 *",
        "@monthly" => "0 0 1 * *",
        "@weekly" => "0 0 * * 0",
        "@daily" | "@midnight" => "0 0 * * *",
        "@hourly" => "0 * * * *",
        _ => return None,
    };
    Some(fields.to_owned())
}

/// A text of a client, short enough for a sentence.
fn shortened(text: &str) -> Box<str> {
    const BYTES_MAX: usize = 100;
    text[..text.floor_char_boundary(BYTES_MAX)].into()
}
