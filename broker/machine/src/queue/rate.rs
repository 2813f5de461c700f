//! The rate of an event: a count of the event for each of the last seconds.

const SECONDS: usize = 10;

/// Events of the last ten whole seconds.
#[derive(Debug, Default)]
pub(crate) struct Rate {
    /// The second of the last change of `counts`.
    second: u64,
    /// One count for each second, the present second included. The place of a second is its number
    /// modulo the length.
    counts: [u32; SECONDS + 1],
}

impl Rate {
    pub fn note(&mut self, second: u64) {
        self.forward(second);
        let count = &mut self.counts[(second % self.counts.len() as u64) as usize];
        *count = count.saturating_add(1);
    }

    /// Events per second, over the ten whole seconds before this second.
    pub fn per_second(&self, second: u64) -> f64 {
        let places = self.counts.len() as u64;
        let whole = second.saturating_sub(SECONDS as u64)..second;
        let kept = self.second.saturating_sub(places - 1)..=self.second;
        let counts = whole
            .filter(|past| kept.contains(past))
            .map(|past| self.counts[(past % places) as usize]);
        counts.map(u64::from).sum::<u64>() as f64 / SECONDS as f64
    }

    fn forward(&mut self, second: u64) {
        let passed = second.saturating_sub(self.second).min(self.counts.len() as u64);
        for ahead in 0..passed {
            self.counts[((second - ahead) % self.counts.len() as u64) as usize] = 0;
        }
        self.second = self.second.max(second);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_the_mean_of_the_last_ten_whole_seconds() {
        let mut rate = Rate::default();
        (0..30).for_each(|_| rate.note(5));
        assert_eq!(rate.per_second(5), 0.0);
        assert_eq!(rate.per_second(6), 3.0);
        (0..10).for_each(|_| rate.note(6));
        assert_eq!(rate.per_second(7), 4.0);
        assert_eq!(rate.per_second(15), 4.0);
        assert_eq!(rate.per_second(16), 1.0);
        assert_eq!(rate.per_second(17), 0.0);
        rate.note(1_000);
        assert_eq!(rate.per_second(1_001), 0.1);
    }
}
