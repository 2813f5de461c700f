//! `celeriac result`: the value that a task returned, alone on stdout, or the reason why there is
//! none.

use std::time::Duration;

use clap::Args;

use crate::arguments::{FOREVER, SharedOptions, parse_id};
use crate::connection::{address, connect, part};
use crate::exit::{Exit, Failure};
use crate::output::Output;
use crate::task_result::{Broker, wait_and_print};
use crate::time::parse_span;

/// The arguments of `result`.
#[derive(Args)]
pub(crate) struct ResultArguments {
    /// The id of the task
    #[arg(value_parser = parse_id, value_name = "ID")]
    id: String,

    /// Wait for the end of the task, at most this long; without a value there is no limit
    #[arg(long, num_args = 0..=1, default_missing_value = FOREVER)]
    #[arg(value_parser = parse_span, value_name = "SECONDS")]
    wait: Option<Duration>,

    /// Print a text as it is, without the quotes and escapes of JSON; anything else byte by byte
    #[arg(long, conflicts_with = "json")]
    raw: bool,
}

/// Prints the result of a task that has ended. With `--wait` it waits for the end.
pub(crate) async fn run(
    arguments: ResultArguments,
    shared: &SharedOptions,
    output: &mut Output,
) -> Result<Exit, Failure> {
    let client = connect(shared).await?;
    let span = arguments.wait.unwrap_or(Duration::ZERO);
    output.is_raw |= arguments.raw;
    output.is_unquoted = arguments.raw;
    let broker = Broker { client: &client, address: &address(shared) };
    let exit = wait_and_print(&broker, &arguments.id, span, output).await;
    part(&client, exit).await
}
