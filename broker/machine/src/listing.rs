//! Listings of tasks, page by page: by slots, in the order of a list (`ordered.rs`), or the newest
//! first. A page ends when it is full, or when the listing has looked at many tasks for it.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use celeriac_record::{Slot, State, TaskKey};

use crate::Machine;
use crate::command::{Cursor, Filter, List, ListPlace, Page, TaskOutline};
use crate::keys::QueueKey;
use crate::slice::{Look, RULES};
use crate::step::{Asker, Step};
use crate::task::Task;

/// A page of a listing, under way.
#[derive(Debug)]
pub(crate) struct Listing {
    pub filter: Filter,
    /// The queue of the filter, valid during one slice.
    pub queue: Option<Option<QueueKey>>,
    limit: usize,
    with_tracebacks: bool,
    /// The first slot to look at.
    pub from: Slot,
    /// The list to look at, and the place of the task that was looked at last. Without a list the
    /// listing looks at all slots.
    pub list: Option<List>,
    pub place: Option<ListPlace>,
    /// The tasks that the listing has looked at in its list, those for the pages before included.
    pub looked: u64,
    /// The looks that are left for this page. Then the page ends, full or not.
    looks_left: u32,
    found: Found,
}

/// The tasks that a page has so far.
#[derive(Debug)]
enum Found {
    /// The first tasks in the order of their slots or of the list, each with the cursor behind it.
    First(Vec<(TaskKey, Cursor)>),
    /// The tasks with the highest serials. The machine keeps no order of serials, so it looks at
    /// all tasks for each page.
    Newest {
        /// Only tasks with lower serials.
        below: u64,
        /// Serials with slots, the lowest serial on top.
        tasks: BinaryHeap<Reverse<(u64, Slot)>>,
        /// Whether a task was found that has no place on the page.
        has_more: bool,
    },
}

/// The page that a client asks for.
#[derive(Debug)]
pub(crate) struct PageAsked {
    pub filter: Filter,
    pub limit: usize,
    pub newest_first: bool,
    pub just_ended: bool,
    pub after: Option<Cursor>,
    pub with_tracebacks: bool,
}

impl Listing {
    /// Whether the page looks at no further task.
    pub fn is_over(&self) -> bool {
        let is_full = matches!(&self.found, Found::First(found) if found.len() == self.limit);
        is_full || self.looks_left == 0
    }

    /// Counts looks against those of the page. A page of the newest tasks must look at all tasks.
    pub fn spend(&mut self, cost: u32) {
        if !self.is_newest_first() {
            self.looks_left = self.looks_left.saturating_sub(cost);
        }
    }

    /// Whether a task with this serial could change the page.
    pub fn may_show(&self, serial: u64) -> bool {
        match &self.found {
            Found::First(_) => true,
            Found::Newest { below, has_more, .. } => {
                serial < *below && !(*has_more && self.lowest().is_some_and(|low| serial < low))
            }
        }
    }

    pub fn add(&mut self, key: TaskKey, behind: Cursor) {
        match &mut self.found {
            Found::First(found) => found.push((key, behind)),
            Found::Newest { tasks, has_more, .. } => {
                tasks.push(Reverse((key.serial, key.slot)));
                if tasks.len() > self.limit {
                    tasks.pop();
                    *has_more = true;
                }
            }
        }
    }

    /// The lowest serial among the newest tasks.
    fn lowest(&self) -> Option<u64> {
        match &self.found {
            Found::First(_) => None,
            Found::Newest { tasks, .. } => tasks.peek().map(|Reverse((serial, _))| *serial),
        }
    }

    /// The tasks in the order of the page, each with the cursor behind it.
    fn take_keys(&mut self) -> Vec<(TaskKey, Cursor)> {
        match &mut self.found {
            Found::First(found) => std::mem::take(found),
            Found::Newest { tasks, .. } => {
                let sorted = std::mem::take(tasks).into_sorted_vec().into_iter();
                let key =
                    |Reverse((serial, slot))| (TaskKey { slot, serial }, Cursor::Serial(serial));
                sorted.map(key).collect()
            }
        }
    }

    /// Whether the newest tasks come first.
    pub fn is_newest_first(&self) -> bool {
        matches!(self.found, Found::Newest { .. })
    }

    /// The start of the next page. The scan has ended before the slot `next` of `end` slots.
    fn next(&self, next: Slot, end: Slot) -> Option<Cursor> {
        match (&self.found, self.list) {
            (Found::Newest { has_more, .. }, _) => {
                self.lowest().filter(|_| *has_more).map(Cursor::Serial)
            }
            (Found::First(_), Some(_)) => {
                let behind = |place| Cursor::In(ListPlace { looked: self.looked, ..place });
                self.place.filter(|_| self.is_over()).map(behind)
            }
            (Found::First(_), None) => (next < end).then(|| Cursor::Slot(next.saturating_sub(1))),
        }
    }
}

