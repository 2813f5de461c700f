//! What the broker counts outside the machine, for monitors: clients that were not let in, requests
//! that were refused, and reloads. Sessions, the committer and the reload share one tally.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use celeriac_machine::command::Code;
use celeriac_record::Timestamp;

use crate::clock::Clock;
use crate::lobby::Lobby;
use crate::outgoing::{AuthFailures, Reload};

#[derive(Debug)]
pub(crate) struct Tally {
    clock: Clock,
    /// How long the broker took to read its data folder.
    restore: Duration,
    refused: [AtomicU64; Code::ALL.len()],
    token_missing: AtomicU64,
    token_wrong: AtomicU64,
    certificate: AtomicU64,
    handshake: AtomicU64,
    /// By the wall clock.
    reloaded_at: AtomicI64,
    reload_failed: AtomicBool,
    /// The connections before Hello, once the broker serves.
    lobby: OnceLock<Lobby>,
    /// When the certificate expires, once a broker with TLS serves.
    expires: OnceLock<Arc<AtomicI64>>,
}

/// Why a client was not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NotLetIn {
    TokenMissing,
    /// Or it has expired.
    TokenWrong,
    /// Nobody knows its certificate.
    Certificate,
    /// Its handshake of TLS failed.
    Handshake,
}

impl Tally {
    pub(crate) fn new(clock: Clock, restore: Duration) -> Self {
        let reloaded_at = clock.now().wall.into();
        Self {
            clock,
            restore,
            refused: Default::default(),
            token_missing: AtomicU64::default(),
            token_wrong: AtomicU64::default(),
            certificate: AtomicU64::default(),
            handshake: AtomicU64::default(),
            reloaded_at,
            reload_failed: AtomicBool::default(),
            lobby: OnceLock::new(),
            expires: OnceLock::new(),
        }
    }

    /// The broker serves from now on.
    pub(crate) fn serves(&self, lobby: Lobby) {
        // A broker serves once.
        let _ = self.lobby.set(lobby);
    }

    /// The broker has TLS, and this is when its certificate expires.
    pub(crate) fn shows_certificate(&self, expires: Arc<AtomicI64>) {
        let _ = self.expires.set(expires);
    }

    pub(crate) fn note_refused(&self, code: Code) {
        self.refused[code as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn note_not_let_in(&self, why: NotLetIn) {
        let count = match why {
            NotLetIn::TokenMissing => &self.token_missing,
            NotLetIn::TokenWrong => &self.token_wrong,
            NotLetIn::Certificate => &self.certificate,
            NotLetIn::Handshake => &self.handshake,
        };
        count.fetch_add(1, Ordering::Relaxed);
    }

    /// Somebody had the settings read again.
    pub(crate) fn note_reload(&self, failed: bool) {
        self.reloaded_at.store(self.clock.now().wall, Ordering::Relaxed);
        self.reload_failed.store(failed, Ordering::Relaxed);
    }

    pub(crate) fn restore(&self) -> Duration {
        self.restore
    }

    /// The codes with which something was refused.
    pub(crate) fn refused(&self) -> Vec<(Code, u64)> {
        let counts = self.refused.iter().map(|count| count.load(Ordering::Relaxed));
        Code::ALL.into_iter().zip(counts).filter(|(_, count)| *count > 0).collect()
    }

    pub(crate) fn auth_failures(&self) -> AuthFailures {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        AuthFailures {
            token_missing: read(&self.token_missing),
            token_wrong: read(&self.token_wrong),
            certificate: read(&self.certificate),
            handshake: read(&self.handshake),
        }
    }

    pub(crate) fn reload(&self) -> Reload {
        Reload {
            at: self.reloaded_at.load(Ordering::Relaxed),
            failed: self.reload_failed.load(Ordering::Relaxed),
        }
    }

    /// The number of connections before Hello.
    pub(crate) fn guests(&self) -> usize {
        self.lobby.get().map_or(0, Lobby::guests)
    }

    pub(crate) fn certificate_expires_at(&self) -> Option<Timestamp> {
        self.expires.get().map(|expires| expires.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_code_and_each_reason_has_a_count_of_its_own() {
        let tally = Tally::new(Clock::new(), Duration::ZERO);
        for (number, code) in Code::ALL.into_iter().enumerate() {
            assert_eq!(code as usize, number, "the list has the codes in their order");
            (0..=number).for_each(|_| tally.note_refused(code));
        }
        let counts: Vec<u64> = tally.refused().into_iter().map(|(_, count)| count).collect();
        assert_eq!(counts, (1..=Code::ALL.len() as u64).collect::<Vec<_>>());
        tally.note_not_let_in(NotLetIn::TokenWrong);
        tally.note_not_let_in(NotLetIn::Handshake);
        let AuthFailures { token_missing, token_wrong, certificate, handshake } =
            tally.auth_failures();
        assert_eq!((token_missing, token_wrong, certificate, handshake), (0, 1, 0, 1));
    }
}
