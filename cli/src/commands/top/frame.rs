//! A frame of `top`: a snapshot of the broker, with the rates since the snapshot before it.
//!
//! A rate is the difference of two totals over the time between the snapshots, by the clock of this
//! machine. This file knows no terminal.

use std::time::Instant;

use celeriac_client::{Client, QueueInfo, TaskInfo, WorkerStatus};
use serde::Serialize;

use crate::connection::failure;
use crate::exit::Failure;
use crate::output::table_lines;
use crate::printable::clean;
use crate::queue_view::{QueueDocument, note, oldest_ready};
use crate::time::{ms, now_ms, rough, time_of_day};
use crate::worker_view::{self, WorkerDocument};

/// The lines besides the rows of the two tables: the head, the notice, two headings, and the blank
/// line between the tables.
const LINES_AROUND: usize = 5;

/// The queues and workers at one moment.
pub(super) struct Snapshot {
    at: Instant,
    at_ms: i64,
    queues: Vec<QueueInfo>,
    workers: Vec<WorkerStatus>,
}

impl Snapshot {
    pub(super) async fn take(client: &Client) -> Result<Self, Failure> {
        let mut workers = client.workers().await.map_err(failure)?;
        workers.sort_by(|left, right| left.instance_id.cmp(&right.instance_id));
        let mut queues = client.queues().await.map_err(failure)?;
        queues.sort_by(|left, right| left.name.cmp(&right.name));
        Ok(Self { at: Instant::now(), at_ms: now_ms(), queues, workers })
    }
}

/// Tasks per second.
#[derive(Clone, Copy, Default)]
struct Rates {
    submitted: f64,
    ended: f64,
}

/// A snapshot with the rates since the one before. The first snapshot has no rates.
pub(super) struct Frame<'a> {
    now: &'a Snapshot,
    /// One element for each queue, in the order of the queues.
    rates: Option<Vec<Rates>>,
}

/// A frame for programs.
#[derive(Serialize)]
pub(super) struct Document<'a> {
    at_ms: i64,
    submitted_per_second: f64,
    ended_per_second: f64,
    queues: Vec<QueueDocument<'a>>,
    workers: Vec<WorkerDocument<'a>>,
}

impl<'a> Frame<'a> {
    pub(super) fn new(before: Option<&Snapshot>, now: &'a Snapshot) -> Self {
        let rates =
            before.map(|before| now.queues.iter().map(|queue| rates(before, now, queue)).collect());
        Self { now, rates }
    }

    /// The rates of all queues together.
    fn sum(&self) -> Option<Rates> {
        let mut sum = Rates::default();
        for rates in self.rates.as_ref()? {
            sum.submitted += rates.submitted;
            sum.ended += rates.ended;
        }
        Some(sum)
    }

    pub(super) fn document(&self) -> Document<'a> {
        let sum = self.sum().unwrap_or_default();
        let queue = |(index, queue): (usize, &'a QueueInfo)| {
            let rates = self.rates.as_ref().map(|rates| rates[index]).unwrap_or_default();
            QueueDocument::new(queue).with_rates(rates.submitted, rates.ended)
        };
        Document {
            at_ms: self.now.at_ms,
            submitted_per_second: sum.submitted,
            ended_per_second: sum.ended,
            queues: self.now.queues.iter().enumerate().map(queue).collect(),
            workers: self.now.workers.iter().map(WorkerDocument::new).collect(),
        }
    }

    /// The text for people, with at most `lines_max` lines.
    pub(super) fn lines(
        &self,
        address: &str,
        notice: &str,
        lines_max: Option<usize>,
    ) -> Vec<String> {
        let queues: Vec<_> =
            (0..self.now.queues.len()).map(|index| self.queue_row(index)).collect();
        let workers: Vec<_> =
            self.now.workers.iter().map(|worker| worker_row(worker, self.now.at_ms)).collect();
        let all = Rows { queues: queues.len(), workers: workers.len() };
        let shown = match lines_max {
            None => all,
            Some(lines) => all.share(lines.saturating_sub(LINES_AROUND)),
        };
        let mut lines = vec![self.head(address), clean(notice)];
        lines.extend(cut(table_lines(QUEUE_HEADINGS, &queues), shown.queues));
        lines.push(String::new());
        lines.extend(cut(table_lines(WORKER_HEADINGS, &workers), shown.workers));
        lines
    }

    fn head(&self, address: &str) -> String {
        let sum = |count: fn(&QueueInfo) -> u64| self.now.queues.iter().map(count).sum::<u64>();
        let rates = self.sum();
        format!(
            "{}  {}  in {}/s  out {}/s  ready {}  scheduled {}  leased {}  dead {}  workers {}",
            clean(address),
            &time_of_day(self.now.at_ms)[..8],
            rate(rates.map(|rates| rates.submitted)),
            rate(rates.map(|rates| rates.ended)),
            sum(|queue| queue.ready),
            sum(|queue| queue.scheduled),
            sum(|queue| queue.leased),
            sum(|queue| queue.dead),
            self.now.workers.len(),
        )
    }

    fn queue_row(&self, index: usize) -> [String; 10] {
        let queue = &self.now.queues[index];
        let rates = self.rates.as_ref().map(|rates| rates[index]);
        [
            clean(&queue.name),
            rate(rates.map(|rates| rates.submitted)),
            rate(rates.map(|rates| rates.ended)),
            queue.ready.to_string(),
            queue.scheduled.to_string(),
            queue.leased.to_string(),
            queue.dead.to_string(),
            oldest_ready(queue),
            queue.workers.to_string(),
            note(queue).to_owned(),
        ]
    }
}

