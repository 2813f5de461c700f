//! The parts of the command line that several commands share: the options of every client command,
//! and the parsers of ids and names.
//!
//! The options of one command are in the file of that command. `--help` shows the doc comments of
//! the fields.

use std::ops::Deref;
use std::path::PathBuf;
use std::time::Duration;

use celeriac_proto::{QueueName, TaskId, TaskName};
use clap::Args;

use crate::output::Color;
use crate::time::parse_span;

/// The options of every client command. The short help of a command leaves them out: they would be
/// longer than the rest of it.
// `--help` shows these texts; brackets in them are not links.
#[allow(rustdoc::broken_intra_doc_links)]
#[derive(Args)]
pub(crate) struct SharedOptions {
    /// The address of the broker, as a URL celeriac://[token@]host:port, or celeriacs:// for TLS
    /// [default: celeriac://127.0.0.1:23537]
    ///
    /// With TLS, CELERIAC_CA_FILE names the CAs to trust in place of those of the system, and
    /// CELERIAC_CERTIFICATE_FILE and CELERIAC_KEY_FILE what to show to a broker that asks for a
    /// certificate.
    ///
    /// Other users of the machine can see a token in a command line. Prefer the environment
    /// variable, or --token-file.
    #[arg(long, global = true, env = "CELERIAC_URL", hide_env_values = true, value_name = "URL")]
    #[arg(hide_short_help = true)]
    pub(crate) url: Option<String>,

    /// Read the token from this file
    ///
    /// `serve` requires this token from every client. The other commands send it to the broker if
    /// the URL has no token. CELERIAC_TOKEN holds the token itself.
    #[arg(long, global = true, env = "CELERIAC_TOKEN_FILE", value_name = "FILE")]
    #[arg(hide_short_help = true)]
    pub(crate) token_file: Option<PathBuf>,

    /// Print JSON for programs, one document per line
    #[arg(long, global = true, hide_short_help = true)]
    pub(crate) json: bool,

    /// Colour text for people: auto does so on a terminal, unless NO_COLOR is set
    #[arg(long, global = true, value_enum, default_value_t, hide_possible_values = true)]
    #[arg(value_name = "auto|always|never", hide_short_help = true)]
    pub(crate) color: Color,

    /// Give up if the broker does not answer within this time, such as 10, 500ms or 2m [default:
    /// 10 seconds]
    #[arg(long, global = true, env = "CELERIAC_TIMEOUT")]
    #[arg(value_parser = parse_timeout, value_name = "SECONDS", hide_short_help = true)]
    pub(crate) timeout: Option<Duration>,

    /// The `--timeout` of the command line alone, for commands that wait longer than for an answer:
    /// a variable for all commands does not end their waiting.
    #[arg(skip)]
    pub(crate) patience: Option<Duration>,
}

/// The value of `--wait` without a number: longer than any task runs.
pub(crate) const FOREVER: &str = "3650d";

/// The shortest time in which a broker could answer.
const TIMEOUT_MIN: Duration = Duration::from_millis(1);

fn parse_timeout(text: &str) -> Result<Duration, String> {
    match parse_span(text)? {
        span if span < TIMEOUT_MIN => {
            Err(format!("`{text}` leaves no time for an answer: the least is 1ms"))
        }
        span => Ok(span),
    }
}

/// Checks an id. The client takes ids as text.
pub(crate) fn parse_id(text: &str) -> Result<String, String> {
    TaskId::parse(text).map(String::from).map_err(|error| error.to_string()).and_then(without_nul)
}

pub(crate) fn parse_name(text: &str) -> Result<TaskName, String> {
    without_nul(TaskName::parse(text).map_err(|error| error.to_string())?)
}

pub(crate) fn parse_queue(text: &str) -> Result<QueueName, String> {
    without_nul(QueueName::parse(text).map_err(|error| error.to_string())?)
}

/// Refuses the character U+0000. The protocol allows it, but no argument of a command line and no
/// variable of an environment can hold it, so no later command could name such a thing.
pub(crate) fn without_nul<T: Deref<Target = str>>(text: T) -> Result<T, String> {
    match text.contains('\0') {
        true => {
            Err("the character U+0000 cannot stand in a name: no command line can hold it".into())
        }
        false => Ok(text),
    }
}
