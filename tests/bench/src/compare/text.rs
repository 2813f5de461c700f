//! The report as Markdown: a summary with ratios, the goals, every row, and the growth.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use super::figures::Figures;
use super::goals::{self, BATCHES, MANY_IN_FLIGHT, ONE, Which, goals};
use super::python;
use super::report::{Report, Row, Who};
use super::system::Workload;

/// The width of prose in the documents of this project.
const WIDTH_MAX: usize = 100;

/// The text for a figure that was not measured.
pub(crate) const NOTHING: &str = "–";

/// The whole report.
pub(crate) fn report(report: &Report) -> String {
    let mut text = String::from("# Celeriac and its peers\n\n");
    line(&mut text, &report.machine.sentence());
    line(&mut text, &format!("\n{}\n", report.how));
    line(&mut text, &summary(report));
    line(&mut text, "![Lifecycles a second](chart.svg)\n");
    line(&mut text, &goals_table(report));
    line(&mut text, &growth(&report.rows));
    line(&mut text, "![Lifecycles a second with more and more tasks waiting](growth.svg)\n");
    for workload in Workload::ALL {
        text.push_str(&all_rows(&report.rows, workload));
    }
    if !report.python.is_empty() {
        line(&mut text, &python::table(&report.python));
    }
    if !report.failures.is_empty() {
        line(&mut text, "## Failed\n");
        for failure in &report.failures {
            line(
                &mut text,
                &format!("- {}: {}: failed: {}", failure.system, failure.step, failure.reason),
            );
        }
    }
    if !report.missing.is_empty() {
        line(&mut text, "\n## Not installed\n");
        for sentence in &report.missing {
            line(&mut text, &format!("- {sentence}"));
        }
    }
    text.lines().map(wrapped).collect()
}

/// The line, in pieces of at most [`WIDTH_MAX`] characters if it is prose, each with its end.
fn wrapped(line: &str) -> String {
    let is_prose = !line.starts_with(['|', '#', '-', '!']);
    if !is_prose {
        return format!("{line}\n");
    }
    let (mut text, mut width) = (String::new(), 0);
    for word in line.split(' ') {
        let characters = word.chars().count();
        if width > 0 && width + 1 + characters > WIDTH_MAX {
            text.push('\n');
            width = 0;
        }
        if width > 0 {
            text.push(' ');
            width += 1;
        }
        text.push_str(word);
        width += characters;
    }
    text + "\n"
}

/// One line for each system, with the factor by which Celeriac is faster. The README shows this
/// table.
pub(crate) fn summary(report: &Report) -> String {
    let mut text = String::from(
        "| | durability | enqueue /s | lifecycles /s, batches of 100 | one at a time | 32 in flight | round trip p50, p99 ms |\n\
         |---|---|--:|--:|--:|--:|--:|\n",
    );
    let lifecycle = |which| (Workload::Lifecycle, which);
    let columns = [
        (Workload::Enqueue, BATCHES),
        lifecycle(BATCHES),
        lifecycle(ONE),
        lifecycle(MANY_IN_FLIGHT),
    ];
    for first in systems(&report.rows) {
        let own = |workload, which| of(&report.rows, first, workload, which);
        let ours = |workload, which| {
            goals::find(&report.rows, goals::Who::Ours, workload, which).map(Row::figures)
        };
        let is_ours = goals::Who::Ours.is(first);
        let mut cells = vec![first.who.system.to_owned(), first.who.durability.to_owned()];
        for (workload, which) in columns {
            let theirs = own(workload, which).and_then(|figures| figures.per_second);
            let ratio = ours(workload, which)
                .and_then(|ours| ours.per_second)
                .zip(theirs)
                .map(|(ours, theirs)| ours / theirs);
            cells.push(
                theirs.map_or_else(|| NOTHING.into(), grouped) + &times(ratio.filter(|_| !is_ours)),
            );
        }
        let trip = own(Workload::Roundtrip, Which::default());
        let p50 = |figures: &Figures| figures.p50_ms;
        let ratio = trip
            .as_ref()
            .and_then(p50)
            .zip(ours(Workload::Roundtrip, Which::default()).as_ref().and_then(p50));
        let ratio = ratio.map(|(theirs, ours)| theirs / ours).filter(|_| !is_ours);
        let trip = trip.map(|trip| format!("{}, {}", plain(trip.p50_ms), plain(trip.p99_ms)));
        cells.push(trip.unwrap_or_else(|| NOTHING.into()) + &times(ratio));
        line(&mut text, &format!("| {} |", cells.join(" | ")));
    }
    line(
        &mut text,
        "\nIn brackets: how many times faster Celeriac is. Celeriac is driven on raw connections, as its peers are.",
    );
    text
}

