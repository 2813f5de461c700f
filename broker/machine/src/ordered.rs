//! Listings in the order of a list: dead tasks, leases, the line of a queue, the tasks that ended
//! last. A page looks at the tasks of its list and at no others. Like every scan it does so in
//! slices, and it finds its place again by the place of the task that it looked at last.

use celeriac_record::{Lease, Slot, Timestamp};

use crate::Machine;
use crate::command::{Cursor, List, ListPlace};
use crate::ends::DeadPlace;
use crate::keys::{QueueKey, SessionKey};
use crate::listing::Listing;
use crate::queue::LinePlace;

/// The places of a line that are looked up together.
const LINE_AT_ONCE: usize = 1_000;

impl Machine {
    /// Looks on in the list of a listing. Returns false if the slice is used up before the end.
    pub(crate) fn look_in_list(&mut self, listing: &mut Listing) -> bool {
        let queue = match listing.queue {
            // There is no such queue.
            Some(None) => return true,
            queue => queue.flatten(),
        };
        match listing.list {
            Some(List::Dead) => self.look_at_dead(queue, listing),
            Some(List::Leases) => self.look_at_leases(listing),
            Some(List::Line) => self.look_at_line(queue, listing),
            Some(List::Ended) => self.look_at_ends(listing),
            None => true,
        }
    }

    /// The number of tasks that a listing in this list looks at.
    pub(crate) fn looks_in_list(&self, list: List, queue: Option<QueueKey>) -> u64 {
        match (list, queue.map(|queue| self.queues.queue(queue))) {
            (List::Dead, Some(queue)) => queue.dead,
            (List::Dead, None) => self.ends.dead() as u64,
            (List::Leases, _) => {
                let leases = |session: &crate::session::Session| session.consumer.leases.len();
                self.sessions.all.values().map(leases).sum::<usize>() as u64
            }
            (List::Line, queue) => queue.map_or(0, |queue| queue.ready),
            (List::Ended, _) => self.ends.latest().count() as u64,
        }
    }

    /// Looks at one task of a list. Returns whether the slice and the page go on.
    fn look_in_place(&mut self, slot: Slot, place: ListPlace, listing: &mut Listing) -> bool {
        listing.looked = listing.looked.saturating_add(1);
        let place = ListPlace { looked: listing.looked, ..place };
        listing.place = Some(place);
        let cost = self.list_task(slot, listing, Cursor::In(place));
        listing.spend(cost);
        self.scans.spend(cost) && !listing.is_over()
    }

    fn look_at_dead(&mut self, queue: Option<QueueKey>, listing: &mut Listing) -> bool {
        let mut last = listing.place.map(|place| {
            DeadPlace::new(place.group as QueueKey, place.order as Timestamp, place.slot)
        });
        while let Some(next) = self.ends.dead_behind(queue, last) {
            let (group, order) = (u64::from(next.queue), next.ended() as u64);
            let place = ListPlace { list: List::Dead, group, order, slot: next.slot(), looked: 0 };
            if !self.look_in_place(next.slot(), place, listing) {
                return listing.is_over();
            }
            last = Some(next);
        }
        true
    }

    fn look_at_leases(&mut self, listing: &mut Listing) -> bool {
        let from = listing.place.map_or((SessionKey::MIN, 0), |place| (place.group, place.order));
        let mut session = from.0;
        while let Some((key, held)) = self.sessions.all.range(session..).next() {
            let key = *key;
            let lease_of = |slot: &Slot| (self.tasks.task(*slot).lease(), *slot);
            let is_behind = |(lease, _): &(Lease, Slot)| (key, *lease) > from;
            let mut leases: Vec<(Lease, Slot)> =
                held.consumer.leases.iter().map(lease_of).filter(is_behind).collect();
            leases.sort_unstable();
            let has_room = self.scans.spend(1 + leases.len() as u32);
            for (order, slot) in leases {
                let place = ListPlace { list: List::Leases, group: key, order, slot, looked: 0 };
                if !self.look_in_place(slot, place, listing) {
                    return listing.is_over();
                }
            }
            session = key.saturating_add(1);
            if !has_room {
                let (list, group, order) = (List::Leases, key, Lease::MAX);
                let looked = listing.looked;
                listing.place = Some(ListPlace { list, group, order, slot: 0, looked });
                return false;
            }
        }
        true
    }

    fn look_at_line(&mut self, queue: Option<QueueKey>, listing: &mut Listing) -> bool {
        let Some(queue) = queue else { return true };
        let mut last = listing.place.map(|place| LinePlace::from_number(place.order, place.slot));
        loop {
            let books = self.queues.queue(queue);
            let (found, lanes) = (books.in_line(last, LINE_AT_ONCE), books.lanes() as u32);
            for next in &found {
                let (group, order) = (u64::from(queue), next.number());
                let (list, looked) = (List::Line, 0);
                let place = ListPlace { list, group, order, slot: next.slot, looked };
                let stands = self.tasks.queued_order(next.slot) == Some(next.order);
                let slot = if stands { next.slot } else { Slot::MAX };
                if !self.look_in_place(slot, place, listing) {
                    return listing.is_over();
                }
            }
            last = found.last().copied();
            if last.is_none() {
                return true;
            }
            if !self.scans.spend(lanes) {
                return false;
            }
        }
    }

    fn look_at_ends(&mut self, listing: &mut Listing) -> bool {
        let latest = self.ends.latest();
        let end = listing.place.map_or(latest.end, |place| place.order.min(latest.end));
        for order in (latest.start..end).rev() {
            let Some(key) = self.ends.ended(order) else { return true };
            let place = ListPlace { list: List::Ended, group: 0, order, slot: key.slot, looked: 0 };
            // The slot may belong to another task by now.
            let slot = self.tasks.try_task(key.slot).filter(|task| task.serial() == key.serial);
            let slot = slot.map_or(Slot::MAX, |_| key.slot);
            if !self.look_in_place(slot, place, listing) {
                return listing.is_over();
            }
        }
        true
    }
}
