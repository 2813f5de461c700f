//! Lifecycles inside one broker, without sockets, threads or a disk, for counting instructions:
//! `tests/bench/instructions`.

use anyhow::{Result, ensure};
use celeriac_tests::inside::Loop;

use crate::table::Table;

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Lifecycles.
    #[arg(long, default_value_t = 10_000)]
    tasks: u64,
    /// Tasks in one frame.
    #[arg(long, default_value_t = 100)]
    batch: usize,
}

pub(crate) fn run(options: &Options) -> Result<Table> {
    ensure!((1..=10_000).contains(&options.batch), "a batch has 1 to 10,000 tasks");
    let mut broker = Loop::in_memory(10_000);
    let batches = options.tasks / options.batch as u64;
    for _ in 0..batches {
        broker.lifecycles(options.batch)?;
    }
    let mut table = Table::default();
    table.row("lifecycles inside the broker", batches * options.batch as u64, "");
    Ok(table)
}
