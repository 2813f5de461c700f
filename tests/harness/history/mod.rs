//! What every client asked and was told, and a checker that reads it afterwards and says which
//! promise was broken. It knows nothing of how the broker works.
//!
//! A history is written by [`Tap`]s, which read the frames of a connection: [`Tapped`] puts one
//! around any stream, be it of the raw wire, of a real client or worker, or of a proxy between
//! processes. Order is that of the entries; clocks are asked only where a promise is about time.

mod census;
mod event;
mod life;
mod reading;
mod rules;
mod tap;
mod tapped;
#[cfg(test)]
mod tests;
mod walls;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use reading::Reading;

pub use event::{Answer, Ask, ConnectionId, Entry, Event, Mark, Moment};
pub use tap::Tap;
pub use tapped::Tapped;

/// What the checker has to know of the broker and of the clocks.
#[derive(Debug, Clone, Copy)]
pub struct Promises {
    /// How far the clock of the history may be from the broker's. Nothing happens earlier than by
    /// so much.
    pub clock_ms: u64,
    /// How late the broker may be with what is due: 0 in a simulation that stands still while the
    /// broker works.
    pub late_ms: u64,
    /// How long a result is kept whose producer said nothing.
    pub result_ttl_ms: u64,
}

impl Default for Promises {
    /// Real processes with the defaults, on a machine that is shared.
    fn default() -> Self {
        Self { clock_ms: 25, late_ms: 2_000, result_ttl_ms: 24 * 60 * 60 * 1_000 }
    }
}

/// A promise that a history shows broken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken {
    /// Its number, 1 to 13.
    pub promise: u8,
    /// Which task, and how.
    pub line: String,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "promise {}: {}", self.promise, self.line)
    }
}

/// Every broken promise that these entries show.
pub fn broken_promises(entries: &[Entry], promises: &Promises) -> Vec<Broken> {
    rules::judge(&Reading::of(entries, promises))
}

/// The common history of all clients of a test. Clones write into the same.
#[derive(Clone)]
pub struct History(Arc<Shared>);

struct Shared {
    written: Mutex<Written>,
    clock: Box<dyn Fn() -> Moment + Send + Sync>,
}

#[derive(Default)]
struct Written {
    entries: Vec<Entry>,
    /// Who has which connection; the first is whoever looks after the broker.
    names: Vec<String>,
}

impl History {
    /// An empty history on the clocks of this machine.
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

    /// An empty history on clocks of its own, such as those of a simulation.
    pub fn with_clock(clock: impl Fn() -> Moment + Send + Sync + 'static) -> Self {
        let written = Written { entries: Vec::new(), names: vec!["the broker".into()] };
        Self(Arc::new(Shared { written: Mutex::new(written), clock: Box::new(clock) }))
    }

    /// A tap for a connection that is about to be made, by a client of this name.
    pub fn connecting(&self, name: &str) -> Tap {
        let mut written = self.0.written.lock().expect("nobody panics with this lock");
        let connection = written.names.len() as ConnectionId;
        written.names.push(name.to_owned());
        drop(written);
        self.record(connection, Event::Connecting);
        Tap::new(self.clone(), connection)
    }

    /// Writes down one event, and says where it stands.
    pub fn record(&self, connection: ConnectionId, event: Event) -> Mark {
        let mut written = self.0.written.lock().expect("nobody panics with this lock");
        // Under the lock, so that times rise with the marks.
        let entry = Entry { at: (self.0.clock)(), connection, event };
        written.entries.push(entry);
        written.entries.len() - 1
    }

    /// Writes down what happens to the broker, or to the history itself.
    pub fn note(&self, event: Event) {
        self.record(0, event);
    }

    /// All of it so far.
    pub fn entries(&self) -> Vec<Entry> {
        self.0.written.lock().expect("nobody panics with this lock").entries.clone()
    }

    /// Every broken promise that it shows so far.
    pub fn broken_promises(&self, promises: &Promises) -> Vec<Broken> {
        broken_promises(
            &self.0.written.lock().expect("nobody panics with this lock").entries,
            promises,
        )
    }

    /// How often each of the things occurs that the rules are about.
    pub fn census(&self) -> BTreeMap<&'static str, u64> {
        census::census(&self.0.written.lock().expect("nobody panics with this lock").entries)
    }

    /// The ids that the broker said it has.
    pub fn confirmed(&self) -> BTreeSet<String> {
        let written = self.0.written.lock().expect("nobody panics with this lock");
        let entries = &written.entries;
        let confirmed = entries.iter().filter_map(|entry| match &entry.event {
            Event::Answered { ask, answer: Answer::Submit(outcome) } if outcome.error.is_none() => {
                Some(*ask)
            }
            _ => None,
        });
        let ids = confirmed.filter_map(|ask| match &entries[ask].event {
            Event::Asked(Ask::Submit(task)) => Some(task.id.clone()),
            _ => None,
        });
        ids.collect()
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.0.written.lock().expect("nobody panics with this lock").entries.len()
    }

    /// Whether nothing was written yet.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The client of a connection.
    pub fn name(&self, connection: ConnectionId) -> String {
        let written = self.0.written.lock().expect("nobody panics with this lock");
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
