//! Some simulated worlds for each change: no promise is broken in them, the same seed gives the
//! same world, and the checker finds every bug that is planted in the broker.

use std::path::Path;

use celeriac_tests::faults::simulation::{World, live, live_through};
use celeriac_tests::planted::{self, BUGS};

/// The number of worlds, and the minutes with faults of each.
const WORLDS: u64 = 200;
const MINUTES: u64 = 5;

/// So many worlds are enough to find any of the planted bugs.
const WORLDS_PER_BUG: u64 = 40;

fn program() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_celeriac-simulation"))
}

fn broken(worlds: &[World]) -> Vec<&String> {
    worlds.iter().flat_map(|world| &world.broken).collect()
}

#[tokio::test]
async fn nothing_is_broken_in_two_hundred_worlds() {
    let began = std::time::Instant::now();
    let worlds = live_through(program(), 1..=WORLDS, MINUTES, None, |_| false).await;
    let broken = broken(&worlds);
    assert!(broken.is_empty(), "{} broken promises: {broken:#?}", broken.len());
    let minutes: f64 = worlds.iter().map(|world| world.minutes).sum();
    let crashes: u64 = worlds.iter().map(|world| world.crashes).sum();
    assert!(minutes > 0.0 && crashes > 0, "nothing happened");
    let hours = minutes / 60.0;
    let ratio = minutes * 60.0 / began.elapsed().as_secs_f64();
    eprintln!(
        "{WORLDS} worlds: {hours:.0} simulated hours, {crashes} crashes, {ratio:.0} times real time"
    );
}

#[tokio::test]
async fn a_seed_is_the_same_world_twice() {
    let mut traces = std::collections::BTreeSet::new();
    for seed in 1..=5 {
        let (one, two) = tokio::join!(
            live(program(), seed, MINUTES, None),
            live(program(), seed, MINUTES, None)
        );
        assert_eq!(one.trace, two.trace, "seed {seed}");
        traces.insert(one.trace);
    }
    assert_eq!(traces.len(), 5, "another seed is another world");
}

/// That nothing is found without the bug is shown by the first test, over the same seeds and more.
#[tokio::test]
async fn every_planted_bug_is_found() {
    let program = tokio::task::spawn_blocking(planted::build).await.expect("the copy is built");
    for planted::Bug { name: bug, promise, .. } in BUGS {
        let words = format!(": {promise}:");
        let found = |world: &World| world.broken.iter().any(|line| line.contains(&words));
        let worlds = live_through(&program, 1..=WORLDS_PER_BUG, MINUTES, Some(bug), found).await;
        let broken = broken(&worlds);
        let line = broken.iter().find(|line| line.contains(&words));
        let line = line.unwrap_or_else(|| {
            panic!("{bug}: no broken {promise} in {WORLDS_PER_BUG} worlds: {broken:#?}")
        });
        eprintln!("{bug}: {line}");
    }
}
