//! Times and spans as programs and people write them: `10s`, `now+5m`, `2026-11-22T10:57:17Z`, `3m
//! ago`. The command line takes and prints the same.
//!
//! The broker's clock decides when a task is due.

use std::time::{Duration, SystemTime};

use celeriac_proto::limits::SPAN_MS_MAX;
use jiff::civil::{DateTime, date};
use jiff::fmt::temporal::Pieces;
use jiff::{SignedDuration, Span, SpanRelativeTo, Timestamp, Zoned};

/// 1970 in UTC.
const EPOCH: DateTime = date(1970, 1, 1).at(0, 0, 0, 0);

/// A time, or a span from now on the broker's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// This time.
    At(SystemTime),
    /// This long from now.
    In(Duration),
}

/// Parses `500ms`, `10s`, `5m`, `2h`, `1d`, `1h30m`, `1w`. A number without a unit is in seconds.
pub fn parse_span(text: &str) -> Result<Duration, String> {
    let is_number =
        text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') && !text.is_empty();
    let with_unit = if is_number { format!("{text}s") } else { text.to_owned() };
    let span: Span = with_unit
        .parse()
        .map_err(|_| format!("`{text}` is not a span such as 500ms, 10s, 5m, 2h or 1d"))?;
    let exact = span
        .to_duration(SpanRelativeTo::days_are_24_hours())
        .map_err(|_| format!("`{text}` has no fixed length: use weeks, days or less"))?;
    let span = Duration::try_from(exact).map_err(|_| format!("`{text}` is negative"))?;
    if span.as_millis() > u128::from(SPAN_MS_MAX) {
        return Err(format!("`{text}` is longer than 100 years"));
    }
    Ok(span)
}

/// Parses a time with its offset, such as `2026-11-22T10:00:00+09:00`, or `now+10m`.
pub fn parse_moment(text: &str) -> Result<Moment, String> {
    if text == "now" {
        return Ok(Moment::In(Duration::ZERO));
    }
    if let Some(span) = text.strip_prefix("now+") {
        return parse_span(span.trim()).map(Moment::In);
    }
    // A zone in brackets has to agree with the offset: one of them is a mistake otherwise.
    if text.contains('[')
        && let Ok(time) = text.parse::<Timestamp>()
    {
        return match text.parse::<Zoned>() {
            Ok(zoned) if zoned.timestamp() == time => Ok(Moment::At(time.into())),
            _ => Err(format!("`{text}` has an offset that its time zone does not have then")),
        };
    }
    match text
        .parse::<Timestamp>()
        .map(SystemTime::from)
        .ok()
        .or_else(|| time_of_the_last_days(text))
    {
        Some(time) => Ok(Moment::At(time)),
        None => Err(format!(
            "`{text}` is neither a time with its offset, such as 2026-11-22T10:00:00Z, \
             nor a span such as now+10m"
        )),
    }
}

/// Parses the last days of the year 9999, which a [`Timestamp`] does not hold, because they may
/// have no local time. People write the last moment of that year for "never".
fn time_of_the_last_days(text: &str) -> Option<SystemTime> {
    let pieces = Pieces::parse(text).ok()?;
    let offset = pieces.to_numeric_offset()?;
    let since = pieces.date().to_datetime(pieces.time()?).duration_since(EPOCH)
        - SignedDuration::from_secs(offset.seconds().into());
    SystemTime::UNIX_EPOCH.checked_add(Duration::try_from(since).ok()?)
}

/// Like [`parse_moment`], and a span without `now+` also counts from now.
pub fn parse_moment_or_span(text: &str) -> Result<Moment, String> {
    match parse_span(text) {
        Ok(span) => Ok(Moment::In(span)),
        Err(sentence) => {
            match text.starts_with(|first: char| first.is_ascii_digit()) && text.contains('-') {
                true => parse_moment(text),
                false if text.starts_with("now") => parse_moment(text),
                false => Err(format!("{sentence}, and not a time such as 2026-11-22T10:00:00Z")),
            }
        }
    }
}

/// A time for programs: milliseconds since 1970, UTC.
pub fn ms(time: SystemTime) -> i64 {
    match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(since) => i64::try_from(since.as_millis()).unwrap_or(i64::MAX),
        Err(before) => i64::try_from(before.duration().as_millis()).map_or(i64::MIN, |ms| -ms),
    }
}

