//! Faults, one kind to a file. [`FAULTS`] is the one list of them: `make faults` runs each for
//! long, and [`check`] runs one of them for a short time as a test. A fault returns a [`Tally`].

mod backlog;
mod bit_rot;
mod black_hole;
mod clock_jumps;
mod cut_everywhere;
pub mod deaf_consumer;
mod failing_disk;
mod flood;
mod full_disk;
pub mod fuzz;
mod hostile_peers;
mod idle_sockets;
mod kill_broker;
mod kill_broker_celery;
mod kill_start;
mod kill_worker;
mod power_cut;
pub mod simulation;
mod toxic_network;

use std::collections::BTreeMap;
use std::pin::Pin;
use std::time::Duration;

use tokio::task::JoinSet;

use crate::traffic_run::panic_text;
use crate::{BrokerProcess, RandomSource};

type Running = Pin<Box<dyn Future<Output = Tally> + Send>>;

/// One kind of fault.
#[derive(Debug, Clone, Copy)]
pub struct Fault {
    /// Its name on the command line and in FAULTS.md.
    pub name: &'static str,
    /// How often `make faults` does it. All of them together take about an hour, besides the time
    /// of libFuzzer.
    pub runs: u64,
    run: fn(u64, u64) -> Running,
}

impl Fault {
    /// Does it so often, with random choices from this seed.
    pub fn run(&self, runs: u64, seed: u64) -> Running {
        (self.run)(runs, seed)
    }
}

macro_rules! faults {
    ($($name:literal, $runs:literal, $run:expr;)*) => {
        &[$(Fault { name: $name, runs: $runs, run: |runs, seed| Box::pin($run(runs, seed)) }),*]
    };
}

/// All faults, the quick ones first.
pub const FAULTS: &[Fault] = faults! {
    "simulation", 1_000, simulation::run;
    "kill-start", 100, kill_start::run;
    "kill-worker", 300, kill_worker::run;
    "kill-broker", 300, kill_broker::run;
    "kill-broker-celery", 60, kill_broker_celery::run;
    "full-disk", 10, full_disk::run;
    "clock-jumps", 600, clock_jumps::run;
    "power-cut", 200, power_cut::run;
    "failing-disk", 300, failing_disk::run;
    "bit-rot", 2_000, bit_rot::run;
    "black-hole", 20, black_hole::run;
    "flood", 5_000, flood::run;
    "idle-sockets", 5_000, idle_sockets::run;
    "cut-everywhere", 6_400, cut_everywhere::run;
    "hostile-peers", 500, hostile_peers::run;
    "costly-frames", 6, hostile_peers::costly::run;
    "deaf-consumer", 12, deaf_consumer::run;
    "toxic-network", 500, toxic_network::run;
    "fuzz-mutations", 100_000, fuzz::run;
    // Minutes for each of the four targets.
    "fuzz", 30, fuzz::with_libfuzzer;
};

/// For a test: does one fault so often with this seed, unless `RUNS` and `SEED` say otherwise.
///
/// # Panics
/// With everything that was found, or when there is no fault of this name.
pub async fn check(name: &str, runs: usize, seed: u64) {
    let fault = FAULTS.iter().find(|fault| fault.name == name).expect("a fault of this name");
    fault.run(crate::runs(runs) as u64, crate::seed(seed)).await.assert_clean();
}

/// The outcome of many runs of one fault: a row of the table of `make faults`.
#[derive(Debug, Clone, Default)]
pub struct Tally {
    /// The fault, in a few words.
    pub what: String,
    /// How often the fault was done.
    pub runs: u64,
    /// What `runs` counts: `kills`, `cuts`, `simulated hours`.
    pub unit: &'static str,
    /// Broken promises. Each is a sentence that says how to reproduce it.
    pub violations: Vec<String>,
    /// Starts of the broker that failed without a reason to fail. Each is a sentence.
    pub failed_starts: Vec<String>,
    /// The longest time from exec to ready, if the fault starts broker processes.
    pub worst_ready: Option<Duration>,
    /// What is missing, if the fault cannot be done on this machine.
    pub skipped: Option<String>,
    /// What else a reader of the table should know, such as how many damaged folders were refused
    /// and how many were served.
    pub remarks: String,
    /// Counts for the remarks.
    pub counts: BTreeMap<&'static str, u64>,
}

impl Tally {
    /// An empty tally.
    pub fn new(what: &str, unit: &'static str) -> Self {
        Self { what: what.to_owned(), unit, ..Self::default() }
    }

    /// The tally of a fault that was not done.
    pub fn skipped(what: &str, unit: &'static str, reason: impl Into<String>) -> Self {
        Self { skipped: Some(reason.into()), ..Self::new(what, unit) }
    }

    /// Notes a start of the broker that worked.
    pub fn ready_after(&mut self, took: Duration) {
        self.worst_ready = Some(self.worst_ready.map_or(took, |worst| worst.max(took)));
    }

    /// Adds one to this count.
    pub fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    /// The same tally with its counts as the remarks.
    #[must_use]
    pub fn with_counts_as_remarks(mut self) -> Self {
        let counts: Vec<String> =
            self.counts.iter().map(|(what, count)| format!("{count} {what}")).collect();
        self.remarks = counts.join(", ");
        self
    }

    /// Adds what was found in the kills since the kill with the number `from`.
    pub(crate) fn add_kills(&mut self, seed: u64, from: u64, found: Vec<String>) {
        let to = self.runs;
        let sentence = |what| format!("seed {seed}, kills {from} to {to}: {what}");
        self.violations.extend(found.into_iter().map(sentence));
    }

    /// Adds a violation if the broker is gone, has panicked, or held more memory than it may.
    pub(crate) fn judge_broker(
        &mut self,
        seed: u64,
        broker: &mut BrokerProcess,
        resident_kib: u64,
        resident_kib_max: u64,
    ) {
        if resident_kib > resident_kib_max {
            self.violations.push(format!("seed {seed}: the broker held {resident_kib} KiB"));
        }
        if !broker.is_running() || broker.stderr().contains("panicked") {
            let stderr = broker.stderr();
            self.violations.push(format!("seed {seed}: the broker is gone or panicked:\n{stderr}"));
        }
    }

    /// Adds the outcome of other runs of the same fault.
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

    /// For a test: prints a skipped fault with its reason, and fails with everything that was
    /// found.
    ///
    /// # Panics
    /// When there is a violation or a failed start, or when nothing was done without a reason.
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

/// Runs a fault in two lanes at the same time. Each lane has its share of the runs and a seed of
/// its own.
pub(crate) async fn in_two_lanes<Lane>(
    empty: Tally,
    runs: u64,
    seed: u64,
    lane: impl Fn(u64, u64) -> Lane,
) -> Tally
where
    Lane: Future<Output = Tally> + Send + 'static,
{
    let mut tally = empty;
    let mut lanes = JoinSet::new();
    let mut seeds = RandomSource::new(seed);
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
                .push(format!("seed {seed}: the harness panicked: {}", panic_text(panic))),
        }
    }
    tally
}
