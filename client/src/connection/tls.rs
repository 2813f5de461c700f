//! TLS of a connection: reads the files anew for each attempt to connect, makes the handshake, and
//! says in a sentence why there is none. There is no way to connect without a check of the broker's
//! certificate.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;

use celeriac_proto::limits::ALPN;
use rustls::client::Resumption;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::{AlertDescription, CertificateError, ClientConfig, InvalidMessage, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;

use super::handshake::Failure;
use super::options::{CA_FILE, CERTIFICATE_FILE, ConnectionOptions, KEY_FILE, TlsFiles};
use super::stream::{self, Halves, Reader, Writer};
use crate::error::TlsReason;

/// More than any bundle of CAs has. The bound ends the reading of a device in place of a file.
const FILE_BYTES_MAX: u64 = 8 * 1024 * 1024;

/// Everything for the handshakes of one attempt.
pub(super) struct Tls {
    connector: TlsConnector,
    name: ServerName<'static>,
    files: TlsFiles,
}

impl Tls {
    /// Reads the files. `None` for a connection without TLS.
    pub(super) async fn prepare(options: &ConnectionOptions) -> Result<Option<Self>, Failure> {
        let Some(files) = options.tls.clone() else { return Ok(None) };
        let address = options.address.clone();
        let reading = tokio::task::spawn_blocking(move || Self::read(files, &address));
        let tls = reading.await.map_err(|_| unusable("the files of TLS cannot be read"))?;
        tls.map(Some)
    }

    fn read(files: TlsFiles, address: &str) -> Result<Self, Failure> {
        let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
        let host = host.trim_start_matches('[').trim_end_matches(']');
        // The host is not named here: it may be a token whose host was forgotten.
        let name = ServerName::try_from(host.to_owned()).map_err(|_| {
            unusable("the host of the address is no name that can stand in a certificate")
        })?;
        let provider = Arc::new(aws_lc_rs::default_provider());
        let mut config = config(&files, provider)?;
        config.alpn_protocols = vec![ALPN.as_bytes().to_vec()];
        // A reconnect is rare, and every handshake checks both certificates.
        config.resumption = Resumption::disabled();
        Ok(Self { connector: TlsConnector::from(Arc::new(config)), name, files })
    }

    /// Makes the handshake on an open stream.
    pub(super) async fn secure<S>(&self, stream: S) -> Result<(Reader, Writer), Failure>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let stream = self.connector.connect(self.name.clone(), stream).await?;
        let (read, write) = tokio::io::split(stream);
        Ok(stream::of_other(Halves { read: Box::new(read), write: Box::new(write) }))
    }

    /// Why a stream broke, if TLS is the reason.
    pub(super) fn reason(&self, error: &io::Error) -> Option<(TlsReason, String)> {
        let error = error.get_ref()?.downcast_ref::<rustls::Error>()?;
        Some(match error {
            rustls::Error::InvalidCertificate(why) => {
                (TlsReason::BrokerCertificate, self.distrust(why))
            }
            rustls::Error::AlertReceived(alert) => self.alert(*alert),
            rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType) => (
                TlsReason::Protocol,
                "the program that answers does not speak TLS; the address of a broker without \
                 TLS begins with celeriac://"
                    .to_owned(),
            ),
            other => (TlsReason::Protocol, format!("the handshake of TLS failed: {other}")),
        })
    }

    /// Why this client does not trust the broker's certificate.
    fn distrust(&self, error: &CertificateError) -> String {
        match error {
            CertificateError::UnknownIssuer => match &self.files.ca {
                Some(file) => format!(
                    "the CA of the broker's certificate is not in {}: \
                     put it there, or name another file in {CA_FILE}",
                    file.display()
                ),
                None => format!(
                    "this system does not know the CA of the broker's certificate: \
                     name a file with its certificate in {CA_FILE}"
                ),
            },
            CertificateError::NotValidForNameContext { presented, .. } => {
                let presented = match presented.is_empty() {
                    true => "names no host".to_owned(),
                    false => format!("is for {}", presented.join(", ").replace(['"', '\\'], "")),
                };
                format!(
                    "the broker's certificate {presented}, and not for {}: write a name in the \
                     address that is in the certificate, or give the broker another certificate",
                    self.name.to_str()
                )
            }
            CertificateError::ExpiredContext { time, not_after } => format!(
                "the broker's certificate expired {} ago: give the broker a new one",
                span(*not_after, *time)
            ),
            CertificateError::NotValidYetContext { time, not_before } => format!(
                "the broker's certificate is valid only in {}: compare the clocks",
                span(*time, *not_before)
            ),
            CertificateError::InvalidPurposeContext { .. } => {
                "the broker's certificate is not for a server (by its extended key usage)"
                    .to_owned()
            }
            // rustls has no variant of its own for it.
            other if other.to_string().contains("CaUsedAsEndEntity") => {
                "the broker's certificate is that of a CA: give the broker one that this CA has \
                 signed"
                    .to_owned()
            }
            other => format!("the broker's certificate is not accepted: {other}"),
        }
    }

    /// What the other side said when it ended the handshake.
    fn alert(&self, alert: AlertDescription) -> (TlsReason, String) {
        use AlertDescription as Alert;
        let own = &self.files.certificate;
        match (alert, own) {
            (Alert::CertificateRequired, _) => (
                TlsReason::ClientCertificate,
                format!(
                    "the broker asks for a certificate of this client: \
                     name one in {CERTIFICATE_FILE}, and its key in {KEY_FILE}"
                ),
            ),
            (Alert::NoApplicationProtocol, _) => (
                TlsReason::Protocol,
                "the program that answers is no broker of Celeriac, or one of another version"
                    .to_owned(),
            ),
            (Alert::ProtocolVersion, _) => (
                TlsReason::Protocol,
                "the program that answers does not speak TLS 1.3; the address of a broker without \
                 TLS begins with celeriac://"
                    .to_owned(),
            ),
            (alert, Some(file)) => (
                TlsReason::ClientCertificate,
                format!(
                    "the broker does not accept the certificate {}: {}",
                    file.display(),
                    in_words(alert)
                ),
            ),
            (alert, None) => {
                (TlsReason::Protocol, format!("the broker ended the handshake of TLS: {alert:?}"))
            }
        }
    }
}

