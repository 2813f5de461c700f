//! The configuration of a broker: each value with its default, its bounds, its unit and its reason.
//!
//! The command line reads files, flags and the environment, and it handles the listen address and
//! the logs. The bounds of the protocol itself live in `celeriac_proto::limits`.

mod access;

use std::fmt;
use std::path::PathBuf;

use celeriac_proto::limits;
use serde::{Deserialize, Serialize, Serializer};

pub use self::access::AuditWhat;
use crate::size;

const SECOND_MS: u64 = 1_000;
const DAY_MS: u64 = 24 * 3_600 * SECOND_MS;
const MIB: usize = 1024 * 1024;

/// The configuration of one broker. Only `data` has no default.
///
/// Every field is a key of the configuration file under the same name. If you add a field, add it
/// to the command line's `settings.rs` and to `deploy/README.md` too; tests compare them.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The data folder, which holds everything the broker stores. The broker creates it when it is
    /// missing. One broker at a time may use a folder.
    pub data: PathBuf,

    /// The secret that every client must send. `None`: any client that reaches the port may do
    /// anything. The token is masked when the configuration is printed or serialized, so that it
    /// never appears in a log.
    #[serde(serialize_with = "masked")]
    pub token: Option<String>,

    /// The file with the certificate that the broker shows to clients, and after it those of the
    /// CAs between that one and the root, in PEM. With it every connection speaks TLS 1.3, except
    /// those that come to the plain listener of [`Broker::with_plain`](crate::Broker::with_plain).
    pub tls_certificate: Option<PathBuf>,

    /// The file with the private key of that certificate, in PEM.
    pub tls_key: Option<PathBuf>,

    /// Whether clients show a certificate too. Default: none.
    pub tls_client: TlsClient,

    /// The file with the certificates of the CAs that sign those of clients, in PEM.
    pub tls_client_ca: Option<PathBuf>,

    /// The file with the tokens and certificates of clients, and what each may do. `None`: the one
    /// token, or every client, may do everything.
    pub access_file: Option<PathBuf>,

    /// The folder for backups that clients ask for by name. It is needed where there is an access
    /// file; without one a client names any folder.
    pub backup_folder: Option<PathBuf>,

    /// The file for a line about each action of an operator, each refused request and each failed
    /// login. `None`: these lines go to the log.
    pub audit_file: Option<PathBuf>,

    /// The requests that have such a line. Default: those of operators.
    pub audit: AuditWhat,

    /// How often an idle connection sends a heartbeat, in milliseconds. Default 5 s: often enough
    /// to find a dead peer soon, rarely enough that ten thousand idle connections cost no
    /// noticeable load.
    pub heartbeat_ms: u64,

    /// A worker that is silent for this long loses its leases, in milliseconds. Default 15 s:
    /// three heartbeats, so that a worker loses no task because of one lost packet or a short
    /// pause. At least two heartbeats.
    pub lease_ms: u64,

    /// The longest frame after the handshake, in bytes. Default 16 MiB. The largest task must fit
    /// completely: its payload and headers in a delivery to a worker, its result, errors and
    /// progress in an answer. Where stored tasks need more, because the limits were larger when
    /// they were submitted, the broker announces longer frames.
    pub frame_bytes_max: usize,

    /// The largest payload of one task, in bytes. Default 8 MiB: keep larger inputs in a file
    /// store.
    pub payload_bytes_max: usize,

    /// The largest result of one task, in bytes. Default 1 MiB. A larger result ends its task as
    /// FAILURE.
    pub result_bytes_max: usize,

    /// The most connections at once. The broker refuses further connections with an answer and
    /// closes them. Default 10,000. Each connection needs a file descriptor; where the limit of
    /// the process is too low, the broker accepts fewer.
    pub connections_max: usize,

    /// How long the broker keeps an ended task, in milliseconds, when neither the task nor its
    /// queue sets a time. Default one day; 0 drops the task at once.
    pub result_ttl_ms: u64,

    /// The broker refuses new tasks when less disk space than this is free, in bytes. Default 64
    /// MiB: enough for running tasks to report and for the next start to clean up.
    pub disk_reserve_bytes: u64,

    /// A commit that takes longer than this ends the process, in milliseconds. Default 10 s: a
    /// disk that is so slow is broken, and a broker that cannot confirm must not look alive.
    pub commit_timeout_ms: u64,
}

