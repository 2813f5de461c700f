//! The figures of a measurement, and what several measurements give: medians and percentiles.
//! `measure.rs` measures them.

use std::time::Duration;

use super::system::{Load, Workload};

/// What was measured. Figures of the same point in several rounds belong together.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Point {
    pub workload: Workload,
    /// Waiting tasks or open connections. None where the number follows from the speed.
    pub count: Option<u64>,
    pub producers: usize,
    pub workers: usize,
    pub batch: usize,
    pub in_flight: usize,
}

impl Point {
    /// A point without a load of its own.
    pub(crate) fn of(workload: Workload, count: u64) -> Self {
        Self { workload, count: Some(count), producers: 1, workers: 0, batch: 1, in_flight: 1 }
    }

    /// A point under load.
    pub(crate) fn under(workload: Workload, count: Option<u64>, load: &Load) -> Self {
        let workers = if workload == Workload::Enqueue { 0 } else { load.workers };
        Self {
            workload,
            count,
            producers: load.producers,
            workers,
            batch: load.batch,
            in_flight: load.in_flight,
        }
    }
}

/// The figures of a point. A figure that does not apply is None.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Figures {
    pub tasks: u64,
    pub per_second: Option<f64>,
    pub p50_ms: Option<f64>,
    pub p99_ms: Option<f64>,
    /// Processor time of the server, all its processes.
    pub cpu_us_per_task: Option<f64>,
    /// Processor time of the bench itself, which is the client.
    pub client_cpu_us_per_task: Option<f64>,
    /// The highest resident memory of the server.
    pub rss_mib: Option<f64>,
    pub disk_mib: Option<f64>,
    /// The part of the disk that is payloads of waiting tasks and results of ended ones.
    pub live_mib: Option<f64>,
    /// The disk in terms of what the server's own log must keep.
    pub disk_times: Option<f64>,
    /// The resident memory that one idle connection adds.
    pub kib_each: Option<f64>,
}

impl Figures {
    /// Sets the percentiles of these latencies.
    #[must_use]
    pub(crate) fn with_latencies(mut self, mut latencies: Vec<Duration>) -> Self {
        latencies.sort();
        self.p50_ms = percentile(&latencies, 0.5);
        self.p99_ms = percentile(&latencies, 0.99);
        self
    }

    /// The median of each figure over the rounds.
    pub(crate) fn medians(rounds: &[Self]) -> Self {
        let of =
            |figure: fn(&Self) -> Option<f64>| median(rounds.iter().filter_map(figure).collect());
        Self {
            tasks: rounds.last().map_or(0, |round| round.tasks),
            per_second: of(|round| round.per_second),
            p50_ms: of(|round| round.p50_ms),
            p99_ms: of(|round| round.p99_ms),
            cpu_us_per_task: of(|round| round.cpu_us_per_task),
            client_cpu_us_per_task: of(|round| round.client_cpu_us_per_task),
            rss_mib: of(|round| round.rss_mib),
            disk_mib: of(|round| round.disk_mib),
            live_mib: of(|round| round.live_mib),
            disk_times: of(|round| round.disk_times),
            kib_each: of(|round| round.kib_each),
        }
    }
}

/// The value in the middle, or the mean of the two there.
pub(crate) fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        count if count % 2 == 1 => Some(values[middle]),
        _ => Some(f64::midpoint(values[middle - 1], values[middle])),
    }
}

/// The percentile of sorted times, in milliseconds: the smallest time that this share of them does
/// not exceed.
pub(crate) fn percentile(sorted: &[Duration], share: f64) -> Option<f64> {
    let rank = (sorted.len() as f64 * share).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).map(|time| time.as_secs_f64() * 1_000.0)
}

/// The greatest number of the form 1, 2 or 5 times a power of ten that is not above this, and at
/// least 100, so that a batch is whole.
pub(crate) fn round_down(tasks: f64) -> u64 {
    let mut power = 100_u64;
    while power as f64 * 10.0 <= tasks {
        power *= 10;
    }
    let step = [5, 2, 1].into_iter().find(|step| (step * power) as f64 <= tasks);
    step.unwrap_or(1) * power
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_median_is_the_middle_or_between_the_two_there() {
        assert_eq!(median(vec![]), None);
        assert_eq!(median(vec![7.0]), Some(7.0));
        assert_eq!(median(vec![9.0, 1.0, 5.0]), Some(5.0));
        assert_eq!(median(vec![9.0, 1.0, 5.0, 6.0]), Some(5.5));
    }

    #[test]
    fn a_percentile_is_one_of_the_times() {
        let times: Vec<Duration> = (1..=100).map(Duration::from_millis).collect();
        assert_eq!(percentile(&times, 0.5), Some(50.0));
        assert_eq!(percentile(&times, 0.99), Some(99.0));
        assert_eq!(percentile(&times[..1], 0.99), Some(1.0));
        assert_eq!(percentile(&[], 0.5), None);
    }

    #[test]
    fn figures_that_were_found_in_some_rounds_only_count_where_they_were_found() {
        let round = |tasks, per_second, rss_mib| Figures {
            tasks,
            per_second,
            rss_mib,
            ..Figures::default()
        };
        let all = Figures::medians(&[
            round(10, Some(3.0), None),
            round(20, Some(1.0), Some(8.0)),
            round(30, Some(2.0), None),
        ]);
        assert_eq!(all, round(30, Some(2.0), Some(8.0)));
    }

    #[test]
    fn numbers_of_tasks_are_round() {
        let rounded =
            [1.0, 199.0, 200.0, 1_000.0, 4_999.0, 5_000.0, 99_999.0, 1_234_567.0].map(round_down);
        assert_eq!(rounded, [100, 100, 200, 1_000, 2_000, 5_000, 50_000, 1_000_000]);
    }
}
