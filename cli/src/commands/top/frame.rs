//! A frame of `top` for people: the head, the busiest queues and the busiest workers, as far as
//! there is room. Only rows that are shown are built. This file knows no terminal.

use std::cmp::Ordering;

use celeriac_client::{QueueInfo, TaskInfo, WorkerStatus};

use super::snapshot::Snapshot;
use super::view::{Pane, View};
use crate::line::{Line, Text, Tone};
use crate::output::Size;
use crate::queue_view::{self, dead, oldest_ready};
use crate::table::{ALWAYS, Column, Table};
use crate::time::{ms, rough, time_of_day};
use crate::worker_view::{self, held, memory, running, state};

/// The lines besides the rows of the two tables, below the notice: two headings, and the blank line
/// between the tables.
const LINES_AROUND: usize = 3;

/// What a frame shows besides the snapshot.
pub(super) struct Around<'a> {
    /// The address of the broker.
    pub(super) address: &'a str,
    /// What is wrong; empty if nothing is.
    pub(super) notice: &'a str,
}

/// The lines of a frame: as many as fit into this size.
pub(super) fn lines(
    snapshot: &Snapshot,
    around: &Around<'_>,
    view: &mut View,
    size: Size,
) -> Vec<Line> {
    let queues = busiest_queues(snapshot, view);
    let workers = busiest_workers(snapshot, view);
    let mut lines = head(snapshot, around.address, size.width);
    lines.push(Text::new(around.notice, Tone::Bad).into());
    let all = Rows { queues: queues.len(), workers: workers.len() };
    let room = match size.height {
        None => all,
        Some(height) => all.share(height.saturating_sub(lines.len() + LINES_AROUND)),
    };
    let part = Part::new(view, Pane::Queues, queues.len(), room.queues);
    let table = queue_table(snapshot, part.of(&queues));
    lines.extend(table.lines(size.width));
    lines.extend(part.rest());
    lines.push(Line::default());
    let part = Part::new(view, Pane::Workers, workers.len(), room.workers);
    let table = worker_table(snapshot, part.of(&workers));
    lines.extend(table.lines(size.width));
    lines.extend(part.rest());
    lines.into_iter().map(|line| line.cut(size.width)).collect()
}

/// The frame before the first answer of the broker.
pub(super) fn lines_without_answer(around: &Around<'_>, size: Size) -> Vec<Line> {
    let head = Line::from(around.address);
    let notice = Line::from(Text::new(around.notice, Tone::Bad));
    [head, notice].into_iter().map(|line| line.cut(size.width)).collect()
}

/// The totals of all queues and workers. What does not fit on one line goes to the next, so that no
/// number is cut.
fn head(snapshot: &Snapshot, address: &str, width: Option<usize>) -> Vec<Line> {
    let sum = |count: fn(&QueueInfo) -> u64| snapshot.queues.iter().map(count).sum::<u64>();
    let rates = snapshot.sum();
    let parts = [
        address.to_owned(),
        time_of_day(snapshot.at_ms).chars().take(8).collect(),
        format!("in {}/s", rate(rates.map(|rates| rates.submitted))),
        format!("out {}/s", rate(rates.map(|rates| rates.ended))),
        format!("ready {}", sum(|queue| queue.ready)),
        format!("scheduled {}", sum(|queue| queue.scheduled)),
        format!("leased {}", sum(|queue| queue.leased)),
        format!("dead {}", sum(|queue| queue.dead)),
        format!("workers {}", snapshot.workers.len()),
    ];
    let mut lines = vec![Line::default()];
    for part in parts {
        let part = Text::from(part);
        let last = lines.len() - 1;
        let needed = lines[last].width() + 2 + part.width();
        if lines[last].width() == 0 {
            lines[last].push(part);
        } else if width.is_some_and(|width| needed > width) {
            lines.push(part.into());
        } else {
            lines[last].push("  ");
            lines[last].push(part);
        }
    }
    lines
}

/// The indices of the queues that the filter lets through: those with the highest rates first, and
/// of these the ones with the most ready tasks.
fn busiest_queues(snapshot: &Snapshot, view: &View) -> Vec<usize> {
    let rate = |index: usize| {
        let rates = snapshot.rates_of(index).unwrap_or_default();
        rates.submitted + rates.ended
    };
    let queues = &snapshot.queues;
    let is_shown = |index: &usize| view.shows([queues[*index].name.as_str()].into_iter());
    let mut shown: Vec<usize> = (0..queues.len()).filter(is_shown).collect();
    // The sort is stable: equal queues stay in the order of their names.
    shown.sort_by(|left, right| {
        let ready = || queues[*right].ready.cmp(&queues[*left].ready);
        rate(*right).partial_cmp(&rate(*left)).unwrap_or(Ordering::Equal).then_with(ready)
    });
    shown
}

/// The indices of the workers that the filter lets through: those that hold the most tasks first.
fn busiest_workers(snapshot: &Snapshot, view: &View) -> Vec<usize> {
    let workers = &snapshot.workers;
    let is_shown = |index: &usize| {
        let worker = &workers[*index];
        let names = [&worker.instance_id, &worker.hostname].into_iter().chain(&worker.queues);
        view.shows(names.map(String::as_str))
    };
    let mut shown: Vec<usize> = (0..workers.len()).filter(is_shown).collect();
    shown.sort_by(|left, right| held(&workers[*right]).cmp(&held(&workers[*left])));
    shown
}

