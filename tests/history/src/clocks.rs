//! The broker's clocks over a history: what they may have shown between two entries, including
//! jumps.

use super::event::{Entry, Event, Moment, Position};

/// If the difference of the two clocks changes by more than this, the wall clock was set.
const JUMP_MS: i64 = 20;

/// The clocks at all entries.
pub(super) struct Clocks {
    moments: Vec<Moment>,
    /// The first entry of each stretch without a jump, and how far the wall clock is ahead in it.
    stretches: Vec<(Position, i64)>,
    /// The same for the clock that measures durations. It begins with the time of the wall clock
    /// when the broker starts.
    steady: Vec<(Position, i64)>,
}

impl Clocks {
    pub(super) fn of(entries: &[Entry]) -> Self {
        let moments: Vec<Moment> = entries.iter().map(|entry| entry.at).collect();
        let mut stretches: Vec<(Position, i64)> = Vec::new();
        for (position, moment) in moments.iter().enumerate() {
            let ahead = moment.wall_ms - moment.mono_ms as i64;
            if stretches.last().is_none_or(|(_, last)| (ahead - last).abs() > JUMP_MS) {
                stretches.push((position, ahead));
            }
        }
        let starts = entries
            .iter()
            .enumerate()
            .filter(|(position, entry)| *position == 0 || matches!(entry.event, Event::BrokerUp));
        let steady = starts
            .map(|(position, entry)| (position, entry.at.wall_ms - entry.at.mono_ms as i64))
            .collect();
        Self { moments, stretches, steady }
    }

    pub(super) fn len(&self) -> usize {
        self.moments.len()
    }

    pub(super) fn mono(&self, position: Position) -> u64 {
        self.moments[position].mono_ms
    }

    /// The first entry that is older than this one by at most this time, on the clock that only
    /// goes forward. If the wall clock was set just before that entry, the entry before it.
    pub(super) fn since(&self, position: Position, ms: u64) -> Position {
        let from = self.mono(position).saturating_sub(ms);
        let first = self.moments[..position].partition_point(|moment| moment.mono_ms < from);
        match self.stretches.binary_search_by_key(&first, |(begin, _)| *begin) {
            Ok(_) => first.saturating_sub(1),
            Err(_) => first,
        }
    }

    /// The latest that the wall clock may have shown from one entry to another.
    pub(super) fn latest(&self, from: Position, to: Position) -> i64 {
        self.latest_of(&self.stretches, from, to)
    }

    /// The latest that the steady clock may have shown from one entry to another.
    pub(super) fn latest_steady(&self, from: Position, to: Position) -> i64 {
        self.latest_of(&self.steady, from, to)
    }

    fn latest_of(&self, stretches: &[(Position, i64)], from: Position, to: Position) -> i64 {
        self.shown(stretches, from, to, |position, _, end| position.1.min(end))
            .max()
            .unwrap_or(i64::MIN)
    }

    /// The earliest that the wall clock may have shown from one entry to another.
    pub(super) fn earliest(&self, from: Position, to: Position) -> i64 {
        self.earliest_of(&self.stretches, from, to)
    }

    /// The earliest that the steady clock may have shown from one entry to another.
    pub(super) fn earliest_steady(&self, from: Position, to: Position) -> i64 {
        self.earliest_of(&self.steady, from, to)
    }

    fn earliest_of(&self, stretches: &[(Position, i64)], from: Position, to: Position) -> i64 {
        self.shown(stretches, from, to, |position, begin, _| position.0.max(begin))
            .min()
            .unwrap_or(i64::MAX)
    }

    /// The clock of each stretch that overlaps the span, at the entry that `choose` picks from the
    /// span and the stretch. A jump happened somewhere between two entries, so a stretch includes
    /// the entries around it.
    fn shown(
        &self,
        stretches: &[(Position, i64)],
        from: Position,
        to: Position,
        choose: impl Fn((Position, Position), Position, Position) -> Position,
    ) -> impl Iterator<Item = i64> {
        let last = self.moments.len().saturating_sub(1);
        let first = stretches.partition_point(|(begin, _)| *begin <= from).saturating_sub(1);
        let touched =
            stretches[first..].iter().enumerate().take_while(move |(_, (begin, _))| *begin <= to);
        touched.map(move |(index, (begin, ahead))| {
            let end = stretches.get(first + index + 1).map_or(last, |(next, _)| *next);
            self.moments[choose((from, to), begin.saturating_sub(1), end)].mono_ms as i64 + ahead
        })
    }
}