/// Whether the clients of a broker with TLS show a certificate.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TlsClient {
    /// The broker asks for no certificate.
    #[default]
    None,
    /// A client may show a certificate, which then takes the place of the token.
    Optional,
    /// A client without a certificate is refused. Where a token is set, the client needs both.
    Required,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data: PathBuf::new(),
            token: None,
            tls_certificate: None,
            tls_key: None,
            tls_client: TlsClient::None,
            tls_client_ca: None,
            access_file: None,
            backup_folder: None,
            audit_file: None,
            audit: AuditWhat::Operators,
            heartbeat_ms: 5 * SECOND_MS,
            lease_ms: 15 * SECOND_MS,
            frame_bytes_max: limits::FRAME_BYTES_MAX,
            payload_bytes_max: limits::PAYLOAD_BYTES_MAX,
            result_bytes_max: limits::RESULT_BYTES_MAX,
            connections_max: 10_000,
            result_ttl_ms: DAY_MS,
            disk_reserve_bytes: 128 * MIB as u64,
            commit_timeout_ms: 10 * SECOND_MS,
        }
    }
}

impl Config {
    /// A configuration with this data folder and the defaults.
    pub fn new(data: impl Into<PathBuf>) -> Self {
        Self { data: data.into(), ..Self::default() }
    }

    /// Checks every value against its bounds.
    ///
    /// # Errors
    /// The first value that the broker cannot run with.
    pub fn check(&self) -> Result<(), ConfigError> {
        if self.data.as_os_str().is_empty() {
            return Err(ConfigError::Missing { key: "data" });
        }
        self.check_token()?;
        self.check_tls()?;
        self.check_access()?;
        for (key, value, min, max) in self.bounds() {
            if value < min {
                return Err(ConfigError::TooSmall { key, value, min });
            }
            if value > max {
                return Err(ConfigError::TooLarge { key, value, max });
            }
        }
        Ok(())
    }

    /// Key, value, least and greatest value. The order matters: a bound may depend on a value that
    /// was checked before.
    fn bounds(&self) -> [(&'static str, u64, u64, u64); 9] {
        let left_in_frame = |bytes: usize| self.frame_bytes_max.saturating_sub(bytes) as u64;
        let frame_bytes_min = size::frame_bytes_for(1, 1) as u64;
        [
            // Below the least value the heartbeats themselves are the load; above the greatest
            // value the broker would notice a lost worker too late.
            ("heartbeat_ms", self.heartbeat_ms, 10, 3_600 * SECOND_MS),
            ("lease_ms", self.lease_ms, self.heartbeat_ms.saturating_mul(2), DAY_MS),
            // The codec holds a whole frame in memory for each connection.
            ("frame_bytes_max", self.frame_bytes_max as u64, frame_bytes_min, 1024 * MIB as u64),
            (
                "payload_bytes_max",
                self.payload_bytes_max as u64,
                1,
                left_in_frame(size::DELIVERY_BYTES_MAX),
            ),
            (
                "result_bytes_max",
                self.result_bytes_max as u64,
                1,
                left_in_frame(size::VIEW_BYTES_MAX),
            ),
            ("connections_max", self.connections_max as u64, 1, 1_000_000),
            ("result_ttl_ms", self.result_ttl_ms, 0, limits::SPAN_MS_MAX),
            // With a smaller reserve, sled cannot even be opened on a full disk.
            ("disk_reserve_bytes", self.disk_reserve_bytes, MIB as u64, 1024 * 1024 * MIB as u64),
            ("commit_timeout_ms", self.commit_timeout_ms, 100, 600 * SECOND_MS),
        ]
    }

    /// The token travels in URLs, environment variables and one-line files, and in the first frame.
    fn check_token(&self) -> Result<(), ConfigError> {
        let Some(token) = &self.token else { return Ok(()) };
        if token.is_empty() {
            return Err(ConfigError::Token { problem: "is empty" });
        }
        if token.len() > 1024 {
            return Err(ConfigError::Token { problem: "is longer than 1024 bytes" });
        }
        if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(ConfigError::Token {
                problem: "has a character that is not visible ASCII",
            });
        }
        Ok(())
    }

    /// A setting of TLS that is missing must not go unnoticed: the broker would ask for less than
    /// the operator believes.
    fn check_tls(&self) -> Result<(), ConfigError> {
        let clients = self.tls_client != TlsClient::None;
        let without = |key, other| Err(ConfigError::Alone { key, other });
        match (&self.tls_certificate, &self.tls_key, &self.tls_client_ca) {
            (Some(_), None, _) => without("tls_certificate", "tls_key"),
            (None, Some(_), _) => without("tls_key", "tls_certificate"),
            (None, _, _) if clients => without("tls_client", "tls_certificate"),
            (None, _, Some(_)) => without("tls_client_ca", "tls_certificate"),
            (_, _, None) if clients => without("tls_client", "tls_client_ca"),
            (_, _, Some(_)) if !clients => without("tls_client_ca", "tls_client"),
            _ => Ok(()),
        }
    }

