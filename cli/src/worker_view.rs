//! A worker for people: as a row among others, or in detail.

use celeriac_client::{TaskInfo, WorkerStatus};

use crate::line::{Line, Text, Tone};
use crate::output::details_lines;
use crate::table::{ALWAYS, Column, Table};
use crate::time::{absolute_and_relative, ms, relative, rough};

/// The workers for people.
pub(crate) fn table(workers: &[WorkerStatus], now_ms: i64) -> Table {
    let mut table = Table::new(&[
        name_column("INSTANCE"),
        Column::word("STATE", ALWAYS),
        Column::number("RUNNING", ALWAYS),
        Column::number("MEMORY", 2),
        Column::word("CONNECTED", 3),
        Column::other_name("HOST", 4, 8),
        Column::number("PID", 5),
        Column::text("QUEUES", 1, 8),
    ]);
    for worker in workers {
        table.push(vec![
            worker.instance_id.as_str().into(),
            state(worker),
            running(worker).into(),
            memory(worker.memory_bytes).into(),
            relative(ms(worker.connected_at), now_ms).into(),
            worker.hostname.as_str().into(),
            worker.pid.to_string().into(),
            worker.queues.join(", ").into(),
        ]);
    }
    table
}

/// One worker in detail, with the tasks that it holds.
pub(crate) fn details(worker: &WorkerStatus, now_ms: i64, width: Option<usize>) -> Vec<Line> {
    let rows: Vec<(&str, Text)> = vec![
        ("instance", worker.instance_id.as_str().into()),
        ("state", state(worker)),
        ("host", worker.hostname.as_str().into()),
        ("pid", worker.pid.to_string().into()),
        ("memory", memory(worker.memory_bytes).into()),
        ("connected", absolute_and_relative(ms(worker.connected_at), now_ms).into()),
        ("seen", absolute_and_relative(ms(worker.seen_at), now_ms).into()),
        ("running", format!("{} of {} at once", held(worker), worker.concurrency).into()),
        ("credit", worker.credit.to_string().into()),
        ("queues", worker.queues.join(", ").into()),
        ("tasks", worker.task_names.join(", ").into()),
    ];
    let mut lines = details_lines(&rows, width);
    if !worker.running.is_empty() {
        lines.push(Line::default());
        lines.extend(running_table(&worker.running, now_ms).lines(width));
        if worker.running_left_out > 0 {
            lines.push(format!("… and {} more", worker.running_left_out).into());
        }
    }
    lines
}

/// The tasks that a worker holds.
fn running_table(tasks: &[TaskInfo], now_ms: i64) -> Table {
    let mut table = Table::new(&[
        Column::id("RUNNING"),
        Column::other_name("TASK", ALWAYS, 10),
        Column::other_name("QUEUE", 2, 8),
        Column::word("STATE", ALWAYS),
        Column::number("SINCE", 1),
    ]);
    for task in tasks {
        let since = task.started_at.or(task.leased_at);
        let since = since.map(|at| rough(now_ms.saturating_sub(ms(at)).max(0).unsigned_abs()));
        table.push(vec![
            task.id.as_str().into(),
            task.title().into(),
            task.queue.as_str().into(),
            Text::state(task.state),
            since.unwrap_or_default().into(),
        ]);
    }
    table
}

/// The column with the instances of workers.
pub(crate) fn name_column(heading: &'static str) -> Column {
    Column::name(heading, 24)
}

/// How many tasks the worker holds, of those that it runs at once.
pub(crate) fn running(worker: &WorkerStatus) -> String {
    format!("{}/{}", held(worker), worker.concurrency)
}

/// How many tasks the worker holds. The broker does not list all of them.
pub(crate) fn held(worker: &WorkerStatus) -> usize {
    worker.running.len() + worker.running_left_out as usize
}

/// The state of a worker in one word.
pub(crate) fn state(worker: &WorkerStatus) -> Text {
    match (worker.lost, worker.quiet) {
        (true, _) => Text::new("lost", Tone::Bad),
        (false, true) => Text::new("quiet", Tone::Warning),
        (false, false) if held(worker) == 0 => Text::new("idle", Tone::Waiting),
        (false, false) => Text::new("busy", Tone::Running),
    }
}

/// The memory of a worker. The value 0 means that the worker does not report it.
pub(crate) fn memory(bytes: u64) -> String {
    const MIB: u64 = 1024 * 1024;
    match bytes {
        0 => "-".to_owned(),
        bytes => format!("{} MiB", bytes.div_ceil(MIB)),
    }
}