/// A span for programs, in milliseconds.
pub fn whole_ms(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

/// A time in UTC to the second, as files have it: `2026-11-22T10:57:17Z`.
pub fn iso(at_ms: i64) -> String {
    let after = EPOCH.checked_add(SignedDuration::from_secs(at_ms.div_euclid(1_000)));
    after.unwrap_or(DateTime::MAX).strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// A time by RFC 3339, in UTC to the millisecond: `2026-11-22T10:57:17.250Z`.
pub fn rfc3339(at_ms: i64) -> String {
    let after = EPOCH.checked_add(SignedDuration::from_millis(at_ms));
    after.unwrap_or(DateTime::MAX).strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string()
}

/// The distance of a time from now: `3m ago`, `in 2h`.
pub fn relative(at_ms: i64, now_ms: i64) -> String {
    let distance = now_ms.saturating_sub(at_ms);
    let span = rough(distance.unsigned_abs());
    if distance >= 0 { format!("{span} ago") } else { format!("in {span}") }
}

/// A span in its two largest units: `250ms`, `3.2s`, `4m 10s`, `2d 3h`.
pub fn rough(span_ms: u64) -> String {
    let seconds = span_ms / 1_000;
    match seconds {
        0 => format!("{span_ms}ms"),
        1..60 => format!("{seconds}.{}s", span_ms % 1_000 / 100),
        60..3_600 => two_units(seconds / 60, "m", seconds % 60, "s"),
        3_600..86_400 => two_units(seconds / 3_600, "h", seconds % 3_600 / 60, "m"),
        _ => two_units(seconds / 86_400, "d", seconds % 86_400 / 3_600, "h"),
    }
}

fn two_units(large: u64, large_unit: &str, small: u64, small_unit: &str) -> String {
    match small {
        0 => format!("{large}{large_unit}"),
        small => format!("{large}{large_unit} {small}{small_unit}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Moment {
        Moment::At(SystemTime::UNIX_EPOCH + Duration::from_millis(ms))
    }

    #[test]
    fn spans_are_read_in_every_usual_unit() {
        let ms = |text| parse_span(text).expect(text).as_millis();
        assert_eq!(ms("500ms"), 500);
        assert_eq!(ms("10s"), 10_000);
        assert_eq!(ms("5m"), 300_000);
        assert_eq!(ms("2h"), 7_200_000);
        assert_eq!(ms("1d"), 86_400_000);
        assert_eq!(ms("1w"), 604_800_000);
        assert_eq!(ms("1h30m"), 5_400_000);
        assert_eq!(ms("30"), 30_000);
        assert_eq!(ms("0.5"), 500);
        assert_eq!(ms("0"), 0);
    }

    #[test]
    fn a_text_that_is_no_span_is_refused_with_a_sentence() {
        for text in [
            "",
            "ten",
            "10 parsecs",
            "-5s",
            "5s ago",
            "1y",
            "1mo",
            "200000d",
            "99999999999999999999s",
            ".",
        ] {
            let sentence = parse_span(text).expect_err(text);
            assert!(sentence.contains(&format!("`{text}`")), "{sentence}");
        }
    }

    #[test]
    fn moments_have_an_offset_or_count_from_now() {
        assert_eq!(parse_moment("now+10m"), Ok(Moment::In(Duration::from_secs(600))));
        assert_eq!(parse_moment("now"), Ok(Moment::In(Duration::ZERO)));
        assert_eq!(parse_moment("1970-01-01T00:00:01Z"), Ok(at(1_000)));
        assert_eq!(parse_moment("1970-01-01T09:00:01.5+09:00"), Ok(at(1_500)));
        let zoned = "2027-06-28T02:30:00+02:00[Europe/Berlin]";
        assert_eq!(parse_moment(zoned), parse_moment("2027-06-28T00:30:00Z"));
        let wrong = parse_moment("2027-06-28T02:30:00+01:00[Europe/Berlin]").expect_err("refused");
        assert!(wrong.ends_with("has an offset that its time zone does not have then"), "{wrong}");
        for text in ["2026-11-22T10:00:00", "tomorrow", "10m", ""] {
            assert!(parse_moment(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_last_moment_of_the_calendar_is_read() {
        let last = "9999-12-31T23:59:59.999Z";
        assert_eq!(parse_moment(last), Ok(at(253_402_300_799_999)));
        assert_eq!(parse_moment_or_span(last), Ok(at(253_402_300_799_999)));
        assert_eq!(parse_moment("9999-12-31T23:59:59+01:00"), Ok(at(253_402_297_199_000)));
        let Ok(Moment::At(time)) = parse_moment(last) else { panic!("a time") };
        assert_eq!(ms(time), 253_402_300_799_999);
        for text in
            ["9999-12-31T23:59:59", "9999-12-31Z", "9999-12-32T00:00:00Z", "10000-01-01T00:00:00Z"]
        {
            assert!(parse_moment(text).is_err(), "{text}");
        }
    }

    #[test]
    fn an_expiry_may_be_a_bare_span() {
        assert_eq!(parse_moment_or_span("1d"), Ok(Moment::In(Duration::from_secs(86_400))));
        assert_eq!(parse_moment_or_span("now+1d"), Ok(Moment::In(Duration::from_secs(86_400))));
        assert_eq!(parse_moment_or_span("1970-01-01T00:00:01Z"), Ok(at(1_000)));
        assert!(parse_moment_or_span("later").is_err());
    }

    #[test]
    fn distances_are_rough() {
        assert_eq!(relative(0, 250), "250ms ago");
        assert_eq!(relative(0, 3_250), "3.2s ago");
        assert_eq!(relative(250_000, 0), "in 4m 10s");
        assert_eq!(relative(0, 7_200_000), "2h ago");
        assert_eq!(relative(0, 90_000_000), "1d 1h ago");
        assert_eq!(relative(i64::MIN, i64::MAX), "106751991167d 7h ago");
    }
}