const QUEUE_HEADINGS: [&str; 10] =
    ["QUEUE", "IN/S", "OUT/S", "READY", "SCHEDULED", "LEASED", "DEAD", "OLDEST", "WORKERS", "NOTE"];
const WORKER_HEADINGS: [&str; 7] =
    ["WORKER", "STATE", "RUNNING", "MEMORY", "HOST", "PID", "LONGEST"];

/// The rates of one queue. The totals of a new queue began at 0, and so did those of every queue if
/// the broker was restarted in between.
fn rates(before: &Snapshot, now: &Snapshot, queue: &QueueInfo) -> Rates {
    let seconds = now.at.duration_since(before.at).as_secs_f64().max(0.001);
    let earlier = before.queues.iter().find(|earlier| earlier.name == queue.name);
    let per_second =
        |total: u64, earlier: u64| total.checked_sub(earlier).unwrap_or(total) as f64 / seconds;
    Rates {
        submitted: per_second(
            queue.submitted_total,
            earlier.map_or(0, |earlier| earlier.submitted_total),
        ),
        ended: per_second(queue.ended_total, earlier.map_or(0, |earlier| earlier.ended_total)),
    }
}

fn rate(rate: Option<f64>) -> String {
    match rate {
        None => "-".to_owned(),
        Some(rate) if rate < 100.0 => format!("{rate:.1}"),
        Some(rate) => format!("{rate:.0}"),
    }
}

fn worker_row(worker: &WorkerStatus, now_ms: i64) -> [String; 7] {
    let [instance, state, running, memory, _, host, pid, _] = worker_view::row(worker, now_ms);
    let longest = longest_running(worker, now_ms).unwrap_or_default();
    [instance, state, running, memory, host, pid, longest]
}

/// The task that has run longest on this worker, with the time that it has run.
fn longest_running(worker: &WorkerStatus, now_ms: i64) -> Option<String> {
    let started_ms = |task: &TaskInfo| task.started_at.map(ms);
    let started = worker.running.iter().filter(|task| task.started_at.is_some());
    let longest = started.min_by_key(|task| started_ms(task))?;
    let span = rough(now_ms.saturating_sub(started_ms(longest)?).max(0).unsigned_abs());
    Some(format!("{span}  {}", clean(longest.title())))
}

/// The number of rows of the two tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Rows {
    queues: usize,
    workers: usize,
}

impl Rows {
    /// The rows that fit into `rows_max` rows in all. If both tables are long, each gets half. If
    /// one is short, the other gets the rest.
    fn share(self, rows_max: usize) -> Self {
        let workers = self.workers.min((rows_max / 2).max(rows_max.saturating_sub(self.queues)));
        Self { queues: self.queues.min(rows_max - workers), workers }
    }
}

/// A table of at most `rows` rows under its heading. If rows are left out, the last line says how
/// many.
fn cut(mut table: Vec<String>, rows: usize) -> Vec<String> {
    let left_out = table.len().saturating_sub(rows + 1);
    if left_out > 0 {
        table.truncate(rows.max(1));
        // This line takes the place of a row.
        table.push(format!("… {} more", left_out + usize::from(rows > 0)));
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_table_gets_half_or_the_rest_of_the_other() {
        let shares = |queues, workers, rows_max| {
            let shown = Rows { queues, workers }.share(rows_max);
            (shown.queues, shown.workers)
        };
        assert_eq!(shares(3, 4, 20), (3, 4));
        assert_eq!(shares(100, 100, 20), (10, 10));
        assert_eq!(shares(2, 100, 20), (2, 18));
        assert_eq!(shares(100, 2, 20), (18, 2));
        assert_eq!(shares(5, 5, 0), (0, 0));
    }

    #[test]
    fn a_table_that_is_cut_says_how_much_is_left_out() {
        let table = |rows: usize| (0..=rows).map(|row| row.to_string()).collect::<Vec<_>>();
        assert_eq!(cut(table(2), 2), table(2));
        assert_eq!(cut(table(5), 3), ["0", "1", "2", "… 3 more"]);
    }

    #[test]
    fn rates_have_a_fraction_below_100_only() {
        assert_eq!(
            [None, Some(0.0), Some(9.96), Some(1234.5)].map(rate),
            ["-", "0.0", "10.0", "1234"]
        );
    }
}
