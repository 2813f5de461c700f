//! The options of a connection: where the broker is, and what the client's Hello says.

use std::time::Duration;

use celeriac_proto::wire;

use super::Connector;

/// How a connection is opened, and what the client's Hello says.
#[derive(Clone)]
#[non_exhaustive]
pub struct ConnectionOptions {
    /// Host and port of the broker, as `127.0.0.1:23537`.
    pub address: String,
    /// The token; empty for none.
    pub token: String,
    /// The name of the client library, for logs and listings.
    pub client_name: String,
    /// The version of the client library.
    pub client_version: String,
    /// The name of this program. It stays the same over all reconnects.
    pub instance_id: String,
    /// Set by a worker. Without it the broker sends no deliveries.
    pub worker: Option<wire::WorkerInfo>,
    /// How often the client sends heartbeats; `None` leaves the interval to the broker.
    pub heartbeat: Option<Duration>,
    /// How long one attempt may take, the handshake included.
    pub connect_timeout: Duration,
    /// How long [`Connection::open`](super::Connection::open) tries to connect. `None`: the first
    /// attempt decides.
    pub connect_wait: Option<Duration>,
    /// Whether the connection runs on a thread of its own, so that handlers that block the runtime
    /// cannot stop the heartbeats.
    pub own_thread: bool,
    /// Opens the byte stream; `None` means TCP to the address.
    pub connector: Option<Connector>,
}

impl ConnectionOptions {
    /// The defaults for a client of the broker at `address`.
    pub fn new(address: impl Into<String>) -> Self {
        Self {
            address: address.into(),
            token: String::new(),
            client_name: "celeriac-rust".to_owned(),
            client_version: env!("CARGO_PKG_VERSION").to_owned(),
            instance_id: format!(
                "{}-{}",
                std::process::id(),
                &uuid::Uuid::new_v4().simple().to_string()[..8]
            ),
            worker: None,
            heartbeat: None,
            connect_timeout: Duration::from_secs(5),
            connect_wait: None,
            own_thread: false,
            connector: None,
        }
    }
}
