//! What `serve` was told: flags over environment over file over defaults, merged into one checked
//! value.
//!
//! The bounds of the broker's own settings are in the broker's `config.rs`; here are the few that
//! belong to the process around it (address, logs), and the names under which each can be given. If
//! you add one, `deploy/README.md` needs it too.

use std::env::VarError;
use std::net::SocketAddr;
use std::path::PathBuf;

use celeriac_broker::Config;
use celeriac_proto::limits::DEFAULT_PORT;
use clap::Args;
use clap::builder::BoolishValueParser;
use serde::{Deserialize, Serialize};

use crate::exit::Failure;
use crate::logging::{LogFormat, check_filter};
use crate::secret_file::read_token;

/// Shown at the end of `celeriac serve --help`.
pub(crate) const EXIT_CODES: &str = "\
Every setting can also stand in the file, with underscores for dashes, or in the environment, as CELERIAC_ and the name in capitals.
A flag counts before the environment, the environment before the file. The exit codes are listed in deploy/README.md.";

/// The arguments of `serve`.
#[derive(Args)]
pub(crate) struct Serve {
    /// Read settings from this TOML file
    #[arg(long, env = "CELERIAC_CONFIG", value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,

    /// Print the settings that would be used, secrets masked, and exit: 0 when they are good, 2
    /// when not
    #[arg(long)]
    pub(crate) check_config: bool,

    #[command(flatten)]
    pub(crate) settings: Settings,
}

/// One layer of settings: the command line with the environment, or the file.
#[derive(Args, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Settings {
    /// The folder that holds everything the broker must remember
    #[arg(long, env = "CELERIAC_DATA", value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,

    /// IP address and port to listen on; port 0 takes a free one [default: 127.0.0.1:23537]
    #[arg(long, env = "CELERIAC_LISTEN", value_name = "ADDRESS:PORT", value_parser = parse_address)]
    pub(crate) listen: Option<SocketAddr>,

    /// Listen on an address that other machines reach, although no token is set
    #[arg(long, env = "CELERIAC_INSECURE", num_args = 0..=1, require_equals = true)]
    #[arg(default_missing_value = "true", value_parser = BoolishValueParser::new(), value_name = "true|false")]
    pub(crate) insecure: Option<bool>,

    /// What to log: a level, or a filter such as info,celeriac_broker=debug [default: info]
    #[arg(long, env = "CELERIAC_LOG", value_name = "FILTER")]
    pub(crate) log: Option<String>,

    /// How a line of the log looks [default: text]
    #[arg(long, env = "CELERIAC_LOG_FORMAT", value_name = "FORMAT")]
    pub(crate) log_format: Option<LogFormat>,

    /// The secret that clients must name. No flag: command lines can be seen by others.
    #[arg(skip)]
    pub(crate) token: Option<String>,

    /// The shared `--token-file` is filled in by `serve`.
    #[arg(skip)]
    pub(crate) token_file: Option<PathBuf>,

    /// How often an idle connection says that it lives, in milliseconds [default: 5000]
    #[arg(long, env = "CELERIAC_HEARTBEAT_MS", value_name = "MS")]
    pub(crate) heartbeat_ms: Option<u64>,

    /// A worker silent for this long loses its leases, in milliseconds [default: 15000]
    #[arg(long, env = "CELERIAC_LEASE_MS", value_name = "MS")]
    pub(crate) lease_ms: Option<u64>,

    /// The longest frame, in bytes [default: 16 MiB]
    #[arg(long, env = "CELERIAC_FRAME_BYTES_MAX", value_name = "BYTES")]
    pub(crate) frame_bytes_max: Option<usize>,

    /// The largest payload of a task, in bytes [default: 8 MiB]
    #[arg(long, env = "CELERIAC_PAYLOAD_BYTES_MAX", value_name = "BYTES")]
    pub(crate) payload_bytes_max: Option<usize>,

    /// The largest result of a task, in bytes [default: 1 MiB]
    #[arg(long, env = "CELERIAC_RESULT_BYTES_MAX", value_name = "BYTES")]
    pub(crate) result_bytes_max: Option<usize>,

    /// Connections at once; each needs a file descriptor [default: 10000]
    #[arg(long, env = "CELERIAC_CONNECTIONS_MAX", value_name = "COUNT")]
    pub(crate) connections_max: Option<usize>,

    /// How long an ended task is kept unless it says otherwise, in milliseconds [default: one day]
    #[arg(long, env = "CELERIAC_RESULT_TTL_MS", value_name = "MS")]
    pub(crate) result_ttl_ms: Option<u64>,

    /// With less free space on the disk, new tasks are refused, in bytes [default: 64 MiB]
    #[arg(long, env = "CELERIAC_DISK_RESERVE_BYTES", value_name = "BYTES")]
    pub(crate) disk_reserve_bytes: Option<u64>,

    /// A commit that takes longer ends the process, in milliseconds [default: 10000]
    #[arg(long, env = "CELERIAC_COMMIT_TIMEOUT_MS", value_name = "MS")]
    pub(crate) commit_timeout_ms: Option<u64>,
}

