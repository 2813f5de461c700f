//! What the broker says at one moment, and the rates since the moment before.
//!
//! A rate is the difference of two totals over the time between the snapshots, by the clock of this
//! machine.

use std::collections::HashMap;
use std::time::Instant;

use celeriac_client::{Client, QueueInfo, WorkerStatus};
use celeriac_web::documents::{QueueDocument, WorkerDocument};
use serde::Serialize;

use crate::connection::failure;
use crate::draining::{self, DrainLook};
use crate::exit::Failure;
use crate::time::now_ms;

/// The queues and workers at one moment, sorted by their names.
pub(super) struct Snapshot {
    at: Instant,
    pub(super) at_ms: i64,
    pub(super) queues: Vec<QueueInfo>,
    pub(super) workers: Vec<WorkerStatus>,
    /// Whether the broker delivers nothing, as far as this client may know.
    is_draining: bool,
    /// The rates since the snapshot before, one element for each queue. The first has none.
    pub(super) rates: Option<Vec<Rates>>,
}

/// Tasks per second.
#[derive(Clone, Copy, Default)]
pub(super) struct Rates {
    pub(super) submitted: f64,
    pub(super) ended: f64,
}

/// A snapshot for programs.
#[derive(Serialize)]
pub(super) struct Document<'a> {
    at_ms: i64,
    submitted_per_second: f64,
    ended_per_second: f64,
    queues: Vec<QueueDocument<'a>>,
    workers: Vec<WorkerDocument<'a>>,
}

impl Snapshot {
    pub(super) async fn take(client: &Client, drain: &DrainLook) -> Result<Self, Failure> {
        let workers = client.workers().await.map_err(failure)?;
        let queues = client.queues().await.map_err(failure)?;
        let is_draining = drain.is_draining(client).await;
        Ok(Self { is_draining, ..Self::new(Instant::now(), now_ms(), queues, workers) })
    }

    /// What a person has to know of the whole broker; empty when there is nothing.
    pub(super) fn notice(&self) -> &'static str {
        if self.is_draining { draining::NOTE } else { "" }
    }

    pub(super) fn new(
        at: Instant,
        at_ms: i64,
        mut queues: Vec<QueueInfo>,
        mut workers: Vec<WorkerStatus>,
    ) -> Self {
        queues.sort_by(|left, right| left.name.cmp(&right.name));
        workers.sort_by(|left, right| left.instance_id.cmp(&right.instance_id));
        Self { at, at_ms, queues, workers, is_draining: false, rates: None }
    }

    /// The same snapshot with the rates since another. The totals of a new queue began at 0, and so
    /// did those of every queue if the broker was restarted in between.
    pub(super) fn since(mut self, before: &Self) -> Self {
        let seconds = self.at.duration_since(before.at).as_secs_f64().max(0.001);
        let per_second =
            |total: u64, earlier: u64| total.checked_sub(earlier).unwrap_or(total) as f64 / seconds;
        let totals: HashMap<&str, (u64, u64)> = before
            .queues
            .iter()
            .map(|queue| (queue.name.as_str(), (queue.submitted_total, queue.ended_total)))
            .collect();
        let rates = |queue: &QueueInfo| {
            let earlier = totals.get(queue.name.as_str()).copied().unwrap_or_default();
            Rates {
                submitted: per_second(queue.submitted_total, earlier.0),
                ended: per_second(queue.ended_total, earlier.1),
            }
        };
        self.rates = Some(self.queues.iter().map(rates).collect());
        self
    }

    /// The rates of all queues together.
    pub(super) fn sum(&self) -> Option<Rates> {
        let mut sum = Rates::default();
        for rates in self.rates.as_ref()? {
            sum.submitted += rates.submitted;
            sum.ended += rates.ended;
        }
        Some(sum)
    }

    /// The rates of the queue at this index.
    pub(super) fn rates_of(&self, index: usize) -> Option<Rates> {
        self.rates.as_ref().map(|rates| rates[index])
    }

    pub(super) fn document(&self) -> Document<'_> {
        let sum = self.sum().unwrap_or_default();
        let queue = |(index, queue)| {
            let rates = self.rates_of(index).unwrap_or_default();
            QueueDocument::new(queue).with_rates(rates.submitted, rates.ended)
        };
        Document {
            at_ms: self.at_ms,
            submitted_per_second: sum.submitted,
            ended_per_second: sum.ended,
            queues: self.queues.iter().enumerate().map(queue).collect(),
            workers: self.workers.iter().map(WorkerDocument::new).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use celeriac_proto::wire;

    use super::*;

    fn queue(name: &str, submitted_total: u64, ended_total: u64) -> QueueInfo {
        let name = name.to_owned();
        wire::QueueInfo { name, submitted_total, ended_total, ..Default::default() }.into()
    }

    #[test]
    fn rates_are_those_of_each_queue_since_the_snapshot_before() {
        let at = Instant::now();
        let before = [queue("gone", 9, 9), queue("b", 100, 50), queue("restarted", 100, 100)];
        let now = [queue("restarted", 4, 2), queue("new", 10, 0), queue("b", 120, 60)];
        let before = Snapshot::new(at, 0, before.to_vec(), Vec::new());
        let now = Snapshot::new(at + Duration::from_secs(2), 0, now.to_vec(), Vec::new());
        assert!(now.rates_of(0).is_none() && now.sum().is_none());
        let now = now.since(&before);
        let rates = |index: usize| {
            let rates = now.rates_of(index).expect("there was one before");
            (now.queues[index].name.as_str(), rates.submitted, rates.ended)
        };
        assert_eq!(
            [0, 1, 2].map(rates),
            [("b", 10.0, 5.0), ("new", 5.0, 0.0), ("restarted", 2.0, 1.0)]
        );
        assert_eq!(now.sum().map(|sum| (sum.submitted, sum.ended)), Some((17.0, 6.0)));
    }
}
