//! The broker's log: tracing to stderr, as text for people or as JSON, one object per line, for collectors.
//!
//! Client commands do not log.

use std::io::{IsTerminal, stderr};

use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use tracing_subscriber::EnvFilter;

use crate::exit::Failure;

/// How a line of the log looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogFormat {
    /// For people
    Text,
    /// One JSON object per line
    Json,
}

/// Checks a filter such as `info` or `warn,celeriac_broker=debug`.
pub(crate) fn check_filter(filter: &str) -> Result<EnvFilter, String> {
    EnvFilter::builder().parse(filter).map_err(|error| error.to_string())
}

/// Starts logging. Called once, before the broker starts.
pub(crate) fn start(filter: &str, format: LogFormat) -> Result<(), Failure> {
    let filter = check_filter(filter).map_err(|error| Failure::usage(format!("log filter `{filter}`: {error}")))?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(stderr);
    match format {
        LogFormat::Text => builder.with_ansi(stderr().is_terminal()).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    }
    .map_err(|error| Failure::error(format!("cannot start the log: {error}")))
}