impl Machine {
    /// One page of the tasks that match, in the order of a list or of their slots, or the newest
    /// ones.
    pub(crate) fn list_tasks(&mut self, step: &mut Step<'_>, asker: Asker, asked: PageAsked) {
        let PageAsked { filter, limit, newest_first, just_ended, after, with_tracebacks } = asked;
        let filter = Filter { scope: step.scope.clone(), ..filter };
        let (mut from, mut below, mut place) = (0, u64::MAX, None);
        match after {
            Some(Cursor::Slot(slot)) => from = slot.saturating_add(1),
            Some(Cursor::Serial(serial)) => below = serial,
            Some(Cursor::In(after)) => place = Some(after),
            None => {}
        }
        // A cursor goes on in the order in which it was given.
        let list = match after {
            Some(Cursor::In(place)) => Some(place.list),
            Some(Cursor::Slot(_)) => None,
            Some(Cursor::Serial(_)) | None if just_ended => Some(List::Ended),
            Some(Cursor::Serial(_)) | None => list_for(&filter, newest_first),
        };
        let found = match newest_first {
            true => Found::Newest { below, tasks: BinaryHeap::new(), has_more: false },
            false => Found::First(Vec::new()),
        };
        let (queue, looks_left) = (None, self.scans.looks_per_page());
        let looked = place.map_or(0, |place| place.looked);
        self.begin_scan(
            step,
            asker,
            Listing {
                filter,
                queue,
                limit,
                with_tracebacks,
                from,
                list,
                place,
                looked,
                looks_left,
                found,
            },
        );
    }

    pub(crate) fn list_slot(&self, slot: Slot, listing: &mut Listing) -> Look {
        if listing.is_over() {
            return Look::Enough;
        }
        let cost = self.list_task(slot, listing, Cursor::Slot(slot));
        listing.spend(cost);
        Look::Cost(cost)
    }

    /// Looks at one task of a listing, and returns the cost.
    pub(crate) fn list_task(&self, slot: Slot, listing: &mut Listing, behind: Cursor) -> u32 {
        let Some(task) = self.tasks.try_task(slot) else { return 1 };
        if !listing.may_show(task.serial()) {
            return 1;
        }
        if self.matches(task, &listing.filter, listing.queue) {
            listing.add(self.tasks.key(slot), behind);
            return RULES;
        }
        self.cost_of(task, &listing.filter)
    }

    /// The tasks that the listing found, in their present state. Since then some tasks may have
    /// been removed, or may match no longer. The scan has ended before the slot `next` of `end`
    /// slots.
    pub(crate) fn page(
        &self,
        step: &Step<'_>,
        listing: &mut Listing,
        next: Slot,
        end: Slot,
    ) -> Page<TaskOutline> {
        let behind = listing.next(next, end);
        let is_newest_first = listing.is_newest_first();
        let total = match listing.list {
            Some(list) => self.looks_in_list(list, listing.queue.flatten()).max(listing.looked),
            None => u64::from(end),
        };
        let looked = match (behind, listing.list) {
            (None, _) => total,
            (Some(_), _) if is_newest_first => total,
            (Some(_), Some(_)) => listing.looked,
            (Some(_), None) => u64::from(next),
        };
        // The looks count tasks that the client may not see. The step may be one of the broker.
        let (looked, total) = match listing.filter.scope {
            Some(_) => (0, 0),
            None => (looked, total),
        };
        let found = listing.take_keys();
        let matches = |(key, _): &&(TaskKey, Cursor)| {
            let task = self.tasks.try_task(key.slot).filter(|task| task.serial() == key.serial);
            task.is_some_and(|task| self.matches(task, &listing.filter, listing.queue))
        };
        let outline = |(key, behind): &(TaskKey, Cursor)| {
            (*behind, self.outline_of_slot(step, key.slot, listing.with_tracebacks))
        };
        Page {
            tasks: found.iter().filter(matches).map(outline).collect(),
            newest_first: is_newest_first,
            just_ended: listing.list == Some(List::Ended),
            next: behind,
            looked,
            total,
        }
    }

    /// The cost of finding that a task does not match.
    pub(crate) fn cost_of(&self, task: &Task, filter: &Filter) -> u32 {
        if filter.tag.is_none() && filter.root.is_none() && filter.id_prefix.is_empty() {
            return 1;
        }
        RULES + self.tasks.plan(task).map_or(0, |plan| plan.tags.len() as u32)
    }

    /// Whether a task matches a filter. `queue` is the queue of the filter after its look-up;
    /// `Some(None)` means that the queue does not exist.
    pub(crate) fn matches(
        &self,
        task: &Task,
        filter: &Filter,
        queue: Option<Option<QueueKey>>,
    ) -> bool {
        let plan = self.tasks.plan(task);
        queue.is_none_or(|queue| queue == Some(task.queue()))
            && (filter.states.is_empty() || filter.states.contains(&task.state))
            && filter.name.as_ref().is_none_or(|name| self.names.name(task.name) == name)
            && filter
                .tag
                .as_ref()
                .is_none_or(|tag| plan.is_some_and(|plan| plan.tags.contains(tag)))
            && filter
                .root
                .as_ref()
                .is_none_or(|root| plan.is_some_and(|plan| plan.root_id == *root))
            && filter.submitted_before.is_none_or(|at| task.submitted_at() < at)
            && filter.submitted_after.is_none_or(|at| task.submitted_at() > at)
            && (filter.id_prefix.is_empty()
                || self.tasks.with_id(task, |id| id.starts_with(&*filter.id_prefix)))
            && self.sees_task(filter.scope.as_deref(), task)
    }
}

/// The list that has every task that the filter finds, if there is one.
fn list_for(filter: &Filter, newest_first: bool) -> Option<List> {
    let only = |states: &[State]| {
        !filter.states.is_empty() && filter.states.iter().all(|state| states.contains(state))
    };
    if only(&[State::Failure]) {
        Some(List::Dead)
    } else if only(&[State::Leased, State::Started]) {
        Some(List::Leases)
    } else if only(&[State::Queued]) && filter.queue.is_some() && !newest_first {
        Some(List::Line)
    } else {
        None
    }
}
