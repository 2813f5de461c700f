//! Faults, one kind to a file: each can be run a few times as a test, or for hours by `make
//! faults`, and says in a [`Tally`] what came of it.

pub mod bit_rot;
pub mod black_hole;
pub mod clock_jumps;
pub mod cut_everywhere;
pub mod deaf_consumer;
pub mod failing_disk;
pub mod flood;
pub mod full_disk;
pub mod fuzz;
pub mod hostile_peers;
pub mod idle_sockets;
pub mod kill_broker;
pub mod kill_start;
pub mod kill_worker;
pub mod power_cut;
pub mod simulation;
mod stock;
pub mod toxic_network;

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::task::JoinSet;

use crate::Luck;
use crate::crowd::panic_text;

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
    /// What a reader of the table should know besides, such as how many flips were refused and how
    /// many served.
    pub remarks: String,
    /// What was counted on the way, for the remarks.
    pub counts: BTreeMap<&'static str, u64>,
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

    /// Counts one more of these.
    pub fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    /// The same with what was counted as its remarks.
    #[must_use]
    pub fn with_counts_as_remarks(mut self) -> Self {
        let counts: Vec<String> =
            self.counts.iter().map(|(what, count)| format!("{count} {what}")).collect();
        self.remarks = counts.join(", ");
        self
    }

    /// Adds what came of other runs of the same fault.
    pub fn add(&mut self, other: Self) {
        self.runs += other.runs;
        self.violations.extend(other.violations);
        self.failed_starts.extend(other.failed_starts);
        if let Some(took) = other.worst_ready {
            self.ready_after(took);
        }
        self.skipped = self.skipped.take().or(other.skipped);
        for (what, count) in other.counts {
            *self.counts.entry(what).or_default() += count;
        }
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
        let found: Vec<String> =
            self.violations.iter().chain(&self.failed_starts).take(20).cloned().collect();
        assert!(
            found.is_empty(),
            "{}: {} findings:\n  {}",
            self.what,
            found.len(),
            found.join("\n  ")
        );
        assert!(self.runs > 0, "{}: nothing was done", self.what);
        eprintln!("{}: {} {}, no violation. {}", self.what, self.runs, self.unit, self.remarks);
    }
}

/// Runs a fault in two lanes side by side, each with its share of the runs and a seed of its own.
pub(crate) async fn in_two_lanes<Lane>(
    empty: Tally,
    runs: u64,
    seed: u64,
    lane: fn(u64, u64) -> Lane,
) -> Tally
where
    Lane: Future<Output = Tally> + Send + 'static,
{
    let mut tally = empty;
    let mut lanes = JoinSet::new();
    let mut seeds = Luck::new(seed);
    for share in [runs.div_ceil(2), runs / 2] {
        let seed = seeds.bits();
        if share > 0 {
            lanes.spawn(lane(share, seed));
        }
    }
    while let Some(ended) = lanes.join_next().await {
        match ended {
            Ok(part) => tally.add(part),
            Err(panic) => tally
                .violations
                .push(format!("seed {seed}: the harness gave up: {}", panic_text(panic))),
        }
    }
    tally
}