impl Settings {
    /// This layer where it says something, the one below where it does not.
    pub(crate) fn over(self, below: Self) -> Self {
        // The two ways to give a token are one setting: a token from above hides a token file from
        // below.
        let hides_token = self.token.is_some() || self.token_file.is_some();
        let (token, token_file) = if hides_token {
            (self.token, self.token_file)
        } else {
            (below.token, below.token_file)
        };
        Self {
            data: self.data.or(below.data),
            listen: self.listen.or(below.listen),
            insecure: self.insecure.or(below.insecure),
            log: self.log.or(below.log),
            log_format: self.log_format.or(below.log_format),
            token,
            token_file,
            heartbeat_ms: self.heartbeat_ms.or(below.heartbeat_ms),
            lease_ms: self.lease_ms.or(below.lease_ms),
            frame_bytes_max: self.frame_bytes_max.or(below.frame_bytes_max),
            payload_bytes_max: self.payload_bytes_max.or(below.payload_bytes_max),
            result_bytes_max: self.result_bytes_max.or(below.result_bytes_max),
            connections_max: self.connections_max.or(below.connections_max),
            result_ttl_ms: self.result_ttl_ms.or(below.result_ttl_ms),
            disk_reserve_bytes: self.disk_reserve_bytes.or(below.disk_reserve_bytes),
            commit_timeout_ms: self.commit_timeout_ms.or(below.commit_timeout_ms),
        }
    }

    /// Fills in the defaults and reads the token file.
    pub(crate) fn resolve(self) -> Result<Effective, Failure> {
        let default = Config::default();
        let token = match &self.token_file {
            Some(file) => Some(read_token(file)?),
            None => self.token,
        };
        Ok(Effective {
            listen: self.listen.unwrap_or(SocketAddr::from(([127, 0, 0, 1], DEFAULT_PORT))),
            insecure: self.insecure.unwrap_or(false),
            log: self.log.unwrap_or_else(|| "info".to_owned()),
            log_format: self.log_format.unwrap_or(LogFormat::Text),
            broker: Config {
                data: self.data.unwrap_or(default.data),
                token,
                heartbeat_ms: self.heartbeat_ms.unwrap_or(default.heartbeat_ms),
                lease_ms: self.lease_ms.unwrap_or(default.lease_ms),
                frame_bytes_max: self.frame_bytes_max.unwrap_or(default.frame_bytes_max),
                payload_bytes_max: self.payload_bytes_max.unwrap_or(default.payload_bytes_max),
                result_bytes_max: self.result_bytes_max.unwrap_or(default.result_bytes_max),
                connections_max: self.connections_max.unwrap_or(default.connections_max),
                result_ttl_ms: self.result_ttl_ms.unwrap_or(default.result_ttl_ms),
                disk_reserve_bytes: self.disk_reserve_bytes.unwrap_or(default.disk_reserve_bytes),
                commit_timeout_ms: self.commit_timeout_ms.unwrap_or(default.commit_timeout_ms),
            },
        })
    }
}

/// Every setting with its value, as the broker will run with it. Its serialized form masks the
/// token.
#[derive(Debug, Serialize)]
pub(crate) struct Effective {
    pub(crate) listen: SocketAddr,
    pub(crate) insecure: bool,
    pub(crate) log: String,
    pub(crate) log_format: LogFormat,
    #[serde(flatten)]
    pub(crate) broker: Config,
}

impl Effective {
    /// Checks every value; on failure the setting at fault and a sentence.
    pub(crate) fn check(&self) -> Result<(), (&'static str, String)> {
        self.broker.check().map_err(|error| (error.key(), error.to_string()))?;
        check_filter(&self.log)
            .map_err(|error| ("log", format!("log filter `{}`: {error}", self.log)))?;
        if self.is_public() && self.broker.token.is_none() && !self.insecure {
            let sentence = format!(
                "{} can be reached from other machines: set a token with CELERIAC_TOKEN or --token-file, or say --insecure",
                self.listen
            );
            return Err(("listen", sentence));
        }
        Ok(())
    }

    /// Other machines may reach the address.
    pub(crate) fn is_public(&self) -> bool {
        !self.listen.ip().to_canonical().is_loopback()
    }
}

/// Names are not resolved: which of their addresses would be public is nothing to guess about.
fn parse_address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| {
        "give an IP address and a port, such as 127.0.0.1:23537 or [::1]:23537".to_owned()
    })
}

/// The token from the environment.
///
/// # Errors
/// When it is not text: a token that was meant must not be taken for none.
pub(crate) fn token_variable() -> Result<Option<String>, Failure> {
    match std::env::var("CELERIAC_TOKEN") {
        Ok(token) => Ok(Some(token)),
        Err(VarError::NotPresent) => Ok(None),
        Err(VarError::NotUnicode(_)) => {
            Err(Failure::usage("CELERIAC_TOKEN: token has a character that is not visible ASCII"))
        }
    }
}
