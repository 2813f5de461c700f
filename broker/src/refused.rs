//! The log of connections that are refused: their token is missing or wrong, or their handshake of
//! TLS failed. Such connections may come by the thousand, so each address gets a line only now and
//! then, and the number of addresses is bounded. The caller writes the line, in which no secret is.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Mutex;

use celeriac_machine::command::Monotonic;

/// An address gets one line at most in this time.
const LINE_MS: Monotonic = 10_000;

/// The addresses that have a count of their own. All further addresses share one count.
const ADDRESSES_MAX: usize = 64;

/// The connections that were refused for reasons of one kind.
#[derive(Debug, Default)]
pub(crate) struct Refused {
    /// By address. The count without an address belongs to all addresses without a count of their
    /// own.
    counts: Mutex<BTreeMap<Option<IpAddr>, Count>>,
}

#[derive(Debug)]
struct Count {
    line_at: Monotonic,
    /// Connections that were refused since the last line, and are in no line.
    refused: u64,
}

impl Refused {
    /// Notes that a connection from this address was refused. Returns the number of refused
    /// connections that a line has to name, or `None` when it is not time for a line.
    pub(crate) fn note(&self, peer: SocketAddr, now: Monotonic) -> Option<u64> {
        self.count(peer.ip(), now)
    }

    fn count(&self, address: IpAddr, now: Monotonic) -> Option<u64> {
        let mut counts = self.counts.lock().expect("no thread panics while it holds the lock");
        let mut key = Some(address);
        if !counts.contains_key(&key) && counts.len() >= ADDRESSES_MAX {
            counts.retain(|_, count| now - count.line_at < LINE_MS);
            if counts.len() >= ADDRESSES_MAX {
                key = None;
            }
        }
        let Some(count) = counts.get_mut(&key) else {
            counts.insert(key, Count { line_at: now, refused: 0 });
            return Some(1);
        };
        count.refused += 1;
        if now - count.line_at < LINE_MS {
            return None;
        }
        count.line_at = now;
        Some(std::mem::take(&mut count.refused))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(number: u32) -> IpAddr {
        IpAddr::V4(number.into())
    }

    #[test]
    fn an_address_gets_a_line_in_ten_seconds_and_the_line_has_the_number() {
        let tokens = Refused::default();
        assert_eq!(tokens.count(address(1), 5), Some(1));
        assert_eq!(tokens.count(address(2), 6), Some(1), "another address has its own line");
        for now in [6, 7, LINE_MS + 4] {
            assert_eq!(tokens.count(address(1), now), None);
        }
        assert_eq!(tokens.count(address(1), LINE_MS + 5), Some(4));
        assert_eq!(tokens.count(address(1), LINE_MS + 6), None);
    }

    #[test]
    fn a_flood_from_many_addresses_takes_little_memory_and_few_lines() {
        let tokens = Refused::default();
        let lines = (0..10_000).filter(|number| tokens.count(address(*number), 0).is_some());
        assert_eq!(lines.count(), ADDRESSES_MAX + 1);
        assert_eq!(tokens.counts.lock().expect("free").len(), ADDRESSES_MAX + 1);
        assert_eq!(tokens.count(address(77_777), LINE_MS), Some(1), "old addresses make room");
        assert!(tokens.counts.lock().expect("free").len() <= 2);
    }
}
