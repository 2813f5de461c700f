//! The client and worker crates with `celeriacs://`: they work, and each mistake has its sentence.

use std::sync::Arc;
use std::time::Duration;

use celeriac_client::{Client, Error, Submission, Task, TlsReason};
use celeriac_tests::authority::{Authority, Wish, write};
use celeriac_tests::{BrokerProcess, InProcessWorker, Setup, within};
use celeriac_worker::{Context, RunError, TaskFailure, Worker};
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};

use super::{Pki, greeted, refused, url};

const ECHO: Task<(String,), String> = Task::new("echo");
const PATIENCE: Duration = Duration::from_secs(20);

fn said(error: Error) -> (TlsReason, String) {
    match error {
        Error::Tls { reason, message, .. } => (reason, message),
        other => panic!("it has another reason than TLS: {other}"),
    }
}

/// A worker that trusts this CA, and shows the certificate of its client.
fn worker(pki: &Pki, broker: &BrokerProcess) -> celeriac_worker::WorkerBuilder {
    Worker::builder(url(broker))
        .ca_file(pki.file("ca.pem"))
        .certificate_files(pki.file("client.pem"), pki.file("client.key"))
        .register_fn(
            "echo",
            |_: Context, (text,): (String,)| async move { Ok::<_, TaskFailure>(text) },
        )
}

#[tokio::test]
async fn o17_tasks_run_over_tls_with_certificates_on_both_sides() {
    let pki = Pki::new();
    // No heartbeat takes along what an answer or a request leaves behind.
    let setup = pki.setup_with_clients("required");
    let setup = setup.set("heartbeat = \"30m\"").set("lease = \"1h\"");
    let broker = setup.set("result_max = \"8MiB\"").start().await;
    let working = InProcessWorker::start(worker(&pki, &broker));
    let client = greeted(pki.client_with("client", &broker)).await;
    // Small ones, many at once, and some that are longer than every buffer on the way.
    let small = (0..500).map(|number| Submission::new("echo").args((number.to_string(),)));
    let submitted = client.submit_many(small).await.expect("they are taken");
    for outcome in submitted {
        outcome.expect("each of them is taken");
    }
    for kib in [1, 100, 3_000, 7_000] {
        let text = "x".repeat(kib * 1024);
        let handle = client.delay(&ECHO, (text.clone(),)).await.expect("it is taken");
        assert!(handle.get(PATIENCE).await.expect("it ends") == text, "{kib} KiB come back");
    }
    client.close().await;
    working.stop().await;
}

#[tokio::test]
async fn o17_the_broker_certificate_is_checked_and_each_fault_has_its_sentence() {
    let pki = Pki::new();
    let broker = pki.setup().start().await;
    // Another CA.
    write(&pki.file("other.pem"), &Authority::new("another CA").pem());
    let stranger = Client::builder(url(&broker)).ca_file(pki.file("other.pem"));
    let (reason, message) = said(refused(stranger).await);
    assert_eq!(reason, TlsReason::BrokerCertificate);
    let other = pki.file("other.pem").display().to_string();
    assert_eq!(
        message,
        format!(
            "the CA of the broker's certificate is not in {other}: \
             put it there, or name another file in CELERIAC_CA_FILE"
        )
    );
    // Another name.
    pki.sign("broker", &Wish::server(&["broker.example"]));
    let broker = pki.setup().start().await;
    let (reason, message) = said(refused(pki.client(&broker)).await);
    assert_eq!(reason, TlsReason::BrokerCertificate);
    assert!(
        message.starts_with(
            "the broker's certificate is for DnsName(broker.example), and not for 127.0.0."
        ) || message
            .starts_with("the broker's certificate is for broker.example, and not for 127."),
        "{message}"
    );
    // The certificate of a CA.
    pki.sign("broker", &Wish { is_ca: true, ..Wish::server(&super::NAMES) });
    let broker = pki.setup().start().await;
    let (_, message) = said(refused(pki.client(&broker)).await);
    assert!(message.contains("is that of a CA"), "{message}");
}

#[tokio::test]
async fn o17_a_broker_certificate_that_has_expired_is_refused() {
    let pki = Pki::new();
    let expired = Wish { years: [2001, 2002], ..Wish::server(&super::NAMES) };
    let early = Wish { years: [2900, 3000], ..Wish::server(&super::NAMES) };
    for (wish, words) in [(expired, "certificate expired "), (early, "is valid only in ")] {
        // No broker starts with such a certificate, so another server shows it.
        let server = tls_server(&pki, &wish).await;
        let client = Client::builder(format!("celeriacs://{server}")).ca_file(pki.file("ca.pem"));
        let (reason, message) = said(refused(client).await);
        assert_eq!(reason, TlsReason::BrokerCertificate);
        assert!(message.contains(words), "{message}");
    }
}

/// A server of TLS that is no broker. Returns its address.
async fn tls_server(pki: &Pki, wish: &Wish) -> std::net::SocketAddr {
    use rustls_pki_types::pem::PemObject;
    pki.sign("server", wish);
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let key = rustls_pki_types::PrivateKeyDer::from_pem_file(pki.file("server.key"));
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("the provider has it")
        .with_no_client_auth()
        .with_single_cert(super::certificates(pki.file("server.pem")), key.expect("written"))
        .expect("they fit together");
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            if let Ok(mut stream) = acceptor.accept(stream).await {
                let _ = stream.read_to_end(&mut Vec::new()).await;
            }
        }
    });
    address
}

