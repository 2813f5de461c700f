//! Runs simulated worlds: `tests/simulation/` says what they are. Each world is a process of its
//! own. As many run at the same time as there are processors.

use std::collections::VecDeque;
use std::path::Path;
use std::time::{Duration, Instant};

use tokio::process::Command;
use tokio::task::JoinSet;

use super::Tally;
use crate::simulation_binary;

/// The simulated minutes with faults of one world in a long run.
const MINUTES: u64 = 20;

/// A world that has not ended by then never ends.
const PATIENCE: Duration = Duration::from_secs(300);

/// The output of a world.
#[derive(Debug, Clone, Default)]
pub struct World {
    /// Its seed.
    pub seed: u64,
    /// The broken promises.
    pub broken: Vec<String>,
    /// How long it ran, in simulated time.
    pub minutes: f64,
    /// How often its broker crashed.
    pub crashes: u64,
    /// A hash of everything that happened in it. It is empty when the world did not come to its
    /// end.
    pub trace: String,
}

/// Runs one world, with this planted bug if there is one.
///
/// # Panics
/// When the program cannot be started.
pub async fn live(program: &Path, seed: u64, minutes: u64, bug: Option<&str>) -> World {
    let mut command = Command::new(program);
    command
        .args(["--seed", &seed.to_string(), "--minutes", &minutes.to_string()])
        .kill_on_drop(true);
    if let Some(bug) = bug {
        command.env("CELERIAC_PLANTED_BUG", bug);
    }
    let Ok(output) = tokio::time::timeout(PATIENCE, command.output()).await else {
        let broken = vec![format!("seed {seed}: the world has not ended after {PATIENCE:?}")];
        return World { seed, broken, ..World::default() };
    };
    let output = output.expect("the program can be started");
    let text = String::from_utf8_lossy(&output.stdout);
    let mut world = World { seed, ..World::default() };
    for line in text.lines() {
        match line.strip_prefix("  ") {
            Some(broken) => world.broken.push(format!("seed {seed}: {broken}")),
            None if line.starts_with("seed ") => world.read(line),
            None => {}
        }
    }
    let is_silent = !output.status.success() && world.broken.is_empty();
    if world.trace.is_empty() || is_silent {
        let said = String::from_utf8_lossy(&output.stderr);
        world.broken.push(format!(
            "seed {seed}: the world ended with {}: {}",
            output.status,
            said.trim()
        ));
    }
    world
}

impl World {
    /// `seed 7: 31 simulated minutes in 0.1 s, 527 tasks, 23 crashes, ..., trace 0a789f`
    fn read(&mut self, line: &str) {
        let words: Vec<&str> = line.split([' ', ',']).filter(|word| !word.is_empty()).collect();
        let before = |what: &str| {
            words.iter().position(|word| *word == what).and_then(|at| words.get(at.checked_sub(1)?))
        };
        self.minutes =
            before("simulated").and_then(|number| number.parse().ok()).unwrap_or_default();
        self.crashes = before("crashes").and_then(|number| number.parse().ok()).unwrap_or_default();
        self.trace = words.last().copied().unwrap_or_default().to_owned();
    }
}

/// Runs many worlds at the same time, until all are over or `enough` returns true.
pub async fn live_through(
    program: &Path,
    seeds: impl IntoIterator<Item = u64>,
    minutes: u64,
    bug: Option<&'static str>,
    mut enough: impl FnMut(&World) -> bool,
) -> Vec<World> {
    let at_once = std::thread::available_parallelism().map_or(1, usize::from);
    let mut seeds = seeds.into_iter();
    let mut under_way = JoinSet::new();
    let mut over = VecDeque::new();
    loop {
        while under_way.len() < at_once {
            let Some(seed) = seeds.next() else { break };
            let program = program.to_owned();
            under_way.spawn(async move { live(&program, seed, minutes, bug).await });
        }
        let Some(world) = under_way.join_next().await else { return over.into() };
        let world = world.expect("the task of a world does not panic");
        let is_enough = enough(&world);
        over.push_back(world);
        if is_enough {
            return over.into();
        }
    }
}

/// Runs worlds for so many simulated hours.
pub async fn run(hours: u64, seed: u64) -> Tally {
    let mut tally = Tally::new("simulation", "simulated hours");
    let began = Instant::now();
    let mut lived = 0.0;
    let enough = |world: &World| {
        // A world that reports no time must not make this endless.
        lived += world.minutes.max(1.0);
        lived >= hours as f64 * 60.0
    };
    let worlds = live_through(&simulation_binary(), seed.., MINUTES, None, enough).await;
    let minutes: f64 = worlds.iter().map(|world| world.minutes).sum();
    let crashes: u64 = worlds.iter().map(|world| world.crashes).sum();
    let ratio = minutes * 60.0 / began.elapsed().as_secs_f64();
    tally.runs = (minutes / 60.0) as u64;
    tally.remarks = format!(
        "{} seeds from {seed}, {crashes} crashes, {ratio:.0} times real time",
        worlds.len()
    );
    for world in worlds {
        let again =
            format!("celeriac-simulation --seed {} --minutes {MINUTES} --trace", world.seed);
        tally.violations.extend(world.broken.into_iter().map(|line| format!("{line} ({again})")));
    }
    tally
}
