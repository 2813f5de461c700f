//! The configuration of `serve`: flags over environment over file over defaults, merged into one
//! checked value.
//!
//! The broker's `config.rs` has the bounds of the broker's settings. This file has the names under
//! which a setting can be given, and the few settings of the process around the broker: the
//! addresses and the log. If you add a setting, add it to `deploy/README.md` too.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use celeriac_broker::{Access, AuditWhat, Certificates, Config, ConfigError, TlsClient};
use celeriac_proto::limits::DEFAULT_PORT;
use clap::Args;
use clap::builder::BoolishValueParser;
use serde::{Deserialize, Serialize};

use super::http_config::{HttpAddress, HttpConfig};
use super::units::{parse_ms, size, span};
use crate::byte_size::parse_bytes;
use crate::exit::Failure;
use crate::logging::{LogFormat, parse_filter};
use crate::token::read_token;

/// One layer of the configuration: the command line with the environment, or the file. A setting
/// without a value comes from the layer below. `names.rs` explains the settings with two names.
#[derive(Args, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct ConfigLayer {
    /// The folder for the data of the broker
    #[arg(long, env = "CELERIAC_DATA", value_name = "DIR")]
    pub(super) data: Option<PathBuf>,

    /// The IP address and port to listen on; port 0 takes a free one [default: 127.0.0.1:23537]
    #[arg(long, env = "CELERIAC_LISTEN", value_name = "ADDRESS:PORT", value_parser = parse_address)]
    pub(super) listen: Option<SocketAddr>,

    /// The file with the certificate of the broker, in PEM: every connection speaks TLS
    #[arg(long, env = "CELERIAC_TLS_CERTIFICATE", value_name = "FILE")]
    pub(super) tls_certificate: Option<PathBuf>,

    /// The file with the private key of the certificate, in PEM
    #[arg(long, env = "CELERIAC_TLS_KEY", value_name = "FILE")]
    pub(super) tls_key: Option<PathBuf>,

    /// Whether clients show a certificate too [default: none]
    #[arg(long, env = "CELERIAC_TLS_CLIENT", value_name = "none|optional|required")]
    #[arg(value_parser = parse_tls_client)]
    pub(super) tls_client: Option<TlsClient>,

    /// The file with the CAs that sign the certificates of clients, in PEM
    #[arg(long, env = "CELERIAC_TLS_CLIENT_CA", value_name = "FILE")]
    pub(super) tls_client_ca: Option<PathBuf>,

    /// The file that says which tokens and certificates may do what
    #[arg(long, env = "CELERIAC_ACCESS_FILE", value_name = "FILE")]
    pub(super) access_file: Option<PathBuf>,

    /// The folder for backups, which clients ask for by name, with an access file
    #[arg(long, env = "CELERIAC_BACKUP_FOLDER", value_name = "DIR")]
    pub(super) backup_folder: Option<PathBuf>,

    /// The file for lines about what operators did and what was refused; without it they go to the
    /// log
    #[arg(long, env = "CELERIAC_AUDIT_FILE", value_name = "FILE")]
    pub(super) audit_file: Option<PathBuf>,

    /// The requests that such a line is about [default: operators]
    #[arg(long, env = "CELERIAC_AUDIT", value_name = "operators|all", value_parser = parse_audit)]
    pub(super) audit: Option<AuditWhat>,

    /// A second address, of this machine alone, whose connections do not speak TLS
    #[arg(long, env = "CELERIAC_LISTEN_PLAIN", value_name = "ADDRESS:PORT")]
    #[arg(value_parser = parse_address)]
    pub(super) listen_plain: Option<SocketAddr>,

    /// The address for HTTP, or off; without it 127.0.0.1 and the port above that of --listen
    #[arg(long, env = "CELERIAC_HTTP_LISTEN", value_name = "ADDRESS:PORT|off")]
    pub(super) http_listen: Option<HttpAddress>,

    /// Names under which browsers reach the HTTP side, beside those of this machine
    #[arg(long, env = "CELERIAC_HTTP_HOSTS", value_name = "NAME", value_delimiter = ',')]
    pub(super) http_hosts: Option<Vec<String>>,

    /// Origins such as `https://ops.example` whose pages may read the HTTP side
    #[arg(long, env = "CELERIAC_HTTP_ORIGINS", value_name = "ORIGIN", value_delimiter = ',')]
    pub(super) http_origins: Option<Vec<String>>,

    /// The path below which a proxy serves the HTTP side, such as /celeriac
    #[arg(long, env = "CELERIAC_HTTP_PATH_PREFIX", value_name = "PATH")]
    pub(super) http_path_prefix: Option<String>,

    /// Proxies whose X-Forwarded-For names the client
    #[arg(long, env = "CELERIAC_HTTP_TRUSTED_PROXIES", value_name = "IP", value_delimiter = ',')]
    pub(super) http_trusted_proxies: Option<Vec<IpAddr>>,

    /// Let /metrics answer without a token
    #[arg(long, env = "CELERIAC_METRICS_PUBLIC", num_args = 0..=1, require_equals = true)]
    #[arg(default_missing_value = "true", value_name = "true|false")]
    #[arg(value_parser = BoolishValueParser::new())]
    pub(super) metrics_public: Option<bool>,

    /// Allow an address that other machines reach without a token
    #[arg(long, env = "CELERIAC_INSECURE", num_args = 0..=1, require_equals = true)]
    #[arg(default_missing_value = "true", value_name = "true|false")]
    #[arg(value_parser = BoolishValueParser::new())]
    pub(super) insecure: Option<bool>,

    /// What to log: a level, or a filter such as info,celeriac_broker=debug [default: info]
    #[arg(long, env = "CELERIAC_LOG", value_name = "FILTER")]
    pub(super) log: Option<String>,

    /// The format of the log [default: text]
    #[arg(long, env = "CELERIAC_LOG_FORMAT", value_name = "FORMAT")]
    pub(super) log_format: Option<LogFormat>,

    /// The secret that every client must send. It has no flag, because other users can see command
    /// lines.
    #[arg(skip)]
    pub(super) token: Option<String>,

    /// On the command line this is the shared `--token-file`; `serve` fills it in.
    #[arg(skip)]
    pub(super) token_file: Option<PathBuf>,

    /// The time between two heartbeats of an idle connection [default: 5s]
    #[arg(long, env = "CELERIAC_HEARTBEAT", value_name = "SPAN", value_parser = parse_ms)]
    #[serde(deserialize_with = "span")]
    pub(super) heartbeat: Option<u64>,

    #[arg(long, env = "CELERIAC_HEARTBEAT_MS", value_name = "MS", hide = true)]
    pub(super) heartbeat_ms: Option<u64>,

    /// The silence after which a worker loses its leases [default: 15s]
    #[arg(long, env = "CELERIAC_LEASE", value_name = "SPAN", value_parser = parse_ms)]
    #[serde(deserialize_with = "span")]
    pub(super) lease: Option<u64>,

    #[arg(long, env = "CELERIAC_LEASE_MS", value_name = "MS", hide = true)]
    pub(super) lease_ms: Option<u64>,

    /// The longest frame [default: 16MiB]
    #[arg(long, env = "CELERIAC_FRAME_MAX", value_name = "SIZE", value_parser = parse_bytes)]
    #[serde(deserialize_with = "size")]
    pub(super) frame_max: Option<u64>,

    #[arg(long, env = "CELERIAC_FRAME_BYTES_MAX", value_name = "BYTES", hide = true)]
    pub(super) frame_bytes_max: Option<u64>,

    /// The largest payload of a task [default: 8MiB]
    #[arg(long, env = "CELERIAC_PAYLOAD_MAX", value_name = "SIZE", value_parser = parse_bytes)]
    #[serde(deserialize_with = "size")]
    pub(super) payload_max: Option<u64>,

    #[arg(long, env = "CELERIAC_PAYLOAD_BYTES_MAX", value_name = "BYTES", hide = true)]
    pub(super) payload_bytes_max: Option<u64>,

    /// The largest result of a task [default: 1MiB]
    #[arg(long, env = "CELERIAC_RESULT_MAX", value_name = "SIZE", value_parser = parse_bytes)]
    #[serde(deserialize_with = "size")]
    pub(super) result_max: Option<u64>,

    #[arg(long, env = "CELERIAC_RESULT_BYTES_MAX", value_name = "BYTES", hide = true)]
    pub(super) result_bytes_max: Option<u64>,

    /// The most connections; each needs a file descriptor [default: 10000]
    #[arg(long, env = "CELERIAC_CONNECTIONS_MAX", value_name = "COUNT")]
    pub(super) connections_max: Option<usize>,

    /// How long an ended task is kept if neither the task nor its queue sets a time [default: 1d]
    #[arg(long, env = "CELERIAC_RESULT_TTL", value_name = "SPAN", value_parser = parse_ms)]
    #[serde(deserialize_with = "span")]
    pub(super) result_ttl: Option<u64>,

    #[arg(long, env = "CELERIAC_RESULT_TTL_MS", value_name = "MS", hide = true)]
    pub(super) result_ttl_ms: Option<u64>,

    /// The free disk space below which new tasks are refused [default: 128MiB]
    #[arg(long, env = "CELERIAC_DISK_RESERVE", value_name = "SIZE", value_parser = parse_bytes)]
    #[serde(deserialize_with = "size")]
    pub(super) disk_reserve: Option<u64>,

    #[arg(long, env = "CELERIAC_DISK_RESERVE_BYTES", value_name = "BYTES", hide = true)]
    pub(super) disk_reserve_bytes: Option<u64>,

    /// The time limit of a commit; a slower commit ends the process [default: 10s]
    #[arg(long, env = "CELERIAC_COMMIT_TIMEOUT", value_name = "SPAN", value_parser = parse_ms)]
    #[serde(deserialize_with = "span")]
    pub(super) commit_timeout: Option<u64>,

    #[arg(long, env = "CELERIAC_COMMIT_TIMEOUT_MS", value_name = "MS", hide = true)]
    pub(super) commit_timeout_ms: Option<u64>,
}