/// What the broker found wrong with this client's certificate.
fn in_words(alert: AlertDescription) -> String {
    match alert {
        AlertDescription::UnknownCA => "no CA of its clients has signed it".to_owned(),
        AlertDescription::CertificateExpired => "it has expired, or is not valid yet".to_owned(),
        AlertDescription::UnsupportedCertificate => "it is not for a client".to_owned(),
        other => format!("{other:?}"),
    }
}

fn config(files: &TlsFiles, provider: Arc<CryptoProvider>) -> Result<ClientConfig, Failure> {
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("the provider has suites of TLS 1.3")
        .with_root_certificates(roots(files.ca.as_deref())?);
    let (certificate, key) = match (&files.certificate, &files.key) {
        (None, None) => return Ok(builder.with_no_client_auth()),
        (Some(certificate), Some(key)) => (certificate, key),
        (Some(_), None) => return Err(alone(CERTIFICATE_FILE, KEY_FILE)),
        (None, Some(_)) => return Err(alone(KEY_FILE, CERTIFICATE_FILE)),
    };
    let chain = certificates("certificate", certificate)?;
    let der = PrivateKeyDer::from_pem_slice(&read("key", key)?)
        .map_err(|_| unusable(format!("the key {} has no private key in PEM", key.display())))?;
    builder.with_client_auth_cert(chain, der).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => unusable(format!(
            "the key {} does not fit the certificate {}",
            key.display(),
            certificate.display()
        )),
        error => unusable(format!("the certificate {}: {error}", certificate.display())),
    })
}

/// The CAs of a file, or those that the system trusts.
fn roots(file: Option<&Path>) -> Result<RootCertStore, Failure> {
    let mut roots = RootCertStore::empty();
    match file {
        Some(file) => {
            for certificate in certificates("CA file", file)? {
                roots.add(certificate).map_err(|error| {
                    unusable(format!("the CA file {}: {error}", file.display()))
                })?;
            }
        }
        None => {
            let found = rustls_native_certs::load_native_certs();
            // Among the many of a system, one that is broken does not count.
            roots.add_parsable_certificates(found.certs);
            if roots.is_empty() {
                return Err(unusable(format!(
                    "this system has no CA that it trusts: name a file with one in {CA_FILE}"
                )));
            }
        }
    }
    Ok(roots)
}

fn certificates(what: &str, file: &Path) -> Result<Vec<CertificateDer<'static>>, Failure> {
    let text = read(what, file)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    found
        .ok()
        .filter(|found| !found.is_empty())
        .ok_or_else(|| unusable(format!("the {what} {} has no certificate in PEM", file.display())))
}

fn read(what: &str, file: &Path) -> Result<Vec<u8>, Failure> {
    let unread = |error: io::Error| {
        unusable(format!("the {what} {} cannot be read: {error}", file.display()))
    };
    let mut text = Vec::new();
    let opened = File::open(file).map_err(unread)?;
    opened.take(FILE_BYTES_MAX).read_to_end(&mut text).map_err(unread)?;
    Ok(text)
}

/// A time between two moments, in its largest unit.
fn span(from: UnixTime, to: UnixTime) -> String {
    let seconds = to.as_secs().saturating_sub(from.as_secs());
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} days", seconds / 86_400),
    }
}

fn alone(name: &str, other: &str) -> Failure {
    unusable(format!("{name} is given and {other} is not: give both"))
}

fn unusable(message: impl Into<String>) -> Failure {
    Failure::Tls { reason: TlsReason::Files, message: message.into() }
}
