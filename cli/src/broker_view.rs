//! The broker itself, for `info` and for `status` without an id.

use std::time::Duration;

use celeriac_client::{BrokerInfo, DataUsage, Error, ErrorCode};
use celeriac_web::documents::BrokerDocument;

use crate::arguments::SharedOptions;
use crate::byte_size::rough_bytes;
use crate::connection::{address, connect, failure};
use crate::draining;
use crate::exit::{Exit, Failure};
use crate::line::{Line, Text, Tone};
use crate::output::{Output, details_lines, print_to_stderr};
use crate::time::{absolute, ms, rough, whole_ms};

/// Asks the broker for its figures, and prints them.
pub(crate) async fn show(shared: &SharedOptions, output: &mut Output) -> Result<Exit, Failure> {
    let client = connect(shared).await?;
    let broker = client.broker_info().await.map_err(explained)?;
    client.close().await;
    if output.is_json() {
        output.document(&BrokerDocument::new(&broker))?;
    } else {
        let width = output.size().width;
        output.lines(&lines(&broker, &address(shared), width))?;
        if broker.draining && draining::has_reader(output) {
            print_to_stderr(draining::NOTE);
        }
    }
    Ok(Exit::Success)
}

/// The failure, in other words for a broker that is older than the request.
fn explained(error: Error) -> Failure {
    match error {
        Error::Refused { code: ErrorCode::Unsupported, .. } => Failure::error(
            "the broker is older than this command and cannot tell its figures: \
             use `queues` and `workers`, or install a newer broker",
        ),
        error => failure(error),
    }
}

/// The broker for people. Every line has its place in 40 columns, apart from a long address.
pub(crate) fn lines(broker: &BrokerInfo, address: &str, width: Option<usize>) -> Vec<Line> {
    let mut lines = details_lines(&of_the_process(broker, address), None);
    add_part(&mut lines, "TASKS", &of_the_tasks(broker));
    if let Some(data) = &broker.data {
        add_part(&mut lines, "DATA", &of_the_data(data));
    }
    add_part(&mut lines, "LIMITS", &of_the_limits(broker));
    lines.into_iter().map(|line| line.cut(width)).collect()
}

/// Adds a heading, and below it, indented, the rows.
fn add_part(lines: &mut Vec<Line>, heading: &str, rows: &[(&str, Text)]) {
    lines.push(Line::default());
    lines.push(Text::new(heading, Tone::Heading).into());
    for row in details_lines(rows, None) {
        let mut line = Line::from("  ");
        line.append(row);
        lines.push(line);
    }
}

fn of_the_process(broker: &BrokerInfo, address: &str) -> Vec<(&'static str, Text)> {
    let workers = match broker.workers_lost {
        0 => broker.workers.to_string().into(),
        lost => Text::new(&format!("{}, and {lost} lost", broker.workers), Tone::Warning),
    };
    let connections = format!("{} of {}", broker.connections, broker.connections_max);
    let is_nearly_full =
        u64::from(broker.connections) * 10 >= u64::from(broker.connections_max) * 9;
    let tone = if is_nearly_full { Tone::Warning } else { Tone::Plain };
    let memory = broker.memory_bytes.map_or("-".to_owned(), rough_bytes);
    let mut rows = vec![
        ("version", broker.version.as_str().into()),
        ("protocol", broker.protocol.to_string().into()),
        ("address", address.into()),
        ("started", absolute(ms(broker.started_at)).into()),
        ("uptime", rough(whole_ms(broker.uptime)).into()),
        ("memory", memory.into()),
        ("connections", Text::new(&connections, tone)),
        ("workers", workers),
        ("queues", broker.queues.to_string().into()),
        ("mailboxes", broker.mailboxes.to_string().into()),
    ];
    if broker.draining {
        rows.push(("draining", Text::new("yes: no task is delivered", Tone::Warning)));
    }
    rows
}

fn of_the_tasks(broker: &BrokerInfo) -> Vec<(&'static str, Text)> {
    let dead = if broker.dead > 0 { Tone::Bad } else { Tone::Plain };
    vec![
        ("ready", broker.ready.to_string().into()),
        ("scheduled", broker.scheduled.to_string().into()),
        ("leased", broker.leased.to_string().into()),
        ("dead", Text::new(&broker.dead.to_string(), dead)),
        ("ended", broker.ended.to_string().into()),
    ]
}

fn of_the_data(data: &DataUsage) -> Vec<(&'static str, Text)> {
    let room = data.usable_bytes;
    let shown = rough_bytes(room);
    let room = match (data.disk_is_low, room < data.disk_low_bytes.saturating_mul(2)) {
        (true, _) => Text::new(&format!("{shown}: low, no new tasks"), Tone::Bad),
        (false, true) => Text::new(&format!("{shown}: nearly low"), Tone::Warning),
        (false, false) => shown.into(),
    };
    // Why the room is less than what the disk has.
    let to_move = data.disk_free_bytes.saturating_add(data.reusable_bytes);
    let to_move = to_move.saturating_sub(data.usable_bytes);
    let disk =
        format!("{} of {} free", rough_bytes(data.disk_free_bytes), rough_bytes(data.disk_bytes));
    vec![
        ("room", room),
        ("low below", rough_bytes(data.disk_low_bytes).into()),
        ("disk", disk.into()),
        ("to move", format!("{} in the journal", rough_bytes(to_move)).into()),
        ("file", rough_bytes(data.file_bytes).into()),
        ("log", rough_bytes(data.log_bytes).into()),
        ("live", rough_bytes(data.live_bytes).into()),
    ]
}

fn of_the_limits(broker: &BrokerInfo) -> Vec<(&'static str, Text)> {
    let limits = &broker.limits;
    vec![
        ("frame", rough_bytes(limits.frame_bytes_max).into()),
        ("payload", rough_bytes(limits.payload_bytes_max).into()),
        ("result", rough_bytes(limits.result_bytes_max).into()),
        ("batch", format!("{} items", limits.batch_items_max).into()),
        ("unanswered", format!("{} requests", limits.requests_in_flight_max).into()),
        ("credit", format!("{} tasks per worker", limits.credit_max).into()),
        ("heartbeat", setting(limits.heartbeat).into()),
        ("lease", setting(limits.lease).into()),
        ("result ttl", setting(limits.result_ttl).into()),
    ]
}

/// A span that somebody set is mostly whole: `15s`, not `15.0s`.
fn setting(span: Duration) -> String {
    rough(whole_ms(span)).replace(".0s", "s")
}
