//! The table, in Markdown, so that it can be kept as it was printed.

use std::time::Duration;

use celeriac_tests::faults::Tally;

const HEADER: [&str; 8] = [
    "what",
    "how many",
    "violations",
    "failed starts",
    "worst time to ready",
    "took",
    "skipped because",
    "remarks",
];

/// Says at once what was found, long before the table.
pub(crate) fn findings(tally: &Tally) {
    for violation in &tally.violations {
        eprintln!("{}: VIOLATION: {violation}", tally.what);
    }
    for failed in &tally.failed_starts {
        eprintln!("{}: FAILED START: {failed}", tally.what);
    }
    if let Some(reason) = &tally.skipped {
        eprintln!("{}: SKIPPED: {reason}", tally.what);
    }
}

/// One row for each tally, columns as wide as their widest cell.
pub(crate) fn table(rows: &[(Tally, Duration)]) -> String {
    let rows: Vec<[String; 8]> = rows.iter().map(|(tally, took)| cells(tally, *took)).collect();
    let width = |column: usize| {
        let widths = rows.iter().map(|row| row[column].chars().count());
        widths.chain([HEADER[column].len()]).max().unwrap_or(0)
    };
    // A column in which nothing stands is left out.
    let shown: Vec<usize> = (0..HEADER.len())
        .filter(|&column| rows.iter().any(|row| !row[column].is_empty()))
        .collect();
    let line = |text: &dyn Fn(usize) -> String| {
        let cells: Vec<String> =
            shown.iter().map(|&column| format!("{:<1$}", text(column), width(column))).collect();
        format!("| {} |\n", cells.join(" | "))
    };
    let mut table = line(&|column| HEADER[column].to_owned());
    table.push_str(&line(&|column| "-".repeat(width(column))));
    for row in &rows {
        table.push_str(&line(&|column| row[column].clone()));
    }
    table
}

fn cells(tally: &Tally, took: Duration) -> [String; 8] {
    let ready =
        tally.worst_ready.map_or(String::new(), |ready| format!("{} ms", ready.as_millis()));
    [
        tally.what.clone(),
        format!("{} {}", tally.runs, tally.unit),
        tally.violations.len().to_string(),
        tally.failed_starts.len().to_string(),
        ready,
        format!("{} s", took.as_secs()),
        tally.skipped.clone().unwrap_or_default(),
        tally.remarks.clone(),
    ]
}
