//! Which handshakes succeed: versions, protocols, certificates of clients.

use celeriac_client::{Client, Error, ErrorCode, TlsReason};
use celeriac_tests::authority::{Authority, Wish, write};
use celeriac_tests::{BrokerProcess, until, within};
use rustls::{AlertDescription, HandshakeKind, ProtocolVersion};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{Pki, error_of_tls, greeted, refused, shake_hands};

/// The Hello of a client of TLS 1.2, which names no other version.
pub(super) fn hello_of_tls_1_2() -> Vec<u8> {
    let mut body = vec![3, 3];
    body.extend([7; 32]);
    body.extend([0, 0, 4, 0xc0, 0x2b, 0xc0, 0x2f, 1, 0]);
    // supported_groups and signature_algorithms.
    let extensions = [0, 10, 0, 4, 0, 2, 0, 0x1d, 0, 13, 0, 6, 0, 4, 4, 3, 8, 4];
    body.extend([0, extensions.len() as u8]);
    body.extend(extensions);
    let mut record = vec![22, 3, 1, 0, body.len() as u8 + 4, 1, 0, 0, body.len() as u8];
    record.extend(body);
    record
}

/// Everything that the broker sends until it closes.
pub(super) async fn rest(mut stream: TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    // A reset is an end too.
    let _ = within("the end of the connection", stream.read_to_end(&mut bytes)).await;
    bytes
}

fn reason(error: &Error) -> TlsReason {
    match error {
        Error::Tls { reason, .. } => *reason,
        other => panic!("it has another reason than TLS: {other}"),
    }
}

#[tokio::test]
async fn o13_a_broker_with_a_certificate_speaks_tls_1_3_alone() {
    let pki = Pki::new();
    let broker = pki.setup().start().await;
    let stream = shake_hands(broker.address(), pki.handshake(&["celeriac/1"])).await;
    let stream = stream.expect("the handshake succeeds");
    assert_eq!(stream.get_ref().1.protocol_version(), Some(ProtocolVersion::TLSv1_3));
    let mut old = TcpStream::connect(broker.address()).await.expect("it listens");
    old.write_all(&hello_of_tls_1_2()).await.expect("it reads");
    // A fatal alert: protocol_version.
    assert_eq!(rest(old).await, [21, 3, 3, 0, 2, 2, 70]);
    until("the log says so", async || broker.stderr().contains("it does not speak TLS 1.3")).await;
    greeted(pki.client(&broker)).await;
}

#[tokio::test]
async fn o15_another_protocol_is_refused_and_none_is_not() {
    let pki = Pki::new();
    let broker = pki.setup().start().await;
    for wrong in [&["h2", "http/1.1"][..], &["celeriac/2"], &["celeriac"]] {
        let error = shake_hands(broker.address(), pki.handshake(wrong)).await.expect_err("wrong");
        let alert = rustls::Error::AlertReceived(AlertDescription::NoApplicationProtocol);
        assert_eq!(error_of_tls(&error), alert, "{wrong:?}");
    }
    let chosen = async |alpn: &[&str]| {
        let stream = shake_hands(broker.address(), pki.handshake(alpn)).await.expect("let in");
        stream.get_ref().1.alpn_protocol().map(<[u8]>::to_vec)
    };
    assert_eq!(chosen(&["h2", "celeriac/1"]).await.as_deref(), Some(&b"celeriac/1"[..]));
    assert_eq!(chosen(&[]).await, None);
}

#[tokio::test]
async fn o15_nothing_can_be_sent_before_the_handshake_has_ended() {
    let pki = Pki::new();
    let broker = pki.setup().start().await;
    let mut config = pki.handshake(&["celeriac/1"]);
    config.enable_early_data = true;
    for _ in 0..2 {
        // Both have the same store for what a server gives out for later handshakes.
        let mut stream = shake_hands(broker.address(), config.clone()).await.expect("let in");
        // The broker answers a Hello that cannot be read, so whatever it had to give is here.
        stream.write_all(b"\0\0\0\x01\xff").await.expect("it reads");
        let mut answer = Vec::new();
        within("the answer", stream.read_to_end(&mut answer)).await.expect("a clean end");
        assert!(!answer.is_empty());
        let connection = stream.get_ref().1;
        assert_eq!(connection.handshake_kind(), Some(HandshakeKind::Full), "nothing is resumed");
        assert_eq!(connection.tls13_tickets_received(), 0);
        assert!(!connection.is_early_data_accepted());
    }
}

