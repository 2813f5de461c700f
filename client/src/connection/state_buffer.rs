//! The states that a watch has received and its reader has not taken yet. The task that owns the
//! socket fills the buffer; one reader empties it.
//!
//! This module keeps two promises, over reconnects too: a watch shows no state of a task twice, and
//! never loses the latest state, however slow its reader is. The driver begins watches, and begins
//! them again.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, Weak};
use std::task::{Context, Poll, Waker};

use celeriac_proto::wire;

/// The most states that are kept for a reader that falls behind. Beyond that, only the latest state
/// of each task is kept.
const QUEUED_MAX: usize = 1_024;

/// The buffer of one watch.
#[derive(Default)]
pub(crate) struct StateBuffer {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    queue: VecDeque<wire::TaskInfo>,
    /// The state of each task that was queued last.
    latest: HashMap<String, StateVersion>,
    /// Whether no further state comes.
    is_ended: bool,
    /// Wakes the reader, if it waits.
    reader: Option<Waker>,
}

/// Tells the states of a task apart. The version rises within a generation. A task that was
/// forgotten and submitted again begins both numbers anew, with a later time of submit.
#[derive(Clone, Copy, PartialEq, Eq)]
struct StateVersion {
    /// When the generation was submitted.
    submitted_at_ms: i64,
    /// The number of the run under its id.
    generation: u32,
    /// The number of the transition within the generation.
    version: u32,
    /// Whether the task exists.
    known: bool,
}

impl StateVersion {
    fn of(task: &wire::TaskInfo) -> Self {
        Self {
            submitted_at_ms: task.submitted_at_ms,
            generation: task.generation,
            version: task.version,
            // A later broker may report a state that is unknown here.
            known: task.state() != wire::TaskState::Unknown || task.generation > 0,
        }
    }

    /// Whether `other` is the same state, or an earlier one of the same generation.
    fn includes(&self, other: &Self) -> bool {
        // Of two answers that there is no task, one is enough. Any change between a task and no
        // task is shown.
        if !self.known || !other.known {
            return self.known == other.known;
        }
        self.submitted_at_ms == other.submitted_at_ms
            && self.generation == other.generation
            && self.version >= other.version
    }
}

impl StateBuffer {
    /// Queues a state, unless this state or a later one was queued before.
    pub(super) fn push(&self, task: wire::TaskInfo) {
        let mut inner = self.inner.lock().expect("no holder of this lock panics");
        let version = StateVersion::of(&task);
        match inner.latest.get_mut(&task.id) {
            Some(latest) if latest.includes(&version) => return,
            Some(latest) => *latest = version,
            None => {
                inner.latest.insert(task.id.clone(), version);
            }
        }
        inner.queue.push_back(task);
        // Twice the number of tasks, so that dropping the older states always makes room for many.
        if inner.queue.len() > QUEUED_MAX.max(2 * inner.latest.len()) {
            keep_latest(&mut inner.queue);
        }
        wake(inner.reader.take());
    }

    /// Ends the watch. The reader still gets the queued states.
    pub(super) fn end(&self) {
        let mut inner = self.inner.lock().expect("no holder of this lock panics");
        inner.is_ended = true;
        wake(inner.reader.take());
    }

    /// The next state; `None` after the end. Only one reader may wait at a time.
    pub(crate) fn poll_next(&self, context: &Context<'_>) -> Poll<Option<wire::TaskInfo>> {
        let mut inner = self.inner.lock().expect("no holder of this lock panics");
        if let Some(task) = inner.queue.pop_front() {
            return Poll::Ready(Some(task));
        }
        if inner.is_ended {
            return Poll::Ready(None);
        }
        inner.reader = Some(context.waker().clone());
        Poll::Pending
    }
}

/// Wakes the reader, if it waits.
fn wake(reader: Option<Waker>) {
    if let Some(reader) = reader {
        reader.wake();
    }
}

/// Drops every state that a later one of the same task follows.
fn keep_latest(queue: &mut VecDeque<wire::TaskInfo>) {
    let mut seen = HashSet::new();
    let mut kept: VecDeque<_> = VecDeque::new();
    while let Some(task) = queue.pop_back() {
        if seen.insert(task.id.clone()) {
            kept.push_front(task);
        }
    }
    *queue = kept;
}

/// One `Watch` request, and the buffer for its transitions. A watch of very many tasks consists of
/// several requests with the same buffer.
pub(crate) struct WatchRequest {
    pub(super) request: wire::Watch,
    states: Weak<StateBuffer>,
}

impl WatchRequest {
    pub(super) fn new(request: wire::Watch, states: &Arc<StateBuffer>) -> Self {
        Self { request, states: Arc::downgrade(states) }
    }

    /// The same request for some of its ids.
    pub(super) fn of(&self, ids: Vec<String>) -> Self {
        Self { request: wire::Watch { ids, ..self.request }, states: self.states.clone() }
    }

    /// The buffer; `None` when its reader was dropped.
    pub(super) fn states(&self) -> Option<Arc<StateBuffer>> {
        self.states.upgrade()
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

    fn queued(states: &StateBuffer) -> Vec<(String, u32, u32)> {
        let inner = states.inner.lock().expect("unpoisoned");
        inner.queue.iter().map(|task| (task.id.clone(), task.generation, task.version)).collect()
    }

    #[test]
    fn a_state_is_shown_once_and_older_ones_not_at_all() {
        let states = StateBuffer::default();
        states.push(info("a", 1, 2, wire::TaskState::Started));
        states.push(info("a", 1, 2, wire::TaskState::Started));
        states.push(info("a", 1, 1, wire::TaskState::Queued));
        states.push(info("a", 2, 1, wire::TaskState::Queued));
        assert_eq!(queued(&states), [("a".into(), 1, 2), ("a".into(), 2, 1)]);
    }

    #[test]
    fn a_forgotten_task_is_shown_as_unknown_once_and_its_next_life_again() {
        let states = StateBuffer::default();
        states.push(info("a", 1, 4, wire::TaskState::Success));
        states.push(info("a", 0, 0, wire::TaskState::Unknown));
        states.push(info("a", 0, 0, wire::TaskState::Unknown));
        states.push(info("a", 1, 1, wire::TaskState::Queued));
        assert_eq!(queued(&states), [("a".into(), 1, 4), ("a".into(), 0, 0), ("a".into(), 1, 1)]);
    }

    #[test]
    fn a_reader_that_falls_behind_skips_states_but_never_the_latest() {
        let states = StateBuffer::default();
        for version in 1..=5_000 {
            states.push(info("a", 1, version, wire::TaskState::Started));
            states.push(info("b", 1, version, wire::TaskState::Started));
        }
        let kept = queued(&states);
        assert!(kept.len() <= QUEUED_MAX);
        assert_eq!(kept[kept.len() - 2..], [("a".into(), 1, 5_000), ("b".into(), 1, 5_000)]);
    }
}
