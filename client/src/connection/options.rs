//! The options of a connection: where the broker is, whether it speaks TLS, and what the client's
//! Hello says.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use celeriac_proto::wire;
use tracing::debug;

use super::Connector;
use crate::error::Error;
use crate::token_file;
use crate::url::BrokerUrl;

/// The variables that name the files of TLS.
pub(super) const CA_FILE: &str = "CELERIAC_CA_FILE";
pub(super) const CERTIFICATE_FILE: &str = "CELERIAC_CERTIFICATE_FILE";
pub(super) const KEY_FILE: &str = "CELERIAC_KEY_FILE";

/// The files of a connection with TLS, all in PEM. The connection reads them anew at each attempt
/// to connect, so new certificates count from the next reconnect on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TlsFiles {
    /// The CAs whose brokers this client trusts. `None`: those that the system trusts.
    pub ca: Option<PathBuf>,
    /// The certificate that the client shows to a broker that asks for one.
    pub certificate: Option<PathBuf>,
    /// The private key of that certificate.
    pub key: Option<PathBuf>,
}

impl TlsFiles {
    /// The files that the environment names: `CELERIAC_CA_FILE`, `CELERIAC_CERTIFICATE_FILE` and
    /// `CELERIAC_KEY_FILE`. A variable that is empty counts as not set.
    pub fn from_env() -> Self {
        let file = |name| {
            let value = std::env::var_os(name).filter(|value| !value.is_empty());
            value.map(PathBuf::from)
        };
        Self { ca: file(CA_FILE), certificate: file(CERTIFICATE_FILE), key: file(KEY_FILE) }
    }

    /// These files, and those of the environment in place of each one that is not named here.
    #[must_use]
    pub fn or_from_env(self) -> Self {
        let environment = Self::from_env();
        // A certificate and its key are one setting.
        let (certificate, key) = match (self.certificate, self.key) {
            (None, None) => (environment.certificate, environment.key),
            own => own,
        };
        Self { ca: self.ca.or(environment.ca), certificate, key }
    }
}

/// How a connection is opened, and what the client's Hello says.
#[derive(Clone)]
#[non_exhaustive]
pub struct ConnectionOptions {
    /// Host and port of the broker, as `127.0.0.1:23537`.
    pub address: String,
    /// The token; empty for none.
    pub token: String,
    /// The file whose one line is the token. An attempt to connect reads it if there is no token
    /// yet, and each reconnect reads it again. While it cannot be read, the token that was read
    /// last counts.
    pub token_file: Option<PathBuf>,
    /// The name of the client library, for logs and listings.
    pub client_name: String,
    /// The version of the client library.
    pub client_version: String,
    /// The name of this program. It stays the same over all reconnects.
    pub instance_id: String,
    /// Set by a worker. Without it the broker sends no deliveries.
    pub worker: Option<wire::WorkerInfo>,
    /// How often the client sends heartbeats; `None` leaves the interval to the broker.
    pub heartbeat: Option<Duration>,
    /// How long one attempt may take, the handshake included.
    pub connect_timeout: Duration,
    /// How long [`Connection::open`](super::Connection::open) tries to connect. `None`: the first
    /// attempt decides.
    pub connect_wait: Option<Duration>,
    /// Whether the connection runs on a thread of its own, so that handlers that block the runtime
    /// cannot stop the heartbeats.
    pub own_thread: bool,
    /// The files of TLS; `None` for a connection without TLS.
    pub tls: Option<TlsFiles>,
    /// Opens the byte stream; `None` means TCP to the address. With TLS, the handshake goes through
    /// this stream.
    pub connector: Option<Connector>,
}

impl ConnectionOptions {
    /// The defaults for a client of the broker at `address`.
    pub fn new(address: impl Into<String>) -> Self {
        Self {
            address: address.into(),
            token: String::new(),
            token_file: None,
            client_name: "celeriac-rust".to_owned(),
            client_version: env!("CARGO_PKG_VERSION").to_owned(),
            instance_id: format!(
                "{}-{}",
                std::process::id(),
                &uuid::Uuid::new_v4().simple().to_string()[..8]
            ),
            worker: None,
            heartbeat: None,
            connect_timeout: Duration::from_secs(5),
            connect_wait: None,
            own_thread: false,
            tls: None,
            connector: None,
        }
    }

    /// Reads the token for a first connection, when the options have none.
    ///
    /// # Errors
    /// The token file cannot be used.
    pub(super) async fn read_missing_token(&mut self) -> Result<(), Error> {
        let Some(path) = self.token_file.clone().filter(|_| self.token.is_empty()) else {
            return Ok(());
        };
        let reading = tokio::task::spawn_blocking({
            let path = path.clone();
            move || token_file::read(&path)
        });
        let read = reading.await.unwrap_or_else(|error| Err(std::io::Error::other(error)));
        let unusable = |source| Error::TokenFile { path, source: Arc::new(source) };
        self.token = read.map_err(unusable)?;
        Ok(())
    }

    /// Reads the token file again. Without a token in it, or with the same one, nothing changes.
    pub(super) async fn read_new_token(&mut self) {
        let Some(path) = self.token_file.clone() else { return };
        match token_file::read_again(path).await {
            Ok(token) => self.token = token,
            Err(error) => debug!("the token that was read last counts: {error}"),
        }
    }

    /// The defaults for a client of the broker at this URL, with its token. With TLS, these files
    /// count before those of the environment.
    pub fn of(url: &BrokerUrl, files: TlsFiles) -> Self {
        Self {
            token: url.token().to_owned(),
            tls: url.has_tls().then(|| files.or_from_env()),
            ..Self::new(url.address())
        }
    }
}
