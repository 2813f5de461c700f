//! Faults, one kind to a file: each can be run a few times as a test, or for hours by `make faults`, and says in a
//! [`Tally`] what came of it.

pub mod toxic_network;

use std::time::Duration;

/// What came of many runs of one fault: a row of the table of `make faults`.
#[derive(Debug, Clone, Default)]
pub struct Tally {
    /// The fault, in a few words.
    pub what: String,
    /// How often it was done.
    pub runs: u64,
    /// What `runs` counts: `kills`, `cuts`, `simulated hours`.
    pub unit: &'static str,
    /// Promises that were broken, each as a sentence that says how to see it again.
    pub violations: Vec<String>,
    /// Starts of a broker that failed although nothing forbade them, each as a sentence.
    pub failed_starts: Vec<String>,
    /// The longest time from exec to ready, where a broker process was started.
    pub worst_ready: Option<Duration>,
    /// Set when it could not be done here: what is missing.
    pub skipped: Option<String>,
    /// What a reader of the table should know besides, such as how many flips were refused and how many served.
    pub remarks: String,
}

impl Tally {
    /// An empty tally.
    pub fn new(what: &str, unit: &'static str) -> Self {
        Self { what: what.to_owned(), unit, ..Self::default() }
    }

    /// One that was not done.
    pub fn skipped(what: &str, unit: &'static str, reason: impl Into<String>) -> Self {
        Self { skipped: Some(reason.into()), ..Self::new(what, unit) }
    }

    /// Counts a start of the broker that worked.
    pub fn ready_after(&mut self, took: Duration) {
        self.worst_ready = Some(self.worst_ready.map_or(took, |worst| worst.max(took)));
    }

    /// For a test: says clearly when it was skipped, and fails with everything that was found.
    ///
    /// # Panics
    /// When there is a violation or a failed start, or when nothing was done and nothing says why.
    pub fn assert_clean(&self) {
        if let Some(reason) = &self.skipped {
            eprintln!("SKIPPED: {}: {reason}", self.what);
            return;
        }
        let found: Vec<String> = self.violations.iter().chain(&self.failed_starts).take(20).cloned().collect();
        assert!(found.is_empty(), "{}: {} findings:\n  {}", self.what, found.len(), found.join("\n  "));
        assert!(self.runs > 0, "{}: nothing was done", self.what);
        eprintln!("{}: {} {}, no violation. {}", self.what, self.runs, self.unit, self.remarks);
    }
}
