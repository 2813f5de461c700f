//! The broker's clocks over a history: what they may have shown between two entries, jumps
//! included.

use super::event::{Entry, Event, Mark, Moment};

/// A difference of the two clocks beyond this is a jump.
const JUMP_MS: i64 = 20;

/// The clocks of all entries.
pub(super) struct Walls {
    moments: Vec<Moment>,
    /// Where a stretch without a jump begins, and how far the wall clock is ahead in it.
    stretches: Vec<(Mark, i64)>,
    /// The same of the clock that measures spans: it shows what the wall clock showed when the
    /// broker started.
    steady: Vec<(Mark, i64)>,
}

impl Walls {
    pub(super) fn of(entries: &[Entry]) -> Self {
        let moments: Vec<Moment> = entries.iter().map(|entry| entry.at).collect();
        let mut stretches: Vec<(Mark, i64)> = Vec::new();
        for (mark, moment) in moments.iter().enumerate() {
            let ahead = moment.wall_ms - moment.mono_ms as i64;
            if stretches.last().is_none_or(|(_, last)| (ahead - last).abs() > JUMP_MS) {
                stretches.push((mark, ahead));
            }
        }
        let starts = entries
            .iter()
            .enumerate()
            .filter(|(mark, entry)| *mark == 0 || matches!(entry.event, Event::BrokerUp));
        let steady = starts
            .map(|(mark, entry)| (mark, entry.at.wall_ms - entry.at.mono_ms as i64))
            .collect();
        Self { moments, stretches, steady }
    }

    pub(super) fn len(&self) -> usize {
        self.moments.len()
    }

    pub(super) fn mono(&self, mark: Mark) -> u64 {
        self.moments[mark].mono_ms
    }

    /// The first entry that is no more than so much older than this one, by the clock that only
    /// goes forward; where the wall clock was set just before it, the one before that.
    pub(super) fn since(&self, mark: Mark, ms: u64) -> Mark {
        let from = self.mono(mark).saturating_sub(ms);
        let first = self.moments[..mark].partition_point(|moment| moment.mono_ms < from);
        match self.stretches.binary_search_by_key(&first, |(begin, _)| *begin) {
            Ok(_) => first.saturating_sub(1),
            Err(_) => first,
        }
    }

    /// The latest that the wall clock may have shown from one entry to another.
    pub(super) fn latest(&self, from: Mark, to: Mark) -> i64 {
        self.latest_of(&self.stretches, from, to)
    }

    /// The latest that the steady clock may have shown from one entry to another.
    pub(super) fn latest_steady(&self, from: Mark, to: Mark) -> i64 {
        self.latest_of(&self.steady, from, to)
    }

    fn latest_of(&self, stretches: &[(Mark, i64)], from: Mark, to: Mark) -> i64 {
        self.shown(stretches, from, to, |mark, _, end| mark.1.min(end)).max().unwrap_or(i64::MIN)
    }

    /// The earliest that the wall clock may have shown from one entry to another.
    pub(super) fn earliest(&self, from: Mark, to: Mark) -> i64 {
        self.earliest_of(&self.stretches, from, to)
    }

    /// The earliest that the steady clock may have shown from one entry to another.
    pub(super) fn earliest_steady(&self, from: Mark, to: Mark) -> i64 {
        self.earliest_of(&self.steady, from, to)
    }

    fn earliest_of(&self, stretches: &[(Mark, i64)], from: Mark, to: Mark) -> i64 {
        self.shown(stretches, from, to, |mark, begin, _| mark.0.max(begin))
            .min()
            .unwrap_or(i64::MAX)
    }

    /// For each stretch that touches the span: the clock at the entry that is chosen from the span
    /// and the stretch. A jump happened somewhere between two entries, so a stretch reaches to
    /// the entries around it.
    fn shown(
        &self,
        stretches: &[(Mark, i64)],
        from: Mark,
        to: Mark,
        choose: impl Fn((Mark, Mark), Mark, Mark) -> Mark,
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
