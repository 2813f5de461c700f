//! The table of clock changes, comparisons with a look at every minute of a year, and bad input.

use jiff::{Span, Timestamp as Instant, tz::TimeZone};

use crate::{InvalidTiming, Timestamp, Timing};

/// A time in UTC, such as `2026-03-29T01:00` or `2026-03-29T01:00:15`.
fn time(text: &str) -> Timestamp {
    let zoned = format!("{text}Z");
    zoned.parse::<Instant>().unwrap_or_else(|error| panic!("{text}: {error}")).as_millisecond()
}

fn shown(time: Timestamp) -> String {
    Instant::from_millisecond(time).expect("a time").to_string()
}

/// Checks the ticks that follow a time. All times are in UTC, with a space between them.
fn check(zone: &str, cron: &str, from: &str, ticks: &str) {
    let timing = Timing::cron(cron, zone, false).expect(cron);
    let mut latest = time(from);
    for tick in ticks.split(' ') {
        latest = timing.next_after(latest).unwrap_or_else(|| panic!("{cron} ends"));
        assert_eq!(shown(latest), shown(time(tick)), "`{cron}` in {zone} from {from}");
    }
}

#[test]
fn s8_berlin_leaves_an_hour_out() {
    let check = |cron: &str, from: &str, ticks: &str| check("Europe/Berlin", cron, from, ticks);
    let eve = "2026-03-28T12:00";
    check("30 2 * * *", "2026-03-28T00:00", "2026-03-28T01:30 2026-03-29T01:00 2026-03-30T00:30");
    check("0,15,45 2 * * *", eve, "2026-03-29T01:00 2026-03-30T00:00 2026-03-30T00:15");
    check("30 2,3 * * *", eve, "2026-03-29T01:00 2026-03-29T01:30 2026-03-30T00:30");
    check("0 2,3 * * *", eve, "2026-03-29T01:00 2026-03-30T00:00 2026-03-30T01:00");
    check("30 * * * *", "2026-03-28T23:45", "2026-03-29T00:30 2026-03-29T01:30 2026-03-29T02:30");
    check("*/15 2 * * *", eve, "2026-03-30T00:00 2026-03-30T00:15");
    check("*/30 * * * *", "2026-03-29T00:20", "2026-03-29T00:30 2026-03-29T01:00 2026-03-29T01:30");
    check("0 0 * * *", eve, "2026-03-28T23:00 2026-03-29T22:00 2026-03-30T22:00");
    check("0 12 * * 0", "2026-03-22T12:00", "2026-03-29T10:00 2026-04-05T10:00");
    check("15 30 2 * * *", eve, "2026-03-29T01:00 2026-03-30T00:30:15");
    check("59 1 * * *", eve, "2026-03-29T00:59 2026-03-29T23:59");
    check("0 3 * * *", eve, "2026-03-29T01:00 2026-03-30T01:00");
}

#[test]
fn s8_berlin_has_an_hour_twice() {
    let check = |cron: &str, from: &str, ticks: &str| check("Europe/Berlin", cron, from, ticks);
    let eve = "2026-10-24T12:00";
    check("30 2 * * *", eve, "2026-10-25T00:30 2026-10-26T01:30");
    check("30 2 * * *", "2026-10-25T01:10", "2026-10-26T01:30");
    check("0,30 2 * * *", eve, "2026-10-25T00:00 2026-10-25T00:30 2026-10-26T01:00");
    check("30 * * * *", "2026-10-24T23:45", "2026-10-25T00:30 2026-10-25T01:30 2026-10-25T02:30");
    let both = "2026-10-25T00:00 2026-10-25T00:30 2026-10-25T01:00 2026-10-25T01:30";
    check("*/30 2 * * *", eve, &format!("{both} 2026-10-26T01:00"));
    check("0 3 * * *", eve, "2026-10-25T02:00 2026-10-26T02:00");
    check("30 2,3 * * *", eve, "2026-10-25T00:30 2026-10-25T02:30 2026-10-26T01:30");
    check("0 1-3 * * *", eve, "2026-10-24T23:00 2026-10-25T00:00 2026-10-25T02:00");
}

#[test]
fn s8_new_york_changes_at_two_in_the_morning() {
    let check = |cron: &str, from: &str, ticks: &str| check("America/New_York", cron, from, ticks);
    check("30 2 * * *", "2026-03-07T12:00", "2026-03-08T07:00 2026-03-09T06:30");
    check("30 * * * *", "2026-03-08T06:45", "2026-03-08T07:30 2026-03-08T08:30");
    check("30 1 * * *", "2026-10-31T12:00", "2026-11-01T05:30 2026-11-02T06:30");
    check("30 * * * *", "2026-11-01T04:45", "2026-11-01T05:30 2026-11-01T06:30 2026-11-01T07:30");
    let first = "2026-11-01T05:00 2026-11-01T05:20 2026-11-01T05:40";
    let second = "2026-11-01T06:00 2026-11-01T06:20 2026-11-01T06:40";
    check("*/20 1 * * *", "2026-10-31T12:00", &format!("{first} {second} 2026-11-02T06:00"));
    check("0 2 8 3 *", "2026-01-01T00:00", "2026-03-08T07:00 2027-03-08T07:00");
}

