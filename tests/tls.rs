//! TLS from outside: O13 to O19 of `deploy/RULES.md`. Which files the broker takes is tested in
//! `broker/src/tls/tests.rs`, and the sentences of `celeriac serve` in the command line's tests.

mod bad_peers;
mod clients;
mod handshakes;
mod rotation;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use celeriac_client::{Client, ClientBuilder};
use celeriac_tests::authority::{Authority, Wish, write};
use celeriac_tests::{BrokerProcess, Setup, within};
use rustls::crypto::aws_lc_rs;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// The addresses on which brokers under test listen.
const NAMES: [&str; 3] = ["localhost", "127.0.0.1", "127.0.0.2"];

/// A folder with a CA, the certificate of a broker, and one of a client.
struct Pki {
    folder: TempDir,
    ca: Authority,
}

impl Pki {
    fn new() -> Self {
        let pki = Self {
            folder: tempfile::tempdir().expect("a temporary folder can be made"),
            ca: Authority::new("the CA"),
        };
        write(&pki.file("ca.pem"), &pki.ca.pem());
        pki.sign("broker", &Wish::server(&NAMES));
        pki.sign("client", &Wish::client("worker-7.example"));
        pki
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Signs a certificate and writes it with its key, in place of one of the same name.
    fn sign(&self, name: &str, wish: &Wish) {
        self.ca.sign(wish).write(self.folder.path(), name);
    }

    /// The settings of a broker with TLS.
    fn setup(&self) -> Setup {
        let line = |key: &str, name: &str| format!("{key} = {:?}", self.file(name));
        Setup::new().set(line("tls_certificate", "broker.pem")).set(line("tls_key", "broker.key"))
    }

    /// The settings of a broker that asks clients for a certificate.
    fn setup_with_clients(&self, tls_client: &str) -> Setup {
        let ca = format!("tls_client_ca = {:?}", self.file("ca.pem"));
        self.setup().set(format!("tls_client = {tls_client:?}")).set(ca)
    }

    /// A client that trusts this CA, and shows no certificate.
    fn client(&self, broker: &BrokerProcess) -> ClientBuilder {
        Client::builder(url(broker)).ca_file(self.file("ca.pem"))
    }

    /// A client that trusts this CA, and shows the certificate of this name.
    fn client_with(&self, name: &str, broker: &BrokerProcess) -> ClientBuilder {
        let [certificate, key] = ["pem", "key"].map(|end| self.file(&format!("{name}.{end}")));
        self.client(broker).certificate_files(certificate, key)
    }

    /// The configuration of a handshake without a client, which asks for these protocols.
    fn handshake(&self, alpn: &[&str]) -> ClientConfig {
        self.handshake_of(None, alpn)
    }

    /// As `handshake`, with the certificate of this name.
    fn handshake_of(&self, name: Option<&str>, alpn: &[&str]) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        for root in certificates(self.file("ca.pem")) {
            roots.add(root).expect("the CA of the test is one");
        }
        let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .expect("the provider has it")
            .with_root_certificates(roots);
        let mut config = match name {
            None => builder.with_no_client_auth(),
            Some(name) => {
                let key = PrivateKeyDer::from_pem_file(self.file(&format!("{name}.key")));
                let chain = certificates(self.file(&format!("{name}.pem")));
                let key = key.expect("it was written");
                builder.with_client_auth_cert(chain, key).expect("they fit together")
            }
        };
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        config
    }
}

fn certificates(file: PathBuf) -> Vec<CertificateDer<'static>> {
    let found = CertificateDer::pem_file_iter(file).expect("it was written");
    found.map(|certificate| certificate.expect("it is PEM")).collect()
}

fn url(broker: &BrokerProcess) -> String {
    format!("celeriacs://{}", broker.address())
}

/// Makes a handshake without the client crate.
async fn shake_hands(
    address: SocketAddr,
    config: ClientConfig,
) -> std::io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(address).await?;
    let connector = TlsConnector::from(Arc::new(config));
    within("the handshake", connector.connect(ServerName::from(address.ip()), stream)).await
}

/// The error of TLS inside an error of the stream.
fn error_of_tls(error: &std::io::Error) -> rustls::Error {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    inner.unwrap_or_else(|| panic!("the stream broke for another reason: {error}")).clone()
}

/// A client that is connected and answered.
async fn greeted(builder: ClientBuilder) -> Client {
    let client = within("a connection", builder.connect()).await;
    let client = client.unwrap_or_else(|error| panic!("it is not let in: {error}"));
    client.queues().await.expect("the broker answers");
    client
}

/// The error of a client that is not let in.
async fn refused(builder: ClientBuilder) -> celeriac_client::Error {
    match within("a refusal", builder.connect()).await {
        Ok(_) => panic!("the broker lets it in"),
        Err(error) => error,
    }
}