impl ConfigLayer {
    /// The settings of this layer, and those of the layer below for the settings that this layer
    /// does not have.
    pub(super) fn over(self, below: Self) -> Self {
        // A token and a token file are one setting: either of them in this layer hides both of the
        // layer below.
        let hides_token = self.token.is_some() || self.token_file.is_some();
        let (token, token_file) = if hides_token {
            (self.token, self.token_file)
        } else {
            (below.token, below.token_file)
        };
        Self {
            data: self.data.or(below.data),
            listen: self.listen.or(below.listen),
            listen_plain: self.listen_plain.or(below.listen_plain),
            http_listen: self.http_listen.or(below.http_listen),
            http_hosts: self.http_hosts.or(below.http_hosts),
            http_origins: self.http_origins.or(below.http_origins),
            http_path_prefix: self.http_path_prefix.or(below.http_path_prefix),
            http_trusted_proxies: self.http_trusted_proxies.or(below.http_trusted_proxies),
            metrics_public: self.metrics_public.or(below.metrics_public),
            tls_certificate: self.tls_certificate.or(below.tls_certificate),
            tls_key: self.tls_key.or(below.tls_key),
            tls_client: self.tls_client.or(below.tls_client),
            tls_client_ca: self.tls_client_ca.or(below.tls_client_ca),
            access_file: self.access_file.or(below.access_file),
            backup_folder: self.backup_folder.or(below.backup_folder),
            audit_file: self.audit_file.or(below.audit_file),
            audit: self.audit.or(below.audit),
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
            // `settle` has moved the other values to the exact names.
            ..Self::default()
        }
    }

