//! A proxy with a tap, between the broker and processes that a test kills and that cannot write a
//! history themselves. The proxy forwards what a killed process had sent. What the broker sent to a
//! killed process counts as told.

use std::net::SocketAddr;

use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet};

use celeriac_history::{History, TappedStream};

/// A proxy with its own listener. It ends when this value is dropped.
#[derive(Debug)]
pub struct RecordingProxy {
    address: SocketAddr,
    accepting: AbortHandle,
}

impl RecordingProxy {
    /// Forwards to this address, and writes every frame into the history under this name.
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

    /// The URL for the processes behind the proxy.
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
        // Without this option the proxy is slower, and nothing else.
        let _ = stream.set_nodelay(true);
    }
    // When either end breaks the connection, it is over for both.
    let _ = tokio::io::copy_bidirectional(&mut near, &mut TappedStream::new(far, tap)).await;
}
