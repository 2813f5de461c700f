//! What every client asked and was told, and a checker that reads it afterwards and says which promise was broken.
//! It knows nothing of how the broker works.
//!
//! A history is written by [`Tap`]s, which read the frames of a connection: [`Tapped`] puts one around any stream, be it
//! of the raw wire, of a real client or worker, or of a proxy between processes. Order is that of the entries; clocks are
//! asked only where a promise is about time.

mod event;
mod tap;
mod tapped;

use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

pub use event::{Answer, Ask, ConnectionId, Entry, Event, Mark, Moment};
pub use tap::Tap;
pub use tapped::Tapped;

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
            Moment { mono_ms: begun.elapsed().as_millis() as u64, wall_ms: since_1970.as_millis() as i64 }
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
