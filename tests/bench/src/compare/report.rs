//! The report while it grows, and its files. `text.rs` writes it as Markdown, `chart.rs` and
//! `growth.rs` draw it.

use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::figures::{Figures, Point};
use super::machine::Machine;
use super::plan::Step;
use super::python::PythonRow;
use super::system::System;
use super::turns::Present;
use super::{chart, growth, text};

/// The system that was measured.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Who {
    pub system: &'static str,
    pub version: String,
    pub durability: &'static str,
}

/// One line of the report: the medians of the rounds at one point.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    pub who: Who,
    pub point: Point,
    rounds: Vec<Figures>,
}

impl Row {
    pub(crate) fn new(who: Who, point: Point, rounds: Vec<Figures>) -> Self {
        Self { who, point, rounds }
    }

    pub(crate) fn figures(&self) -> Figures {
        Figures::medians(&self.rounds)
    }

    fn json(&self) -> Value {
        let (Self { who, point, .. }, figures) = (self, self.figures());
        // A figure that a step does not have is null, as a figure that was not measured.
        let some = |count: usize| (count > 0).then_some(count);
        let is_load = point.producers > 0;
        json!({
            "system": who.system,
            "version": who.version,
            "durability": who.durability,
            "workload": point.workload.name(),
            "tasks": figures.tasks,
            "producers": some(point.producers),
            "workers": some(point.workers),
            "batch": is_load.then_some(point.batch),
            "in_flight": is_load.then_some(point.in_flight),
            "rounds": self.rounds.len(),
            "per_second": figures.per_second,
            "p50_ms": figures.p50_ms,
            "p99_ms": figures.p99_ms,
            "cpu_us_per_task": figures.cpu_us_per_task,
            "client_cpu_us_per_task": figures.client_cpu_us_per_task,
            "rss_mib": figures.rss_mib,
            "disk_mib": figures.disk_mib,
            "live_mib": figures.live_mib,
            "disk_times": figures.disk_times,
            "kib_each": figures.kib_each,
        })
    }
}

/// A measurement that failed, and why.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Failure {
    pub system: String,
    pub step: String,
    pub reason: String,
    /// The step's place in the plan. What is no step of the plan has none.
    number: Option<usize>,
}

impl Failure {
    pub(crate) fn of(
        system: &dyn System,
        number: usize,
        step: &Step,
        error: &anyhow::Error,
    ) -> Self {
        let (system, step, reason) = (full_name(system), step.name(), format!("{error:#}"));
        Self { system, step, reason, number: Some(number) }
    }

    /// A failure outside the plan.
    pub(crate) fn elsewhere(system: String, step: String, reason: String) -> Self {
        Self { system, step, reason, number: None }
    }
}

/// Everything found so far.
#[derive(Debug)]
pub(crate) struct Report {
    pub folder: PathBuf,
    pub machine: Machine,
    /// How it was measured, as a sentence.
    pub how: String,
    pub rows: Vec<Row>,
    pub python: Vec<PythonRow>,
    pub failures: Vec<Failure>,
    /// Peers that are not installed: a sentence for each.
    pub missing: Vec<String>,
}

impl Report {
    pub(crate) fn has_failed(&self, system: &dyn System, step: usize) -> bool {
        let name = full_name(system);
        self.failures.iter().any(|failure| failure.system == name && failure.number == Some(step))
    }

    /// Adds the figures of a round to those of the rounds before.
    pub(crate) fn add(&mut self, present: &Present<'_>, point: Point, figures: Figures) {
        let (system, durability) = (present.system.name(), present.system.durability());
        let who = Who { system, version: present.version.clone(), durability };
        match self.rows.iter_mut().find(|row| row.who == who && row.point == point) {
            Some(row) => row.rounds.push(figures),
            None => self.rows.push(Row::new(who, point, vec![figures])),
        }
    }

    pub(crate) fn json(&self) -> Value {
        let failures = self
            .failures
            .iter()
            .map(|Failure { system, step, reason, .. }| json!({ "system": system, "step": step, "failed": reason }));
        json!({
            "machine": self.machine.json(),
            "how": self.how,
            "rows": self.rows.iter().map(Row::json).collect::<Vec<_>>(),
            "python": self.python,
            "failures": failures.collect::<Vec<_>>(),
            "missing": self.missing,
        })
    }

    /// Writes all files. A file is never written by half.
    pub(crate) fn write(&self) -> Result<()> {
        let json = serde_json::to_string_pretty(&self.json())?;
        let files = [
            ("report.json", json),
            ("report.md", text::report(self)),
            ("chart.svg", chart::lifecycles(&self.rows)),
            ("growth.svg", growth::chart(&self.rows)),
        ];
        for (name, text) in files {
            replace(&self.folder.join(name), &text)
                .with_context(|| format!("{name} cannot be written"))?;
        }
        Ok(())
    }
}

/// A system and how durable it is.
pub(crate) fn full_name(system: &dyn System) -> String {
    format!("{}, {}", system.name(), system.durability())
}

fn replace(path: &Path, text: &str) -> Result<()> {
    let folder = path.parent().context("a report has a folder")?;
    // Every user who can read the folder can read the file.
    let open = std::fs::Permissions::from_mode(0o644);
    let mut draft = tempfile::Builder::new().permissions(open).tempfile_in(folder)?;
    draft.write_all(text.trim_end().as_bytes())?;
    draft.write_all(b"\n")?;
    draft.persist(path)?;
    Ok(())
}
