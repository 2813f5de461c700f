//! The options of a client before it connects.

use std::path::PathBuf;
use std::time::Duration;

use crate::client::Client;
use crate::connection::{Connection, ConnectionOptions, Connector, TlsFiles};
use crate::error::Error;
use crate::url::BrokerUrl;

/// How long a request may take unless the builder says otherwise, reconnects included.
pub(crate) const TIMEOUT_DEFAULT: Duration = Duration::from_secs(30);

/// The options of a connection, made by [`Client::builder`] or [`Client::from_env`].
///
/// ```no_run
/// use std::time::Duration;
///
/// use celeriac_client::Client;
///
/// # async fn example() -> Result<(), celeriac_client::Error> {
/// let client = Client::builder("celeriac://token@127.0.0.1:23537")
///     .instance("web-1")
///     .timeout(Duration::from_secs(5))
///     .wait_for_broker(Duration::from_secs(60))
///     .connect()
///     .await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
#[must_use = "nothing is connected before `connect`"]
pub struct ClientBuilder {
    url: String,
    instance: Option<String>,
    timeout: Duration,
    tls: TlsFiles,
    options: ConnectionOptions,
}

impl ClientBuilder {
    pub(crate) fn new(url: String) -> Self {
        let (tls, options) = (TlsFiles::default(), ConnectionOptions::new(""));
        Self { url, instance: None, timeout: TIMEOUT_DEFAULT, tls, options }
    }

    /// Names this program in the broker's logs and listings. The default is made from the process
    /// id and a random part.
    pub fn instance(mut self, name: impl Into<String>) -> Self {
        self.instance = Some(name.into());
        self
    }

    /// How long one request may take, reconnects included; the default is 30 s. Waiting for a task
    /// has a time of its own.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// How long one attempt to connect may take; the default is 5 s.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.options.connect_timeout = timeout;
        self
    }

    /// [`ClientBuilder::connect`] tries again for this long when the first attempt fails. Use it
    /// for programs that start together with their broker. Without it the first attempt decides.
    pub fn wait_for_broker(mut self, span: Duration) -> Self {
        self.options.connect_wait = Some(span);
        self
    }

    /// How often the client sends heartbeats. By default the broker sets the interval.
    pub fn heartbeat(mut self, every: Duration) -> Self {
        self.options.heartbeat = Some(every);
        self
    }

    /// For an address with `celeriacs://`: the client trusts brokers whose certificates these CAs
    /// have signed, and no others. The default is `CELERIAC_CA_FILE`, or else the CAs that the
    /// system trusts. The file is in PEM, and is read again at each reconnect.
    pub fn ca_file(mut self, file: impl Into<PathBuf>) -> Self {
        self.tls.ca = Some(file.into());
        self
    }

    /// For an address with `celeriacs://`: the client shows this certificate to a broker that asks
    /// for one. The default is `CELERIAC_CERTIFICATE_FILE` and `CELERIAC_KEY_FILE`. Both files are
    /// in PEM, and are read again at each reconnect.
    pub fn certificate_files(
        mut self,
        certificate: impl Into<PathBuf>,
        key: impl Into<PathBuf>,
    ) -> Self {
        self.tls.certificate = Some(certificate.into());
        self.tls.key = Some(key.into());
        self
    }

    /// The file whose one line is the token. The client reads it again before each reconnect: to
    /// change the token of a client that runs, write the new one into the file, by a rename, and
    /// then end the old one at the broker. While the file cannot be read, the token that was read
    /// last counts. A token in the URL counts for the first connection in place of the file's.
    pub fn token_file(mut self, file: impl Into<PathBuf>) -> Self {
        self.options.token_file = Some(file.into());
        self
    }

    /// The client opens byte streams with this connector in place of TCP.
    pub fn connector(mut self, connector: Connector) -> Self {
        self.options.connector = Some(connector);
        self
    }

    /// Connects to the broker.
    ///
    /// # Errors
    /// [`Error::Url`] when the URL cannot be read, [`Error::Connect`] when no broker answers,
    /// [`Error::TokenFile`] when the token file cannot be used,
    /// [`Error::Tls`] when one of the two sides does not accept the other one's certificate, and
    /// [`Error::Handshake`] when the broker refuses this client.
    pub async fn connect(self) -> Result<Client, Error> {
        let url: BrokerUrl = self.url.parse()?;
        let of_url = ConnectionOptions::of(&url, self.tls);
        let mut options = self.options;
        options.address = of_url.address;
        options.token = of_url.token;
        options.tls = of_url.tls;
        if let Some(instance) = self.instance {
            options.instance_id = instance;
        }
        // Nothing reads the events: the broker sends a client only transitions, and those go to
        // their watches.
        let (connection, _events) = Connection::open(options).await?;
        Ok(Client::over(connection).with_timeout(self.timeout))
    }
}
