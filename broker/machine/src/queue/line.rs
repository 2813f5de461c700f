//! A line of waiting tasks, in parts. A long line grows without copying, and the parts of served
//! tasks are freed.

use std::collections::VecDeque;

use celeriac_record::Slot;

/// The place of a task in line. `order` shows whether the slot still holds the task that took this
/// place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    pub slot: Slot,
    pub order: u32,
}

impl Place {
    /// Whether a place was taken before another one. The orders of one line lie far less than two
    /// thousand million apart.
    fn is_before(self, other: Place) -> bool {
        (self.order.wrapping_sub(other.order) as i32) < 0
    }
}

/// The number of places of one part: 32 KiB.
const PART_PLACES: usize = 4_096;

#[derive(Debug, Default)]
pub(crate) struct Line {
    /// The places in the order in which they were taken. Only a line with a single part may have an
    /// empty part.
    parts: VecDeque<VecDeque<Place>>,
}

impl Line {
    pub fn push_back(&mut self, place: Place) {
        if self.parts.back().is_none_or(|part| part.len() == PART_PLACES) {
            self.parts.push_back(self.new_part());
        }
        self.parts.back_mut().expect("there is a part").push_back(place);
    }

    /// Gives a task its earlier place again: behind those of earlier orders, which may have come
    /// back before it. Returns whether the place is the first one.
    pub fn put_back(&mut self, place: Place) -> bool {
        let is_behind =
            |part: &VecDeque<Place>| part.back().is_none_or(|last| last.is_before(place));
        let at = self.parts.partition_point(is_behind);
        if at == self.parts.len() {
            self.push_back(place);
            return self.front() == Some(&place);
        }
        let within = self.parts[at].partition_point(|other| other.is_before(place));
        if self.parts[at].len() < PART_PLACES {
            self.parts[at].insert(within, place);
        } else if within == 0 {
            self.parts.insert(at, self.new_part());
            self.parts[at].push_front(place);
        } else {
            let mut rest = self.new_part();
            rest.extend(self.parts[at].drain(within..));
            self.parts.insert(at + 1, rest);
            self.parts[at].push_back(place);
        }
        (at, within) == (0, 0)
    }

    pub fn pop_front(&mut self) -> Option<Place> {
        let part = self.parts.front_mut()?;
        let place = part.pop_front();
        if part.is_empty() && self.parts.len() > 1 {
            self.parts.pop_front();
        }
        place
    }

    pub fn front(&self) -> Option<&Place> {
        self.parts.front()?.front()
    }

    /// The places behind this order, or all of them.
    pub fn behind(&self, order: Option<u32>) -> impl Iterator<Item = &Place> {
        let last = order.map(|order| Place { slot: 0, order });
        let is_done = |place: &Place| last.is_some_and(|last| !last.is_before(*place));
        let at = self.parts.partition_point(|part| part.back().is_some_and(is_done));
        let within = self.parts.get(at).map_or(0, |part| part.partition_point(is_done));
        let rest = self.parts.get(at).into_iter().flat_map(move |part| part.range(within..));
        rest.chain(self.parts.iter().skip(at + 1).flatten())
    }

    /// The first part begins small and grows, because most lines are short.
    fn new_part(&self) -> VecDeque<Place> {
        VecDeque::with_capacity(if self.parts.is_empty() { 0 } else { PART_PLACES })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(slot: usize) -> Place {
        // The orders of a broker that has run for long pass the end of their numbers.
        Place { slot: slot as Slot, order: (slot as u32).wrapping_sub(5) }
    }

    fn is_in_order(line: &Line, slots: std::ops::Range<usize>) -> bool {
        line.behind(None).eq(slots.map(place).collect::<Vec<_>>().iter())
    }

    #[test]
    fn a_line_of_many_parts_is_served_from_its_front() {
        let mut line = Line::default();
        for slot in 10..3 * PART_PLACES {
            line.push_back(place(slot));
        }
        for slot in (0..10).rev() {
            assert!(line.put_back(place(slot)));
        }
        assert!(is_in_order(&line, 0..3 * PART_PLACES));
        for slot in 0..3 * PART_PLACES {
            assert_eq!(line.front(), Some(&place(slot)));
            assert_eq!(line.pop_front(), Some(place(slot)));
        }
        assert_eq!((line.pop_front(), line.front(), line.parts.len()), (None, None, 1));
        assert!(line.put_back(place(7)));
        assert_eq!(line.pop_front(), Some(place(7)));
    }

    #[test]
    fn places_that_come_back_in_any_order_stand_in_their_own() {
        let all = 3 * PART_PLACES;
        // Each step is one after which every number comes: the oldest first, the newest first, and
        // two that jump about.
        for step in [1, all - 1, 4_099, 7_001] {
            let mut line = Line::default();
            line.push_back(place(all));
            for turn in 0..all {
                line.put_back(place(turn * step % all));
            }
            assert!(is_in_order(&line, 0..all + 1), "step {step}");
            assert!(line.parts.iter().all(|part| (1..=PART_PLACES).contains(&part.len())));
            for first in [0, 1, 4_095, 4_096, 9_000, all - 1, all] {
                let behind = line.behind(Some(place(first).order)).copied();
                assert!(behind.eq((first + 1..=all).map(place)), "behind {first}, step {step}");
            }
        }
    }
}
