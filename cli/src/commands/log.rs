//! `celeriac log`: shows the filter of a running broker's log, or changes it until the broker's
//! restart.

use clap::Args;
use serde::Serialize;

use crate::arguments::SharedOptions;
use crate::connection::{connect, failure, part};
use crate::exit::{Exit, Failure};
use crate::output::{Format, Output};
use celeriac_web::printable::clean;

/// The arguments of `log`.
#[derive(Args)]
pub(crate) struct LogArguments {
    /// The new filter: a level, or a filter such as info,celeriac_broker=debug
    ///
    /// It counts until the broker is started again, or until a reload of its settings changes
    /// `log`.
    #[arg(value_name = "FILTER")]
    filter: Option<String>,
}

/// The filter that counts, for programs.
#[derive(Serialize)]
struct Document<'a> {
    filter: &'a str,
}

/// Prints the filter that counts.
pub(crate) async fn run(
    arguments: LogArguments,
    shared: &SharedOptions,
    output: &mut Output,
) -> Result<Exit, Failure> {
    let client = connect(shared).await?;
    let asked = client.log_filter(arguments.filter.as_deref()).await.map_err(failure);
    let filter = part(&client, asked).await?;
    match output.format {
        Format::Json => output.document(&Document { filter: &filter })?,
        Format::Text => output.line(&clean(&filter))?,
    }
    Ok(Exit::Success)
}
