//! The files of TLS: reads them, checks that they fit together and have not expired, and makes the
//! configuration of a handshake of them. Nothing here keeps a key but that configuration.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use celeriac_proto::limits::ALPN;
use celeriac_record::Timestamp;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{Error, RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

use super::names;
use crate::config::{Config, TlsClient};
use crate::regular_file;

/// More than any chain of certificates or bundle of CAs has.
const BYTES_MAX: u64 = 1024 * 1024;

/// Why a file of TLS cannot be used, in one sentence that names the file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{sentence}")]
pub struct TlsError {
    key: &'static str,
    sentence: String,
}

impl TlsError {
    /// The setting that names the file.
    pub fn key(&self) -> &'static str {
        self.key
    }
}

/// The files that a configuration names.
#[derive(Debug)]
pub(super) struct Files {
    certificate: PathBuf,
    key: PathBuf,
    client: TlsClient,
    client_ca: Option<PathBuf>,
}

/// Everything that was read.
#[derive(Debug)]
pub(super) struct Loaded {
    pub config: Arc<ServerConfig>,
    /// The names in the certificate.
    pub names: String,
    /// When the first certificate of the chain expires.
    pub expires: Timestamp,
    /// Whether clients show a certificate.
    pub clients: &'static str,
    pub warnings: Vec<String>,
}

/// Which files there were, by what changes when a file is replaced or written.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Stamps(Vec<Option<[i64; 5]>>);

impl Files {
    /// The files of a broker with TLS.
    pub(super) fn of(config: &Config) -> Option<Self> {
        Some(Self {
            certificate: config.tls_certificate.clone()?,
            key: config.tls_key.clone()?,
            client: config.tls_client,
            client_ca: config.tls_client_ca.clone(),
        })
    }

    /// The present state of the files.
    pub(super) fn stamps(&self) -> Stamps {
        let stamp = |file: &PathBuf| {
            let found = std::fs::metadata(file).ok()?;
            let numbers = [found.dev(), found.ino(), found.size()].map(|number| number as i64);
            let [device, inode, size] = numbers;
            Some([device, inode, size, found.mtime(), found.mtime_nsec()])
        };
        Stamps(
            [&self.certificate, &self.key].into_iter().chain(&self.client_ca).map(stamp).collect(),
        )
    }

    /// Reads and checks everything.
    pub(super) fn load(&self, now: Timestamp) -> Result<Loaded, TlsError> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let mut warnings = Vec::new();
        let chain = self.chain()?;
        let facts = self.check_chain(&chain, now, &mut warnings)?;
        let key = self.key(chain, &provider)?;
        warnings.extend(warning(&self.key));
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .expect("the provider has suites of TLS 1.3");
        let builder = match self.client_ca.as_deref().filter(|_| self.client != TlsClient::None) {
            None => builder.with_no_client_auth(),
            Some(file) => {
                let roots = Arc::new(roots(file, now, &mut warnings)?);
                let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider);
                let verifier = match self.client {
                    TlsClient::Required => verifier,
                    _ => verifier.allow_unauthenticated(),
                };
                builder.with_client_cert_verifier(verifier.build().map_err(|error| {
                    wrong("tls_client_ca", format!("{} cannot be used: {error}", shown(file)))
                })?)
            }
        };
        let mut config =
            builder.with_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(key)));
        config.alpn_protocols = vec![ALPN.as_bytes().to_vec()];
        // Connections live long, so a handshake is rare. Without resumption each one checks the
        // client's certificate anew, and nothing can be sent before the handshake has ended.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        config.max_early_data_size = 0;
        let clients = match self.client {
            TlsClient::None => "none",
            TlsClient::Optional => "optional",
            TlsClient::Required => "required",
        };
        let Facts { names, expires } = facts;
        Ok(Loaded { config: Arc::new(config), names, expires, clients, warnings })
    }

    fn chain(&self) -> Result<Vec<CertificateDer<'static>>, TlsError> {
        let file = &self.certificate;
        certificates(file).map_err(|problem| {
            wrong("tls_certificate", format!("the certificate {} {problem}", shown(file)))
        })
    }

    /// Checks the times of all certificates, and that the first one is for a server.
    fn check_chain(
        &self,
        chain: &[CertificateDer<'_>],
        now: Timestamp,
        warnings: &mut Vec<String>,
    ) -> Result<Facts, TlsError> {
        let file = shown(&self.certificate);
        let refuse = |problem: String| Err(wrong("tls_certificate", problem));
        let mut facts = Facts { names: String::new(), expires: Timestamp::MAX };
        for (index, der) in chain.iter().enumerate() {
            let Ok((_, parsed)) = X509Certificate::from_der(der) else {
                return refuse(format!("the certificate {file} is broken inside its PEM"));
            };
            let what = match index {
                0 => format!("the certificate {file}"),
                _ => format!("the certificate of a CA in {file}, number {},", index + 1),
            };
            let [begins, expires] = times(&parsed);
            if expires <= now {
                return refuse(format!("{what} expired at {}", names::moment(expires)));
            }
            if begins > now {
                return refuse(format!("{what} is not valid before {}", names::moment(begins)));
            }
            facts.expires = facts.expires.min(expires);
            if index == 0 {
                facts.names = names::all(&parsed).join(", ");
                let refused = |why| format!("{what} {why}: every client will refuse it");
                warnings.extend(reason_to_refuse(&parsed).map(refused));
            }
        }
        Ok(facts)
    }

    /// Reads the key and checks that it fits the certificate.
    fn key(
        &self,
        chain: Vec<CertificateDer<'static>>,
        provider: &CryptoProvider,
    ) -> Result<CertifiedKey, TlsError> {
        let (key, certificate) = (shown(&self.key), shown(&self.certificate));
        let refuse = |problem: &str| wrong("tls_key", format!("the key {key} {problem}"));
        let text = regular_file::read(&self.key, BYTES_MAX).map_err(|problem| refuse(&problem))?;
        let der = PrivateKeyDer::from_pem_slice(&text).map_err(|_| {
            match text.windows(ENCRYPTED.len()).any(|part| part == ENCRYPTED) {
                true => refuse(
                    "is encrypted, and the broker has no passphrase: `openssl pkey` decrypts it",
                ),
                false => refuse("has no private key in PEM (-----BEGIN PRIVATE KEY-----)"),
            }
        })?;
        match CertifiedKey::from_der(chain, der, provider) {
            Ok(key) => Ok(key),
            Err(Error::InconsistentKeys(_)) => {
                Err(refuse(&format!("does not fit the certificate {certificate}")))
            }
            Err(Error::InvalidCertificate(_)) => Err(wrong(
                "tls_certificate",
                format!(
                    "the certificate {certificate} cannot be used: it is not of X.509 version 3"
                ),
            )),
            Err(error) => Err(refuse(&format!("cannot be used: {error}"))),
        }
    }
}

