//! New certificates while the broker serves.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use celeriac_broker::{Broker, Config};
use celeriac_client::connection::{Connection, ConnectionOptions, Event};
use celeriac_client::{BrokerUrl, Client, ClientBuilder};
use celeriac_tests::authority::{Authority, Wish, write};
use celeriac_tests::{BrokerProcess, until, within};
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use super::{NAMES, Pki, greeted, refused, shake_hands};

/// The certificate that a new handshake is shown.
async fn shown(pki: &Pki, broker: std::net::SocketAddr) -> Vec<u8> {
    let stream = shake_hands(broker, pki.handshake(&["celeriac/1"])).await.expect("let in");
    stream.get_ref().1.peer_certificates().expect("the broker shows one")[0].to_vec()
}

#[tokio::test]
async fn o16_files_that_change_are_taken_by_themselves_and_connections_go_on() {
    let pki = Pki::new();
    let broker: BrokerProcess = pki.setup().start().await;
    let first = shown(&pki, broker.address()).await;
    let url = super::url(&broker).parse::<BrokerUrl>().expect("a good address");
    let mut files = celeriac_client::connection::TlsFiles::default();
    files.ca = Some(pki.file("ca.pem"));
    let (_connection, mut events) =
        within("a connection", Connection::open(ConnectionOptions::of(&url, files)))
            .await
            .expect("let in");
    assert!(matches!(events.recv().await, Some(Event::Connected { .. })));
    pki.sign("broker", &Wish::server(&NAMES));
    // The broker looks every ten seconds.
    until("new handshakes get the new one", async || shown(&pki, broker.address()).await != first)
        .await;
    assert!(broker.stderr().contains("the certificates were read again"));
    assert!(events.try_recv().is_err(), "the connection before goes on");
}

/// A broker in this process, whose certificates can be read again at once.
struct InProcess {
    url: String,
    certificates: celeriac_broker::Certificates,
    _data: tempfile::TempDir,
    stop: oneshot::Sender<()>,
    serving: tokio::task::JoinHandle<Result<(), celeriac_broker::RunError>>,
}

impl InProcess {
    async fn start(pki: &Pki) -> Self {
        let data = tempfile::tempdir().expect("a temporary folder can be made");
        let config = Config {
            tls_certificate: Some(pki.file("broker.pem")),
            tls_key: Some(pki.file("broker.key")),
            ..Config::new(data.path().join("data"))
        };
        let broker = Broker::open(config).await.expect("it starts");
        let certificates = broker.certificates().expect("it has some");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("celeriacs://{}", listener.local_addr().expect("it is bound"));
        let (stop, stopped) = oneshot::channel::<()>();
        let serving = tokio::spawn(broker.serve(listener, async { drop(stopped.await) }));
        Self { url, certificates, _data: data, stop, serving }
    }

    fn client(&self, pki: &Pki) -> ClientBuilder {
        Client::builder(&self.url).ca_file(pki.file("ca.pem"))
    }

    async fn stop(self) {
        drop(self.stop);
        let ended = within("the end of the broker", self.serving).await;
        ended.expect("it does not panic").expect("it ends in good order");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn o16_a_rotation_under_load_drops_no_connection() {
    let pki = Arc::new(Pki::new());
    let broker = InProcess::start(&pki).await;
    let (mut events, submits) = (Vec::new(), Arc::new(AtomicU32::new(0)));
    for _ in 0..4 {
        let url = broker.url.parse::<BrokerUrl>().expect("a good address");
        let mut files = celeriac_client::connection::TlsFiles::default();
        files.ca = Some(pki.file("ca.pem"));
        let opening = Connection::open(ConnectionOptions::of(&url, files));
        let (connection, mut received) = within("a connection", opening).await.expect("let in");
        assert!(matches!(received.recv().await, Some(Event::Connected { .. })));
        events.push(received);
        let (client, submits) = (Client::over(connection), submits.clone());
        tokio::spawn(async move {
            loop {
                let task = celeriac_client::Submission::new("nobody.runs.this");
                client.submit::<()>(task).await.expect("every submit is confirmed");
                submits.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    for _ in 0..20 {
        let before = submits.load(Ordering::Relaxed);
        pki.sign("broker", &Wish::server(&NAMES));
        broker.certificates.reload().await.expect("the new files are good");
        // New connections come and go, and the old ones have something to do.
        greeted(broker.client(&pki)).await.close().await;
        until("submits go on", async || submits.load(Ordering::Relaxed) > before + 20).await;
    }
    for received in &mut events {
        assert!(received.try_recv().is_err(), "no connection was lost");
    }
    broker.stop().await;
}

#[tokio::test]
async fn o16_a_new_ca_counts_for_new_connections_and_a_broken_file_for_none() {
    let mut pki = Pki::new();
    let broker = InProcess::start(&pki).await;
    let before = greeted(broker.client(&pki)).await;
    write(&pki.file("broker.key"), "broken");
    broker.certificates.reload().await.expect_err("it is broken");
    greeted(broker.client(&pki)).await;
    pki.ca = Authority::new("the next CA");
    pki.sign("broker", &Wish::server(&NAMES));
    broker.certificates.reload().await.expect("the new files are good");
    let error = refused(broker.client(&pki)).await;
    assert!(error.to_string().contains("is not in"), "{error}");
    write(&pki.file("ca.pem"), &pki.ca.pem());
    greeted(broker.client(&pki)).await;
    let fast = before.with_timeout(Duration::from_secs(5));
    fast.queues().await.expect("the connection before goes on");
    broker.stop().await;
}
