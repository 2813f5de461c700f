//! TLS on the port of the protocol: the certificate that the broker shows, the clients that it
//! accepts, and one handshake.
//!
//! `files` reads and checks the files, `refusal` has the sentences about handshakes that fail.
//! After the handshake a session serves the two halves of the stream and knows nothing of TLS.

mod files;
mod names;
mod refusal;
#[cfg(test)]
mod tests;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use celeriac_record::Timestamp;
use rustls::ServerConfig;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{Mutex, watch};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tracing::{error, info, warn};

use crate::clock::Clock;
use crate::config::Config;
pub use files::TlsError;
use files::{Files, Loaded, Stamps};

/// A client has this long for the handshake of TLS. The time until Hello begins after it.
pub(crate) const TLS_HANDSHAKE: Duration = Duration::from_secs(10);

/// What the other side may speak inside of TLS on the port of HTTP.
const ALPN_OF_HTTP: [&str; 2] = ["h2", "http/1.1"];

/// How often the broker looks whether its files have changed. Kubernetes and certbot replace files
/// and send no signal.
const POLL: Duration = Duration::from_secs(10);

/// The log warns of a certificate that expires within this time.
const EXPIRES_SOON_MS: i64 = 14 * 24 * 3_600 * 1_000;

/// After a handshake that failed, the client has this long to read why. The broker reads and drops
/// up to `FAREWELL_BYTES` meanwhile: a socket that is closed with unread bytes is reset, and a
/// reset may overtake the alert.
const FAREWELL: Duration = Duration::from_secs(1);
const FAREWELL_BYTES: u64 = 64 * 1024;

/// The certificates of a running broker with TLS. A clone is another handle on the same ones.
#[derive(Debug, Clone)]
pub struct Certificates(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    clock: Clock,
    /// What new handshakes use. Connections that are open keep what they began with.
    current: watch::Sender<Arc<ServerConfig>>,
    /// When the certificate of `current` expires.
    expires: Arc<AtomicI64>,
    /// The files, and their state when they were last read. Who holds the lock reads them.
    read: Mutex<Reading>,
}

#[derive(Debug)]
struct Reading {
    files: Arc<Files>,
    stamps: Stamps,
}

/// Certificates that were read and can be taken.
#[derive(Debug)]
pub(crate) struct Prepared {
    reading: Reading,
    loaded: Loaded,
}

/// A connection after its handshake.
#[derive(Debug)]
pub(crate) struct Secured {
    pub stream: TlsStream<TcpStream>,
    /// The names in the client's certificate, if it showed one.
    pub certificate: Option<String>,
    /// Those names and the fingerprint, as an access file writes them.
    pub identities: Vec<String>,
}

/// A certificate that a client has shown in its handshake, and that a CA for clients has signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShownCertificate {
    /// The names in it.
    pub names: String,
    /// Those names and the fingerprint, as an access file writes them.
    pub identities: Vec<String>,
}

impl Certificates {
    /// Reads and checks the files that this configuration names, and changes nothing. Returns the
    /// warnings about them.
    ///
    /// # Errors
    /// The first file that cannot be used.
    pub fn check(config: &Config) -> Result<Vec<String>, TlsError> {
        let Some(files) = Files::of(config) else { return Ok(Vec::new()) };
        Ok(files.load(Clock::new().now().wall)?.warnings)
    }

    /// Reads the files that this configuration names. `None` for a broker without TLS.
    ///
    /// # Errors
    /// The first file that cannot be used.
    pub fn of(config: &Config) -> Result<Option<Self>, TlsError> {
        Self::load(config, Clock::new())
    }

    pub(crate) fn load(config: &Config, clock: Clock) -> Result<Option<Self>, TlsError> {
        let Some(files) = Files::of(config) else { return Ok(None) };
        let (reading, loaded) = read(Arc::new(files), &clock);
        let loaded = loaded?;
        loaded.log("TLS is on", clock.now().wall);
        let (current, _) = watch::channel(loaded.config);
        let (expires, read) = (Arc::new(loaded.expires.into()), Mutex::new(reading));
        Ok(Some(Self(Arc::new(Inner { clock, current, expires, read }))))
    }

    /// Reads all files again: handshakes that begin from now on use the new ones. When one of them
    /// cannot be used, all of the old ones still count, and the log has an error line.
    ///
    /// # Errors
    /// The first file that cannot be used.
    pub async fn reload(&self) -> Result<(), TlsError> {
        let mut read = self.0.read.lock().await;
        let (reading, loaded) = self.read_apart(read.files.clone()).await;
        match loaded {
            Ok(loaded) => {
                self.put(&mut read, Prepared { reading, loaded });
                Ok(())
            }
            Err(error) => {
                // A broken file is read again when it changes, and not every ten seconds.
                *read = reading;
                error!(%error, "the certificates were read again and are not taken: the ones before still count");
                Err(error)
            }
        }
    }

    /// When the certificate expires, now and after it was read again.
    pub(crate) fn expires(&self) -> Arc<AtomicI64> {
        self.0.expires.clone()
    }

