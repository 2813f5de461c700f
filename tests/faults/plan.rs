//! Which faults there are, and how often each is done when nobody says.

use std::pin::Pin;

use celeriac_tests::faults::{self, Tally};

type Running = Pin<Box<dyn Future<Output = Tally> + Send>>;

/// One fault of the harness.
pub(crate) struct Fault {
    /// For `ONLY`.
    pub(crate) name: &'static str,
    /// How often it is done for a table that is worth something: an hour for the whole, and the
    /// fuzz targets' own time.
    pub(crate) runs: u64,
    /// Does it so often, with this seed.
    pub(crate) run: fn(u64, u64) -> Running,
}

macro_rules! faults {
    ($($name:literal, $runs:literal, $run:expr;)*) => {
        &[$(Fault { name: $name, runs: $runs, run: |runs, seed| Box::pin($run(runs, seed)) }),*]
    };
}

/// All of them, the quick ones first.
pub(crate) const FAULTS: &[Fault] = faults! {
    "simulation", 1_000, faults::simulation::run;
    "kill-start", 100, faults::kill_start::run;
    "kill-worker", 300, faults::kill_worker::run;
    "kill-broker", 300, faults::kill_broker::run;
    "full-disk", 10, faults::full_disk::run;
    "clock-jumps", 600, faults::clock_jumps::run;
    "power-cut", 200, faults::power_cut::run;
    "failing-disk", 300, faults::failing_disk::run;
    "bit-rot", 2_000, faults::bit_rot::run;
    "black-hole", 20, faults::black_hole::run;
    "flood", 5_000, faults::flood::run;
    "idle-sockets", 5_000, faults::idle_sockets::run;
    "cut-everywhere", 6_400, faults::cut_everywhere::run;
    "hostile-peers", 500, faults::hostile_peers::run;
    "costly-frames", 6, faults::hostile_peers::costly::run;
    "deaf-consumer", 12, faults::deaf_consumer::run;
    "toxic-network", 500, faults::toxic_network::run;
    "fuzz-mutations", 100_000, faults::fuzz::run;
    // Minutes for each of the four targets.
    "fuzz", 30, faults::fuzz::with_libfuzzer;
};
