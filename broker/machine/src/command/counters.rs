//! What happens in a queue, in numbers that never fall. The machine counts in them and copies them
//! into answers.

/// The upper bounds of the buckets of waits and runs, in milliseconds.
pub const SPAN_BOUNDS_MS: Bounds = [
    5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 30_000, 60_000, 300_000, 900_000,
    3_600_000,
];

/// The upper bounds of the buckets of a histogram, rising.
pub type Bounds = [u64; 16];

/// Spans in buckets. The last bucket has the spans above all bounds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Histogram {
    pub counts: [u64; size_of::<Bounds>() / size_of::<u64>() + 1],
    /// In the unit of the bounds.
    pub sum: u64,
}

/// The spans of the tasks of a queue.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Spans {
    /// How long tasks were ready before a worker got them.
    pub wait: Histogram,
    /// How long handlers ran, up to an outcome.
    pub run: Histogram,
}

/// What has happened in a queue since the machine was restored, or since the queue was made anew.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct QueueCounters {
    /// Tasks that were submitted or replayed.
    pub submitted: u64,
    pub succeeded: u64,
    pub failed: u64,
    pub revoked: u64,
    /// Runs that failed and whose tasks waited for another attempt.
    pub retried: u64,
    pub deliveries: u64,
    /// Tasks that went back to their queue without an outcome, by cause.
    pub worker_lost: u64,
    pub released: u64,
    pub taken_back: u64,
    /// Absent before the first span: there may be very many queues whose tasks never ran.
    pub spans: Option<Box<Spans>>,
}

impl Histogram {
    pub fn note(&mut self, bounds: &Bounds, span: u64) {
        let bucket = bounds.iter().position(|bound| span <= *bound).unwrap_or(bounds.len());
        self.counts[bucket] += 1;
        self.sum = self.sum.saturating_add(span);
    }

    fn add(&mut self, other: &Self) {
        for (count, more) in self.counts.iter_mut().zip(other.counts) {
            *count += more;
        }
        self.sum = self.sum.saturating_add(other.sum);
    }
}

impl QueueCounters {
    pub fn ended(&self) -> u64 {
        self.succeeded + self.failed + self.revoked
    }

    pub fn note_wait(&mut self, span_ms: u64) {
        self.spans.get_or_insert_default().wait.note(&SPAN_BOUNDS_MS, span_ms);
    }

    pub fn note_run(&mut self, span_ms: u64) {
        self.spans.get_or_insert_default().run.note(&SPAN_BOUNDS_MS, span_ms);
    }

    /// Adds the counters of another queue.
    pub fn add(&mut self, other: &Self) {
        let Self {
            submitted,
            succeeded,
            failed,
            revoked,
            retried,
            deliveries,
            worker_lost,
            released,
            taken_back,
            spans,
        } = other;
        for (count, more) in [
            (&mut self.submitted, submitted),
            (&mut self.succeeded, succeeded),
            (&mut self.failed, failed),
            (&mut self.revoked, revoked),
            (&mut self.retried, retried),
            (&mut self.deliveries, deliveries),
            (&mut self.worker_lost, worker_lost),
            (&mut self.released, released),
            (&mut self.taken_back, taken_back),
        ] {
            *count += more;
        }
        if let Some(Spans { wait, run }) = spans.as_deref() {
            let spans = self.spans.get_or_insert_default();
            spans.wait.add(wait);
            spans.run.add(run);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_is_in_the_first_bucket_whose_bound_it_does_not_pass() {
        let mut histogram = Histogram::default();
        for span in [0, 5, 6, 3_600_000, 3_600_001, u64::MAX] {
            histogram.note(&SPAN_BOUNDS_MS, span);
        }
        let filled: Vec<_> =
            histogram.counts.iter().enumerate().filter(|(_, count)| **count > 0).collect();
        assert_eq!(filled, [(0, &2), (1, &1), (15, &1), (16, &2)]);
        assert_eq!(histogram.sum, u64::MAX, "a sum that has no place stays at the largest");
        assert!(SPAN_BOUNDS_MS.is_sorted_by(|one, next| one < next));
    }

    #[test]
    fn sums_of_counters_have_all_of_both() {
        let mut one = QueueCounters { submitted: 3, revoked: 1, ..QueueCounters::default() };
        let mut other = QueueCounters { submitted: 4, taken_back: 2, ..QueueCounters::default() };
        other.note_run(7);
        one.add(&other);
        one.add(&other);
        assert_eq!((one.submitted, one.revoked, one.taken_back), (11, 1, 4));
        let spans = one.spans.expect("the other had a span");
        assert_eq!((spans.run.counts[1], spans.run.sum, spans.wait.sum), (2, 14, 0));
    }
}
