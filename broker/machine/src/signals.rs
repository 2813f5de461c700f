//! Signals about many leases: each connection gets one message, however many leases it holds.

use std::collections::BTreeMap;

use celeriac_record::{Lease, Slot};

use crate::Machine;
use crate::command::{ConnectionKey, Push, SignalKind};
use crate::step::Step;

/// Leases that get the same signal, by the connection of their holder.
#[derive(Debug, Default)]
pub(crate) struct Signals(BTreeMap<ConnectionKey, Vec<Lease>>);

impl Signals {
    /// Sends the signals, and clears the list.
    pub fn send(&mut self, step: &mut Step<'_>, kind: SignalKind, reason: &str) {
        for (connection, leases) in std::mem::take(&mut self.0) {
            step.tell(connection, Push::Signal { leases, kind, reason: reason.into() });
        }
    }
}

impl Machine {
    /// Adds the lease of a task. Call this while the lease is held. A worker without a connection
    /// gets its signal when it resumes its session.
    pub(crate) fn note_signal(&self, slot: Slot, signals: &mut Signals) {
        let task = self.tasks.task(slot);
        let holder = self.tasks.run(task).and_then(|run| run.holder);
        if let Some(connection) = holder.and_then(|key| self.sessions.session(key).connection) {
            signals.0.entry(connection).or_default().push(task.lease());
        }
    }
}
