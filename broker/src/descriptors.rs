//! File descriptors: how many connections the process can really hold. Without one the broker cannot accept, and its
//! store cannot open a file, which would be its end; so it counts before it takes connections, and keeps some back.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tracing::warn;

/// Descriptors for all that is no connection: the data folder, a backup, the runtime, the listener, stdio, and
/// connections that are being refused.
const RESERVE: u64 = 32;

/// Raises the soft limit of the process as far as this many connections need it and the hard limit allows; says how many
/// connections there may be.
pub(crate) fn connections_max(wanted: usize) -> usize {
    let needed = wanted as u64 + RESERVE;
    let limit = getrlimit(Resource::Nofile);
    let Some(soft) = limit.current.filter(|soft| *soft < needed) else { return wanted };
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
        return wanted;
    }
    // One connection at least: without any there is nothing to serve.
    let connections = usize::try_from(allowed.saturating_sub(RESERVE)).unwrap_or(wanted).max(1);
    warn!(
        open_files_max = allowed,
        connections_max = wanted,
        "there may be {connections} connections at once and no more: raise the limit of open files (`ulimit -n`)"
    );
    connections
}
