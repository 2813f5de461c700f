//! The report of figures that were not measured: JSON, Markdown, goals and charts.

use serde_json::Value;

use super::chart;
use super::figures::{Figures, Point};
use super::goals::goals;
use super::growth;
use super::machine::Machine;
use super::python::PythonRow;
use super::report::{Report, Row, Who};
use super::system::{Load, Workload};
use super::text;

fn load(batch: usize, in_flight: usize) -> Load {
    Load { tasks: 0, producers: 4, workers: 4, batch, in_flight, payload: 200, result: 64 }
}

fn row(system: &'static str, durability: &'static str, point: Point, rounds: &[f64]) -> Row {
    let who = Who { system, version: "1.2".into(), durability };
    let figures = |per_second: &f64| Figures {
        tasks: 1_000,
        per_second: Some(*per_second),
        rss_mib: Some(50.0),
        ..Figures::default()
    };
    Row::new(who, point, rounds.iter().map(figures).collect())
}

fn lifecycle(system: &'static str, durability: &'static str, rounds: &[f64]) -> Row {
    row(system, durability, Point::under(Workload::Lifecycle, None, &load(100, 4)), rounds)
}

fn backlog(system: &'static str, waiting: u64, per_second: f64) -> Row {
    row(
        system,
        "<durable> & \"sure\"",
        Point::under(Workload::Backlog, Some(waiting), &load(100, 4)),
        &[per_second],
    )
}

fn report(rows: Vec<Row>) -> Report {
    let machine = Machine {
        cpu: "Some".into(),
        cores: 2,
        memory_mib: 1_024,
        kernel: "6".into(),
        fdatasync_ms: vec![0.3, 0.1, 0.2],
        date: "2026-01-01 00:00".into(),
    };
    let how = "As always.".to_owned();
    Report {
        folder: "nowhere".into(),
        machine,
        how,
        rows,
        python: Vec::new(),
        failures: Vec::new(),
        missing: vec!["no rabbit".into()],
    }
}

fn peers() -> Vec<Row> {
    vec![
        lifecycle("Celeriac", "fdatasync", &[190_000.0, 210_000.0, 200_000.0]),
        lifecycle("Redis Streams", "appendfsync always", &[40_000.0]),
        lifecycle("Celery on Redis", "appendfsync always", &[500.0]),
    ]
}

#[test]
fn a_row_in_json_has_all_keys_and_null_where_there_is_no_figure() {
    let json = report(peers()).json();
    let row = &json["rows"][0];
    let keys = "system version durability workload tasks producers workers batch in_flight per_second p50_ms p99_ms \
                cpu_us_per_task rss_mib disk_mib";
    for key in keys.split_whitespace() {
        assert!(row.get(key).is_some(), "{key} in {row}");
    }
    assert_eq!(row["workload"], "lifecycle");
    assert_eq!(row["per_second"], 200_000.0);
    assert_eq!(row["rounds"], 3);
    assert_eq!(row["p50_ms"], Value::Null);
    assert_eq!(json["machine"]["fdatasync_p50_ms"], 0.2);
    assert_eq!(json["missing"][0], "no rabbit");
}

#[test]
fn workloads_have_the_names_that_readers_of_the_json_know() {
    let names = Workload::ALL.map(Workload::name);
    let known = [
        "enqueue",
        "lifecycle",
        "roundtrip",
        "backlog",
        "retained",
        "restart",
        "restart_with_results",
        "fairness",
        "scheduled",
        "idle_connections",
        "listing",
        "worst_step",
    ];
    assert_eq!(names, known);
}

#[test]
fn a_goal_is_reached_missed_or_not_measured() {
    let goals = goals(&peers(), Some(0.1));
    let reached: Vec<_> = goals.iter().take(4).map(|goal| goal.is_reached).collect();
    assert_eq!(reached, [Some(true), None, Some(true), None]);
    assert_eq!(goals[0].measured.as_deref(), Some("5.0 times"));

    let mut rows = peers();
    rows[0] = lifecycle("Celeriac", "fdatasync", &[159_000.0]);
    assert_eq!(super::goals::goals(&rows, None)[0].is_reached, Some(false));
}

