//! Which files the broker takes and which it refuses, with the sentence about each, and how it
//! takes new ones. `tests/tls.rs` has the handshakes.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use celeriac_record::Timestamp;
use tempfile::TempDir;

use super::*;
use crate::config::TlsClient;
use authority::{Authority, Wish, write};

#[path = "../../../tests/harness/authority.rs"]
#[allow(dead_code, reason = "tests of several crates share the file")]
mod authority;

const YEAR_MS: Timestamp = 365 * 24 * 3_600 * 1_000;
/// A moment in 2026.
const NOW: Timestamp = 56 * YEAR_MS + 30 * 24 * 3_600 * 1_000;

/// A folder with the certificate and the key of a broker, and a configuration that names them.
struct Place {
    folder: TempDir,
    config: Config,
    ca: Authority,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let ca = Authority::new("the CA");
        let [certificate, key] =
            ca.sign(&Wish::server(&["broker.example", "127.0.0.1"])).write(folder.path(), "broker");
        let config = Config {
            tls_certificate: Some(certificate),
            tls_key: Some(key),
            ..Config::new("unused")
        };
        Self { folder, config, ca }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Puts another certificate and its key into the place of the first ones.
    fn replace(&self, wish: &Wish) {
        self.ca.sign(wish).write(self.folder.path(), "broker");
    }

    fn asks_clients(&mut self, client: TlsClient, ca: &str) {
        self.config.tls_client = client;
        self.config.tls_client_ca = Some(write(&self.path("clients.pem"), ca));
    }

    fn load(&self) -> Result<Loaded, TlsError> {
        self.config.check().expect("the settings fit together");
        Files::of(&self.config).expect("it is a broker with TLS").load(NOW)
    }

    /// The setting and the sentence of a refusal; the folder is written as DIR.
    fn refused(&self) -> (&'static str, String) {
        match self.load() {
            Ok(_) => panic!("these files are taken"),
            Err(error) => (error.key(), self.without_folder(&error.to_string())),
        }
    }

    fn warnings(&self) -> Vec<String> {
        let loaded = self.load().unwrap_or_else(|error| panic!("{error}"));
        loaded.warnings.iter().map(|warning| self.without_folder(warning)).collect()
    }

    fn without_folder(&self, text: &str) -> String {
        text.replace(&self.folder.path().display().to_string(), "DIR")
    }
}

fn said(key: &'static str, sentence: &str) -> (&'static str, String) {
    (key, sentence.to_owned())
}

#[test]
fn o13_a_certificate_that_fits_its_key_is_taken() {
    let place = Place::new();
    let loaded = place.load().unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(loaded.names, "broker.example, 127.0.0.1");
    assert_eq!(names::moment(loaded.expires), "3000-01-01T00:00:00Z");
    assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
    assert_eq!(loaded.config.alpn_protocols, [b"celeriac/1"]);
    assert_eq!(loaded.config.max_early_data_size, 0);
}

