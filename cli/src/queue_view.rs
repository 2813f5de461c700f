//! A queue for people: the table of `queues`, and the parts of a row that `top` shares.

use std::time::Duration;

use celeriac_client::{QueueInfo, QueueSettings};

use crate::line::{Text, Tone};
use crate::table::{ALWAYS, Column, Table};
use crate::time::{rough, whole_ms};

/// How long the oldest ready task has waited.
pub(crate) fn oldest_ready(queue: &QueueInfo) -> String {
    if queue.ready > 0 { rough(whole_ms(queue.oldest_ready)) } else { "-".to_owned() }
}

/// One queue in detail, with its settings.
pub(crate) fn details(queue: &QueueInfo) -> Vec<(&'static str, Text)> {
    let mut rows: Vec<(&'static str, Text)> = vec![
        ("queue", queue.name.as_str().into()),
        ("note", note(queue)),
        ("ready", queue.ready.to_string().into()),
        ("scheduled", queue.scheduled.to_string().into()),
        ("leased", queue.leased.to_string().into()),
        ("dead", dead(queue)),
        ("oldest", oldest_ready(queue).into()),
        ("workers", queue.workers.to_string().into()),
        ("submitted", queue.submitted_total.to_string().into()),
        ("ended", queue.ended_total.to_string().into()),
        ("bytes", queue.bytes.to_string().into()),
    ];
    rows.extend(setting_rows(&queue.settings).map(|(name, value)| (name, value.into())));
    rows.retain(|(_, value)| !value.is_empty());
    rows
}

/// The settings of a queue for people.
pub(crate) fn setting_rows(settings: &QueueSettings) -> [(&'static str, String); 4] {
    let count = |bound: Option<u64>| bound.map_or("none".to_owned(), |bound| bound.to_string());
    let span =
        |span: Option<Duration>| span.map_or("none".to_owned(), |span| rough(whole_ms(span)));
    [
        ("tasks max", count(settings.tasks_max)),
        ("bytes max", count(settings.bytes_max)),
        ("expires", span(settings.expires_in)),
        ("result ttl", span(settings.result_ttl)),
    ]
}

/// The queues for people.
pub(crate) fn table(queues: &[QueueInfo]) -> Table {
    let mut table = Table::new(&[
        name_column(),
        Column::number("READY", ALWAYS),
        Column::number("SCHEDULED", 6),
        Column::number("LEASED", 3),
        Column::number("DEAD", 2),
        Column::number("OLDEST", 5),
        Column::number("WORKERS", 4),
        Column::number("SUBMITTED", 7),
        Column::number("ENDED", 8),
        Column::word("NOTE", 1),
    ]);
    for queue in queues {
        table.push(vec![
            queue.name.as_str().into(),
            queue.ready.to_string().into(),
            queue.scheduled.to_string().into(),
            queue.leased.to_string().into(),
            dead(queue),
            oldest_ready(queue).into(),
            queue.workers.to_string().into(),
            queue.submitted_total.to_string().into(),
            queue.ended_total.to_string().into(),
            note(queue),
        ]);
    }
    table
}

/// The column with the names of queues.
pub(crate) fn name_column() -> Column {
    Column::name("QUEUE", 16)
}

/// The number of dead tasks.
pub(crate) fn dead(queue: &QueueInfo) -> Text {
    let tone = if queue.dead > 0 { Tone::Bad } else { Tone::Plain };
    Text::new(&queue.dead.to_string(), tone)
}

/// Why the queue delivers no tasks, or takes no new ones; empty if it does both.
pub(crate) fn note(queue: &QueueInfo) -> Text {
    let unfinished = queue.ready + queue.scheduled + queue.leased;
    let reached = |bound: Option<u64>, present: u64| bound.is_some_and(|bound| present >= bound);
    match (queue.paused, queue.workers) {
        (true, _) => Text::new("paused", Tone::Warning),
        (false, 0) if queue.ready > 0 => Text::new("no worker", Tone::Bad),
        _ if reached(queue.settings.tasks_max, unfinished) => Text::new("full", Tone::Bad),
        _ if reached(queue.settings.bytes_max, queue.bytes) => Text::new("full", Tone::Bad),
        _ => "".into(),
    }
}
