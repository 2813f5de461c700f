//! A door for the process around the broker: connections without a socket. Behind it they are like
//! all others, and the broker decides about each one by its Hello.

use std::io;
use std::net::{IpAddr, SocketAddr};

use tokio::io::{DuplexStream, duplex};
use tokio::sync::mpsc;

use crate::lobby::{Peer, Remote, Via};
use crate::tls::ShownCertificate;

/// The bytes in each direction that wait for the other side.
const BUFFER_BYTES: usize = 64 * 1024;

/// The most connections that wait until the broker takes them.
const WAITING_MAX: usize = 64;

/// The outer side of the door. It may be cloned and used from anywhere, also before the broker
/// serves: a connection then waits.
#[derive(Debug, Clone)]
pub struct Door(mpsc::Sender<Entering>);

/// The inner side of the door, for [`Broker::with_door`](crate::Broker::with_door).
#[derive(Debug)]
pub struct Entrance(mpsc::Receiver<Entering>);

/// A connection that enters.
#[derive(Debug)]
pub(crate) struct Entering {
    pub stream: DuplexStream,
    pub peer: Peer,
}

/// On whose behalf a connection is opened. The broker judges it as if it had come itself.
#[derive(Debug, Clone)]
pub struct Origin {
    /// The address from which the client came.
    pub address: IpAddr,
    /// The certificate that it has shown, which a CA for clients has signed.
    pub certificate: Option<ShownCertificate>,
    /// What the connection is for.
    pub purpose: Purpose,
}

/// What a connection of the process around the broker is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Requests over HTTP of one client.
    Client,
    /// The figures that everybody may read over HTTP. Where there is an access file, such a
    /// connection needs no entry of it, and may ask for figures and nothing else.
    Figures,
}

/// A door and its inner side.
pub fn door() -> (Door, Entrance) {
    let (sender, receiver) = mpsc::channel(WAITING_MAX);
    (Door(sender), Entrance(receiver))
}

impl Door {
    /// Opens a connection.
    ///
    /// # Errors
    /// The broker has ended.
    pub async fn enter(&self, origin: Origin) -> io::Result<DuplexStream> {
        let (outer, inner) = duplex(BUFFER_BYTES);
        let Origin { address, certificate, purpose } = origin;
        let (certificate, identities) = match certificate {
            Some(shown) => (Some(shown.names), shown.identities),
            None => (None, Vec::new()),
        };
        let via = match purpose {
            Purpose::Client => Via::Http,
            Purpose::Figures => Via::Figures,
        };
        let remote = Remote { address: SocketAddr::new(address, 0), via };
        let peer = Peer { remote, certificate, identities };
        let entering = Entering { stream: inner, peer };
        let gone = |_| io::Error::new(io::ErrorKind::ConnectionRefused, "the broker has ended");
        self.0.send(entering).await.map_err(gone)?;
        Ok(outer)
    }
}

impl Entrance {
    pub(crate) async fn next(&mut self) -> Option<Entering> {
        self.0.recv().await
    }
}
