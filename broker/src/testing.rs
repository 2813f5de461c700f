//! A broker for tests: in the test's own process, on a free port, with a temporary folder. It is
//! the real broker with its log on disk; only its start and its end are managed. This module is
//! part of the library, because tests of programs that use Celeriac need it as much as our own
//! tests.

use std::net::SocketAddr;
use std::thread::JoinHandle;

use tokio::net::TcpListener;
use tokio::sync::oneshot;

use crate::config::Config;
use crate::control::Control;
use crate::error::RunError;
use crate::server::Broker;

/// A running broker. Dropping it ends the broker and removes its folder.
///
/// The broker has its own thread and runtime, so a test that blocks does not stop it.
///
/// ```
/// use celeriac_broker::testing::TestBroker;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// let broker = TestBroker::start().await;
/// // Client::connect(&broker.url()), Worker::builder(broker.url()), and so on.
/// assert!(broker.url().starts_with("celeriac://127.0.0.1:"));
/// broker.stop().await;
/// # }
/// ```
#[derive(Debug)]
pub struct TestBroker {
    address: SocketAddr,
    control: Control,
    token: Option<String>,
    has_tls: bool,
    /// Dropping this sender ends the broker.
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<Result<(), RunError>>>,
}

/// The address where a broker listens and its handle, or the error of its start.
type Started = Result<(SocketAddr, Control), RunError>;

impl TestBroker {
    /// Starts a broker with the default configuration. The broker accepts connections when this
    /// returns.
    ///
    /// # Panics
    /// When the system has no port, folder or thread for the broker.
    pub async fn start() -> Self {
        Self::start_with(|_| ()).await
    }

    /// Like [`TestBroker::start`], with a changed configuration: a token, or a lease short enough
    /// to expire during a test. The data folder is set already.
    ///
    /// # Panics
    /// When a setting is out of its bounds, and as [`TestBroker::start`].
    pub async fn start_with(change: impl FnOnce(&mut Config)) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let mut config = Config::new(folder.path());
        change(&mut config);
        let (token, has_tls) = (config.token.clone(), config.tls_certificate.is_some());
        let (started, starting) = oneshot::channel();
        let (stop, stopped) = oneshot::channel();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime can be made");
        let thread = std::thread::Builder::new().name("test-broker".to_owned()).spawn(move || {
            let outcome = runtime.block_on(serve(config, started, stopped));
            // The broker's work in the blocking pool must end before the folder is removed.
            drop(runtime);
            drop(folder);
            outcome
        });
        let thread = thread.expect("a thread can be started");
        match starting.await {
            Ok(Ok((address, control))) => {
                Self { address, control, token, has_tls, stop: Some(stop), thread: Some(thread) }
            }
            Ok(Err(error)) => panic!("the broker does not start: {error}"),
            Err(_) => panic!("the broker's thread ended before it began"),
        }
    }

    /// The URL for clients and workers, including the token. It begins with `celeriacs://` when the
    /// configuration has a certificate.
    pub fn url(&self) -> String {
        let scheme = if self.has_tls { "celeriacs" } else { "celeriac" };
        match &self.token {
            Some(token) => format!("{scheme}://{token}@{}", self.address),
            None => format!("{scheme}://{}", self.address),
        }
    }

    /// The address where the broker listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The handle by which the broker takes new settings.
    pub fn control(&self) -> &Control {
        &self.control
    }

    /// Ends the broker in good order and removes its folder. Dropping the broker does the same, and
    /// blocks the thread meanwhile.
    ///
    /// # Panics
    /// When the broker has failed.
    pub async fn stop(mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let joined = tokio::task::spawn_blocking(move || thread.join()).await;
            let outcome = joined
                .expect("joining does not panic")
                .expect("the broker's thread does not panic");
            outcome.expect("the broker ends in good order");
        }
    }
}

impl Drop for TestBroker {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // The test's result is decided by now, so an error of the broker can only be printed.
            match thread.join() {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::error!(%error, "the broker of a test failed"),
                Err(_) => tracing::error!("the broker of a test panicked"),
            }
        }
    }
}

async fn serve(
    config: Config,
    started: oneshot::Sender<Started>,
    stopped: oneshot::Receiver<()>,
) -> Result<(), RunError> {
    let broker = match Broker::open(config).await {
        Ok(broker) => broker,
        Err(error) => {
            // The receiver panics with this error.
            let _ = started.send(Err(error));
            return Ok(());
        }
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("there is a free port");
    let address = listener.local_addr().expect("the listener is bound");
    // A test that no longer waits has also dropped the other half of `stopped`.
    let _ = started.send(Ok((address, broker.control())));
    let shutdown = async {
        // The test never sends: dropping the sender ends the broker.
        let _ = stopped.await;
    };
    broker.serve(listener, shutdown).await
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpStream;

    use super::*;

    /// A broker, and the path of its folder.
    async fn start() -> (TestBroker, std::path::PathBuf) {
        let mut folder = std::path::PathBuf::new();
        let broker = TestBroker::start_with(|config| folder.clone_from(&config.data)).await;
        (broker, folder)
    }

    #[tokio::test]
    async fn a_test_broker_accepts_connections_until_it_is_stopped_and_leaves_no_folder() {
        let (broker, folder) = start().await;
        let address = broker.address();
        TcpStream::connect(address).await.expect("the broker listens");
        assert!(folder.is_dir());
        broker.stop().await;
        assert!(TcpStream::connect(address).await.is_err());
        assert!(!folder.exists());
    }

    #[tokio::test]
    async fn a_test_broker_that_is_dropped_leaves_no_folder_either() {
        let (broker, folder) = start().await;
        let _connected = TcpStream::connect(broker.address()).await.expect("the broker listens");
        drop(broker);
        assert!(!folder.exists());
    }

    #[tokio::test]
    async fn the_url_of_a_test_broker_names_its_token() {
        let broker =
            TestBroker::start_with(|config| config.token = Some("s3cret-of-sixteen".to_owned()))
                .await;
        assert_eq!(broker.url(), format!("celeriac://s3cret-of-sixteen@{}", broker.address()));
    }

    #[tokio::test]
    #[should_panic(expected = "the broker does not start")]
    async fn settings_that_no_broker_runs_with_end_the_test() {
        TestBroker::start_with(|config| config.lease_ms = 0).await;
    }
}
