//! What `top` shows of two looks at the broker: the later one, and how fast things moved since the
//! earlier one.
//!
//! Rates are differences of totals over the time between the looks, by our own clock. Nothing here
//! knows a terminal.

use std::time::Instant;

use celeriac_client::{Client, QueueInfo, TaskInfo, WorkerStatus};
use serde::Serialize;

use crate::connection::failure;
use crate::exit::Failure;
use crate::output::{clean, table_lines};
use crate::queues::{self, QueueDocument};
use crate::time::{ms, now_ms, rough, time_of_day, whole_ms};
use crate::workers::{self, WorkerDocument};

/// Lines besides the rows of the two tables: the head, the notice, two headings, and a blank line
/// between.
const LINES_AROUND: usize = 5;

/// What the broker said at one moment.
pub(super) struct Look {
    at: Instant,
    at_ms: i64,
    queues: Vec<QueueInfo>,
    workers: Vec<WorkerStatus>,
}

impl Look {
    pub(super) async fn take(client: &Client) -> Result<Self, Failure> {
        let mut workers = client.workers().await.map_err(failure)?;
        workers.sort_by(|left, right| left.instance_id.cmp(&right.instance_id));
        let mut queues = client.queues().await.map_err(failure)?;
        queues.sort_by(|left, right| left.name.cmp(&right.name));
        Ok(Self { at: Instant::now(), at_ms: now_ms(), queues, workers })
    }
}

/// Tasks per second, in and out.
#[derive(Clone, Copy, Default)]
struct Rates {
    submitted: f64,
    ended: f64,
}

/// A look with the rates since the one before; without one there are none.
pub(super) struct Frame<'a> {
    now: &'a Look,
    /// In the order of the queues.
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
    pub(super) fn new(before: Option<&Look>, now: &'a Look) -> Self {
        let rates =
            before.map(|before| now.queues.iter().map(|queue| rates(before, now, queue)).collect());
        Self { now, rates }
    }

    fn sum(&self) -> Option<Rates> {
        let add = |sum: Rates, one: &Rates| Rates {
            submitted: sum.submitted + one.submitted,
            ended: sum.ended + one.ended,
        };
        self.rates.as_ref().map(|rates| rates.iter().fold(Rates::default(), add))
    }

    pub(super) fn document(&self) -> Document<'a> {
        let sum = self.sum().unwrap_or_default();
        let queue = |(index, queue): (usize, &'a QueueInfo)| {
            let rates = self.rates.as_ref().map(|rates| rates[index]).unwrap_or_default();
            queues::document(queue).with_rates(rates.submitted, rates.ended)
        };
        Document {
            at_ms: self.now.at_ms,
            submitted_per_second: sum.submitted,
            ended_per_second: sum.ended,
            queues: self.now.queues.iter().enumerate().map(queue).collect(),
            workers: self.now.workers.iter().map(workers::document).collect(),
        }
    }

    /// Text for people, in so many lines at most.
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
        let (queue_rows, worker_rows) = match lines_max {
            None => (queues.len(), workers.len()),
            Some(lines) => shares(queues.len(), workers.len(), lines.saturating_sub(LINES_AROUND)),
        };
        let mut lines = vec![self.head(address), clean(notice)];
        lines.extend(cut(table_lines(QUEUE_HEADINGS, &queues), queue_rows));
        lines.push(String::new());
        lines.extend(cut(table_lines(WORKER_HEADINGS, &workers), worker_rows));
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
            if queue.ready > 0 { rough(whole_ms(queue.oldest_ready)) } else { "-".to_owned() },
            queue.workers.to_string(),
            queues::note(queue).to_owned(),
        ]
    }
}

const QUEUE_HEADINGS: [&str; 10] =
    ["QUEUE", "IN/S", "OUT/S", "READY", "SCHEDULED", "LEASED", "DEAD", "OLDEST", "WORKERS", "NOTE"];
const WORKER_HEADINGS: [&str; 7] =
    ["WORKER", "STATE", "RUNNING", "MEMORY", "HOST", "PID", "LONGEST"];

/// A queue that was not there before began at 0, and so did all of them when the broker was started
/// in between.
fn rates(before: &Look, now: &Look, queue: &QueueInfo) -> Rates {
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
    let [instance, state, running, memory, _, host, pid, _] = workers::row(worker, now_ms);
    let started = worker.running.iter().filter_map(|task| Some((task, ms(task.started_at?))));
    let longest = started.min_by_key(|(_, started_at_ms)| *started_at_ms);
    let shown = |(task, started_at_ms): (&TaskInfo, i64)| {
        let span = rough(now_ms.saturating_sub(started_at_ms).max(0).unsigned_abs());
        format!("{span}  {}", clean(task.title()))
    };
    [instance, state, running, memory, host, pid, longest.map(shown).unwrap_or_default()]
}

/// How many rows of each table fit: each gets half where both are long, and what the other leaves.
fn shares(queues: usize, workers: usize, rows: usize) -> (usize, usize) {
    let workers_shown = workers.min((rows / 2).max(rows.saturating_sub(queues)));
    (queues.min(rows - workers_shown), workers_shown)
}

/// A table of so many rows under its heading; where some are left out, the last line says how many.
fn cut(mut table: Vec<String>, rows: usize) -> Vec<String> {
    let left_out = table.len().saturating_sub(rows + 1);
    if left_out > 0 {
        table.truncate(rows.max(1));
        // The line itself takes the place of a row.
        table.push(format!("… {} more", left_out + usize::from(rows > 0)));
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_table_gets_half_or_what_the_other_leaves() {
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
    fn rates_have_as_many_digits_as_one_can_read() {
        assert_eq!(
            [None, Some(0.0), Some(9.96), Some(1234.5)].map(rate),
            ["-", "0.0", "10.0", "1234"]
        );
    }
}
