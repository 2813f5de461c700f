//! File descriptors: how many connections the process can really hold. Without a free descriptor
//! the broker cannot accept a connection, and its store cannot open a file, which would end the
//! broker. So the broker counts descriptors before it accepts connections, and reserves some.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tracing::warn;

/// Descriptors for everything but the counted connections: the data folder, a backup, the runtime,
/// the listener, stdio, and connections that were sent away and are not closed yet.
const RESERVE: u64 = 32;

/// The most connections before Hello, where there are enough descriptors.
pub(crate) const GUESTS_MAX: usize = 256;

/// The most connections that the broker holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Places {
    /// Connections before Hello.
    pub guests: usize,
    /// Connections after Hello.
    pub connections: usize,
}

/// Raises the soft limit of the process as far as this many connections need and the hard limit
/// allows. Returns how many connections the broker can hold.
pub(crate) fn places(wanted: usize) -> Places {
    let all = Places { guests: GUESTS_MAX, connections: wanted };
    let needed = (wanted + GUESTS_MAX) as u64 + RESERVE;
    let limit = getrlimit(Resource::Nofile);
    let Some(soft) = limit.current.filter(|soft| *soft < needed) else { return all };
    let raised = limit.maximum.map_or(needed, |hard| needed.min(hard)).max(soft);
    let new = Rlimit { current: Some(raised), maximum: limit.maximum };
    let allowed = match setrlimit(Resource::Nofile, new) {
        Ok(()) => raised,
        Err(error) => {
            warn!(%error, "the limit of open files cannot be raised");
            soft
        }
    };
    if allowed >= needed {
        return all;
    }
    let places =
        shared_out(usize::try_from(allowed.saturating_sub(RESERVE)).unwrap_or(wanted), wanted);
    if places.connections < wanted {
        let connections = places.connections;
        warn!(
            open_files_max = allowed,
            connections_max = wanted,
            "there may be {connections} connections at once and no more: raise the limit of open files (`ulimit -n`)"
        );
    }
    places
}

/// Divides the descriptors. Connections before Hello get a quarter at most. Each kind gets at least
/// one: without a connection the broker cannot serve.
fn shared_out(descriptors: usize, wanted: usize) -> Places {
    let guests = GUESTS_MAX.min(descriptors / 4).max(1);
    Places { guests, connections: descriptors.saturating_sub(guests).clamp(1, wanted) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_descriptors_are_shared_out() {
        assert_eq!(shared_out(32, 10_000), Places { guests: 8, connections: 24 });
        assert_eq!(shared_out(9_000, 10_000), Places { guests: 256, connections: 8_744 });
        assert_eq!(shared_out(0, 10_000), Places { guests: 1, connections: 1 });
        assert_eq!(shared_out(40, 10), Places { guests: 10, connections: 10 });
    }
}
