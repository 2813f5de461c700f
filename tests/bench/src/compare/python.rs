//! The rows of Python: Celery on Celeriac, Redis and RabbitMQ, and the package's own client and
//! worker. `python/bench/rows.py` measures them; this file runs it and takes its figures into the
//! report.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use celeriac_tests::celeriac_binary;
use serde::{Deserialize, Serialize};

use super::peers::{self, Server};
use super::plan::Plan;
use super::report::{Failure, Report};
use super::text;

/// The name of these rows for `ONLY`.
pub(crate) const NAME: &str = "python";
const OURS: &str = "Celery on Celeriac";
/// A run that takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(60 * 60);
/// The share of the tasks that a quick run has.
const QUICK_SCALE: f64 = 0.2;

/// One row, as the program writes it: the medians of the rounds.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct PythonRow {
    pub system: String,
    pub version: String,
    pub durability: String,
    pub workload: String,
    pub rounds: usize,
    pub per_second: Option<f64>,
    pub p50_ms: Option<f64>,
    /// Processor time of the process that submits, of the worker, or of both, whichever works.
    pub client_cpu_us_per_task: f64,
    /// Processor time of the server.
    pub cpu_us_per_task: f64,
}

#[derive(Debug, Deserialize)]
struct Output {
    rows: Vec<PythonRow>,
    missing: Vec<String>,
    failed: Vec<Failed>,
}

#[derive(Debug, Deserialize)]
struct Failed {
    system: String,
    workload: String,
    reason: String,
}

/// Measures everything. After each workload the report is written.
pub(crate) async fn run(
    plan: &Plan,
    is_quick: bool,
    scratch: &Path,
    report: &mut Report,
) -> Result<()> {
    let program = match peers::python() {
        Ok(program) => program,
        Err(missing) => {
            report.missing.push(missing.0);
            return report.write();
        }
    };
    let output = scratch.join("python.json");
    let mut command = Command::new(program);
    let scale = if is_quick { QUICK_SCALE } else { 1.0 };
    command.arg(folder().join("rows.py")).args([plan.rounds.to_string(), scale.to_string()]);
    command.arg(&output).env("CELERIAC_BINARY", celeriac_binary());
    command.env("PYTHONDONTWRITEBYTECODE", "1").env("TMPDIR", scratch);
    let mut server = Server::start(command, &scratch.join("python.log"))?;
    let (begun, known) = (Instant::now(), report.missing.clone());
    let ended = loop {
        tokio::select! {
            ended = server.succeeded() => break ended,
            () = tokio::time::sleep(Duration::from_millis(500)) => {
                take(&output, &known, report)?;
            }
        }
        if begun.elapsed() > PATIENCE {
            break Err(anyhow!("it took longer than {} s", PATIENCE.as_secs()));
        }
    };
    if let Err(error) = ended {
        let step = "everything".to_owned();
        report.failures.push(Failure::elsewhere(NAME.to_owned(), step, format!("{error:#}")));
    } else if !output.exists() {
        bail!("rows.py has written nothing");
    }
    take(&output, &known, report)
}

/// Takes over what the program has found so far.
fn take(output: &Path, known: &[String], report: &mut Report) -> Result<()> {
    let Ok(text) = std::fs::read(output) else { return Ok(()) };
    let found: Output = serde_json::from_slice(&text).context("the output of rows.py")?;
    let news = found.rows.len() > report.python.len();
    for row in found.rows.iter().skip(report.python.len()) {
        let figure = match (row.per_second, row.p50_ms) {
            (Some(rate), _) => format!("{rate:.0}/s"),
            (None, p50) => format!("p50 {:.3} ms", p50.unwrap_or_default()),
        };
        let PythonRow { system, workload, durability, .. } = row;
        super::say(&format!("python   {workload:<38} {system}, {durability}: {figure}"));
    }
    report.python = found.rows;
    report.missing = known.to_vec();
    report.missing.extend(found.missing.into_iter().filter(|one| !known.contains(one)));
    for Failed { system, workload, reason } in found.failed {
        let failure = Failure::elsewhere(system, workload, reason);
        if !report.failures.contains(&failure) {
            super::say(&format!("python   {}: {}", failure.step, failure.reason));
            report.failures.push(failure);
        }
    }
    if news { report.write() } else { Ok(()) }
}

/// The rows as a table, with the factor by which Celery on Celeriac is faster than on others.
pub(crate) fn table(rows: &[PythonRow]) -> String {
    let mut text = String::from(
        "## Python\n\nOne process submits tasks with 200 bytes that do nothing, and a worker runs them; `client` is the processor time of whichever of the two works. In brackets: how many times faster Celery on Celeriac is.\n\n\
         | | | durability | a second | p50 ms | client us | server us | rounds |\n\
         |---|---|---|--:|--:|--:|--:|--:|\n",
    );
    let mut workloads: Vec<&str> = Vec::new();
    for row in rows {
        if !workloads.contains(&&*row.workload) {
            workloads.push(&row.workload);
        }
    }
    for workload in workloads {
        let of_it = || rows.iter().filter(|row| row.workload == workload);
        let ours = of_it().find(|row| row.system == OURS);
        for row in of_it() {
            let is_other = row.system != OURS && row.system.starts_with("Celery");
            let ratio = ours.filter(|_| is_other).and_then(|ours| ours.times_faster_than(row));
            let rate = row.per_second.map_or_else(|| text::NOTHING.into(), text::grouped);
            let cells = [
                workload.to_owned(),
                format!("{} {}", row.system, row.version),
                row.durability.clone(),
                rate + &text::times(ratio.filter(|_| row.per_second.is_some())),
                text::plain(row.p50_ms) + &text::times(ratio.filter(|_| row.p50_ms.is_some())),
                format!("{:.0}", row.client_cpu_us_per_task),
                format!("{:.0}", row.cpu_us_per_task),
                row.rounds.to_string(),
            ];
            text.push_str(&format!("| {} |\n", cells.join(" | ")));
        }
    }
    text
}

impl PythonRow {
    fn times_faster_than(&self, other: &Self) -> Option<f64> {
        match (self.per_second, other.per_second, self.p50_ms, other.p50_ms) {
            (Some(own), Some(theirs), ..) => Some(own / theirs),
            (_, _, Some(own), Some(theirs)) => Some(theirs / own),
            _ => None,
        }
    }
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../python/bench")
}
