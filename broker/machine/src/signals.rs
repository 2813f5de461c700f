//! What the holders of many leases are told at once: one message for each connection, however many
//! leases it holds.

use std::collections::BTreeMap;

use celeriac_record::{Lease, Slot};

use super::command::{ConnectionKey, Message, SignalKind};
use super::{Effects, Machine};

/// Leases that are to be told the same, by who holds them.
#[derive(Debug, Default)]
pub(super) struct Signals(BTreeMap<ConnectionKey, Vec<Lease>>);

impl Signals {
    /// Tells them all, and forgets them.
    pub fn send(&mut self, kind: SignalKind, reason: &str, fx: &mut Effects) {
        for (connection, leases) in std::mem::take(&mut self.0) {
            fx.send(connection, Message::Signal { leases, kind, reason: reason.into() });
        }
    }
}

impl Machine {
    /// Takes note of the lease of a task. To be called while it is held. Whoever is away is told
    /// when it comes back.
    pub(super) fn note_signal(&self, slot: Slot, signals: &mut Signals) {
        let task = self.tasks.task(slot);
        let holder = self.tasks.run(task).and_then(|run| run.holder);
        if let Some(connection) = holder.and_then(|key| self.sessions.session(key).connection) {
            signals.0.entry(connection).or_default().push(task.lease());
        }
    }
}