fn goals_table(report: &Report) -> String {
    let mut text = String::from("## Goals\n\n| | goal | measured | |\n|---|--:|--:|---|\n");
    for goal in goals(&report.rows, report.machine.fdatasync_p50_ms()) {
        let verdict = match goal.is_reached {
            Some(true) => "reached",
            Some(false) => "**not reached**",
            None => "not measured",
        };
        let measured = goal.measured.unwrap_or_else(|| NOTHING.into());
        line(&mut text, &format!("| {} | {} | {measured} | {verdict} |", goal.what, goal.goal));
    }
    text
}

/// A column for each system, a line for each number of waiting tasks.
fn growth(rows: &[Row]) -> String {
    let rows: Vec<&Row> =
        rows.iter().filter(|row| row.point.workload == Workload::Backlog).collect();
    let counts: BTreeSet<u64> = rows.iter().filter_map(|row| row.point.count).collect();
    let mut text = String::from(
        "## Growth\n\nLifecycles per second in batches of 100 with so many tasks waiting (in percent of an empty server), and the memory of the server.\n\n",
    );
    if rows.is_empty() {
        return text + "Not measured.\n";
    }
    let mut whos: Vec<_> = Vec::new();
    rows.iter()
        .filter(|row| row.point.count == rows[0].point.count)
        .for_each(|row| whos.push(&row.who));
    let names: Vec<_> =
        whos.iter().map(|who| format!("{}, {}", who.system, who.durability)).collect();
    line(
        &mut text,
        &format!("| waiting | {} |\n|--:|{}", names.join(" | "), "--:|".repeat(names.len())),
    );
    let found = |who: &Who, count| {
        rows.iter().find(|row| row.who == *who && row.point.count == Some(count))
    };
    for count in counts {
        let cell = |who: &&Who| {
            let Some(figures) = found(who, count).map(|row| row.figures()) else {
                return NOTHING.to_owned();
            };
            let empty =
                found(who, 0).and_then(|row| row.figures().per_second).filter(|_| count > 0);
            let share = figures
                .per_second
                .zip(empty)
                .map(|(now, empty)| format!(" ({:.0} %)", now / empty * 100.0));
            format!(
                "{}{}, {} MiB",
                whole(figures.per_second),
                share.unwrap_or_default(),
                whole(figures.rss_mib)
            )
        };
        let cells: Vec<String> = whos.iter().map(cell).collect();
        line(&mut text, &format!("| {} | {} |", grouped(count as f64), cells.join(" | ")));
    }
    text
}

fn all_rows(rows: &[Row], workload: Workload) -> String {
    let rows: Vec<[String; 16]> =
        rows.iter().filter(|row| row.point.workload == workload).map(cells).collect();
    if rows.is_empty() {
        return String::new();
    }
    // Columns without a figure for this workload are left out.
    let columns: Vec<usize> =
        (0..HEAD.len()).filter(|at| rows.iter().any(|cells| cells[*at] != NOTHING)).collect();
    let pick = |cells: &[String; 16]| {
        columns.iter().map(|at| cells[*at].clone()).collect::<Vec<_>>().join(" | ")
    };
    let mut text = format!("## {}\n\n{}\n\n", workload.name(), explained(workload));
    line(&mut text, &format!("| {} |", pick(&HEAD.map(str::to_owned))));
    let ruler: Vec<&str> =
        columns.iter().map(|at| if *at < WORDS { "---" } else { "--:" }).collect();
    line(&mut text, &format!("|{}|", ruler.join("|")));
    for cells in &rows {
        line(&mut text, &format!("| {} |", pick(cells)));
    }
    text + "\n"
}

/// The first so many columns are words.
const WORDS: usize = 3;
const HEAD: [&str; 16] = [
    "system",
    "version",
    "durability",
    "tasks",
    "producers",
    "workers",
    "batch",
    "in flight",
    "/s",
    "p50 ms",
    "p99 ms",
    "server CPU µs",
    "client CPU µs",
    "RSS MiB",
    "disk MiB",
    "live MiB",
];

