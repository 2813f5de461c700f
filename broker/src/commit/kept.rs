//! Ended tasks that the broker drops before it answers the wait that saw them end. A wait for many
//! tasks may last longer than the broker keeps some of them. Complete views of their ends stay here
//! until the answer takes them. The memory for these views is bounded: a view that has no room is
//! kept without its result, and a task whose view has no room even then is shown as UNKNOWN.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use celeriac_machine::command::{Outline, RequestId};
use celeriac_proto::TaskId;

use crate::outgoing::TaskView;

/// Bytes kept for one connection: about as much as one answer holds.
const KEPT_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Bytes kept for all connections together.
const ALL_KEPT_BYTES_MAX: usize = 64 * 1024 * 1024;

/// The bytes kept for all connections together.
#[derive(Debug, Clone, Default)]
pub(super) struct AllKept(Arc<AtomicUsize>);

/// The ended tasks that are kept for the waits of one connection.
#[derive(Debug)]
pub(super) struct Kept {
    waits: HashMap<RequestId, Ends>,
    bytes: usize,
    all: AllKept,
}

/// The ended tasks that are kept for one wait.
#[derive(Debug, Default)]
pub(super) struct Ends {
    tasks: HashMap<TaskId, TaskView>,
    bytes: usize,
}

impl Ends {
    /// The machine's outline of a kept task.
    pub(super) fn outline(&self, id: &TaskId) -> Option<Outline> {
        self.tasks.get(id)?.found.as_ref().map(|found| found.outline)
    }

    /// The view of a kept task. An id that the request names twice gets its result once, because
    /// room is counted for one.
    pub(super) fn show(&mut self, id: &TaskId) -> Option<TaskView> {
        let kept = self.tasks.get_mut(id)?;
        let view = kept.clone();
        kept.strip();
        Some(view)
    }
}

impl Kept {
    pub(super) fn new(all: AllKept) -> Self {
        Self { waits: HashMap::new(), bytes: 0, all }
    }

    /// Whether there is room for this many more bytes for this request, which may keep
    /// `of_wait_max` bytes.
    pub(super) fn has_room(&self, request: RequestId, bytes: usize, of_wait_max: usize) -> bool {
        let of_wait = self.waits.get(&request).map_or(0, |ends| ends.bytes);
        of_wait + bytes <= of_wait_max
            && self.bytes + bytes <= KEPT_BYTES_MAX
            && self.all.0.load(Ordering::Relaxed) + bytes <= ALL_KEPT_BYTES_MAX
    }

    /// Keeps a view for the answer to this request. The first view of an id stays: it is the end
    /// that the wait has seen.
    pub(super) fn keep(&mut self, request: RequestId, view: TaskView, bytes: usize) {
        let ends = self.waits.entry(request).or_default();
        if let Entry::Vacant(entry) = ends.tasks.entry(view.id.clone()) {
            entry.insert(view);
            ends.bytes += bytes;
            self.bytes += bytes;
            self.all.0.fetch_add(bytes, Ordering::Relaxed);
        }
    }

    /// Takes the views that were kept for this request, for its answer.
    pub(super) fn take(&mut self, request: RequestId) -> Option<Ends> {
        let ends = self.waits.remove(&request)?;
        self.give_back(ends.bytes);
        Some(ends)
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

    fn view(id: &str) -> TaskView {
        TaskView { id: id.try_into().expect("the text is an id"), found: None }
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
        let mut ends = one.take(1).expect("a view was kept");
        assert!(ends.show(&view("a").id).is_some() && ends.show(&view("c").id).is_none());
        assert_eq!((one.bytes, all.0.load(Ordering::Relaxed)), (5, 12));
        drop((one, other));
        assert_eq!(all.0.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn no_connection_keeps_more_than_its_share_and_all_no_more_than_theirs() {
        let all = AllKept::default();
        let mut full: Vec<Kept> =
            (0..ALL_KEPT_BYTES_MAX / KEPT_BYTES_MAX).map(|_| Kept::new(all.clone())).collect();
        for kept in &mut full {
            let has_room = |bytes, of_wait_max| kept.has_room(1, bytes, of_wait_max);
            assert!(
                has_room(KEPT_BYTES_MAX, usize::MAX) && !has_room(KEPT_BYTES_MAX + 1, usize::MAX)
            );
            assert!(
                has_room(7, 7) && !has_room(8, 7),
                "the answer of one wait has a bound of its own"
            );
            kept.keep(1, view("a"), KEPT_BYTES_MAX);
            assert!(!kept.has_room(2, 1, usize::MAX));
        }
        assert!(!Kept::new(all).has_room(1, 1, usize::MAX), "no connection has room");
    }
}
