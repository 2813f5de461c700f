//! The columns of tables of tasks, which `--columns` chooses.

use std::time::SystemTime;

use celeriac_client::{TaskError, TaskInfo};
use clap::ValueEnum;

use crate::line::{Text, cut};
use crate::table::{ALWAYS, Column, Table};
use crate::task_view::{attempts, note};
use crate::time::{ms, relative};
use celeriac_web::printable::clean;

/// The most columns of a terminal that a note or an error takes. `show` prints the whole text.
const NOTE_WIDTH_MAX: usize = 60;

/// A column of a table of tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum TaskColumn {
    Id,
    State,
    Task,
    Queue,
    Priority,
    Attempts,
    Submitted,
    Due,
    Expires,
    Started,
    Ended,
    Worker,
    Tags,
    Root,
    Parent,
    Note,
    Error,
}

/// The columns for tasks in any state.
pub(crate) const USUAL: [TaskColumn; 7] = [
    TaskColumn::Id,
    TaskColumn::State,
    TaskColumn::Task,
    TaskColumn::Queue,
    TaskColumn::Attempts,
    TaskColumn::Submitted,
    TaskColumn::Note,
];

/// The columns for dead tasks.
pub(crate) const DEAD: [TaskColumn; 6] = [
    TaskColumn::Id,
    TaskColumn::Task,
    TaskColumn::Queue,
    TaskColumn::Attempts,
    TaskColumn::Ended,
    TaskColumn::Error,
];

/// A table of tasks that leaves out columns where the terminal is narrow.
pub(crate) fn table(tasks: &[TaskInfo], columns: &[TaskColumn], now_ms: i64) -> Table {
    fill(Table::new(&headings(columns)), tasks, columns, now_ms)
}

/// A table of tasks with the columns that the user chose.
pub(crate) fn chosen_table(tasks: &[TaskInfo], columns: &[TaskColumn], now_ms: i64) -> Table {
    fill(Table::chosen(&headings(columns)), tasks, columns, now_ms)
}

fn headings(columns: &[TaskColumn]) -> Vec<Column> {
    columns.iter().map(|column| column.heading()).collect()
}

fn fill(mut table: Table, tasks: &[TaskInfo], columns: &[TaskColumn], now_ms: i64) -> Table {
    for task in tasks {
        table.push(columns.iter().map(|column| column.text(task, now_ms)).collect());
    }
    table
}

impl TaskColumn {
    fn heading(self) -> Column {
        match self {
            Self::Id => Column::id("ID"),
            Self::State => Column::word("STATE", ALWAYS),
            Self::Task => Column::other_name("TASK", ALWAYS, 10),
            Self::Queue => Column::other_name("QUEUE", 4, 8),
            Self::Priority => Column::number("PRIORITY", 8),
            Self::Attempts => Column::number("ATTEMPTS", 5),
            Self::Submitted => Column::word("SUBMITTED", 2),
            Self::Due => Column::word("DUE", 6),
            Self::Expires => Column::word("EXPIRES", 7),
            Self::Started => Column::word("STARTED", 6),
            Self::Ended => Column::word("ENDED", 2),
            Self::Worker => Column::other_name("WORKER", 6, 8),
            Self::Tags => Column::text("TAGS", 7, 8),
            Self::Root => Column::id("ROOT"),
            Self::Parent => Column::id("PARENT"),
            Self::Note => Column::text("NOTE", 3, 12),
            Self::Error => Column::text("ERROR", 1, 12),
        }
    }

    fn text(self, task: &TaskInfo, now_ms: i64) -> Text {
        let time = |time: Option<SystemTime>| {
            Text::from(time.map(|time| relative(ms(time), now_ms)).unwrap_or_default())
        };
        match self {
            Self::Id => task.id.as_str().into(),
            Self::State => Text::state(task.state),
            Self::Task => task.title().into(),
            Self::Queue => task.queue.as_str().into(),
            Self::Priority => task.priority.to_string().into(),
            Self::Attempts => attempts(task).into(),
            Self::Submitted => time(task.submitted_at),
            Self::Due => time(task.eta),
            Self::Expires => time(task.expires_at),
            Self::Started => time(task.started_at),
            Self::Ended => time(task.finished_at),
            Self::Worker => task.worker.as_str().into(),
            Self::Tags => task.tags.join(", ").into(),
            Self::Root => task.root_id.as_str().into(),
            Self::Parent => task.parent_id.as_str().into(),
            Self::Note => cut(&note(task, now_ms), NOTE_WIDTH_MAX).into(),
            Self::Error => error(task).into(),
        }
    }
}

/// The latest error, without the number of its attempt.
fn error(task: &TaskInfo) -> String {
    let text = |error: &TaskError| clean(&format!("{}: {}", error.kind, error.message));
    cut(&task.errors.last().map(text).unwrap_or_default(), NOTE_WIDTH_MAX)
}
