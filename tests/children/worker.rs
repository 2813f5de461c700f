//! A worker as a process of its own, for the tests that kill one. `echo` returns its argument,
//! `hold` runs until a file is there, `poison` ends the process. They say on stdout what they do, a
//! line each. `work` takes a few milliseconds and says nothing, so that nobody has to read it.
//!
//! Usage: celeriac-test-worker URL QUEUE

// The lines on stdout are what this program is for.
#![allow(clippy::print_stdout)]

use std::path::PathBuf;
use std::time::Duration;

use celeriac_worker::{Context, TaskFailure, Worker, task};

/// Returns what it is given.
#[task(name = "test.echo")]
async fn echo(context: &Context, text: String) -> String {
    println!("started {} {}", context.id(), context.attempt());
    text
}

/// Runs until the file exists, and returns the process id of the one who ran it.
#[task(name = "test.hold")]
async fn hold(context: &Context, file: PathBuf) -> Result<u32, TaskFailure> {
    println!("started {} {}", context.id(), context.attempt());
    while !file.exists() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    println!("finished {}", context.id());
    Ok(std::process::id())
}

/// Takes its worker with it.
#[task(name = "test.poison")]
async fn poison(context: &Context) {
    println!("poisoned by {} {}", context.id(), context.attempt());
    std::process::abort();
}

/// Takes as long as small tasks take, and returns its number.
#[task(name = "test.work")]
async fn work(number: u64) -> u64 {
    tokio::time::sleep(Duration::from_millis(number % 8)).await;
    number
}

/// Takes as long as small tasks take, sometimes fails, and returns what it is given, turned around.
/// Says nothing either.
#[task(name = "traffic.echo")]
async fn turn(context: &Context, text: String) -> Result<String, TaskFailure> {
    let luck = context.lease() % 64;
    // Most are so short that several wait in the worker's hand.
    tokio::time::sleep(Duration::from_millis(if luck < 8 { luck * 5 } else { 0 })).await;
    match luck {
        8 => Err(TaskFailure::fatal("Random", "a random failure")),
        9..12 => Err(TaskFailure::new("Random", "a random failure")),
        _ => Ok(text.chars().rev().collect()),
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let (Some(url), Some(queue)) = (arguments.next(), arguments.next()) else {
        anyhow::bail!("usage: celeriac-test-worker URL QUEUE");
    };
    let worker = Worker::builder(&url)
        .queues([queue])
        .concurrency(2)
        .register(echo)
        .register(hold)
        .register(poison)
        .register(work)
        .register(turn)
        .build();
    worker.run_until_signalled().await?;
    println!("ended");
    Ok(())
}