fn cells(row: &Row) -> [String; 16] {
    let (who, point, figures) = (&row.who, &row.point, row.figures());
    let count = |count: usize| {
        if point.producers > 0 && count > 0 { count.to_string() } else { NOTHING.into() }
    };
    let each = figures.kib_each.map_or_else(String::new, |kib| format!(" ({kib:.1} KiB each)"));
    [
        who.system.to_owned(),
        who.version.clone(),
        who.durability.to_owned(),
        grouped(figures.tasks as f64),
        count(point.producers),
        count(point.workers),
        count(point.batch),
        count(point.in_flight),
        whole(figures.per_second),
        plain(figures.p50_ms),
        plain(figures.p99_ms),
        plain(figures.cpu_us_per_task),
        plain(figures.client_cpu_us_per_task),
        whole(figures.rss_mib) + &each,
        whole(figures.disk_mib),
        whole(figures.live_mib),
    ]
}

fn explained(workload: Workload) -> &'static str {
    match workload {
        Workload::Enqueue => "Confirmed submits. Latencies are those of requests.",
        Workload::Lifecycle => {
            "Submit confirmed, delivered, completed with a result, and that confirmed. CPU time is for each task."
        }
        Workload::Roundtrip => {
            "One task at a time on an idle server, from submit until the submitter has the result."
        }
        Workload::Backlog => "Lifecycles while `tasks` others wait.",
        Workload::Retained => {
            "Lifecycles while the results of `tasks` others are kept, and the memory with these alone."
        }
        Workload::RestartWithResults => {
            "As above, with the results of `tasks` ended tasks, and of those that were measured beside them."
        }
        Workload::Fairness => {
            "One producer submits one task at a time, beside another one that submits batches as fast as it can, at least a hundred times as many tasks. Latencies are those of the first, the rate is that of the second."
        }
        Workload::Restart => {
            "The time from exec to the first answer, with `tasks` tasks in the folder, after a clean stop: p50."
        }
        Workload::Scheduled => {
            "How late tasks are delivered that become due within ten seconds (in a quick run: one), while `tasks` others are due in an hour or later."
        }
        Workload::IdleConnections => {
            "So many connections that complete the handshake and do nothing: the memory of the server, and how much each adds."
        }
        Workload::Listing => {
            "Pages of 100 out of `tasks`, by filters that match many, few and no tasks."
        }
        Workload::WorstStep => {
            "The longest step of the state machine alone, for each request that looks at many of `tasks`: the p99 is the longest of all."
        }
    }
}

/// The first row of each system.
pub(crate) fn systems(rows: &[Row]) -> Vec<&Row> {
    let mut firsts: Vec<&Row> = Vec::new();
    for row in rows {
        if firsts.iter().all(|first| first.who != row.who) {
            firsts.push(row);
        }
    }
    firsts
}

/// The figures of the system of this row.
pub(crate) fn of(rows: &[Row], system: &Row, workload: Workload, which: Which) -> Option<Figures> {
    let own: Vec<Row> = rows.iter().filter(|row| row.who == system.who).cloned().collect();
    let fits = |row: &&Row| {
        row.point.workload == workload
            && which.batch.is_none_or(|batch| row.point.batch == batch)
            && which.in_flight.is_none_or(|in_flight| row.point.in_flight == in_flight)
    };
    own.iter().find(fits).map(Row::figures)
}

pub(crate) fn times(ratio: Option<f64>) -> String {
    ratio.map_or_else(String::new, |ratio| {
        if ratio < 10.0 { format!(" ({ratio:.1} ×)") } else { format!(" ({ratio:.0} ×)") }
    })
}

/// Whole numbers with commas between thousands.
pub(crate) fn grouped(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn whole(figure: Option<f64>) -> String {
    figure.map_or_else(|| NOTHING.into(), grouped)
}

/// Three significant digits.
pub(crate) fn plain(figure: Option<f64>) -> String {
    match figure {
        None => NOTHING.into(),
        Some(figure) if figure >= 100.0 => grouped(figure),
        Some(figure) if figure >= 10.0 => format!("{figure:.1}"),
        Some(figure) => format!("{figure:.2}"),
    }
}

fn line(text: &mut String, line: &str) {
    // Writing to a String cannot fail.
    let _ = writeln!(text, "{line}");
}

#[test]
fn prose_is_wrapped_and_tables_are_not() {
    let words = "word ".repeat(30);
    let lines: Vec<usize> = wrapped(words.trim_end()).lines().map(str::len).collect();
    assert_eq!(lines, [99, 49]);
    let row = format!("| {words} |");
    assert_eq!(wrapped(&row), format!("{row}\n"));
    assert_eq!(wrapped(""), "\n");
}
