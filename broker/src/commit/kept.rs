//! How tasks ended that are gone before the wait which saw them is answered. A wait for many tasks may last longer than some of
//! them are kept: their ends stay here, complete, until the answer takes them. The memory for that is bounded; what has no
//! room is shown as UNKNOWN.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use celeriac_proto::TaskId;

use crate::machine::command::{RequestId, View};

/// What one connection keeps: about what one answer holds.
const KEPT_BYTES_MAX: usize = 16 * 1024 * 1024;

/// What all connections keep together.
const ALL_KEPT_BYTES_MAX: usize = 64 * 1024 * 1024;

/// What the connections keep together, in bytes.
#[derive(Debug, Clone, Default)]
pub(super) struct AllKept(Arc<AtomicUsize>);

/// The ends that the waits of one connection have seen.
#[derive(Debug)]
pub(super) struct Kept {
    waits: HashMap<RequestId, HashMap<TaskId, (View, usize)>>,
    bytes: usize,
    all: AllKept,
}

impl Kept {
    pub(super) fn new(all: AllKept) -> Self {
        Self { waits: HashMap::new(), bytes: 0, all }
    }

    /// Whether this many bytes have room.
    pub(super) fn has_room(&self, bytes: usize) -> bool {
        self.bytes + bytes <= KEPT_BYTES_MAX && self.all.0.load(Ordering::Relaxed) + bytes <= ALL_KEPT_BYTES_MAX
    }

    /// Keeps one for the answer to this request. The first end of an id is the one that the wait has seen.
    pub(super) fn keep(&mut self, request: RequestId, view: View, bytes: usize) {
        if let Entry::Vacant(entry) = self.waits.entry(request).or_default().entry(view.id.clone()) {
            entry.insert((view, bytes));
            self.bytes += bytes;
            self.all.0.fetch_add(bytes, Ordering::Relaxed);
        }
    }

    /// Puts what was kept for this request in the places of its answer, and forgets it.
    pub(super) fn show(&mut self, request: RequestId, tasks: &mut [View]) {
        let Some(kept) = self.waits.remove(&request) else { return };
        for task in tasks {
            if let Some((view, _)) = kept.get(&task.id) {
                task.clone_from(view);
            }
        }
        self.give_back(kept.values().map(|(_, bytes)| bytes).sum());
    }

    fn give_back(&mut self, bytes: usize) {
        self.bytes -= bytes;
        self.all.0.fetch_sub(bytes, Ordering::Relaxed);
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.give_back(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(id: &str) -> View {
        View { id: id.try_into().expect("it is an id"), task: None, with_result: false, with_tracebacks: false }
    }

    #[test]
    fn what_is_kept_counts_until_it_is_shown_or_its_connection_goes() {
        let all = AllKept::default();
        let (mut one, mut other) = (Kept::new(all.clone()), Kept::new(all.clone()));
        one.keep(1, view("a"), 10);
        one.keep(1, view("a"), 10);
        one.keep(2, view("a"), 5);
        other.keep(1, view("b"), 7);
        assert_eq!((one.bytes, other.bytes, all.0.load(Ordering::Relaxed)), (15, 7, 22));
        one.show(1, &mut [view("a"), view("c")]);
        assert_eq!((one.bytes, all.0.load(Ordering::Relaxed)), (5, 12));
        drop((one, other));
        assert_eq!(all.0.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn no_connection_keeps_more_than_its_share_and_all_no_more_than_theirs() {
        let all = AllKept::default();
        let mut full: Vec<Kept> = (0..ALL_KEPT_BYTES_MAX / KEPT_BYTES_MAX).map(|_| Kept::new(all.clone())).collect();
        for kept in &mut full {
            assert!(kept.has_room(KEPT_BYTES_MAX) && !kept.has_room(KEPT_BYTES_MAX + 1));
            kept.keep(1, view("a"), KEPT_BYTES_MAX);
            assert!(!kept.has_room(1));
        }
        assert!(!Kept::new(all).has_room(1), "there is no room for anybody");
    }
}
