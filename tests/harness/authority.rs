//! A CA for tests, and the certificates that it signs. Tests of several crates use this file.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose, SanType, date_time_ymd,
};

/// A CA with a key of its own.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key, in PEM.
pub struct Signed {
    /// The certificate.
    pub certificate: String,
    /// Its private key.
    pub key: String,
}

/// What a certificate is for, and in which years it is valid.
pub struct Wish {
    /// Hosts, addresses, and URIs.
    pub names: Vec<String>,
    /// Whether it is for a server, and not for a client.
    pub is_server: bool,
    /// It is valid from the first day of the first of these years until that of the second one.
    pub years: [i32; 2],
    /// Whether it says that it is of a CA.
    pub is_ca: bool,
}

impl Wish {
    /// The certificate of a broker with these names.
    pub fn server(names: &[&str]) -> Self {
        let names = names.iter().map(|name| (*name).to_owned()).collect();
        Self { names, is_server: true, years: [2020, 3000], is_ca: false }
    }

    /// The certificate of a client with this name.
    pub fn client(name: &str) -> Self {
        Self { is_server: false, ..Self::server(&[name]) }
    }
}

impl Authority {
    /// A new CA of this name.
    ///
    /// # Panics
    /// When the system has no randomness.
    pub fn new(name: &str) -> Self {
        Self::valid_in(name, [2020, 3000])
    }

    /// A CA that is valid in these years.
    ///
    /// # Panics
    /// As [`Authority::new`].
    pub fn valid_in(name: &str, years: [i32; 2]) -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("no names are good names");
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        [params.not_before, params.not_after] = years.map(|year| date_time_ymd(year, 1, 1));
        let key = KeyPair::generate().expect("the system has randomness");
        Self(CertifiedIssuer::self_signed(params, key).expect("a CA can sign itself"))
    }

    /// The certificate of the CA, in PEM.
    pub fn pem(&self) -> String {
        self.0.pem()
    }

    /// Signs a certificate with a new key.
    ///
    /// # Panics
    /// When a name cannot stand in a certificate.
    pub fn sign(&self, wish: &Wish) -> Signed {
        let (uris, hosts): (Vec<_>, Vec<_>) =
            wish.names.iter().cloned().partition(|name| name.contains("://"));
        let mut params = CertificateParams::new(hosts).expect("the names of a test are good");
        let uri = |name: String| SanType::URI(name.try_into().expect("a URI is ASCII"));
        params.subject_alt_names.extend(uris.into_iter().map(uri));
        params.extended_key_usages = vec![match wish.is_server {
            true => ExtendedKeyUsagePurpose::ServerAuth,
            false => ExtendedKeyUsagePurpose::ClientAuth,
        }];
        [params.not_before, params.not_after] = wish.years.map(|year| date_time_ymd(year, 1, 1));
        if wish.is_ca {
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        }
        let key = KeyPair::generate().expect("the system has randomness");
        let certificate = params.signed_by(&key, &self.0).expect("a CA signs");
        Signed { certificate: certificate.pem(), key: key.serialize_pem() }
    }
}

impl Signed {
    /// Writes `NAME.pem` and `NAME.key` into a folder, and returns both paths.
    ///
    /// # Panics
    /// When the folder is not writable.
    pub fn write(&self, folder: &Path, name: &str) -> [PathBuf; 2] {
        [("pem", &self.certificate), ("key", &self.key)]
            .map(|(ending, text)| write(&folder.join(format!("{name}.{ending}")), text))
    }
}

/// Writes a file that only its owner can read. It replaces an older one in one step, as programs
/// that renew certificates do.
///
/// # Panics
/// When the folder is not writable.
pub fn write(file: &Path, text: &str) -> PathBuf {
    let new = file.with_extension("new");
    fs::write(&new, text).expect("the folder is writable");
    fs::set_permissions(&new, fs::Permissions::from_mode(0o600)).expect("it is our own file");
    fs::rename(&new, file).expect("the folder is writable");
    file.to_owned()
}
