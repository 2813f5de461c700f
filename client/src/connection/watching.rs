//! What a watch has seen and not yet handed on. Filled by the task that owns the socket, emptied by
//! one reader.
//!
//! Two promises are kept here, over reconnects too: no state of a task is shown twice, and the
//! latest one is never lost, however slow the reader is. How a watch is begun and begun again is
//! the driver's work.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, Weak};
use std::task::{Context, Poll, Waker};

use celeriac_proto::wire;

/// Transitions kept for a reader that falls behind; then those that a later one of the same task
/// overtook are dropped.
const QUEUED_MAX: usize = 1_024;

/// Where the transitions of one watch are put.
#[derive(Default)]
pub(crate) struct WatchSink {
    state: Mutex<SinkState>,
}

#[derive(Default)]
struct SinkState {
    queue: VecDeque<wire::TaskInfo>,
    /// What was last queued of each task.
    latest: HashMap<String, Shown>,
    ended: bool,
    /// Wakes the reader, if it waits.
    reader: Option<Waker>,
}

/// Tells one state of a task from another: the version rises within a generation, and a task that
/// was forgotten and submitted anew begins both again at a later time.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Shown {
    submitted_at_ms: i64,
    generation: u32,
    version: u32,
    known: bool,
}

impl Shown {
    fn of(task: &wire::TaskInfo) -> Self {
        Self {
            submitted_at_ms: task.submitted_at_ms,
            generation: task.generation,
            version: task.version,
            // A later broker may tell a state that is unknown here.
            known: task.state() != wire::TaskState::Unknown || task.generation > 0,
        }
    }

    /// The same state, or one that came before it in the same generation.
    fn includes(&self, other: &Self) -> bool {
        if !self.known || !other.known {
            return self.known == other.known;
        }
        self.submitted_at_ms == other.submitted_at_ms
            && self.generation == other.generation
            && self.version >= other.version
    }
}

impl WatchSink {
    /// Queues a state unless it was shown already.
    pub(super) fn push(&self, task: wire::TaskInfo) {
        let mut state = self.state.lock().expect("no holder of this lock panics");
        let shown = Shown::of(&task);
        match state.latest.get_mut(&task.id) {
            Some(latest) if latest.includes(&shown) => return,
            Some(latest) => *latest = shown,
            None => {
                state.latest.insert(task.id.clone(), shown);
            }
        }
        state.queue.push_back(task);
        // Twice the tasks, so that dropping the overtaken ones always makes room for many more.
        if state.queue.len() > QUEUED_MAX.max(2 * state.latest.len()) {
            drop_overtaken(&mut state.queue);
        }
        wake(state.reader.take());
    }

    /// Nothing will follow; what is queued is still read.
    pub(super) fn end(&self) {
        let mut state = self.state.lock().expect("no holder of this lock panics");
        state.ended = true;
        wake(state.reader.take());
    }

    /// The next state; `None` after the end. For one reader at a time.
    pub(crate) fn poll_next(&self, context: &Context<'_>) -> Poll<Option<wire::TaskInfo>> {
        let mut state = self.state.lock().expect("no holder of this lock panics");
        if let Some(task) = state.queue.pop_front() {
            return Poll::Ready(Some(task));
        }
        if state.ended {
            return Poll::Ready(None);
        }
        state.reader = Some(context.waker().clone());
        Poll::Pending
    }
}

fn wake(reader: Option<Waker>) {
    if let Some(reader) = reader {
        reader.wake();
    }
}

fn drop_overtaken(queue: &mut VecDeque<wire::TaskInfo>) {
    let mut seen = HashSet::new();
    let mut kept: VecDeque<_> = VecDeque::new();
    while let Some(task) = queue.pop_back() {
        if seen.insert(task.id.clone()) {
            kept.push_front(task);
        }
    }
    *queue = kept;
}

/// One `Watch` request and where its transitions go. A watch of very many tasks has several.
pub(crate) struct WatchPart {
    pub(super) request: wire::Watch,
    sink: Weak<WatchSink>,
}

impl WatchPart {
    pub(super) fn new(request: wire::Watch, sink: &Arc<WatchSink>) -> Self {
        Self { request, sink: Arc::downgrade(sink) }
    }

    /// The same for some of its ids.
    pub(super) fn of(&self, ids: Vec<String>) -> Self {
        Self { request: wire::Watch { ids, ..self.request }, sink: self.sink.clone() }
    }

    /// `None` when nobody reads any more.
    pub(super) fn sink(&self) -> Option<Arc<WatchSink>> {
        self.sink.upgrade()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(id: &str, generation: u32, version: u32, state: wire::TaskState) -> wire::TaskInfo {
        wire::TaskInfo {
            id: id.into(),
            generation,
            version,
            state: state.into(),
            ..Default::default()
        }
    }

    fn queued(sink: &WatchSink) -> Vec<(String, u32, u32)> {
        let state = sink.state.lock().expect("unpoisoned");
        state.queue.iter().map(|task| (task.id.clone(), task.generation, task.version)).collect()
    }

    #[test]
    fn a_state_is_shown_once_and_older_ones_not_at_all() {
        let sink = WatchSink::default();
        sink.push(info("a", 1, 2, wire::TaskState::Started));
        sink.push(info("a", 1, 2, wire::TaskState::Started));
        sink.push(info("a", 1, 1, wire::TaskState::Queued));
        sink.push(info("a", 2, 1, wire::TaskState::Queued));
        assert_eq!(queued(&sink), [("a".into(), 1, 2), ("a".into(), 2, 1)]);
    }

    #[test]
    fn a_forgotten_task_is_shown_as_unknown_once_and_its_next_life_again() {
        let sink = WatchSink::default();
        sink.push(info("a", 1, 4, wire::TaskState::Success));
        sink.push(info("a", 0, 0, wire::TaskState::Unknown));
        sink.push(info("a", 0, 0, wire::TaskState::Unknown));
        sink.push(info("a", 1, 1, wire::TaskState::Queued));
        assert_eq!(queued(&sink), [("a".into(), 1, 4), ("a".into(), 0, 0), ("a".into(), 1, 1)]);
    }

    #[test]
    fn a_reader_that_falls_behind_skips_states_but_never_the_latest() {
        let sink = WatchSink::default();
        for version in 1..=5_000 {
            sink.push(info("a", 1, version, wire::TaskState::Started));
            sink.push(info("b", 1, version, wire::TaskState::Started));
        }
        let kept = queued(&sink);
        assert!(kept.len() <= QUEUED_MAX);
        assert_eq!(kept[kept.len() - 2..], [("a".into(), 1, 5_000), ("b".into(), 1, 5_000)]);
    }
}