#[test]
fn o13_a_file_that_is_no_certificate_or_no_key_is_refused_with_its_name() {
    let place = Place::new();
    let (certificate, key) = (place.path("broker.pem"), place.path("broker.key"));
    let key_text = std::fs::read_to_string(&key).expect("it was written");
    write(&certificate, "no certificate\n");
    let none =
        "the certificate DIR/broker.pem has no certificate in PEM (-----BEGIN CERTIFICATE-----)";
    assert_eq!(place.refused(), said("tls_certificate", none));
    write(&certificate, "-----BEGIN CERTIFICATE-----\n????\n-----END CERTIFICATE-----\n");
    let broken = "the certificate DIR/broker.pem is broken: its PEM cannot be read";
    assert_eq!(place.refused(), said("tls_certificate", broken));
    write(&certificate, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    let inside = "the certificate DIR/broker.pem is broken inside its PEM";
    assert_eq!(place.refused(), said("tls_certificate", inside));
    std::fs::remove_file(&certificate).expect("it is there");
    let gone =
        "the certificate DIR/broker.pem cannot be read: No such file or directory (os error 2)";
    assert_eq!(place.refused(), said("tls_certificate", gone));
    std::fs::create_dir(&certificate).expect("the folder is writable");
    let folder = "the certificate DIR/broker.pem is not a regular file";
    assert_eq!(place.refused(), said("tls_certificate", folder));

    std::fs::remove_dir(&certificate).expect("it is there");
    place.replace(&Wish::server(&["broker.example"]));
    write(&key, "nothing");
    let none = "the key DIR/broker.key has no private key in PEM (-----BEGIN PRIVATE KEY-----)";
    assert_eq!(place.refused(), said("tls_key", none));
    write(&key, &key_text.replace("PRIVATE", "ENCRYPTED PRIVATE"));
    let encrypted = "the key DIR/broker.key is encrypted, and the broker has no passphrase: \
                     `openssl pkey` decrypts it";
    assert_eq!(place.refused(), said("tls_key", encrypted));
}

#[test]
fn o13_a_key_that_does_not_fit_its_certificate_is_refused() {
    let place = Place::new();
    let other = place.ca.sign(&Wish::server(&["broker.example"]));
    write(&place.path("broker.key"), &other.key);
    let sentence = "the key DIR/broker.key does not fit the certificate DIR/broker.pem";
    assert_eq!(place.refused(), said("tls_key", sentence));
}

#[test]
fn o16_a_certificate_outside_its_time_is_refused() {
    let place = Place::new();
    place.replace(&Wish { years: [2001, 2002], ..Wish::server(&["broker.example"]) });
    let expired = "the certificate DIR/broker.pem expired at 2002-01-01T00:00:00Z";
    assert_eq!(place.refused(), said("tls_certificate", expired));
    place.replace(&Wish { years: [2900, 3000], ..Wish::server(&["broker.example"]) });
    let early = "the certificate DIR/broker.pem is not valid before 2900-01-01T00:00:00Z";
    assert_eq!(place.refused(), said("tls_certificate", early));
    // A CA between the certificate and the root stands behind it.
    let signed = place.ca.sign(&Wish::server(&["broker.example"]));
    signed.write(place.folder.path(), "broker");
    let old = Authority::valid_in("an old CA", [2001, 2002]).pem();
    write(&place.path("broker.pem"), &format!("{}{old}", signed.certificate));
    let chain = "the certificate of a CA in DIR/broker.pem, number 2, expired at \
                 2002-01-01T00:00:00Z";
    assert_eq!(place.refused(), said("tls_certificate", chain));
}

#[test]
fn o13_a_key_that_every_user_can_read_has_a_warning_that_names_the_mode() {
    let place = Place::new();
    let mode = |mode| {
        let permissions = std::fs::Permissions::from_mode(mode);
        std::fs::set_permissions(place.path("broker.key"), permissions).expect("it is our file");
    };
    mode(0o644);
    let warning = "every user of this machine has access to the key DIR/broker.key (mode 0644): \
                   run `chmod 600 DIR/broker.key`";
    assert_eq!(place.warnings(), [warning]);
    mode(0o640);
    assert!(place.warnings().is_empty(), "a group is a choice of the operator");
}

#[test]
fn o13_a_certificate_that_every_client_would_refuse_has_a_warning() {
    let place = Place::new();
    place.replace(&Wish::server(&[]));
    let nameless = "the certificate DIR/broker.pem names no host (it has no subject alternative \
                    name): every client will refuse it";
    assert_eq!(place.warnings(), [nameless]);
    place.replace(&Wish::client("broker.example"));
    let purpose = "the certificate DIR/broker.pem is not for a server (by its extended key usage): \
                   every client will refuse it";
    assert_eq!(place.warnings(), [purpose]);
    place.replace(&Wish { is_ca: true, ..Wish::server(&["broker.example"]) });
    let ca = "the certificate DIR/broker.pem is that of a CA: every client will refuse it";
    assert_eq!(place.warnings(), [ca]);
}

#[test]
fn o14_a_client_ca_is_one_and_has_not_expired() {
    let mut place = Place::new();
    let signed = place.ca.sign(&Wish::client("worker"));
    place.asks_clients(TlsClient::Required, &signed.certificate);
    let no_ca = "the client CA DIR/clients.pem has a certificate that is not of a CA";
    assert_eq!(place.refused(), said("tls_client_ca", no_ca));
    let old = Authority::valid_in("an old CA", [2001, 2002]).pem();
    place.asks_clients(TlsClient::Optional, &old);
    let expired = "the client CA DIR/clients.pem expired at 2002-01-01T00:00:00Z";
    assert_eq!(place.refused(), said("tls_client_ca", expired));
    place.asks_clients(TlsClient::Optional, &format!("{old}{}", place.ca.pem()));
    let left_out = "a client CA in DIR/clients.pem expired at 2002-01-01T00:00:00Z and is left out";
    assert_eq!(place.warnings(), [left_out]);
    place.asks_clients(TlsClient::Required, "");
    let none = "the client CA DIR/clients.pem has no certificate in PEM \
                (-----BEGIN CERTIFICATE-----)";
    assert_eq!(place.refused(), said("tls_client_ca", none));
}

/// The configuration that the next handshake uses.
fn in_use(certificates: &Certificates) -> Arc<ServerConfig> {
    certificates.0.current.borrow().clone()
}

#[tokio::test]
async fn o16_new_files_are_taken_all_or_none() {
    let place = Place::new();
    let certificates = Certificates::load(&place.config, Clock::new())
        .expect("the files are good")
        .expect("it is a broker with TLS");
    let first = in_use(&certificates);
    place.replace(&Wish::server(&["other.example"]));
    certificates.reload().await.expect("the new files are good");
    let second = in_use(&certificates);
    assert!(!Arc::ptr_eq(&first, &second), "the new ones are used");
    for wish in [Wish::server(&["a.example"]), Wish::server(&["b.example"])] {
        // The key of one pair beside the certificate of another one.
        write(&place.path("broker.key"), &place.ca.sign(&wish).key);
        let error = certificates.reload().await.expect_err("the files do not fit together");
        assert_eq!(error.key(), "tls_key");
        assert!(Arc::ptr_eq(&second, &in_use(&certificates)), "the ones before still count");
    }
    place.replace(&Wish { years: [2001, 2002], ..Wish::server(&["broker.example"]) });
    certificates.reload().await.expect_err("the certificate has expired");
    assert!(Arc::ptr_eq(&second, &in_use(&certificates)));
}

#[tokio::test(start_paused = true)]
async fn o16_files_that_have_changed_are_read_again_within_ten_seconds_and_broken_ones_once() {
    let place = Place::new();
    let certificates = Certificates::load(&place.config, Clock::new())
        .expect("the files are good")
        .expect("it is a broker with TLS");
    let watching = certificates.clone();
    let watching = tokio::spawn(async move { watching.keep_fresh().await });
    let first = in_use(&certificates);
    // The time of this test jumps ahead whenever everything waits.
    sleep(POLL * 5).await;
    assert!(Arc::ptr_eq(&first, &in_use(&certificates)), "nothing has changed");
    write(&place.path("broker.key"), "broken");
    sleep(POLL * 2).await;
    assert!(Arc::ptr_eq(&first, &in_use(&certificates)), "a broken file is not taken");
    let read = certificates.0.read.lock().await;
    assert!(read.stamps == read.files.stamps(), "a broken file is read once");
    drop(read);
    place.replace(&Wish::server(&["other.example"]));
    sleep(POLL * 2).await;
    assert!(!Arc::ptr_eq(&first, &in_use(&certificates)), "the new files are used");
    watching.abort();
}
