//! Counts connections before their Hello and connections after it. There are two counts, so that
//! connections before Hello never take places of connections after it. When too many connections
//! are before Hello, the lobby sends away the one that has waited longest. When too many are after
//! Hello, the lobby lets no more in. A connection in its handshake of TLS is one before Hello. This
//! module does not know the content of a Hello.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};

use celeriac_machine::command::ConnectionKey;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tracing::warn;

/// The most connections that were sent away and are not closed yet. Each holds a file descriptor.
const LEAVING_MAX: usize = 8;

/// The counts of connections, shared by all of them.
#[derive(Debug, Clone)]
pub(crate) struct Lobby {
    guests_max: usize,
    counts: Arc<Mutex<Counts>>,
    doors: Arc<Semaphore>,
}

#[derive(Debug, Default)]
struct Counts {
    /// Connections before Hello, the oldest first.
    guests: BTreeMap<ConnectionKey, CancellationToken>,
    /// The number of connections after Hello, and the most of them.
    seats: usize,
    seats_max: usize,
    is_full: bool,
}

/// The other side of a connection, as far as the broker knows it before Hello.
#[derive(Debug)]
pub(crate) struct Peer {
    pub remote: Remote,
    /// The names in the certificate that the client has shown, which a CA for clients has signed.
    pub certificate: Option<String>,
    /// The names in that certificate and its fingerprint, as an access file writes them.
    pub identities: Vec<String>,
}

impl Peer {
    /// The other side of a connection without TLS.
    pub(crate) fn plain(address: SocketAddr) -> Self {
        let remote = Remote { address, via: Via::Protocol };
        Self { remote, certificate: None, identities: Vec::new() }
    }
}

/// Where a connection comes from, as logs name it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Remote {
    pub address: SocketAddr,
    pub via: Via,
}

/// How a client reaches the broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Via {
    Protocol,
    Http,
    /// Over HTTP, for the figures that everybody may read.
    Figures,
}

impl Via {
    /// The word in the audit log.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Protocol => "protocol",
            Self::Http | Self::Figures => "http",
        }
    }
}

/// Requests over HTTP of one address share a connection to the broker, so there is no port.
impl fmt::Display for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.via {
            Via::Protocol => self.address.fmt(f),
            Via::Http | Via::Figures => self.address.ip().fmt(f),
        }
    }
}

/// A connection before Hello.
#[derive(Debug)]
pub(crate) struct Guest {
    pub connection: ConnectionKey,
    /// Cancelled when the connection has to leave, because others came after it.
    pub leave: CancellationToken,
    lobby: Lobby,
    _door: OwnedSemaphorePermit,
}

/// The place of a connection after Hello.
#[derive(Debug)]
pub(crate) struct Seat(Arc<Mutex<Counts>>);

impl Lobby {
    /// A lobby for so many connections before Hello, and so many after it.
    pub(crate) fn new(guests_max: usize, seats_max: usize) -> Self {
        let doors = Arc::new(Semaphore::new(guests_max + LEAVING_MAX));
        let counts = Counts { seats_max, ..Counts::default() };
        Self { guests_max, counts: Arc::new(Mutex::new(counts)), doors }
    }

    /// The most connections before Hello.
    pub(crate) fn guests_max(&self) -> usize {
        self.guests_max
    }

    /// The number of connections before Hello.
    pub(crate) fn guests(&self) -> usize {
        self.counts().guests.len()
    }

    /// Changes the most connections after Hello. Connections that are open stay, also when there
    /// are more of them.
    pub(crate) fn set_seats_max(&self, seats_max: usize) {
        let mut counts = self.counts();
        counts.seats_max = seats_max;
        counts.is_full = false;
    }

    /// Lets a new connection in. Each key must be greater than the one before.
    pub(crate) async fn enter(&self, connection: ConnectionKey) -> Guest {
        let leave = CancellationToken::new();
        {
            let mut counts = self.counts();
            if counts.guests.len() >= self.guests_max
                && let Some((_, oldest)) = counts.guests.pop_first()
            {
                oldest.cancel();
            }
            counts.guests.insert(connection, leave.clone());
        }
        // A new connection waits here only while others are leaving.
        let door = self.doors.clone().acquire_owned().await.expect("the semaphore is never closed");
        Guest { connection, leave, lobby: self.clone(), _door: door }
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().expect("no thread panics while it holds the lock")
    }
}

impl Guest {
    /// Takes a place among the connections after Hello, if one is free.
    pub(crate) fn seat(&self) -> Option<Seat> {
        let mut counts = self.lobby.counts();
        if counts.seats >= counts.seats_max {
            // One log line each time the lobby becomes full: a flood of connections must not fill
            // the log too.
            if !std::mem::replace(&mut counts.is_full, true) {
                warn!("a connection is refused, and others after it: there are as many as allowed");
            }
            return None;
        }
        counts.is_full = false;
        counts.seats += 1;
        counts.guests.remove(&self.connection);
        Some(Seat(self.lobby.counts.clone()))
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.lobby.counts().guests.remove(&self.connection);
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.lock().expect("no thread panics while it holds the lock").seats -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_oldest_guest_leaves_and_those_with_a_seat_stay() {
        let lobby = Lobby::new(2, 1);
        let (first, second) = (lobby.enter(1).await, lobby.enter(2).await);
        let seat = first.seat().expect("the first connection finds a seat");
        let (third, fourth) = (lobby.enter(3).await, lobby.enter(4).await);
        assert!(!first.leave.is_cancelled() && second.leave.is_cancelled());
        assert!(!third.leave.is_cancelled() && !fourth.leave.is_cancelled());
        assert!(third.seat().is_none(), "there is one seat");
        drop((seat, third));
        assert!(fourth.seat().is_some());
        assert!(lobby.counts().guests.is_empty() && lobby.counts().seats == 0);
    }

    #[tokio::test]
    async fn o20_the_number_of_seats_changes_and_nobody_loses_one() {
        let lobby = Lobby::new(4, 1);
        let (first, second) = (lobby.enter(1).await, lobby.enter(2).await);
        let one = first.seat().expect("there is one");
        assert!(second.seat().is_none());
        lobby.set_seats_max(2);
        let other = second.seat().expect("there are two");
        lobby.set_seats_max(1);
        drop(one);
        let third = lobby.enter(3).await;
        assert!(third.seat().is_none(), "the one seat is taken by a connection of before");
        drop(other);
        assert!(third.seat().is_some());
    }
}