fn queue_table(snapshot: &Snapshot, indices: &[usize]) -> Table {
    let mut table = Table::new(&[
        queue_view::name_column(),
        Column::number("IN/S", ALWAYS),
        Column::number("OUT/S", ALWAYS),
        Column::number("READY", ALWAYS),
        Column::number("SCHEDULED", 6),
        Column::number("LEASED", 3),
        Column::number("DEAD", 2),
        Column::number("OLDEST", 5),
        Column::number("WORKERS", 4),
        Column::word("NOTE", 1),
    ]);
    for index in indices {
        let (queue, rates) = (&snapshot.queues[*index], snapshot.rates_of(*index));
        table.push(vec![
            queue.name.as_str().into(),
            rate(rates.map(|rates| rates.submitted)).into(),
            rate(rates.map(|rates| rates.ended)).into(),
            queue.ready.to_string().into(),
            queue.scheduled.to_string().into(),
            queue.leased.to_string().into(),
            dead(queue),
            oldest_ready(queue).into(),
            queue.workers.to_string().into(),
            queue_view::note(queue),
        ]);
    }
    table
}

fn worker_table(snapshot: &Snapshot, indices: &[usize]) -> Table {
    let mut table = Table::new(&[
        worker_view::name_column("WORKER"),
        Column::word("STATE", ALWAYS),
        Column::number("RUNNING", ALWAYS),
        Column::number("MEMORY", 2),
        Column::other_name("HOST", 3, 8),
        Column::number("PID", 4),
        Column::text("LONGEST", 1, 12),
    ]);
    for index in indices {
        let worker = &snapshot.workers[*index];
        table.push(vec![
            worker.instance_id.as_str().into(),
            state(worker),
            running(worker).into(),
            memory(worker.memory_bytes).into(),
            worker.hostname.as_str().into(),
            worker.pid.to_string().into(),
            longest_running(worker, snapshot.at_ms).unwrap_or_default().into(),
        ]);
    }
    table
}

fn rate(rate: Option<f64>) -> String {
    match rate {
        None => "-".to_owned(),
        Some(rate) if rate < 100.0 => format!("{rate:.1}"),
        Some(rate) => format!("{rate:.0}"),
    }
}

/// The task that has run longest on this worker, with the time that it has run.
fn longest_running(worker: &WorkerStatus, now_ms: i64) -> Option<String> {
    let started_ms = |task: &TaskInfo| task.started_at.map(ms);
    let started = worker.running.iter().filter(|task| task.started_at.is_some());
    let longest = started.min_by_key(|task| started_ms(task))?;
    let span = rough(now_ms.saturating_sub(started_ms(longest)?).max(0).unsigned_abs());
    Some(format!("{span}  {}", longest.title()))
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

/// The part of a table that is shown. If it is not all, one row less is shown, and a line takes its
/// place that says how many rows are left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Part {
    above: usize,
    shown: usize,
    below: usize,
    has_rest_line: bool,
}

impl Part {
    /// The part of `rows` rows in the room for `room` rows, at the place that the user chose.
    fn new(view: &mut View, pane: Pane, rows: usize, room: usize) -> Self {
        let has_rest_line = rows > room && room > 0;
        let shown = room.min(rows) - usize::from(has_rest_line);
        let above = view.place(pane, rows, shown);
        let shown = shown.min(rows - above);
        Self { above, shown, below: rows - above - shown, has_rest_line }
    }

    fn of(self, indices: &[usize]) -> &[usize] {
        &indices[self.above..self.above + self.shown]
    }

    fn rest(self) -> Option<Line> {
        let text = match self.above {
            0 => format!("… {} more", self.below),
            above => format!("… {above} above, {} below", self.below),
        };
        self.has_rest_line.then(|| Text::new(&text, Tone::Faint).into())
    }
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
        let mut view = View::default();
        let part = |view: &mut View, rows, room| {
            let part = Part::new(view, Pane::Queues, rows, room);
            (part.above, part.shown, part.rest().map(|line| line.render(false)))
        };
        assert_eq!(part(&mut view, 2, 2), (0, 2, None));
        assert_eq!(part(&mut view, 5, 3), (0, 2, Some("… 3 more".to_owned())));
        assert_eq!(part(&mut view, 5, 0), (0, 0, None));
        let down = crossterm::event::KeyCode::Down.into();
        view.press(&down);
        assert_eq!(part(&mut view, 5, 3), (1, 2, Some("… 1 above, 2 below".to_owned())));
    }

    #[test]
    fn the_filter_finds_a_worker_by_its_queues() {
        let worker = |instance: &str, queue: &str| {
            celeriac_proto::wire::WorkerStatus {
                instance_id: instance.to_owned(),
                queues: vec!["default".to_owned(), queue.to_owned()],
                ..Default::default()
            }
            .into()
        };
        let workers = vec![worker("a", "Songs"), worker("b", "videos"), worker("songs-1", "x")];
        let snapshot = Snapshot::new(std::time::Instant::now(), 0, Vec::new(), workers);
        let mut view = View::default();
        for key in "/songs".chars() {
            view.press(&crossterm::event::KeyCode::Char(key).into());
        }
        let shown = busiest_workers(&snapshot, &view);
        let names: Vec<&str> =
            shown.iter().map(|index| snapshot.workers[*index].instance_id.as_str()).collect();
        assert_eq!(names, ["a", "songs-1"]);
    }

    #[test]
    fn rates_have_a_fraction_below_100_only() {
        assert_eq!(
            [None, Some(0.0), Some(9.96), Some(1234.5)].map(rate),
            ["-", "0.0", "10.0", "1234"]
        );
    }
}
