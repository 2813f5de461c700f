//! When places in line were taken. A waiting task has its place and no time, so the machine notes
//! now and then which place it would give next: once in a millisecond at most, and the older a note
//! is, the fewer stand beside it.

use crate::command::Monotonic;

/// The notes are thinned out when there are so many: 64 KiB.
const NOTES_MAX: usize = 4_096;

/// How exact an old note stays: to one part in so many of its age. Then fewer than 3,500 notes are
/// enough for a century.
const PARTS: Monotonic = 64;

/// Places from `order` on, up to the next note, were taken at `at` or soon after.
#[derive(Debug, Clone, Copy)]
struct Note {
    order: u64,
    at: Monotonic,
}

/// The notes, the oldest first.
#[derive(Debug, Default)]
pub(crate) struct Arrivals {
    notes: Vec<Note>,
    /// The note that was found last: places mostly come in their order.
    found: usize,
}

impl Arrivals {
    /// From now on places are taken from `next` on.
    pub fn note(&mut self, next: u64, now: Monotonic) {
        match self.notes.last_mut() {
            Some(last) if last.at == now => return,
            // No place was taken meanwhile.
            Some(last) if last.order == next => {
                last.at = now;
                return;
            }
            _ => {}
        }
        if self.notes.len() >= NOTES_MAX {
            self.thin_out(now);
        }
        self.notes.push(Note { order: next, at: now });
    }

    /// When a place was taken. `None`: before the first note.
    pub fn at(&mut self, order: u64) -> Option<Monotonic> {
        let is_in = |notes: &[Note], at: usize| {
            notes.get(at).is_some_and(|note| note.order <= order)
                && notes.get(at + 1).is_none_or(|next| next.order > order)
        };
        if !is_in(&self.notes, self.found) {
            let last = self.notes.len().saturating_sub(1);
            self.found = match is_in(&self.notes, last) {
                true => last,
                false => self.notes.partition_point(|note| note.order <= order).checked_sub(1)?,
            };
        }
        Some(self.notes[self.found].at)
    }

    /// Drops notes that are close to their neighbours for their age.
    fn thin_out(&mut self, now: Monotonic) {
        let mut kept: Vec<Note> = Vec::with_capacity(NOTES_MAX);
        let mut notes = self.notes.iter().peekable();
        while let Some(note) = notes.next() {
            let gap = match (kept.last(), notes.peek()) {
                (Some(before), Some(after)) => after.at.saturating_sub(before.at),
                _ => Monotonic::MAX,
            };
            if gap > now.saturating_sub(note.at) / PARTS {
                kept.push(*note);
            }
        }
        self.notes = kept;
        self.found = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_place_is_known_to_the_millisecond_and_one_of_before_is_not_known() {
        let mut arrivals = Arrivals::default();
        assert_eq!(arrivals.at(1), None);
        for (next, now) in [(10, 0), (10, 5), (14, 5), (14, 9), (20, 12)] {
            arrivals.note(next, now);
        }
        let times: Vec<_> = [9, 10, 13, 14, 19, 20, 99, 10].map(|order| arrivals.at(order)).into();
        let five = Some(5);
        assert_eq!(times, [None, five, five, Some(9), Some(9), Some(12), Some(12), five]);
    }

    #[test]
    fn after_a_year_the_notes_are_few_and_all_places_known_well_enough() {
        let mut arrivals = Arrivals::default();
        // Bursts of a place in each millisecond, and then nothing for long.
        let moments: Vec<u64> = (0..2_000)
            .flat_map(|burst| (0..50).map(move |step| burst * 15_768_000 + step))
            .collect();
        for (order, now) in moments.iter().enumerate() {
            arrivals.note(order as u64, *now);
            assert!(arrivals.notes.len() <= NOTES_MAX);
        }
        let now = moments[moments.len() - 1];
        for (order, taken) in moments.iter().enumerate() {
            let known = arrivals.at(order as u64).expect("every place was noted");
            let (age, error) = (now - taken, taken.abs_diff(known));
            assert!(error <= age / 60 + 1, "{order}: {error} of {age}");
        }
    }
}