    /// Fills in the defaults and reads the token file.
    pub(super) fn resolve(self) -> Result<ServeConfig, Failure> {
        let default = Config::default();
        let token = match &self.token_file {
            Some(file) => Some(read_token(file)?),
            None => self.token,
        };
        let listen = self.listen.unwrap_or(SocketAddr::from(([127, 0, 0, 1], DEFAULT_PORT)));
        Ok(ServeConfig {
            listen,
            http: HttpConfig {
                http_listen: self.http_listen.unwrap_or_else(|| HttpAddress::beside(listen)),
                http_hosts: self.http_hosts.unwrap_or_default(),
                http_origins: self.http_origins.unwrap_or_default(),
                http_path_prefix: self.http_path_prefix.unwrap_or_default(),
                http_trusted_proxies: self.http_trusted_proxies.unwrap_or_default(),
                metrics_public: self.metrics_public.unwrap_or(false),
            },
            listen_plain: self.listen_plain,
            insecure: self.insecure.unwrap_or(false),
            log: self.log.unwrap_or_else(|| "info".to_owned()),
            log_format: self.log_format.unwrap_or(LogFormat::Text),
            broker: Config {
                data: self.data.unwrap_or(default.data),
                token,
                tls_certificate: self.tls_certificate,
                tls_key: self.tls_key,
                tls_client: self.tls_client.unwrap_or_default(),
                tls_client_ca: self.tls_client_ca,
                access_file: self.access_file,
                backup_folder: self.backup_folder,
                audit_file: self.audit_file,
                audit: self.audit.unwrap_or_default(),
                heartbeat_ms: self.heartbeat_ms.unwrap_or(default.heartbeat_ms),
                lease_ms: self.lease_ms.unwrap_or(default.lease_ms),
                frame_bytes_max: in_memory(self.frame_bytes_max, default.frame_bytes_max),
                payload_bytes_max: in_memory(self.payload_bytes_max, default.payload_bytes_max),
                result_bytes_max: in_memory(self.result_bytes_max, default.result_bytes_max),
                connections_max: self.connections_max.unwrap_or(default.connections_max),
                result_ttl_ms: self.result_ttl_ms.unwrap_or(default.result_ttl_ms),
                disk_reserve_bytes: self.disk_reserve_bytes.unwrap_or(default.disk_reserve_bytes),
                commit_timeout_ms: self.commit_timeout_ms.unwrap_or(default.commit_timeout_ms),
            },
        })
    }
}