#[tokio::test]
async fn o14_a_required_certificate_is_asked_for_and_checked() {
    let pki = Pki::new();
    let broker = pki.setup_with_clients("required").start().await;
    let error = refused(pki.client(&broker)).await;
    assert_eq!(reason(&error), TlsReason::ClientCertificate, "{error}");
    assert!(error.to_string().contains("CELERIAC_CERTIFICATE_FILE"), "{error}");
    pki.sign("old", &Wish { years: [2001, 2002], ..Wish::client("worker") });
    pki.sign("server", &Wish::server(&["worker"]));
    Authority::new("another CA").sign(&Wish::client("w")).write(pki.folder.path(), "other");
    for (name, why) in [
        ("old", "it has expired"),
        ("server", "it is not for a client"),
        ("other", "no CA of its clients has signed it"),
    ] {
        let error = refused(pki.client_with(name, &broker)).await;
        assert_eq!(reason(&error), TlsReason::ClientCertificate, "{name}: {error}");
        assert!(error.to_string().contains(why), "{name}: {error}");
    }
    greeted(pki.client_with("client", &broker)).await;
    let said = broker.stderr();
    assert!(said.contains("it shows no certificate"), "one line in ten seconds:\n{said}");
}

#[tokio::test]
async fn o14_a_required_certificate_takes_the_place_of_no_token() {
    let pki = Pki::new();
    let broker = pki.setup_with_clients("required").set("token = \"open-sesame\"").start().await;
    let error = refused(pki.client_with("client", &broker)).await;
    assert!(matches!(error, Error::Handshake { code: ErrorCode::Unauthenticated, .. }), "{error}");
    let url = super::url(&broker).replace("://", "://open-sesame@");
    let both = Client::builder(url)
        .ca_file(pki.file("ca.pem"))
        .certificate_files(pki.file("client.pem"), pki.file("client.key"));
    greeted(both).await;
}

#[tokio::test]
async fn o14_where_a_certificate_is_optional_it_takes_the_place_of_the_token() {
    let pki = Pki::new();
    let broker = pki.setup_with_clients("optional").set("token = \"open-sesame\"").start().await;
    let error = refused(pki.client(&broker)).await;
    assert!(matches!(error, Error::Handshake { code: ErrorCode::Unauthenticated, .. }), "{error}");
    greeted(pki.client_with("client", &broker)).await;
    let url = super::url(&broker).replace("://", "://open-sesame@");
    greeted(Client::builder(url).ca_file(pki.file("ca.pem"))).await;
    // One that no CA of the clients has signed takes no place, also beside a token.
    Authority::new("another CA").sign(&Wish::client("w")).write(pki.folder.path(), "other");
    let error = refused(pki.client_with("other", &broker)).await;
    assert_eq!(reason(&error), TlsReason::ClientCertificate, "{error}");
}

#[tokio::test]
async fn o14_the_log_names_the_certificate_of_a_worker() {
    let pki = Pki::new();
    write(&pki.file("spiffe.pem"), "");
    pki.sign("spiffe", &Wish::client("spiffe://example/worker"));
    let broker = pki.setup_with_clients("required").start().await;
    let worker = celeriac_worker::Worker::builder(super::url(&broker))
        .ca_file(pki.file("ca.pem"))
        .certificate_files(pki.file("spiffe.pem"), pki.file("spiffe.key"))
        .queue("q");
    let worker = celeriac_tests::InProcessWorker::start(worker);
    until("the log has the worker", async || {
        broker.stderr().contains("certificate=\"spiffe://example/worker\"")
    })
    .await;
    worker.stop().await;
}

#[tokio::test]
async fn o13_the_second_listener_has_no_tls_and_the_same_bounds() {
    let pki = Pki::new();
    // The harness knows one address. The plain one is known before the broker starts.
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let plain = free.local_addr().expect("it is bound");
    drop(free);
    let broker = pki.setup().set(format!("listen_plain = \"{plain}\"")).start().await;
    greeted(Client::builder(format!("celeriac://{plain}"))).await;
    greeted(pki.client(&broker)).await;
    let error = refused(Client::builder(broker.url())).await;
    assert_eq!(reason(&error), TlsReason::Protocol, "{error}");
    let error =
        refused(Client::builder(format!("celeriacs://{plain}")).ca_file(pki.file("ca.pem"))).await;
    assert_eq!(reason(&error), TlsReason::Protocol, "{error}");
}

#[tokio::test]
async fn o18_no_provider_is_installed_for_the_process() {
    let pki = Pki::new();
    let broker = BrokerProcess::start().await;
    drop(broker);
    let config = |config: &mut celeriac_broker::Config| {
        config.tls_certificate = Some(pki.file("broker.pem"));
        config.tls_key = Some(pki.file("broker.key"));
    };
    let broker = celeriac_broker::testing::TestBroker::start_with(config).await;
    greeted(Client::builder(broker.url()).ca_file(pki.file("ca.pem"))).await;
    broker.stop().await;
    assert!(rustls::crypto::CryptoProvider::get_default().is_none());
}