#[test]
fn s8_lord_howe_changes_by_half_an_hour() {
    let check =
        |cron: &str, from: &str, ticks: &str| check("Australia/Lord_Howe", cron, from, ticks);
    check("15 2 * * *", "2026-10-03T00:00", "2026-10-03T15:30 2026-10-04T15:15");
    check("0,15 2 * * *", "2026-10-03T00:00", "2026-10-03T15:30 2026-10-04T15:00 2026-10-04T15:15");
    check("*/15 * * * *", "2026-10-03T15:10", "2026-10-03T15:15 2026-10-03T15:30 2026-10-03T15:45");
    check("45 1 * * *", "2026-04-04T00:00", "2026-04-04T14:45 2026-04-05T15:15");
    let quarters = "2026-04-04T14:45 2026-04-04T15:00 2026-04-04T15:15 2026-04-04T15:30";
    check("*/15 * * * *", "2026-04-04T14:40", quarters);
    check("0 2 * * *", "2026-04-04T00:00", "2026-04-04T15:30 2026-04-05T15:30");
}

#[test]
fn s8_apia_leaves_a_day_out() {
    let check = |cron: &str, from: &str, ticks: &str| check("Pacific/Apia", cron, from, ticks);
    check("0 12 * * *", "2011-12-29T00:00", "2011-12-29T22:00 2011-12-30T10:00 2011-12-30T22:00");
    check("0 0 * * *", "2011-12-29T12:00", "2011-12-30T10:00 2011-12-31T10:00");
    check("0 */6 * * *", "2011-12-30T01:00", "2011-12-30T04:00 2011-12-30T10:00 2011-12-30T16:00");
    check("0 9 30 12 *", "2011-12-01T00:00", "2011-12-30T10:00 2012-12-29T19:00");
}

#[test]
fn s8_cairo_changes_at_midnight() {
    let check = |cron: &str, from: &str, ticks: &str| check("Africa/Cairo", cron, from, ticks);
    check("30 0 * * *", "2026-04-23T12:00", "2026-04-23T22:00 2026-04-24T21:30");
    check("30 * * * *", "2026-04-23T21:45", "2026-04-23T22:30 2026-04-23T23:30");
    check("30 23 * * *", "2026-10-29T12:00", "2026-10-29T20:30 2026-10-30T21:30");
    check("0 0 * * *", "2026-10-29T12:00", "2026-10-29T22:00 2026-10-30T22:00");
}

#[test]
fn s8_utc_never_changes() {
    for zone in ["", "UTC"] {
        check(zone, "30 2 * * *", "2026-03-29T00:00", "2026-03-29T02:30 2026-03-30T02:30");
        check(zone, "*/30 * * * *", "2026-10-25T00:10", "2026-10-25T00:30 2026-10-25T01:00");
        check(zone, "@daily", "2026-10-25T00:00", "2026-10-26T00:00");
        check(zone, "0 0 29 2 *", "2026-01-01T00:00", "2028-02-29T00:00 2032-02-29T00:00");
    }
}

const ZONES: [&str; 5] =
    ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Africa/Cairo", "UTC"];

fn year_of(timing: &Timing) -> Vec<Timestamp> {
    let (from, to) = (time("2026-01-01T00:00"), time("2027-01-01T00:00"));
    let mut latest = from - 1;
    std::iter::from_fn(|| {
        latest = timing.next_after(latest).filter(|tick| *tick < to)?;
        Some(latest)
    })
    .collect()
}

#[test]
fn s8_other_schedules_have_the_minutes_whose_local_time_matches() {
    type Matches = fn(i8, i8) -> bool;
    let patterns: [(&str, Matches); 4] = [
        ("*/15 * * * *", |_, minute| minute % 15 == 0),
        ("30 * * * *", |_, minute| minute == 30),
        ("*/20 1-2 * * *", |hour, minute| (1..=2).contains(&hour) && minute % 20 == 0),
        ("7 */2 * * *", |hour, minute| hour % 2 == 0 && minute == 7),
    ];
    let first = time("2026-01-01T00:00").div_euclid(60_000);
    for zone in ZONES {
        let rules = TimeZone::get(zone).expect(zone);
        let local: Vec<_> = (first..first + 365 * 24 * 60)
            .map(|minute| {
                let instant = Instant::from_second(minute * 60).expect("a time");
                (minute * 60_000, rules.to_datetime(instant))
            })
            .collect();
        for (cron, matches) in patterns {
            let expected: Vec<Timestamp> = local
                .iter()
                .filter(|(_, local)| matches(local.hour(), local.minute()))
                .map(|(time, _)| *time)
                .collect();
            let timing = Timing::cron(cron, zone, false).expect(cron);
            assert_eq!(year_of(&timing), expected, "`{cron}` in {zone}");
        }
    }
}