/// A size of something that must fit into memory, or the default.
fn in_memory(bytes: Option<u64>, default: usize) -> usize {
    bytes.map_or(default, |bytes| usize::try_from(bytes).unwrap_or(usize::MAX))
}

/// The configuration that `serve` runs with: every setting with its value. Its serialized form
/// masks the token.
#[derive(Debug, Clone, Serialize)]
pub(super) struct ServeConfig {
    pub(super) listen: SocketAddr,
    pub(super) listen_plain: Option<SocketAddr>,
    #[serde(flatten)]
    pub(super) http: HttpConfig,
    pub(super) insecure: bool,
    pub(super) log: String,
    pub(super) log_format: LogFormat,
    #[serde(flatten)]
    pub(super) broker: Config,
}

/// A setting with a value that cannot be used.
pub(super) struct InvalidSetting {
    pub(super) key: &'static str,
    pub(super) sentence: String,
}

impl ServeConfig {
    /// Checks every value.
    pub(super) fn check(&self) -> Result<(), InvalidSetting> {
        self.broker
            .check()
            .map_err(|error| InvalidSetting { key: error.key(), sentence: in_words(&error) })?;
        parse_filter(&self.log).map_err(|error| InvalidSetting {
            key: "log",
            sentence: format!("log filter `{}`: {error}", self.log),
        })?;
        if self.is_public() && !self.broker.knows_clients() && !self.insecure {
            let sentence = format!(
                "other machines can reach {}: set a token with CELERIAC_TOKEN or --token-file, \
                 or --access-file, or allow it with --insecure",
                self.listen
            );
            return Err(InvalidSetting { key: "listen", sentence });
        }
        self.check_plain()?;
        self.check_http()?;
        // The broker reads the files again when it starts. Here the sentence can name the setting.
        Access::check(&self.broker)
            .map_err(|error| InvalidSetting { key: error.key(), sentence: error.to_string() })?;
        Certificates::check(&self.broker)
            .map(drop)
            .map_err(|error| InvalidSetting { key: error.key(), sentence: error.to_string() })
    }