#[test]
fn the_summary_says_how_many_times_faster_ours_is() {
    let summary = text::summary(&report(peers()));
    let lines: Vec<&str> = summary.lines().collect();
    assert!(lines[2].starts_with("| Celeriac | fdatasync | – | 200,000 |"), "{summary}");
    assert!(
        lines[3].contains("| 40,000 (5.0 ×) |") && lines[4].contains("| 500 (400 ×) |"),
        "{summary}"
    );
}

#[test]
fn a_column_without_figures_is_left_out() {
    let text = text::report(&report(peers()));
    let head = text.lines().find(|line| line.starts_with("| system")).unwrap_or_default();
    assert!(head.contains("RSS MiB") && !head.contains("p99"), "{head}");
}

#[test]
fn names_in_a_chart_are_text_and_not_markup() {
    assert_eq!(chart::escaped("a<b> & \"c\" 'd'"), "a&lt;b&gt; &amp; &quot;c&quot; &#39;d&#39;");
    let mut rows = peers();
    rows.push(lifecycle("Redis <script>", "a & b", &[7.0]));
    let svg = chart::lifecycles(&rows);
    assert!(
        svg.contains("Redis &lt;script&gt;")
            && svg.contains("a &amp; b")
            && !svg.contains("<script>"),
        "{svg}"
    );
}

#[test]
fn charts_hold_together_with_any_rows() {
    let one = vec![backlog("Celeriac", 0, 1_000.0)];
    let many = vec![
        backlog("Celeriac", 0, 1_000.0),
        backlog("Celeriac", 10_000, 1_000.0),
        backlog("Celeriac", 10_000_000, 900.0),
        backlog("Redis Streams", 10_000, 0.0),
    ];
    for rows in [Vec::new(), peers(), one, many] {
        for svg in [chart::lifecycles(&rows), growth::chart(&rows)] {
            assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>"), "{svg}");
            assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        }
    }
}

#[test]
fn the_scale_goes_by_whole_powers_of_ten() {
    assert_eq!(chart::decades([730.0, 190_000.0].into_iter()), Some((2, 6)));
    assert_eq!(chart::decades([1_000.0].into_iter()), Some((3, 4)));
    assert_eq!(chart::decades([0.0].into_iter()), None);
    assert_eq!([0, 2, 3, 5, 6, 7].map(chart::short), ["1", "100", "1 k", "100 k", "1 M", "10 M"]);
}

#[test]
fn a_row_of_python_says_how_many_times_faster_celery_on_celeriac_is() {
    let row = |system: &str, per_second: Option<f64>, p50_ms: Option<f64>| PythonRow {
        system: system.into(),
        version: "5.7".into(),
        durability: "some".into(),
        workload: if p50_ms.is_some() { "trip" } else { "work" }.into(),
        rounds: 3,
        per_second,
        p50_ms,
        client_cpu_us_per_task: 120.4,
        cpu_us_per_task: 30.0,
    };
    let mut report = report(Vec::new());
    report.python = vec![
        row("Python client and worker", Some(9_000.0), None),
        row("Celery on Celeriac", Some(3_000.0), None),
        row("Celery on Redis", Some(1_000.0), None),
        row("Celery on Celeriac", None, Some(2.0)),
        row("Celery on Redis", None, Some(5.0)),
    ];
    let text = text::report(&report);
    for line in [
        "| work | Python client and worker 5.7 | some | 9,000 | – | 120 | 30 | 3 |",
        "| work | Celery on Celeriac 5.7 | some | 3,000 | – | 120 | 30 | 3 |",
        "| work | Celery on Redis 5.7 | some | 1,000 (3.0 ×) | – | 120 | 30 | 3 |",
        "| trip | Celery on Redis 5.7 | some | – | 5.00 (2.5 ×) | 120 | 30 | 3 |",
    ] {
        assert!(text.contains(line), "{line} in {text}");
    }
    assert_eq!(report.json()["python"][2]["per_second"], 1_000.0);
}