#[test]
fn s8_fixed_schedules_come_once_on_each_day() {
    for zone in ZONES {
        let rules = TimeZone::get(zone).expect(zone);
        for minute in [0, 15, 30, 59] {
            for hour in 0..24 {
                let cron = format!("{minute} {hour} * * *");
                let ticks = year_of(&Timing::cron(&cron, zone, false).expect(&cron));
                let dates: Vec<_> = ticks
                    .iter()
                    .map(|tick| {
                        rules.to_datetime(Instant::from_millisecond(*tick).expect("a time")).date()
                    })
                    .collect();
                assert!(
                    dates.windows(2).all(|two| two[1] == two[0] + Span::new().days(1)),
                    "{cron} {zone}"
                );
                assert_eq!(dates.len(), 365, "`{cron}` in {zone}");
            }
        }
    }
}

#[test]
fn s7_days_match_one_of_two_restrictions_or_both() {
    let from = time("2026-12-01T00:00");
    let either = Timing::cron("0 0 13 * 5", "", false).expect("an expression");
    let both = Timing::cron("0 0 13 * 5", "", true).expect("an expression");
    check(
        "",
        "0 0 13 * 5",
        "2026-12-01T00:00",
        "2026-12-04T00:00 2026-12-11T00:00 2026-12-13T00:00",
    );
    assert_eq!(either.next_after(from), Some(time("2026-12-04T00:00")));
    assert_eq!(both.next_after(from), Some(time("2027-08-13T00:00")));
    assert_eq!(both.next_after(time("2027-08-13T00:00")), Some(time("2028-10-13T00:00")));
}

#[test]
fn s4_intervals_count_from_1970_plus_their_phase() {
    let hourly = Timing::every(3_600_000, 60_000).expect("an interval");
    let now = time("2026-12-01T13:37:11");
    assert_eq!(hourly.next_after(now), Some(time("2026-12-01T14:01")));
    assert_eq!(hourly.next_after(time("2026-12-01T14:01")), Some(time("2026-12-01T15:01")));
    assert_eq!(hourly.next_after(time("2026-12-01T14:01") - 1), Some(time("2026-12-01T14:01")));
    // The ticks are the same from whatever time they are reckoned.
    let long = Timing::every(7_777_777, 5).expect("an interval");
    let ticks = year_of(&long);
    for pair in ticks.windows(2) {
        assert_eq!(long.next_after(pair[0] + (pair[1] - pair[0]) / 2), Some(pair[1]));
        assert_eq!((pair[1] - 5) % 7_777_777, 0);
    }
    assert_eq!(Timing::every(1, 0).expect("an interval").next_after(Timestamp::MAX), None);
}

#[test]
fn s6_the_newest_tick_is_the_last_of_all_ticks() {
    let timings = [
        Timing::cron("30 2 * * *", "Europe/Berlin", false).expect("an expression"),
        Timing::cron("*/7 1-3 * * *", "Europe/Berlin", false).expect("an expression"),
        Timing::cron("* * * * * *", "", false).expect("an expression"),
        Timing::every(3_500, 12).expect("an interval"),
    ];
    let after = time("2026-10-24T22:30");
    for timing in timings {
        for span_ms in [0, 1, 999, 1_000, 59_999, 3_600_000, 9_000_000, 14_400_000] {
            let until = after + span_ms;
            let ticks = std::iter::successors(Some(after), |tick| timing.next_after(*tick));
            let last = ticks.skip(1).take_while(|tick| *tick <= until).last();
            assert_eq!(timing.newest(after, until), last, "{timing:?} {span_ms}");
        }
    }
}

#[test]
fn s1_a_timing_that_never_comes_or_is_wrong_is_refused() {
    for never in ["0 0 30 2 *", "0 0 31 2,4,6,9,11 *", "0 0 0 30 2 *"] {
        let refused = Timing::cron(never, "Europe/Berlin", false).expect_err(never);
        assert_eq!(refused, InvalidTiming::Never(never.into()));
    }
    let long = "1,".repeat(1_000);
    let words = ["@reboot", "@", "@every 5m", "", " ", "* * * *", "60 * * * *", "* 24 * * *"];
    let fields = ["* * 0 * *", "* * * 13 *", "a b c d e", "* * * * * * 2030", "-1 * * * *", &long];
    for wrong in words.into_iter().chain(fields) {
        let refused = Timing::cron(wrong, "", false).expect_err(wrong);
        assert!(matches!(refused, InvalidTiming::Expression { .. }), "{wrong}: {refused}");
        assert!(refused.to_string().len() < 300, "{refused}");
    }
    for zone in ["Mars/Olympus", "Europe/Berlin ", "../../etc/passwd", "/etc/localtime", &long] {
        let refused = Timing::cron("0 0 * * *", zone, false).expect_err(zone);
        assert!(matches!(refused, InvalidTiming::Zone(_)), "{zone}: {refused}");
    }
    for (every_ms, phase_ms) in [(0, 0), (5, 5), (5, 6), (u64::MAX, 0), (1 << 62, 1)] {
        assert!(Timing::every(every_ms, phase_ms).is_err(), "{every_ms} {phase_ms}");
    }
}
