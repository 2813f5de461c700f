//! The whole system in one thread: the real broker, client and worker, with seeded time, network
//! and disk. A world runs for some simulated minutes with faults of every kind. Then the faults
//! stop, and the history of its clients is judged. The same seed gives the same world, to the last
//! byte.
//!
//! Usage: celeriac-simulation --seed N [--minutes M] [--trace] [--about TEXT]
//!
//! `--trace` prints the steps of the world. `--about` prints the entries of the history that
//! contain a text, such as an id.

// This program prints lines for a person.
#![allow(clippy::print_stdout, clippy::print_stderr)]

mod findings;
mod host;
mod interpose;
mod network;
mod operator;
mod poison_queue;
mod producer;
mod trace;
mod worker;
mod world;

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use celeriac_history::{Event, Promises};

use findings::Findings;
use world::World;

/// The simulated minutes with faults. The end of the world, without faults, comes on top.
const MINUTES: u64 = 10;

const LINES_OF_A_KIND: usize = 6;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let (mut seed, mut minutes, mut about) = (None, MINUTES, None);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--seed" => seed = arguments.next().and_then(|text| text.parse().ok()),
            "--minutes" => {
                minutes = arguments.next().and_then(|text| text.parse().ok()).unwrap_or(MINUTES)
            }
            "--trace" => trace::tell(),
            "--about" => about = arguments.next(),
            _ => seed = None,
        }
    }
    let Some(seed) = seed else {
        eprintln!("usage: celeriac-simulation --seed N [--minutes M] [--trace] [--about TEXT]");
        return ExitCode::from(2);
    };
    run(seed, minutes, about.as_deref())
}

fn run(seed: u64, minutes: u64, about: Option<&str>) -> ExitCode {
    interpose::check();
    interpose::seed(seed);
    let began = interpose::real_time();
    let findings = Findings::default();
    findings.watch_panics();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("the system has a poll");
    let world = runtime.block_on(async {
        let mut world = World::begin(seed, findings.clone());
        world.live(Duration::from_secs(minutes * 60)).await;
        world.settle().await;
        world
    });
    let simulated = interpose::elapsed();
    if let Some(about) = about {
        tell(&world, about);
    }
    let mut broken = findings.all();
    broken.extend(judge(&world));
    for line in some_of_each(&broken) {
        println!("  {line}");
    }
    if !broken.is_empty() {
        println!(
            "{} broken; to see it again: celeriac-simulation --seed {seed} --minutes {minutes} --trace",
            broken.len()
        );
    }
    println!(
        "seed {seed}: {:.0} simulated minutes in {:.3} s, {} tasks, {} crashes, {} restarts, {} failures of the disk, {} \
         killed workers, {} resets, {} clock jumps, {} entries, {:?}, trace {:016x}",
        simulated.as_secs_f64() / 60.0,
        (interpose::real_time() - began).as_secs_f64(),
        world.tasks(),
        world.crashes(),
        world.counts.restarts.load(Relaxed),
        world.counts.failures.load(Relaxed),
        world.worker_kills,
        world.network.resets(),
        world.counts.clock_jumps.load(Relaxed),
        world.history.len(),
        world.disk.figures(),
        trace::hash(),
    );
    // The process ends without waiting for the tasks of the world.
    std::process::exit(i32::from(!broken.is_empty()));
}

/// A few lines of each kind: a violation of one kind often occurs many times.
fn some_of_each(broken: &[String]) -> impl Iterator<Item = &String> {
    let mut shown: BTreeMap<&str, usize> = BTreeMap::new();
    broken.iter().filter(move |line| {
        let many = shown.entry(line.split(':').next().unwrap_or_default()).or_default();
        *many += 1;
        *many <= LINES_OF_A_KIND
    })
}

/// Prints the entries of the history that contain a text.
fn tell(world: &World, about: &str) {
    for (mark, entry) in world.history.entries().iter().enumerate() {
        let event = format!("{:?}", entry.event);
        if event.contains(about)
            || matches!(entry.event, Event::BrokerDown | Event::BrokerUp | Event::ClockSet)
        {
            let (at, name) = (entry.at, world.history.name(entry.connection));
            println!(
                "{mark:>7} {:>9} ms, wall {}, {name} ({}): {event}",
                at.mono_ms, at.wall_ms, entry.connection
            );
        }
    }
}

/// The broken promises of the history. The clocks stand still while the broker works, so nothing
/// may come early. But the broker looks at the wall clock once a second, and may be late by as much
/// after the clock was set.
fn judge(world: &World) -> Vec<String> {
    let promises =
        Promises { clock_ms: 0, result_ttl_ms: world.result_ttl_ms, ..Promises::default() };
    world.history.broken_promises(&promises).iter().map(ToString::to_string).collect()
}
