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

/// The number of places of one part: 32 KiB.
const PART_PLACES: usize = 4_096;

#[derive(Debug, Default)]
pub(crate) struct Line {
    /// Only a line with a single part may have an empty part.
    parts: VecDeque<VecDeque<Place>>,
}

impl Line {
    pub fn push_back(&mut self, place: Place) {
        if self.parts.back().is_none_or(|part| part.len() == PART_PLACES) {
            self.parts.push_back(self.new_part());
        }
        self.parts.back_mut().expect("there is a part").push_back(place);
    }

    pub fn push_front(&mut self, place: Place) {
        if self.parts.front().is_none_or(|part| part.len() == PART_PLACES) {
            self.parts.push_front(self.new_part());
        }
        self.parts.front_mut().expect("there is a part").push_front(place);
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

    pub fn iter(&self) -> impl Iterator<Item = &Place> {
        self.parts.iter().flatten()
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
        Place { slot: slot as Slot, order: 0 }
    }

    #[test]
    fn a_line_of_many_parts_is_served_from_its_front() {
        let mut line = Line::default();
        for slot in 10..3 * PART_PLACES {
            line.push_back(place(slot));
        }
        for slot in (0..10).rev() {
            line.push_front(place(slot));
        }
        assert!(line.iter().eq((0..3 * PART_PLACES).map(place).collect::<Vec<_>>().iter()));
        for slot in 0..3 * PART_PLACES {
            assert_eq!(line.front(), Some(&place(slot)));
            assert_eq!(line.pop_front(), Some(place(slot)));
        }
        assert_eq!((line.pop_front(), line.front(), line.parts.len()), (None, None, 1));
        line.push_front(place(7));
        assert_eq!(line.pop_front(), Some(place(7)));
    }
}