#[tokio::test]
async fn o17_tls_on_one_side_alone_is_recognised() {
    let pki = Pki::new();
    let (plain, secured) = (BrokerProcess::start().await, pki.setup().start().await);
    let (reason, message) = said(refused(Client::builder(secured.url())).await);
    assert_eq!(reason, TlsReason::Protocol);
    assert_eq!(
        message,
        "the program that answers speaks TLS: \
         write celeriacs:// in place of celeriac:// in the address"
    );
    let (reason, message) = said(refused(pki.client(&plain)).await);
    assert_eq!(reason, TlsReason::Protocol);
    assert_eq!(
        message,
        "the program that answers does not speak TLS 1.3; \
         the address of a broker without TLS begins with celeriac://"
    );
    // A worker, which waits for a broker that is not there, does not wait for this.
    for (worker, broker) in [(worker(&pki, &plain), "plain"), (Worker::builder(secured.url()), "")]
    {
        let ended = within("the end of the worker", worker.build().run(std::future::pending()));
        let error = ended.await.expect_err("it cannot run");
        assert!(matches!(error, RunError::Connection(Error::Tls { .. })), "{broker}: {error}");
    }
}

#[tokio::test]
async fn o17_a_file_that_cannot_be_used_is_named() {
    let pki = Pki::new();
    let broker = pki.setup().start().await;
    let said = async |builder| said(refused(builder).await);
    let file = |name: &str| pki.file(name).display().to_string();
    let missing = Client::builder(url(&broker)).ca_file(pki.file("missing.pem"));
    let sentence = format!(
        "the CA file {} cannot be read: No such file or directory (os error 2)",
        file("missing.pem")
    );
    assert_eq!(said(missing).await, (TlsReason::Files, sentence));
    write(&pki.file("empty.pem"), "");
    let empty = Client::builder(url(&broker)).ca_file(pki.file("empty.pem"));
    let sentence = format!("the CA file {} has no certificate in PEM", file("empty.pem"));
    assert_eq!(said(empty).await, (TlsReason::Files, sentence));
    let pair = |certificate: &str, key: &str| {
        pki.client(&broker).certificate_files(pki.file(certificate), pki.file(key))
    };
    let sentence = format!(
        "the key {} does not fit the certificate {}",
        file("broker.key"),
        file("client.pem")
    );
    assert_eq!(said(pair("client.pem", "broker.key")).await, (TlsReason::Files, sentence));
    let sentence = format!("the key {} has no private key in PEM", file("client.pem"));
    assert_eq!(said(pair("client.pem", "client.pem")).await, (TlsReason::Files, sentence));
}

#[tokio::test]
async fn o17_the_files_are_read_again_at_each_reconnect() {
    let mut pki = Pki::new();
    let mut broker = pki.setup_with_clients("required").start().await;
    let client = greeted(pki.client_with("client", &broker)).await;
    broker.kill().await;
    // Everything is new: the CA, the certificate of the broker, and that of the client.
    pki.ca = Authority::new("the next CA");
    write(&pki.file("ca.pem"), &pki.ca.pem());
    pki.sign("broker", &Wish::server(&super::NAMES));
    pki.sign("client", &Wish::client("worker-8.example"));
    broker.restart().await;
    client.queues().await.expect("the client connects with the new files");
}

#[tokio::test]
async fn o17_a_file_that_is_missing_for_a_moment_ends_no_client() {
    let pki = Pki::new();
    let mut broker = pki.setup().start().await;
    let client = greeted(pki.client(&broker)).await;
    let ca = std::fs::read_to_string(pki.file("ca.pem")).expect("it was written");
    std::fs::remove_file(pki.file("ca.pem")).expect("it is there");
    broker.kill().await;
    broker.restart().await;
    let fast = client.clone().with_timeout(Duration::from_millis(300));
    let error = fast.queues().await.expect_err("there is no CA to trust").to_string();
    assert!(error.contains("the CA file"), "the timeout says why: {error}");
    write(&pki.file("ca.pem"), &ca);
    client.queues().await.expect("the client connects again");
}

#[tokio::test]
async fn o17_a_connection_through_a_connector_has_tls_too() {
    use celeriac_client::connection::{Connector, Halves};
    let pki = Pki::new();
    // No heartbeat takes along what a request leaves behind.
    let quiet = |setup: Setup| setup.set("heartbeat = \"30m\"").set("lease = \"1h\"");
    // This stream keeps what is written until it is flushed, as TLS may.
    let connector = |address| {
        Connector::new(move |_| async move {
            let (read, write) = TcpStream::connect(address).await?.into_split();
            let write = tokio::io::BufWriter::with_capacity(1024 * 1024, write);
            Ok(Halves { read: Box::new(read), write: Box::new(write) })
        })
    };
    let broker = quiet(pki.setup()).start().await;
    greeted(pki.client(&broker).connector(connector(broker.address()))).await;
    let broker = quiet(Setup::new()).start().await;
    greeted(Client::builder(broker.url()).connector(connector(broker.address()))).await;
}
