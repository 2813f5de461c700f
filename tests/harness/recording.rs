//! A wire with a tap: a proxy between processes that cannot write a history themselves, because
//! they are to be killed, and their broker. What a killed process had sent is forwarded, and what
//! it was sent counts as told.

use std::net::SocketAddr;

use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet};

use crate::history::{History, Tapped};

/// A listener of its own; ends with its value.
#[derive(Debug)]
pub struct RecordingProxy {
    address: SocketAddr,
    accepting: AbortHandle,
}

impl RecordingProxy {
    /// Forwards to this address, and writes down what is said under this name.
    ///
    /// # Panics
    /// When there is no free port.
    pub async fn start(target: SocketAddr, history: &History, name: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let address = listener.local_addr().expect("it listens");
        let (history, name) = (history.clone(), name.to_owned());
        let accepting = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                while connections.try_join_next().is_some() {}
                connections.spawn(forward(stream, target, history.clone(), name.clone()));
            }
        });
        Self { address, accepting: accepting.abort_handle() }
    }

    /// The URL for whoever is to be written down.
    pub fn url(&self) -> String {
        format!("celeriac://{}", self.address)
    }
}

impl Drop for RecordingProxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn forward(mut near: TcpStream, target: SocketAddr, history: History, name: String) {
    let tap = history.connecting(&name);
    let Ok(far) = TcpStream::connect(target).await else { return };
    for stream in [&near, &far] {
        // Without it the wire is slower, and nothing else.
        let _ = stream.set_nodelay(true);
    }
    // Either end may break the connection; then it is over for both.
    let _ = tokio::io::copy_bidirectional(&mut near, &mut Tapped::new(far, tap)).await;
}
