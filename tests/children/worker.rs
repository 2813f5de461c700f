//! A worker as a process of its own, for tests that kill one. `echo` returns its argument, `hold`
//! runs until a file exists, `poison` ends the process. They print what they do on stdout, one line
//! each. `work` takes a few milliseconds and prints nothing, so that the test need not read it.
//!
//! Usage: celeriac-test-worker URL QUEUE

// This program prints lines for a test.
#![allow(clippy::print_stdout)]

use std::path::PathBuf;
use std::time::Duration;

use celeriac_worker::{Context, TaskFailure, Worker, task};

/// Returns its argument.
#[task(name = "test.echo")]
async fn echo(context: &Context, text: String) -> String {
    println!("started {} {}", context.id(), context.attempt());
    text
}

/// Runs until the file exists, and returns the id of its process.
#[task(name = "test.hold")]
async fn hold(context: &Context, file: PathBuf) -> Result<u32, TaskFailure> {
    println!("started {} {}", context.id(), context.attempt());
    while !file.exists() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    println!("finished {}", context.id());
    Ok(std::process::id())
}

/// Ends the process of its worker.
#[task(name = "test.poison")]
async fn poison(context: &Context) {
    println!("poisoned by {} {}", context.id(), context.attempt());
    std::process::abort();
}

/// Takes as long as a small task, and returns its number.
#[task(name = "test.work")]
async fn work(number: u64) -> u64 {
    tokio::time::sleep(Duration::from_millis(number % 8)).await;
    number
}

/// Takes as long as a small task, sometimes fails, and returns its reversed argument. It prints
/// nothing.
#[task(name = "traffic.echo")]
async fn turn(context: &Context, text: String) -> Result<String, TaskFailure> {
    let luck = context.lease() % 64;
    // Most tasks are so short that several wait in the worker.
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
