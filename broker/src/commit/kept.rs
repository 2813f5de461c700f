//! How tasks ended that are gone before the wait which saw them is answered. A wait for many tasks
//! may last longer than some of them are kept: their ends stay here, complete, until the answer
//! takes them. The memory for that is bounded: an end that has no room stays without its result,
//! and what has no room even so is shown as UNKNOWN.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use celeriac_machine::command::{RequestId, View};
use celeriac_proto::TaskId;

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
    waits: HashMap<RequestId, Ends>,
    bytes: usize,
    all: AllKept,
}

/// Those that one wait has seen.
#[derive(Debug, Default)]
struct Ends {
    tasks: HashMap<TaskId, View>,
    bytes: usize,
}

impl Kept {
    pub(super) fn new(all: AllKept) -> Self {
        Self { waits: HashMap::new(), bytes: 0, all }
    }

    /// Whether this many bytes more have room for this request, which may have so many.
    pub(super) fn has_room(&self, request: RequestId, bytes: usize, of_wait_max: usize) -> bool {
        let of_wait = self.waits.get(&request).map_or(0, |ends| ends.bytes);
        of_wait + bytes <= of_wait_max
            && self.bytes + bytes <= KEPT_BYTES_MAX
            && self.all.0.load(Ordering::Relaxed) + bytes <= ALL_KEPT_BYTES_MAX
    }

    /// Keeps one for the answer to this request. The first end of an id is the one that the wait
    /// has seen.
    pub(super) fn keep(&mut self, request: RequestId, view: View, bytes: usize) {
        let ends = self.waits.entry(request).or_default();
        if let Entry::Vacant(entry) = ends.tasks.entry(view.id.clone()) {
            entry.insert(view);
            ends.bytes += bytes;
            self.bytes += bytes;
            self.all.0.fetch_add(bytes, Ordering::Relaxed);
        }
    }

    /// Puts what was kept for this request in the places of its answer, and forgets it. An id that
    /// is named twice has its result once: there is room for no more.
    pub(super) fn show(&mut self, request: RequestId, tasks: &mut [View]) {
        let Some(mut ends) = self.waits.remove(&request) else { return };
        for task in tasks {
            if let Some(view) = ends.tasks.get_mut(&task.id) {
                task.clone_from(view);
                strip(view);
            }
        }
        self.give_back(ends.bytes);
    }

    fn give_back(&mut self, bytes: usize) {
        self.bytes -= bytes;
        self.all.0.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// Takes from the view of a task what may be large: an end without its result is better than none.
pub(super) fn strip(view: &mut View) {
    if let Some((_, Some(changed))) = view.task.as_mut().and_then(|task| task.records.as_mut()) {
        changed.result = None;
        changed.errors.iter_mut().for_each(|error| error.traceback = Box::default());
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
        View {
            id: id.try_into().expect("it is an id"),
            task: None,
            with_result: false,
            with_tracebacks: false,
        }
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
        assert!(!Kept::new(all).has_room(1, 1, usize::MAX), "there is no room for anybody");
    }
}
