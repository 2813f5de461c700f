//! Accepts connections, makes the handshake of TLS where there is one, and
//! hands each connection to a session. From its first byte on a connection is a guest of the lobby.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use celeriac_machine::command::ConnectionKey;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

use crate::door::{Entering, Entrance};
use crate::lobby::{Guest, Peer, Remote, Via};
use crate::session::{self, Shared};
use crate::tally::NotLetIn;
use crate::tls::{Certificates, Secured};

/// After a failed accept (mostly for lack of file descriptors) the broker waits this long before
/// the next one.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Where connections come from.
pub(crate) struct Listeners {
    pub listener: TcpListener,
    /// With these, connections of `listener` speak TLS.
    pub certificates: Option<Certificates>,
    /// Connections of this listener never speak TLS.
    pub plain: Option<TcpListener>,
    /// Connections of the process around the broker.
    pub entrance: Option<Entrance>,
}

/// Accepts connections until it is dropped.
pub(crate) async fn accept(listeners: Listeners, shared: Arc<Shared>, sessions: TaskTracker) {
    let Listeners { listener, certificates, plain, mut entrance } = listeners;
    let mut latest: ConnectionKey = 0;
    let mut failed = false;
    loop {
        let (accepted, certificates) = tokio::select! {
            accepted = listener.accept() => (accepted, certificates.clone()),
            Some(accepted) = accept_plain(plain.as_ref()) => (accepted, None),
            Some(Entering { stream, peer }) = accept_inner(entrance.as_mut()) => {
                latest += 1;
                let (guest, shared) = (shared.lobby.enter(latest).await, shared.clone());
                let (read, write) = tokio::io::split(stream);
                sessions.spawn(session::run(read, write, peer, guest, shared));
                continue;
            }
        };
        let (stream, address) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // One log line per series of failures: a flood of connections must not fill the log
                // too.
                if !std::mem::replace(&mut failed, true) {
                    warn!(%error, "cannot accept; trying again until it works");
                }
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        failed = false;
        latest += 1;
        let (guest, shared) = (shared.lobby.enter(latest).await, shared.clone());
        prepare_socket(&stream);
        // A plain connection takes no memory for what TLS would need.
        match certificates {
            None => {
                let (read, write) = stream.into_split();
                let peer = Peer::plain(address);
                sessions.spawn(session::run(read, write, peer, guest, shared));
            }
            Some(certificates) => {
                sessions.spawn(serve_with_tls(stream, address, certificates, guest, shared));
            }
        }
    }
}

async fn accept_plain(
    listener: Option<&TcpListener>,
) -> Option<std::io::Result<(TcpStream, SocketAddr)>> {
    Some(listener?.accept().await)
}

async fn accept_inner(entrance: Option<&mut Entrance>) -> Option<Entering> {
    entrance?.next().await
}

/// Makes the handshake of TLS and serves the connection after it.
async fn serve_with_tls(
    stream: TcpStream,
    address: SocketAddr,
    certificates: Certificates,
    guest: Guest,
    shared: Arc<Shared>,
) {
    let outcome = tokio::select! {
        outcome = certificates.shake_hands(stream) => outcome,
        () = guest.leave.cancelled() => {
            Err(Some("too many connections came after it, before its handshake had ended".to_owned()))
        }
        // There is no way to say so within a handshake.
        () = shared.stop.cancelled() => Err(None),
    };
    match outcome {
        Ok(secured) => {
            let Secured { stream, certificate, identities } = secured;
            let remote = Remote { address, via: Via::Protocol };
            let peer = Peer { remote, certificate, identities };
            let (read, write) = tokio::io::split(stream);
            session::run(read, write, peer, guest, shared).await;
        }
        Err(why) => {
            debug!(peer = %address, reason = why, "a handshake of TLS ends");
            let now = shared.clock.now().mono;
            if why.is_some() {
                shared.tally.note_not_let_in(NotLetIn::Handshake);
            }
            if let Some(reason) = why
                && let Some(refused) = shared.failed_handshakes.note(address, now)
            {
                warn!(peer = %address, refused, reason, "a client was refused: its handshake of TLS failed");
            }
        }
    }
}

/// The broker writes whole frames, so a frame need not wait for the next one (no delay). With
/// keepalive the system finds a peer that vanished even when the protocol has nothing to send.
fn prepare_socket(stream: &TcpStream) {
    let keepalive = socket2::TcpKeepalive::new().with_time(Duration::from_secs(60));
    let set = stream
        .set_nodelay(true)
        .and_then(|()| socket2::SockRef::from(stream).set_tcp_keepalive(&keepalive));
    if let Err(error) = set {
        warn!(%error, "cannot set the options of a socket");
    }
}
