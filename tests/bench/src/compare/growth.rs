//! A chart of lifecycles per second and of memory by the number of waiting tasks: two line charts
//! over the same axis.

use std::fmt::Write as _;

use super::chart::{decades, grid, label, open, short};
use super::figures::Figures;
use super::report::{Row, Who};
use super::system::Workload;

const WIDTH: f64 = 920.0;
const LEFT: f64 = 70.0;
/// Room for the names behind the lines.
const RIGHT: f64 = 300.0;
const TOP: f64 = 62.0;
const FIELD: f64 = 240.0;
/// Between one name and the next.
const LINE: f64 = 15.0;

/// Celeriac first. All colours can be read on light and dark backgrounds.
const COLOURS: [&str; 10] = [
    "#e8590c", "#5b8def", "#2f9e6e", "#b06bd1", "#c79a1b", "#d6557a", "#2aa5b5", "#8a94a6",
    "#a3785e", "#7a9c34",
];

/// One system's line.
struct Curve<'a> {
    who: &'a Who,
    /// Tasks waiting, and the figure.
    points: Vec<(u64, f64)>,
}

/// The chart of the report.
pub(crate) fn chart(rows: &[Row]) -> String {
    let height = TOP + 2.0 * (FIELD + 70.0);
    let mut svg =
        open(WIDTH, height, "Lifecycles a second and memory with more and more tasks waiting");
    label(&mut svg, (16.0, 26.0), "title", "start", "With more and more tasks waiting");
    let whos = whos(rows);
    if whos.is_empty() {
        label(&mut svg, (16.0, TOP), "", "start", "Not measured.");
        return svg + "</svg>";
    }
    field(
        &mut svg,
        TOP,
        "lifecycles a second, batches of 100 (log scale)",
        &curves(rows, &whos, |f| f.per_second),
    );
    field(
        &mut svg,
        TOP + FIELD + 70.0,
        "memory of the server in MiB (log scale)",
        &curves(rows, &whos, |f| f.rss_mib),
    );
    svg + "</svg>"
}

fn whos(rows: &[Row]) -> Vec<&Who> {
    let mut whos: Vec<&Who> = Vec::new();
    for row in rows.iter().filter(|row| row.point.workload == Workload::Backlog) {
        if !whos.contains(&&row.who) {
            whos.push(&row.who);
        }
    }
    whos
}

fn curves<'a>(
    rows: &[Row],
    whos: &[&'a Who],
    figure: fn(&Figures) -> Option<f64>,
) -> Vec<Curve<'a>> {
    let curve = |who: &&'a Who| {
        let own =
            rows.iter().filter(|row| row.point.workload == Workload::Backlog && row.who == **who);
        let point = |row: &Row| {
            Some((row.point.count?, figure(&row.figures()).filter(|figure| *figure > 0.0)?))
        };
        Curve { who, points: own.filter_map(point).collect() }
    };
    whos.iter().map(curve).collect()
}

/// An empty server is shown one decade before the first number of waiting tasks.
fn place(waiting: u64, first: f64) -> f64 {
    if waiting == 0 { first - 1.0 } else { (waiting as f64).log10() }
}

fn field(svg: &mut String, top: f64, title: &str, curves: &[Curve<'_>]) {
    label(svg, (16.0, top - 12.0), "", "start", title);
    let all = || curves.iter().flat_map(|curve| curve.points.iter());
    let (Some((low, high)), Some((first, last))) = (
        decades(all().map(|(_, value)| *value)),
        decades(all().map(|(waiting, _)| *waiting as f64)),
    ) else {
        label(svg, (LEFT, top + 20.0), "", "start", "Not measured.");
        return;
    };
    let bottom = top + FIELD;
    let from = f64::from(first) - 1.0;
    let x = |waiting| {
        LEFT + (place(waiting, f64::from(first)) - from) / (f64::from(last) - from)
            * (WIDTH - LEFT - RIGHT)
    };
    let y = |value: f64| bottom - (value.log10() - f64::from(low)) / f64::from(high - low) * FIELD;
    for exponent in low..=high {
        let y = y(10_f64.powi(exponent));
        grid(svg, (LEFT, y), (WIDTH - RIGHT, y));
        label(svg, (LEFT - 8.0, y + 4.0), "small", "end", &short(exponent));
    }
    label(svg, (x(0), bottom + 18.0), "small", "middle", "empty");
    for exponent in first..=last {
        let x = x(10_u64.pow(exponent.unsigned_abs()));
        grid(svg, (x, top), (x, bottom));
        label(svg, (x, bottom + 18.0), "small", "middle", &short(exponent));
    }
    for (number, curve) in curves.iter().enumerate() {
        let colour = COLOURS[number % COLOURS.len()];
        let points: Vec<(f64, f64)> =
            curve.points.iter().map(|(waiting, value)| (x(*waiting), y(*value))).collect();
        let line: Vec<String> = points.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        let width = if number == 0 { 3 } else { 2 };
        let _ = writeln!(
            svg,
            r#"<polyline points="{}" fill="none" stroke="{colour}" stroke-width="{width}" stroke-linejoin="round"/>"#,
            line.join(" ")
        );
        for (x, y) in points {
            let _ = writeln!(svg, r#"<circle cx="{x:.1}" cy="{y:.1}" r="3.5" fill="{colour}"/>"#);
        }
    }
    legend(svg, top, curves, |curve| curve.points.last().map(|(_, value)| y(*value)));
}

/// The name of the system, and its durability in a few words if the chart has the system more than
/// once.
fn name(curves: &[Curve<'_>], number: usize) -> String {
    let who = curves[number].who;
    let shared = curves.iter().filter(|curve| curve.who.system == who.system).count() > 1;
    let few = who.durability.split([',', '(', ';']).next().unwrap_or_default().trim();
    if shared { format!("{}, {few}", who.system) } else { who.system.to_owned() }
}

/// The names in the order of their lines' ends, as near to them as there is room.
fn legend(
    svg: &mut String,
    top: f64,
    curves: &[Curve<'_>],
    end: impl Fn(&Curve<'_>) -> Option<f64>,
) {
    let mut names: Vec<(usize, f64)> = curves
        .iter()
        .enumerate()
        .filter_map(|(number, curve)| Some((number, end(curve)?)))
        .collect();
    names.sort_by(|(_, one), (_, other)| one.total_cmp(other));
    let mut free = top;
    for (at, (number, end)) in names.iter().enumerate() {
        // The names that follow need room too.
        let last = top + FIELD - LINE * (names.len() - 1 - at) as f64;
        let y = end.min(last).max(free);
        free = y + LINE;
        let colour = COLOURS[number % COLOURS.len()];
        let x = WIDTH - RIGHT + 12.0;
        let _ = writeln!(svg, r#"<circle cx="{x:.1}" cy="{y:.1}" r="4.5" fill="{colour}"/>"#);
        let class = if *number == 0 { "line ours" } else { "line" };
        label(svg, (x + 11.0, y + 4.0), class, "start", &name(curves, *number));
    }
}
