//! `celeriac info`: the broker itself.

use clap::Args;

use crate::arguments::SharedOptions;
use crate::broker_view;
use crate::exit::{Exit, Failure};
use crate::output::Output;

/// The arguments of `info`: it has none of its own.
#[derive(Args)]
pub(crate) struct InfoArguments {}

/// Shows the broker.
pub(crate) async fn run(
    InfoArguments {}: InfoArguments,
    shared: &SharedOptions,
    output: &mut Output,
) -> Result<Exit, Failure> {
    broker_view::show(shared, output).await
}