/// The first line of a key that is protected by a passphrase has this word.
const ENCRYPTED: &[u8] = b"ENCRYPTED";

/// What a chain says.
struct Facts {
    names: String,
    expires: Timestamp,
}

/// The CAs whose certificates of clients are accepted. One that has expired is left out.
fn roots(
    file: &Path,
    now: Timestamp,
    warnings: &mut Vec<String>,
) -> Result<RootCertStore, TlsError> {
    let refuse =
        |problem: &str| wrong("tls_client_ca", format!("the client CA {} {problem}", shown(file)));
    let mut roots = RootCertStore::empty();
    let mut expired = None;
    for der in certificates(file).map_err(|problem| refuse(&problem))? {
        let Ok((_, parsed)) = X509Certificate::from_der(&der) else {
            return Err(refuse("is broken inside its PEM"));
        };
        if !parsed.is_ca() {
            return Err(refuse("has a certificate that is not of a CA"));
        }
        let [_, expires] = times(&parsed);
        if expires <= now {
            expired = Some(expires);
            continue;
        }
        roots.add(der).map_err(|error| refuse(&format!("cannot be used: {error}")))?;
    }
    match expired.map(names::moment) {
        Some(at) if roots.is_empty() => Err(refuse(&format!("expired at {at}"))),
        Some(at) => {
            let file = shown(file);
            warnings.push(format!("a client CA in {file} expired at {at} and is left out"));
            Ok(roots)
        }
        None => Ok(roots),
    }
}

/// Why every client would refuse a broker with this certificate.
fn reason_to_refuse(certificate: &X509Certificate<'_>) -> Option<&'static str> {
    let purposes = certificate.extended_key_usage().ok().flatten();
    if names::all(certificate).is_empty() {
        return Some("names no host (it has no subject alternative name)");
    }
    if purposes.is_some_and(|purposes| !purposes.value.server_auth && !purposes.value.any) {
        return Some("is not for a server (by its extended key usage)");
    }
    certificate.is_ca().then_some("is that of a CA")
}

/// The first and the last moment of a certificate.
fn times(certificate: &X509Certificate<'_>) -> [Timestamp; 2] {
    let validity = certificate.validity();
    [validity.not_before, validity.not_after].map(|time| time.timestamp().saturating_mul(1_000))
}

/// All certificates of a file, or what is wrong with it.
fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let text = regular_file::read(file, BYTES_MAX)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        Ok(_) => Err("has no certificate in PEM (-----BEGIN CERTIFICATE-----)".to_owned()),
        Err(_) => Err("is broken: its PEM cannot be read".to_owned()),
    }
}

/// The warning for a key that every user of this machine can read or change.
fn warning(file: &Path) -> Option<String> {
    const OTHERS: u32 = 0o006;
    let mode = std::fs::metadata(file).ok()?.permissions().mode();
    let file = shown(file);
    (mode & OTHERS != 0).then(|| {
        format!(
            "every user of this machine has access to the key {file} (mode {:04o}): \
             run `chmod 600 {file}`",
            mode & 0o7777
        )
    })
}

fn shown(file: &Path) -> String {
    file.display().to_string()
}

fn wrong(key: &'static str, sentence: String) -> TlsError {
    TlsError { key, sentence }
}