    /// Whether the broker knows who a client is, so that not every program that reaches it may do
    /// anything.
    pub fn knows_clients(&self) -> bool {
        let by_tls = self.tls_client == TlsClient::Required;
        self.token.is_some() || self.access_file.is_some() || by_tls
    }
}

/// The text that is shown in place of a secret.
const MASK: &str = "********";

fn masked<S: Serializer>(token: &Option<String>, serializer: S) -> Result<S::Ok, S::Error> {
    token.as_ref().map(|_| MASK).serialize(serializer)
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("data", &self.data)
            .field("token", &self.token.as_ref().map(|_| MASK))
            .field("tls_certificate", &self.tls_certificate)
            .field("tls_key", &self.tls_key)
            .field("tls_client", &self.tls_client)
            .field("tls_client_ca", &self.tls_client_ca)
            .field("access_file", &self.access_file)
            .field("backup_folder", &self.backup_folder)
            .field("audit_file", &self.audit_file)
            .field("audit", &self.audit)
            .field("heartbeat_ms", &self.heartbeat_ms)
            .field("lease_ms", &self.lease_ms)
            .field("frame_bytes_max", &self.frame_bytes_max)
            .field("payload_bytes_max", &self.payload_bytes_max)
            .field("result_bytes_max", &self.result_bytes_max)
            .field("connections_max", &self.connections_max)
            .field("result_ttl_ms", &self.result_ttl_ms)
            .field("disk_reserve_bytes", &self.disk_reserve_bytes)
            .field("commit_timeout_ms", &self.commit_timeout_ms)
            .finish()
    }
}

/// A value that a broker cannot run with.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// A setting without a default was not given.
    #[error("{key} is missing")]
    Missing {
        /// The setting.
        key: &'static str,
    },
    /// The value is below the least value, which may depend on another setting.
    #[error("{key} is {value}, the least is {min}")]
    TooSmall {
        /// The setting.
        key: &'static str,
        /// The given value.
        value: u64,
        /// The least value.
        min: u64,
    },
    /// The value is above the greatest value, which may depend on another setting.
    #[error("{key} is {value}, the greatest is {max}")]
    TooLarge {
        /// The setting.
        key: &'static str,
        /// The given value.
        value: u64,
        /// The greatest value.
        max: u64,
    },
    /// The token cannot be used. The error text does not repeat the token.
    #[error("token {problem}")]
    Token {
        /// The problem of the token.
        problem: &'static str,
    },
    /// A setting needs another one, which was not given.
    #[error("{key} is set and {other} is not: give both")]
    Alone {
        /// The setting that was given.
        key: &'static str,
        /// The setting that it needs.
        other: &'static str,
    },
    /// Two settings exclude each other.
    #[error("{key} and {other} are both set: keep one")]
    Both {
        /// The setting that was given.
        key: &'static str,
        /// The setting that it excludes.
        other: &'static str,
    },
}