    /// The second address is for programs on this machine, beside one with TLS.
    fn check_plain(&self) -> Result<(), InvalidSetting> {
        let refuse = |sentence: String| Err(InvalidSetting { key: "listen_plain", sentence });
        match self.listen_plain {
            Some(address) if !is_of_this_machine(address) => refuse(format!(
                "other machines can reach {address}, and its connections do not speak TLS: give an \
                 address of this machine alone, such as 127.0.0.1:{DEFAULT_PORT}"
            )),
            Some(_) if !self.has_tls() => refuse(
                "listen_plain is set and tls_certificate is not: without TLS, listen is enough"
                    .to_owned(),
            ),
            _ => Ok(()),
        }
    }

    /// Who reaches the HTTP side may do what a client without a token may.
    fn check_http(&self) -> Result<(), InvalidSetting> {
        self.http
            .of_web(self.broker.knows_clients())
            .check()
            .map_err(|(key, sentence)| InvalidSetting { key, sentence })?;
        match self.http.http_listen.address() {
            Some(address)
                if !is_of_this_machine(address)
                    && !self.broker.knows_clients()
                    && !self.insecure =>
            {
                let sentence = format!(
                    "other machines can reach {address}: set a token with CELERIAC_TOKEN or \
                     --token-file, or --access-file, or allow it with --insecure"
                );
                Err(InvalidSetting { key: "http_listen", sentence })
            }
            _ => Ok(()),
        }
    }

    /// Whether the connections of `listen` speak TLS.
    pub(super) fn has_tls(&self) -> bool {
        self.broker.tls_certificate.is_some()
    }

    /// Whether other machines may reach the address.
    pub(super) fn is_public(&self) -> bool {
        !is_of_this_machine(self.listen)
    }
}

fn is_of_this_machine(address: SocketAddr) -> bool {
    address.ip().to_canonical().is_loopback()
}

/// The sentence for a value that a broker cannot run with, in the units that people write.
fn in_words(error: &ConfigError) -> String {
    let bounded = |key: &str, value: u64, which: &str, bound: u64| {
        let name = key.trim_end_matches("_ms").replace("_bytes", "");
        format!("{name} is {}, the {which} is {}", with_unit(key, value), with_unit(key, bound))
    };
    match error {
        ConfigError::Missing { key: "data" } => {
            format!("{error}: give --data DIR, as in `celeriac serve --data ./data`")
        }
        ConfigError::TooSmall { key, value, min } => bounded(key, *value, "least", *min),
        ConfigError::TooLarge { key, value, max } => bounded(key, *value, "greatest", *max),
        error => error.to_string(),
    }
}

/// The value of a setting as people write it: a span, a size, or a number.
fn with_unit(key: &str, value: u64) -> String {
    const MIB: u64 = 1024 * 1024;
    match value {
        ms if key.ends_with("_ms") => format!("{:?}", Duration::from_millis(ms)),
        bytes if !key.contains("_bytes") => bytes.to_string(),
        bytes if bytes > 0 && bytes % MIB == 0 => format!("{}MiB", bytes / MIB),
        bytes => format!("{bytes} bytes"),
    }
}

/// Parses an address. Host names are refused: a name may have several addresses, and the broker
/// must know whether its address is public.
fn parse_address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| {
        "give an IP address and a port, such as 127.0.0.1:23537 or [::1]:23537".to_owned()
    })
}

fn parse_audit(text: &str) -> Result<AuditWhat, String> {
    match text {
        "operators" => Ok(AuditWhat::Operators),
        "all" => Ok(AuditWhat::All),
        _ => Err("give operators or all".to_owned()),
    }
}

fn parse_tls_client(text: &str) -> Result<TlsClient, String> {
    match text {
        "none" => Ok(TlsClient::None),
        "optional" => Ok(TlsClient::Optional),
        "required" => Ok(TlsClient::Required),
        _ => Err("give none, optional or required".to_owned()),
    }
}
