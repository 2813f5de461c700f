//! A wire that can be cut: a proxy between a worker and its broker. It forwards bytes and knows nothing of frames.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet};

/// A listener of its own; ends with its value.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    accepting: AbortHandle,
    connections: Arc<Mutex<JoinSet<()>>>,
}

impl Proxy {
    /// Forwards to this address, which need not be there all the time.
    ///
    /// # Panics
    /// When there is no free port.
    pub async fn start(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let address = listener.local_addr().expect("it listens");
        let connections = Arc::new(Mutex::new(JoinSet::new()));
        let accepted = Arc::clone(&connections);
        let accepting = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let mut connections = accepted.lock().expect("nobody panics with this lock");
                while connections.try_join_next().is_some() {}
                connections.spawn(forward(stream, target));
            }
        });
        Self { address, accepting: accepting.abort_handle(), connections }
    }

    /// The URL for whoever is to be cut off.
    pub fn url(&self) -> String {
        format!("celeriac://{}", self.address)
    }

    /// Breaks what is connected. Who connects anew is served.
    pub fn cut(&self) {
        self.connections.lock().expect("nobody panics with this lock").abort_all();
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
        self.cut();
    }
}

async fn forward(mut near: TcpStream, target: SocketAddr) {
    let Ok(mut far) = TcpStream::connect(target).await else { return };
    // Either end may break the connection; then it is over for both.
    let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
}
