//! A history of what every client asked and was told, and a checker that reads it afterwards and
//! reports every broken promise. The checker knows nothing of how the broker works. README.md says
//! how to use it and lists the promises.
//!
//! [`Tap`]s write the history: they read the frames of a connection. [`TappedStream`] puts a tap
//! into any stream. The rules judge by the order of the entries. They use the clocks only where a
//! promise is about time.

mod clocks;
mod event;
mod event_counts;
mod index;
mod rules;
mod tap;
mod tapped_stream;
mod task_lifetime;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use celeriac_proto::wire;
use index::Index;

pub use event::{Answer, ConnectionId, Entry, Event, Moment, Position, RequestItem};
pub use tap::Tap;
pub use tapped_stream::TappedStream;

/// What the checker must know of the broker and of the clocks.
#[derive(Debug, Clone, Copy)]
pub struct Promises {
    /// The largest difference between the clock of the history and the clock of the broker. No
    /// event may be earlier than its time by more than this.
    pub clock_ms: u64,
    /// How late the broker may be with a task that is due. It is 0 in a simulation whose time
    /// stands still while the broker works.
    pub late_ms: u64,
    /// How long a result is kept if its producer sets no TTL.
    pub result_ttl_ms: u64,
}

impl Default for Promises {
    /// For processes with the default configuration, on a machine that runs other programs too.
    fn default() -> Self {
        Self { clock_ms: 25, late_ms: 2_000, result_ttl_ms: 24 * 60 * 60 * 1_000 }
    }
}

/// A broken promise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken {
    /// Its number, 1 to 14.
    pub promise: u8,
    /// The id of the task, and how the promise was broken.
    pub line: String,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "promise {}: {}", self.promise, self.line)
    }
}

/// Every broken promise that these entries show.
pub fn broken_promises(entries: &[Entry], promises: &Promises) -> Vec<Broken> {
    rules::judge(&Index::of(entries, promises))
}

/// The history of all clients of a test. Clones write into the same history.
#[derive(Clone)]
pub struct History(Arc<Shared>);

struct Shared {
    written: Mutex<Written>,
    clock: Box<dyn Fn() -> Moment + Send + Sync>,
}

#[derive(Default)]
struct Written {
    entries: Vec<Entry>,
    /// The name of the client of each connection. The first one stands for the test that starts
    /// and stops the broker.
    names: Vec<String>,
}

impl History {
    /// An empty history with the clocks of this machine.
    pub fn new() -> Self {
        let begun = Instant::now();
        Self::with_clock(move || {
            let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            Moment {
                mono_ms: begun.elapsed().as_millis() as u64,
                wall_ms: since_1970.as_millis() as i64,
            }
        })
    }

    /// An empty history with other clocks, such as those of a simulation.
    pub fn with_clock(clock: impl Fn() -> Moment + Send + Sync + 'static) -> Self {
        let written = Written { entries: Vec::new(), names: vec!["the broker".into()] };
        Self(Arc::new(Shared { written: Mutex::new(written), clock: Box::new(clock) }))
    }

    /// A tap for a connection that a client of this name is about to open.
    pub fn connecting(&self, name: &str) -> Tap {
        let mut written = self.0.written.lock().expect("no thread panics while it holds this lock");
        let connection = written.names.len() as ConnectionId;
        written.names.push(name.to_owned());
        drop(written);
        self.record(connection, Event::Connecting);
        Tap::new(self.clone(), connection)
    }

    /// Writes down one event and returns its position.
    pub fn record(&self, connection: ConnectionId, event: Event) -> Position {
        let mut written = self.0.written.lock().expect("no thread panics while it holds this lock");
        // The clock is read under the lock, so that times rise with positions.
        let entry = Entry { at: (self.0.clock)(), connection, event };
        written.entries.push(entry);
        written.entries.len() - 1
    }

    /// Writes down an event of the broker or of the whole history.
    pub fn note(&self, event: Event) {
        self.record(0, event);
    }

    /// All entries so far.
    pub fn entries(&self) -> Vec<Entry> {
        self.0.written.lock().expect("no thread panics while it holds this lock").entries.clone()
    }

    /// Every broken promise that the entries so far show.
    pub fn broken_promises(&self, promises: &Promises) -> Vec<Broken> {
        broken_promises(
            &self.0.written.lock().expect("no thread panics while it holds this lock").entries,
            promises,
        )
    }

    /// How often each event occurs that the rules are about.
    pub fn event_counts(&self) -> BTreeMap<&'static str, u64> {
        event_counts::event_counts(
            &self.0.written.lock().expect("no thread panics while it holds this lock").entries,
        )
    }

    /// The ids of the tasks that the broker confirmed. A task beside another has an id of its own.
    pub fn confirmed(&self) -> BTreeSet<String> {
        let written = self.0.written.lock().expect("no thread panics while it holds this lock");
        let entries = &written.entries;
        let confirmed = entries.iter().filter_map(|entry| match &entry.event {
            Event::Answered { item, answer: Answer::Submit(outcome) }
                if outcome.error.is_none() =>
            {
                Some((*item, &outcome.id))
            }
            _ => None,
        });
        let ids = confirmed.filter_map(|(item, beside)| match &entries[item].event {
            _ if !beside.is_empty() => Some(beside.clone()),
            Event::Asked(RequestItem::Submit(task)) => Some(task.id.clone()),
            _ => None,
        });
        ids.collect()
    }

    /// The latest delivery under this lease.
    pub fn delivery(&self, lease: u64) -> Option<wire::Delivery> {
        let written = self.0.written.lock().expect("no thread panics while it holds this lock");
        written.entries.iter().rev().find_map(|entry| match &entry.event {
            Event::Delivered(delivery) if delivery.lease == lease => Some((**delivery).clone()),
            _ => None,
        })
    }

    /// The entries that name this id, and the answers to them, as lines for the eyes of whoever
    /// looks for the cause of a broken promise.
    pub fn about(&self, id: &str) -> Vec<String> {
        let written = self.0.written.lock().expect("no thread panics while it holds this lock");
        let mut named = BTreeSet::new();
        let mut lines = Vec::new();
        for (position, entry) in written.entries.iter().enumerate() {
            let text = format!("{:?}", entry.event);
            let answers = match &entry.event {
                Event::Answered { item, .. } | Event::Refused { item, .. } => named.contains(item),
                Event::BrokerDown | Event::BrokerUp | Event::Settled => true,
                _ => false,
            };
            if answers || text.contains(id) {
                named.insert(position);
                let (at, connection) = (entry.at.mono_ms, entry.connection);
                lines.push(format!("{position} at {at} ms, connection {connection}: {text}"));
            }
        }
        lines
    }

    /// The number of entries.
    pub fn len(&self) -> usize {
        self.0.written.lock().expect("no thread panics while it holds this lock").entries.len()
    }

    /// Whether there is no entry yet.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The name of the client of a connection.
    pub fn name(&self, connection: ConnectionId) -> String {
        let written = self.0.written.lock().expect("no thread panics while it holds this lock");
        written.names.get(connection as usize).cloned().unwrap_or_default()
    }
}

impl Default for History {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("History").field("entries", &self.len()).finish_non_exhaustive()
    }
}