impl ConfigError {
    /// The key of the wrong setting, so that the reader of a configuration file can name the line.
    pub fn key(&self) -> &'static str {
        match self {
            Self::Missing { key }
            | Self::TooSmall { key, .. }
            | Self::TooLarge { key, .. }
            | Self::Alone { key, .. }
            | Self::Both { key, .. } => key,
            Self::Token { .. } => "token",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changed(change: impl FnOnce(&mut Config)) -> Result<(), ConfigError> {
        let mut config = Config::new("data");
        change(&mut config);
        config.check()
    }

    #[test]
    fn the_defaults_are_within_their_own_bounds() {
        assert_eq!(Config::new("data").check(), Ok(()));
    }

    #[test]
    fn a_data_folder_must_be_named() {
        assert_eq!(Config::default().check(), Err(ConfigError::Missing { key: "data" }));
    }

    #[test]
    fn a_lease_lasts_at_least_two_heartbeats() {
        let error = changed(|config| config.lease_ms = 9_999).expect_err("too short");
        assert_eq!(error.to_string(), "lease_ms is 9999, the least is 10000");
        assert_eq!(error.key(), "lease_ms");
        assert_eq!(changed(|config| config.lease_ms = 10_000), Ok(()));
    }

    #[test]
    fn a_payload_and_its_headers_fit_in_a_frame() {
        let error = changed(|config| config.payload_bytes_max = config.frame_bytes_max)
            .expect_err("does not fit");
        assert_eq!(error.key(), "payload_bytes_max");
        let error = changed(|config| config.frame_bytes_max = 0).expect_err("no frame at all");
        assert_eq!(error.key(), "frame_bytes_max");
        // The payload may use all bytes beside the headers, and not one byte more.
        let most = limits::FRAME_BYTES_MAX - size::DELIVERY_BYTES_MAX;
        assert_eq!(changed(|config| config.payload_bytes_max = most), Ok(()));
        let error =
            changed(|config| config.payload_bytes_max = most + 1).expect_err("does not fit");
        assert_eq!(error.key(), "payload_bytes_max");
    }

    #[test]
    fn a_result_fits_in_a_frame_with_all_errors_headers_and_progress() {
        let most = limits::FRAME_BYTES_MAX - size::VIEW_BYTES_MAX;
        assert_eq!(changed(|config| config.result_bytes_max = most), Ok(()));
        let error = changed(|config| config.result_bytes_max = most + 1).expect_err("does not fit");
        assert_eq!(error.key(), "result_bytes_max");
    }

    #[test]
    fn a_frame_of_a_mebibyte_is_enough_for_small_tasks() {
        let small = |config: &mut Config| {
            config.frame_bytes_max = MIB;
            config.payload_bytes_max = MIB / 2;
            config.result_bytes_max = MIB / 2;
        };
        assert_eq!(changed(small), Ok(()));
    }

    #[test]
    fn absurd_numbers_are_refused_by_name() {
        let refused = |change: fn(&mut Config)| changed(change).expect_err("absurd").key();
        assert_eq!(refused(|config| config.heartbeat_ms = 0), "heartbeat_ms");
        assert_eq!(refused(|config| config.heartbeat_ms = u64::MAX), "heartbeat_ms");
        assert_eq!(refused(|config| config.lease_ms = u64::MAX), "lease_ms");
        assert_eq!(refused(|config| config.result_bytes_max = usize::MAX), "result_bytes_max");
        assert_eq!(refused(|config| config.connections_max = 0), "connections_max");
        assert_eq!(refused(|config| config.result_ttl_ms = u64::MAX), "result_ttl_ms");
        assert_eq!(refused(|config| config.disk_reserve_bytes = 0), "disk_reserve_bytes");
        assert_eq!(refused(|config| config.commit_timeout_ms = 0), "commit_timeout_ms");
    }

    #[test]
    fn a_token_is_visible_ascii_and_not_empty() {
        for bad in ["", "with space", "zeilen\numbruch", "müde", &"x".repeat(1025)] {
            let error = changed(|config| config.token = Some(bad.to_owned())).expect_err("refused");
            assert_eq!(error.key(), "token");
            assert!(
                bad.is_empty() || !error.to_string().contains(bad),
                "the sentence repeats the secret"
            );
        }
        assert_eq!(changed(|config| config.token = Some("s3cret/+=".to_owned())), Ok(()));
    }

    #[test]
    fn the_token_is_never_printed() {
        let mut config = Config::new("data");
        config.token = Some("hunter2".to_owned());
        let text = toml::to_string(&config).expect("a flat struct is a table");
        assert!(!text.contains("hunter2") && text.contains(MASK), "{text}");
        assert!(!format!("{config:?}").contains("hunter2"));
    }

    #[test]
    fn the_settings_of_tls_need_each_other() {
        let refused = |names: [Option<&str>; 3], client| {
            let file = |name: Option<&str>| name.map(PathBuf::from);
            let [certificate, key, ca] = names;
            changed(|config| {
                (config.tls_certificate, config.tls_key) = (file(certificate), file(key));
                (config.tls_client_ca, config.tls_client) = (file(ca), client);
            })
        };
        let [c, k, ca] = [Some("c"), Some("k"), Some("ca")];
        let alone = |key, other| Err(ConfigError::Alone { key, other });
        use TlsClient::{None as Nobody, Optional, Required};
        assert_eq!(refused([c, None, None], Nobody), alone("tls_certificate", "tls_key"));
        assert_eq!(refused([None, k, None], Nobody), alone("tls_key", "tls_certificate"));
        assert_eq!(refused([None, None, ca], Required), alone("tls_client", "tls_certificate"));
        assert_eq!(refused([None, None, ca], Nobody), alone("tls_client_ca", "tls_certificate"));
        assert_eq!(refused([c, k, None], Optional), alone("tls_client", "tls_client_ca"));
        assert_eq!(refused([c, k, ca], Nobody), alone("tls_client_ca", "tls_client"));
        assert_eq!(refused([c, k, None], Nobody), Ok(()));
        assert_eq!(refused([c, k, ca], Required), Ok(()));
    }

    #[test]
    fn a_file_may_name_any_subset_and_nothing_else() {
        let config: Config =
            toml::from_str("data = \"d\"\nlease_ms = 20000").expect("two known keys");
        assert_eq!(config, Config { lease_ms: 20_000, ..Config::new("d") });
        let error = toml::from_str::<Config>("leese_ms = 1").expect_err("unknown key");
        assert!(error.to_string().contains("leese_ms"), "{error}");
    }
}