    /// Reads the files that this configuration names, and changes nothing. The configuration has
    /// TLS.
    ///
    /// # Errors
    /// The first file that cannot be used.
    pub(crate) async fn prepare(&self, config: &Config) -> Result<Prepared, TlsError> {
        let files = Files::of(config).expect("a broker with TLS does not lose it by a reload");
        let (reading, loaded) = self.read_apart(Arc::new(files)).await;
        Ok(Prepared { reading, loaded: loaded? })
    }

    /// Handshakes that begin from now on use these certificates.
    pub(crate) async fn take(&self, prepared: Prepared) {
        self.put(&mut *self.0.read.lock().await, prepared);
    }

    async fn read_apart(&self, files: Arc<Files>) -> (Reading, Result<Loaded, TlsError>) {
        let clock = self.0.clock.clone();
        let reading = tokio::task::spawn_blocking(move || read(files, &clock));
        reading.await.expect("reading a certificate does not panic")
    }

    fn put(&self, read: &mut Reading, prepared: Prepared) {
        let Prepared { reading, loaded } = prepared;
        *read = reading;
        loaded.log("the certificates were read again", self.0.clock.now().wall);
        self.0.expires.store(loaded.expires, Ordering::Relaxed);
        self.0.current.send_replace(loaded.config);
    }

    /// Reads the files again whenever they have changed, and says when the certificate has expired.
    /// Never returns.
    pub async fn keep_fresh(&self) {
        let mut told = None;
        loop {
            sleep(POLL).await;
            // While somebody reads the files, there is nothing to look for.
            let files = self.0.read.try_lock().ok().map(|read| read.files.clone());
            let Some(files) = files else { continue };
            let stamps = tokio::task::spawn_blocking(move || files.stamps()).await;
            let is_as_read = |stamps| match self.0.read.try_lock() {
                Ok(read) => read.stamps == stamps,
                Err(_) => true,
            };
            if stamps.is_ok_and(|stamps| !is_as_read(stamps)) {
                // The log has the outcome.
                let _ = self.reload().await;
            }
            let expires = self.0.expires.load(Ordering::Relaxed);
            if expires < self.0.clock.now().wall && told.replace(expires) != Some(expires) {
                error!("the certificate has expired: every new client refuses it");
            }
        }
    }

    /// The handshake of one connection that speaks HTTP. `None`: it failed, or took too long.
    pub async fn shake_hands_for_http(
        &self,
        stream: TcpStream,
    ) -> Option<(TlsStream<TcpStream>, Option<ShownCertificate>)> {
        let mut config = ServerConfig::clone(&self.0.current.borrow());
        config.alpn_protocols = ALPN_OF_HTTP.iter().map(|name| name.as_bytes().to_vec()).collect();
        let secured = shake_hands(Arc::new(config), stream).await.ok()?;
        let Secured { stream, certificate, identities } = secured;
        Some((stream, certificate.map(|names| ShownCertificate { names, identities })))
    }

    /// The handshake of one connection. The error says why the client was refused; it is `None`
    /// for a client that went away by itself.
    pub(crate) async fn shake_hands(&self, stream: TcpStream) -> Result<Secured, Option<String>> {
        let config = self.0.current.borrow().clone();
        shake_hands(config, stream).await
    }
}

async fn shake_hands(
    config: Arc<ServerConfig>,
    stream: TcpStream,
) -> Result<Secured, Option<String>> {
    let acceptor = TlsAcceptor::from(config);
    let accepting = acceptor.accept(stream).into_fallible();
    match timeout(TLS_HANDSHAKE, accepting).await {
        Ok(Ok(stream)) => {
            let shown = stream.get_ref().1.peer_certificates();
            let shown = shown.and_then(|chain| chain.first());
            let certificate = shown.map(names::of_client);
            let identities = shown.map(names::identities).unwrap_or_default();
            Ok(Secured { stream, certificate, identities })
        }
        Ok(Err((error, stream))) => {
            let why = refusal::reason(&error);
            if why.is_some() {
                part(stream).await;
            }
            Err(why)
        }
        Err(_) => Err(Some(format!("it did not end its handshake within {TLS_HANDSHAKE:?}"))),
    }
}

/// Reads and checks files.
fn read(files: Arc<Files>, clock: &Clock) -> (Reading, Result<Loaded, TlsError>) {
    let stamps = files.stamps();
    let loaded = files.load(clock.now().wall);
    (Reading { files, stamps }, loaded)
}

impl Loaded {
    /// Logs what was read, and the warnings about it.
    fn log(&self, message: &str, now: Timestamp) {
        let (names, expires) = (&*self.names, names::moment(self.expires));
        info!(names, expires, clients = self.clients, "{message}");
        for warning in &self.warnings {
            warn!("{warning}");
        }
        if self.expires - now < EXPIRES_SOON_MS {
            warn!(expires, "the certificate expires soon: put a new one into its place");
        }
    }
}

/// Closes a connection whose handshake failed. The alert that says why is on its way already.
async fn part(mut stream: TcpStream) {
    let farewell = async {
        stream.shutdown().await?;
        tokio::io::copy(&mut stream.take(FAREWELL_BYTES), &mut tokio::io::sink()).await
    };
    // The client may be gone already.
    let _: Result<io::Result<u64>, _> = timeout(FAREWELL, farewell).await;
}
